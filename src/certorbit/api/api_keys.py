"""API keys: for administrators; auditors see the records. A secret is shown once, by what creates or rotates a key."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from certorbit.api import schemas
from certorbit.api.answers import JSONAnswer, format_instant, format_optional
from certorbit.api.authentication import Administrator, Auditor
from certorbit.api.documentation import answers_json, takes_body
from certorbit.api.known_keys import KnownKeys
from certorbit.api.parts import Parts
from certorbit.api.reading import IDPath, read_body
from certorbit.api.routes import RouteAdder
from certorbit.errors import BadInput
from certorbit.model.access import APIKey, APIKeyID, KeyTerms
from certorbit.model.entry import ConfigID
from certorbit.services import api_keys

PATH = "/api/certorbit/v1/api-keys"


@dataclass(frozen=True, slots=True)
class APIKeyRoutes:
    """The endpoints."""

    parts: Parts
    known_keys: KnownKeys

    async def list_api_keys(self, _caller: Auditor) -> Response:
        """Get all API keys' records"""
        found = await self.parts.store.read(api_keys.list_keys)
        return JSONAnswer({"total": len(found), "items": [_render(key) for key in found], "next_cursor": None})

    async def create_api_key(self, request: Request, caller: Administrator) -> Response:
        """Create an API key; the answer is the only place where it is ever shown

        Only a key that may export private keys gives that right to another one.
        """
        body = await read_body(request, schemas.APIKeyCreate)
        terms = KeyTerms(**_terms_of(body, given=set(schemas.APIKeyCreate.model_fields)))
        now, new_id, secret = self.parts.clock.now(), self.parts.new_id, api_keys.new_secret()
        key = await self.parts.store.write(
            lambda tx: api_keys.create_key(tx, terms, now=now, new_id=new_id, secret=secret, by=caller)
        )
        return JSONAnswer({**_render(key), "key": secret}, status_code=201)

    async def change_api_key(self, request: Request, key_id: IDPath, caller: Administrator) -> Response:
        """Change the fields of an API key that are given; its secret stays"""
        body = await read_body(request, schemas.APIKeyChange)
        if not body.model_fields_set:
            raise BadInput("The body changes nothing; name a field.", subject="body")
        now, given = self.parts.clock.now(), _terms_of(body, given=body.model_fields_set)
        key = await self.parts.store.write(
            lambda tx: api_keys.change_key(
                tx, APIKeyID(key_id), lambda terms: replace(terms, **given), now=now, by=caller
            )
        )
        self.known_keys.forget(key.id)
        return JSONAnswer(_render(key))

    async def rotate_api_key(self, request: Request, key_id: IDPath, caller: Administrator) -> Response:
        """Give an API key a new secret, shown in the answer alone; the one before works for `overlap_hours` more

        A rotation within that time ends the secret before the last one at once.
        """
        body = await read_body(request, schemas.APIKeyRotation, optional=True)
        now, secret = self.parts.clock.now(), api_keys.new_secret()
        overlap = timedelta(hours=body.overlap_hours)
        key = await self.parts.store.write(
            lambda tx: api_keys.rotate_key(tx, APIKeyID(key_id), overlap=overlap, now=now, secret=secret, by=caller)
        )
        self.known_keys.forget(key.id)
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
    one_at = f"{PATH}/{{key_id}}"
    listed = answers_json("The API keys", schemas.APIKeyList)
    created = answers_json("The new key", schemas.NewAPIKeyBody, 400, 413, 422, status=201)
    changed = answers_json("The key's record", schemas.APIKeyBody, 400, 404, 413, 422)
    rotated = answers_json("The key with its new secret", schemas.NewAPIKeyBody, 400, 404, 413, 422, status=201)
    revoked = answers_json("Revoked", None, 400, 404, 422, status=204)
    makes, changes = takes_body(schemas.APIKeyCreate, required=True), takes_body(schemas.APIKeyChange, required=True)
    rotates = takes_body(schemas.APIKeyRotation, required=False)
    add = RouteAdder(app, "API keys").add
    add("GET", PATH, routes.list_api_keys, listed)
    add("POST", PATH, routes.create_api_key, created, status=201, body=makes)
    add("PATCH", one_at, routes.change_api_key, changed, body=changes)
    add("POST", f"{one_at}/rotate", routes.rotate_api_key, rotated, status=201, body=rotates)
    add("DELETE", one_at, routes.revoke_api_key, revoked, status=204)


def _terms_of(body: schemas.APIKeyCreate | schemas.APIKeyChange, *, given: set[str]) -> dict[str, Any]:
    """Return the given fields as those of `KeyTerms`."""
    fields = {name: getattr(body, name) for name in given}
    if "configurations" in fields:
        fields["configurations"] = tuple(map(ConfigID, body.configurations))
    if "allowed_addresses" in fields:
        fields["allowed_addresses"] = tuple(body.allowed_addresses)
    return fields


def _render(key: APIKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "role": key.role.value,
        "may_export_keys": key.may_export_keys,
        "configurations": key.configurations,
        "allowed_addresses": key.allowed_addresses,
        "created_at": format_instant(key.created_at),
        "expires_at": format_optional(key.expires_at),
        "revoked_at": format_optional(key.revoked_at),
        "rotated_at": format_optional(key.rotated_at),
        "previous_ends_at": format_optional(key.previous_ends_at),
        "last_used_at": format_optional(key.last_used_at),
        "last_used_from": key.last_used_from,
    }
