"""Issuers, and what the built-in CA shows to everybody: its root to trust, and its CRL."""

from dataclasses import dataclass

from fastapi import FastAPI
from starlette.responses import Response

from certorbit.api import schemas
from certorbit.api.answers import JSONAnswer, download
from certorbit.api.authentication import ROOT_PEM_PATH, ReaderOfOwn
from certorbit.api.documentation import PUBLIC, Responses, answers_json, errors_of
from certorbit.api.parts import Parts
from certorbit.api.routes import RouteAdder
from certorbit.errors import NotFound
from certorbit.ports.authority import AuthorityDoor

INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class IssuerRoutes:
    """The endpoints."""

    parts: Parts

    async def list_issuers(self, caller: ReaderOfOwn) -> Response:
        """Get the issuers in order of preference: the first one issues"""
        own = {issuer.name for config in caller.configurations for issuer in self.parts.issuers_of(config)}
        items = [
            {
                "name": issuer.name,
                "type": INTERNAL if issuer.directory == INTERNAL else "acme",
                "directory": issuer.directory,
                "can_issue_wildcards": issuer.can_issue_wildcards,
            }
            for issuer in self.parts.issuers
            if not caller.is_limited or issuer.name in own
        ]
        return JSONAnswer({"total": len(items), "items": items, "next_cursor": None})

    async def get_root(self) -> Response:
        """Download the root certificate of the built-in CA, to be trusted"""
        root = await self._authority().root_pem()
        return download(root, media_type="application/x-pem-file", file_name="certorbit-root.pem")

    async def get_crl(self) -> Response:
        """Download the built-in CA's certificate revocation list (RFC 5280, DER)"""
        answer = Response(await self._authority().crl_der(), media_type="application/pkix-crl")
        answer.headers["cache-control"] = "public, max-age=300"  # no secret, and fetched by every relying party
        return answer

    def _authority(self) -> AuthorityDoor:
        if self.parts.authority is None:
            raise NotFound("This service has no built-in CA; certificates come from the issuers that are configured.")
        return self.parts.authority


def add_issuer_routes(app: FastAPI, parts: Parts) -> None:
    """Add the issuers to the native API, and the CRL at its own public path."""
    routes = IssuerRoutes(parts)
    listed = answers_json("The issuers", schemas.IssuerList)
    RouteAdder(app, "Issuers").add("GET", "/api/certorbit/v1/issuers", routes.list_issuers, listed)
    for path, endpoint, media_type in (
        (ROOT_PEM_PATH, routes.get_root, "application/x-pem-file"),
        ("/crl/internal.crl", routes.get_crl, "application/pkix-crl"),
    ):
        content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
        file: Responses = {200: {"description": "The file", "content": content}, **errors_of(404, 500, 503)}
        RouteAdder(app, "Built-in CA").add("GET", path, endpoint, file, access=PUBLIC)
