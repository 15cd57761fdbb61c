"""OpenAPI documents: one of everything, one for each dialect, and a page for people."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import Response
from starlette.routing import BaseRoute

import certorbit
from certorbit.api import publish, renewal_schemas, schemas, site_schemas
from certorbit.api.authentication import ReaderOfOwn
from certorbit.api.dialects import DIALECTS
from certorbit.api.docs_page import render_docs

_DESCRIPTION = (
    "Certificates that survive everything. The same resources are served in three dialects; `/api/certorbit/v1` has"
    " what they have no word for. A slash at the end of a path changes nothing."
)
_SECURITY_SCHEMES = {
    "apiKey": {
        "type": "http",
        "scheme": "basic",
        "description": "`Authorization: Basic <api key>`: the key as it stands, not base64 of user:password",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-certorbit-session",
        "description": "A person's session, from `/auth/login`; changes need an `Origin` of this service's own",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <api key>`"},
}
# Referred to by hand-written descriptions (documentation.py), so the framework doesn't find them by itself.
_REFERRED = (
    schemas.CertificateCreate,
    schemas.APIKeyCreate,
    schemas.APIKeyChange,
    schemas.APIKeyRotation,
    schemas.MaintenanceChange,
    schemas.ErrorBody,
    schemas.MessageBody,
    renewal_schemas.RenewalRequest,
    renewal_schemas.RenewalChange,
    renewal_schemas.RevocationRequest,
    renewal_schemas.RollbackRequest,
    site_schemas.ServerGroupAdd,
    site_schemas.ServerGroupCreate,
    site_schemas.ServerGroupChange,
    site_schemas.RegionsChange,
    publish.PublishBody,
)


def make_document(app: FastAPI, *, prefix: str, title: str) -> dict[str, Any]:
    """Return the OpenAPI document of the routes under the prefix."""
    routes: list[BaseRoute] = [route for route in app.routes if getattr(route, "path", "").startswith(prefix)]
    document = get_openapi(title=title, version=certorbit.__version__, description=_DESCRIPTION, routes=routes)
    components = document.setdefault("components", {})
    components["securitySchemes"] = _SECURITY_SCHEMES
    _, definitions = models_json_schema(
        [(model, "validation") for model in _REFERRED], ref_template="#/components/schemas/{model}"
    )
    components["schemas"] = {**definitions["$defs"], **components.get("schemas", {})}
    return document


def add_openapi_routes(app: FastAPI) -> None:
    """Add the documents; to be called after all other routes are there. Each is made once, when it is asked for."""
    whole = _Made(partial(make_document, app, prefix="/", title="Certorbit"))

    async def get_document() -> Response:
        return await whole.answer()

    async def get_docs() -> Response:
        page, policy = render_docs(orjson.loads((await whole.answer()).body))
        return Response(page, media_type="text/html", headers={"content-security-policy": policy})

    app.add_api_route("/openapi.json", get_document, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs", get_docs, methods=["GET"], include_in_schema=False)
    for dialect in DIALECTS:
        document = _Made(partial(make_document, app, prefix=f"{dialect.prefix}/", title=f"WAAP API {dialect.name}"))
        app.add_api_route(f"{dialect.prefix}/openapi.json", _serve(document), methods=["GET"], include_in_schema=False)


class _Made:
    """A document that is made when it is first asked for: in a thread, because it takes a quarter of a second."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make
        self._body = b""

    async def answer(self) -> Response:
        if not self._body:
            self._body = orjson.dumps(await asyncio.to_thread(self._make))
        return Response(self._body, media_type="application/json")


def _serve(document: _Made) -> Callable[..., Any]:
    async def get_dialect_document(_caller: ReaderOfOwn) -> Response:
        return await document.answer()

    return get_dialect_document
