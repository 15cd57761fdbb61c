"""A stand-in for a transit engine (HashiCorp Vault, OpenBao) on loopback: there is no real one to be had for tests.

It checks every request: path, headers, fields, token, policy; what it doesn't know is a failed test, not an answer.
Written from the API pages of transit and AppRole (2026).
"""

import base64
import json
import os
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fakes.strict_server import StrictServer

TOKEN = "hvs.token-of-the-tests"
ROLE_ID, SECRET_ID = "role-of-the-tests", "secret-id-of-the-tests"
NAMESPACE = "team/pki"


class TransitStandIn(StrictServer):
    """versions: of the key `certorbit`, the newest last. failing: the next answers. minimum: oldest that decrypts."""

    most_bytes = 2**16

    def __init__(self) -> None:
        super().__init__()
        self.versions = [os.urandom(32)]
        self.minimum = 1
        self.failing: list[tuple[int, list[str]]] = []
        self.requests: list[str] = []
        self._issued: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        if self.failing:
            status, errors = self.failing.pop(0)
            return web.json_response({"errors": errors}, status=status)
        headers = request.headers
        if request.method != "POST" or headers.get("X-Vault-Request") != "true":
            return self._never(f"{request.method} {request.path}")
        if headers.get("X-Vault-Namespace", "") not in {"", NAMESPACE}:
            return self._never("another namespace")
        doors = {
            "/v1/auth/approle/login": self._log_in,
            "/v1/transit/encrypt/certorbit": self._encrypt,
            "/v1/transit/decrypt/certorbit": self._decrypt,
        }
        door = doors.get(request.path)
        if door != self._log_in and headers.get("X-Vault-Token") not in {TOKEN, *self._issued}:
            return web.json_response({"errors": ["permission denied"]}, status=403)
        if door is None:
            return web.json_response({"errors": ["encryption key not found"]}, status=400)
        return door(json.loads(await request.read()))

    def _log_in(self, body: dict[str, Any]) -> web.Response:
        if body != {"role_id": ROLE_ID, "secret_id": SECRET_ID}:
            return web.json_response({"errors": ["invalid role or secret ID"]}, status=400)
        token = f"hvs.{len(self._issued)}"
        self._issued.add(token)
        return web.json_response({"auth": {"client_token": token, "lease_duration": 60}, "data": None})

    def _encrypt(self, body: dict[str, Any]) -> web.Response:
        if set(body) != {"plaintext", "associated_data"}:
            return self._never(f"encrypt with {sorted(body)}")
        nonce = os.urandom(12)
        data, bound = (base64.b64decode(body[name], validate=True) for name in ("plaintext", "associated_data"))
        sealed = nonce + AESGCM(self.versions[-1]).encrypt(nonce, data, bound)
        text = f"vault:v{len(self.versions)}:{base64.b64encode(sealed).decode()}"
        return web.json_response({"data": {"ciphertext": text, "key_version": len(self.versions)}})

    def _decrypt(self, body: dict[str, Any]) -> web.Response:
        if set(body) != {"ciphertext", "associated_data"}:
            return self._never(f"decrypt with {sorted(body)}")
        vault, version, text = body["ciphertext"].split(":")
        assert vault == "vault"
        number = int(version[1:])
        if number < self.minimum:
            return web.json_response({"errors": ["ciphertext version is disallowed by policy (too old)"]}, status=400)
        sealed = base64.b64decode(text, validate=True)
        bound = base64.b64decode(body["associated_data"], validate=True)
        try:
            data = AESGCM(self.versions[number - 1]).decrypt(sealed[:12], sealed[12:], bound)
        except InvalidTag:
            return web.json_response({"errors": ["cipher: message authentication failed"]}, status=400)
        return web.json_response({"data": {"plaintext": base64.b64encode(data).decode()}})

    def _never(self, what: str) -> web.Response:
        self.unexpected.append(what)
        return web.json_response({"errors": ["unexpected"]}, status=400)
