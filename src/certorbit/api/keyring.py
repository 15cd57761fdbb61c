"""The keyring's state: which keys there are, what they seal, and how far a rotation is."""

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer, format_instant, format_optional
from certorbit.api.authentication import Administrator
from certorbit.api.documentation import answers_json
from certorbit.api.parts import Parts
from certorbit.api.routes import RouteAdder
from certorbit.model.keyring import KeyringStatus, StoredKey
from certorbit.services import keyring


class KeyEncryptionKeyBody(BaseModel):
    """A key-encryption key. The key itself is never shown."""

    id: str = Field(description="The first 8 bytes of its SHA-256, as sealed secrets name it")
    provider: str = Field(description="Who wraps it")
    wrapping_key: str = Field(description="Which of the provider's keys wraps it; don't delete that one")
    created_at: str = Field(description="RFC 3339, UTC")
    retired_at: str | None = Field(description="Since when nothing is sealed by it")
    seals: bool = Field(description="New secrets are sealed by it")
    secrets: int = Field(description="How many stored secrets it seals")


class KeyringBody(BaseModel):
    """The keyring."""

    provider: str = Field(description="Who wraps the next key")
    secrets: int = Field(description="How many secrets are stored")
    to_rewrap: int = Field(description="How many of them another key seals than the newest: what a rotation has to do")
    keys: list[KeyEncryptionKeyBody] = Field(description="The oldest first")
    unknown: dict[str, int] = Field(description="Secrets by keys that the database doesn't know; normally none")


@dataclass(frozen=True, slots=True)
class KeyringRoutes:
    """The endpoint."""

    parts: Parts

    async def get_keyring(self, _caller: Administrator) -> Response:
        """Get the key-encryption keys, and how many secrets each one seals"""
        status = await self.parts.store.read(keyring.read_status)
        return JSONAnswer(_render(status, provider=self.parts.settings.keyring.provider))


def add_keyring_routes(app: FastAPI, parts: Parts) -> None:
    """Add the keyring to the native API."""
    shown = answers_json("The keyring", KeyringBody)
    RouteAdder(app, "Keyring").add("GET", "/api/certorbit/v1/keyring", KeyringRoutes(parts).get_keyring, shown)


def _render(status: KeyringStatus, *, provider: str) -> dict[str, Any]:
    known = {key.id for key in status.keys}
    return {
        "provider": provider,
        "secrets": status.total,
        "to_rewrap": status.to_rewrap,
        "keys": [_render_key(key, status) for key in status.keys],
        "unknown": {key: count for key, count in status.secrets.items() if key not in known},
    }


def _render_key(key: StoredKey, status: KeyringStatus) -> dict[str, Any]:
    return {
        "id": key.id,
        "provider": key.provider,
        "wrapping_key": key.wrapping_key,
        "created_at": format_instant(key.created_at),
        "retired_at": format_optional(key.retired_at),
        "seals": key.id == status.sealing,
        "secrets": status.secrets.get(key.id, 0),
    }
