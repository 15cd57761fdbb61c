"""Tools that store nothing, the same in every dialect: what is in a PKCS#12 file."""

import asyncio
import sys
from dataclasses import dataclass, field

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer
from certorbit.api.authentication import ReaderOfOwn
from certorbit.api.certificate_answers import render_extracted
from certorbit.api.dialects import DIALECTS
from certorbit.api.documentation import answers_json
from certorbit.api.reading import LONGEST_PASSWORD
from certorbit.api.routes import RouteAdder
from certorbit.api.site_schemas import ExtractedPFX
from certorbit.errors import BadInput
from certorbit.pki.pfx import read_pfx

_MOST_PARTS = 20  # of each sort; clients send two
_MOST_AT_ONCE = 2  # each is a process that may take seconds of CPU if somebody wants it to
_LONGEST_FIELD = 16_384  # bytes of a part that isn't a file
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["fileName", "password"],
                    "properties": {
                        "fileName": {"type": "string", "format": "binary", "description": "The PKCS#12 file"},
                        "password": {"type": "string", "description": "Its password; empty if it has none"},
                    },
                }
            }
        },
    }
}


class _InMemory(MultiPartParser):
    """Keeps files in memory, where the request's body is anyway (`max_body_bytes`): no key lands on a disk."""

    spool_max_size = sys.maxsize


@dataclass(frozen=True, slots=True)
class ToolRoutes:
    """The endpoints. slots: for stores that are opened at this moment."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MOST_AT_ONCE))

    # The right to read is enough. The key that the answer shows is not one of ours: whoever asks has the file and its
    # password, and could open it without us. Nothing is stored, so there is nothing to write either.
    async def extract_pfx(self, request: Request, _caller: ReaderOfOwn) -> Response:
        """Get private key and certificates out of a PKCS#12 file"""
        form = await _read_form(request)
        try:
            file, password = _take_fields(form)
            content = await file.read()
        finally:
            await form.close()
        async with self.slots:
            key, chain_pem = await asyncio.to_thread(read_pfx, content, password.encode() or None)
        return JSONAnswer(render_extracted(key, chain_pem))


def add_tool_routes(app: FastAPI) -> None:
    """Add the tools under every dialect's prefix."""
    routes = ToolRoutes()
    extracted = answers_json("What was in the file", ExtractedPFX, 400, 413, 422)
    for dialect in DIALECTS:
        add = RouteAdder(app, "Tools", dialect).add
        add("POST", "/tools/certificates/extractpfx", routes.extract_pfx, extracted, body=_BODY)


async def _read_form(request: Request) -> FormData:
    """Return the form; an empty one if the body is of another type.

    Raises:
        BadInput: it isn't multipart/form-data as it should be. TooLarge: it is over the limit.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return FormData()
    parser = _InMemory(
        request.headers,
        request.stream(),
        max_files=_MOST_PARTS,
        max_fields=_MOST_PARTS,
        max_part_size=_LONGEST_FIELD,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise BadInput(f"The body is not a form as it should be: {error.message}", subject="body") from None


def _take_fields(form: FormData) -> tuple[UploadFile, str]:
    """Return file and password.

    Raises:
        RequestValidationError: one is missing. BadInput: the password is too long.
    """
    file, password = form.get("fileName"), form.get("password")
    missing = [
        {"type": "missing", "loc": ("body", name), "msg": f"Field required: {what}"}
        for name, what, is_there in (
            ("fileName", "a file", isinstance(file, UploadFile)),
            ("password", "a text", isinstance(password, str)),
        )
        if not is_there
    ]
    if not isinstance(file, UploadFile) or not isinstance(password, str):
        raise RequestValidationError(missing)
    if len(password) > LONGEST_PASSWORD:
        raise BadInput(f"password: it is longer than {LONGEST_PASSWORD} characters.", subject="password")
    return file, password
