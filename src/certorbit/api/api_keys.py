"""API keys: for administrators. A key is shown once, in the answer that creates it."""

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from certorbit.api import schemas
from certorbit.api.answers import JSONAnswer, format_instant, format_optional
from certorbit.api.authentication import Administrator, KnownKeys
from certorbit.api.documentation import SECURED, answers_json, takes_body
from certorbit.api.parts import Parts
from certorbit.api.reading import IDPath, read_body
from certorbit.model.access import APIKey, APIKeyID
from certorbit.services import api_keys

PATH = "/api/certorbit/v1/api-keys"


@dataclass(frozen=True, slots=True)
class APIKeyRoutes:
    """The endpoints."""

    parts: Parts
    known_keys: KnownKeys

    async def list_api_keys(self, _caller: Administrator) -> Response:
        """Get all API keys' records"""
        found = await self.parts.store.read(api_keys.list_keys)
        return JSONAnswer({"total": len(found), "items": [_render(key) for key in found], "next_cursor": None})

    async def create_api_key(self, request: Request, _caller: Administrator) -> Response:
        """Create an API key; the answer is the only place where it is ever shown"""
        body = await read_body(request, schemas.APIKeyCreate)
        now, secret = self.parts.clock.now(), api_keys.new_secret()
        key = await self.parts.store.write(
            lambda tx: api_keys.create_key(
                tx,
                name=body.name,
                role=body.role,
                may_export_keys=body.may_export_keys,
                now=now,
                new_id=self.parts.new_id,
                secret=secret,
            )
        )
        return JSONAnswer({**_render(key), "key": secret}, status_code=201)

    async def revoke_api_key(self, key_id: IDPath, _caller: Administrator) -> Response:
        """Revoke an API key; its record stays. Repeating it is harmless"""
        now = self.parts.clock.now()
        await self.parts.store.write(lambda tx: api_keys.revoke_key(tx, APIKeyID(key_id), now=now))
        self.known_keys.forget(APIKeyID(key_id))
        return Response(status_code=204)


def add_api_key_routes(app: FastAPI, parts: Parts, *, known_keys: KnownKeys) -> None:
    """Add the API keys to the native API."""
    routes = APIKeyRoutes(parts, known_keys)
    app.add_api_route(
        PATH,
        routes.list_api_keys,
        methods=["GET"],
        responses=answers_json("The API keys", schemas.APIKeyList),
        response_class=Response,
        operation_id="list_api_keys",
        tags=["API keys"],
        openapi_extra=SECURED,
    )
    app.add_api_route(
        PATH,
        routes.create_api_key,
        methods=["POST"],
        status_code=201,
        responses=answers_json("The new key", schemas.NewAPIKeyBody, 400, 413, 422, status=201),
        response_class=Response,
        operation_id="create_api_key",
        tags=["API keys"],
        openapi_extra={**SECURED, **takes_body(schemas.APIKeyCreate, required=True)},
    )
    app.add_api_route(
        f"{PATH}/{{key_id}}",
        routes.revoke_api_key,
        methods=["DELETE"],
        status_code=204,
        responses=answers_json("Revoked", None, 400, 404, 422, status=204),
        response_class=Response,
        operation_id="revoke_api_key",
        tags=["API keys"],
        openapi_extra=SECURED,
    )


def _render(key: APIKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "role": key.role.value,
        "may_export_keys": key.may_export_keys,
        "created_at": format_instant(key.created_at),
        "revoked_at": format_optional(key.revoked_at),
    }
