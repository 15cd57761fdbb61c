"""Reads what clients send: configuration names, flags, JSON bodies, the password header."""

from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Path
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from certorbit.errors import BadInput, NotFound
from certorbit.model.entry import ENTRY_ID_PATTERN, ConfigID, EntryID, is_entry_id

Body = TypeVar("Body", bound=BaseModel)

LONGEST_CONFIG = 255  # characters; no configuration's name is longer
MOST_FIELDS = 200  # of a body: each unknown one would be a fault of its own, and ours have a dozen
LONGEST_PASSWORD = 256  # characters of X-PFX-Password; PKCS#12 tools cut or refuse longer ones

ConfigPath = Annotated[str, Path(description="The configuration, for example `prod`")]
EntryPath = Annotated[str, Path(pattern=ENTRY_ID_PATTERN, description="The certificate's id")]
IDPath = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$")]


def read_config(text: str) -> ConfigID:
    """Return the configuration's name, fit for the database.

    Raises:
        NotFound: no configuration can have this name (PostgreSQL would refuse a NUL with an error of its own).
    """
    if not text.isprintable() or len(text) > LONGEST_CONFIG:
        raise NotFound(f"There is no configuration {text[:80]!r}.", subject="config")
    return ConfigID(text)


def read_replaced(text: str) -> EntryID | None:
    """Return the entry that `replace_cert_id` names; None if it is empty.

    Raises:
        BadInput: it is no id, so no certificate has it.
    """
    if not text:
        return None
    if not is_entry_id(text):
        raise BadInput(f"replace_cert_id: {text[:80]!r} is not the id of a certificate.", subject="replace_cert_id")
    return EntryID(text)


def _read_flag(value: str) -> bool:
    word = value.lower()
    if word not in {"true", "false"}:
        raise PydanticCustomError("bool_parsing", "Input should be true or false")
    return word == "true"


# Stricter than Pydantic's own reading ("yes", "on", "1", "t"): the contract says boolean.
Flag = Annotated[bool, BeforeValidator(_read_flag)]


async def read_body(request: Request, kind: type[Body], *, optional: bool = False) -> Body:
    """Return the request's JSON object as the type. The content type is not looked at: the API knows one only.

    optional: an empty body means the type's defaults.

    Raises:
        RequestValidationError: it is not JSON, not an object, has too many fields, or one is of another type.
        TooLarge: it is over the limit.
    """
    raw = await request.body()
    if optional and not raw.strip():
        return kind()
    try:
        value: Any = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        problem = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "The body is not valid JSON"}
        raise RequestValidationError([problem]) from None
    if isinstance(value, dict) and len(value) > MOST_FIELDS:
        problem = {"type": "too_long", "loc": ("body",), "msg": f"The body has more than {MOST_FIELDS} fields"}
        raise RequestValidationError([problem])
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in items]) from None


def read_password(request: Request) -> bytes | None:
    """Return the password of X-PFX-Password as UTF-8; None if there is none or it is empty.

    Headers have no encoding of their own: what is valid UTF-8 is taken as that, anything else as Latin-1.

    Raises:
        BadInput: it is too long.
    """
    raw = request.headers.get("x-pfx-password", "").encode("latin-1")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if len(text) > LONGEST_PASSWORD:
        raise BadInput(
            f"X-PFX-Password: the password is longer than {LONGEST_PASSWORD} characters.", subject="x-pfx-password"
        )
    return text.encode() or None
