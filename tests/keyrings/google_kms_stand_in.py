"""A stand-in for Google's Cloud KMS on loopback: there is no real one to be had for tests.

It checks every request: path, token, fields, CRC32C; what it doesn't know is a failed test, not an answer. Written from
the REST reference of cryptoKeys.encrypt and cryptoKeys.decrypt (2026).
"""

import base64
import json
import os
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certorbit.keys.crc32c import crc32c
from fakes.strict_server import StrictServer

KEY = "projects/pki/locations/europe/keyRings/certorbit/cryptoKeys/main"
TOKEN = "token-of-the-tests"


class GoogleKMSStandIn(StrictServer):
    """failing: the next answers. garbles: the next answer's plain text or cipher text has another checksum."""

    most_bytes = 2**16

    def __init__(self) -> None:
        super().__init__()
        self.key = os.urandom(32)
        self.failing: list[tuple[int, str]] = []
        self.garbles = 0
        self.requests: list[str] = []

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        if self.failing:
            status, message = self.failing.pop(0)
            return _refuse(status, message)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _refuse(401, "Request had invalid authentication credentials.")
        body = json.loads(await request.read())
        if request.method == "POST" and request.path == f"/v1/{KEY}:encrypt":
            return self._encrypt(body)
        if request.method == "POST" and request.path == f"/v1/{KEY}:decrypt":
            return self._decrypt(body)
        if request.method == "POST" and request.path.startswith("/v1/projects/"):
            return _refuse(404, "CryptoKey not found.")
        self.unexpected.append(f"{request.method} {request.path}")
        return _refuse(404, "unexpected")

    def _encrypt(self, body: dict[str, Any]) -> web.Response:
        plain, bound = self._fields(body, "plaintext")
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(self.key).encrypt(nonce, plain, bound)
        return web.json_response(
            {
                "name": f"{KEY}/cryptoKeyVersions/3",
                "ciphertext": base64.b64encode(sealed).decode(),
                "ciphertextCrc32c": self._checksum(sealed),
                "verifiedPlaintextCrc32c": True,
            }
        )

    def _decrypt(self, body: dict[str, Any]) -> web.Response:
        sealed, bound = self._fields(body, "ciphertext")
        try:
            plain = AESGCM(self.key).decrypt(sealed[:12], sealed[12:], bound)
        except InvalidTag:
            return _refuse(400, "Decryption failed: the ciphertext is invalid.")
        answer = {"plaintext": base64.b64encode(plain).decode(), "plaintextCrc32c": self._checksum(plain)}
        return web.json_response(answer)

    def _fields(self, body: dict[str, Any], name: str) -> tuple[bytes, bytes]:
        if set(body) != {name, f"{name}Crc32c", "additionalAuthenticatedData"}:
            self.unexpected.append(f"fields {sorted(body)}")
        data = base64.b64decode(body[name], validate=True)
        if body[f"{name}Crc32c"] != str(crc32c(data)):
            self.unexpected.append(f"the CRC32C of {name}")
        return data, base64.b64decode(body["additionalAuthenticatedData"], validate=True)

    def _checksum(self, data: bytes) -> str:
        if self.garbles:
            self.garbles -= 1
            return "1"
        return str(crc32c(data))


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": status, "message": message}}, status=status)
