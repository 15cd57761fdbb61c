"""Provider `transit`: a key of a transit engine over HTTP, as HashiCorp Vault and OpenBao have it.

developer.hashicorp.com/vault/api-docs/secret/transit and …/auth/approle: encrypt, decrypt, AppRole login.
"""

import base64
import binascii
import ssl
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from certorbit.clock import Chance, Clock
from certorbit.errors import NEVER, BadInput, Outside, Unreachable
from certorbit.keyring_settings import TransitSettings
from certorbit.keys.tries import call_again
from certorbit.net.json_exchange import JSONAnswer, exchange, safe_words
from certorbit.ports.key_wrapping import WrappedKey

PROVIDER: Final = "transit"


class TransitWrapping:
    """Implements `ports.key_wrapping.KeyWrapping`. The key's id goes along as associated data."""

    def __init__(self, settings: TransitSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance

    async def wrap(self, key: bytes, *, key_id: str) -> WrappedKey:
        body = {"plaintext": _encode(key), "associated_data": _encode(key_id.encode())}
        ciphertext = _field(await self._call("encrypt", self._settings.key, body), "ciphertext")
        # "vault:v3:…": the version is what an operator must not trim away.
        version = ciphertext.split(":")[1] if ciphertext.count(":") >= 2 else "v?"
        return WrappedKey(f"{self._settings.mount}/{self._settings.key}:{version}", ciphertext.encode())

    async def unwrap(self, wrapped: WrappedKey, *, key_id: str) -> bytes:
        name = wrapped.wrapping_key.rpartition(":")[0].removeprefix(f"{self._settings.mount}/")
        body = {"ciphertext": wrapped.blob.decode(), "associated_data": _encode(key_id.encode())}
        plaintext = _field(await self._call("decrypt", name, body), "plaintext")
        try:
            return base64.b64decode(plaintext, validate=True)
        except (binascii.Error, ValueError):
            raise Unreachable(
                "The transit engine's plaintext is no base64.", subject=self._settings.url, phase="read"
            ) from None  # the cause would show it

    async def _call(self, verb: str, key: str, body: Mapping[str, str]) -> Mapping[str, Any]:
        path = f"{self._settings.mount}/{verb}/{quote(key, safe='')}"
        return await call_again(
            partial(self._send, path, body), provider=PROVIDER, clock=self._clock, chance=self._chance
        )

    async def _send(self, path: str, body: Mapping[str, str]) -> Mapping[str, Any]:
        connector = aiohttp.TCPConnector(ssl=self._trust())
        # A session per call: there is one call per key and process, from whichever event loop.
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        ) as session:
            token = self._settings.token.get_secret_value() or await self._log_in(session)
            return await self._post(session, path, body, token=token)

    async def _log_in(self, session: aiohttp.ClientSession) -> str:
        body = {"role_id": self._settings.role_id, "secret_id": self._settings.secret_id.get_secret_value()}
        answer = await self._post(session, f"auth/{self._settings.approle_mount}/login", body, token="")
        auth = answer.get("auth")
        return _field(auth if isinstance(auth, dict) else {}, "client_token")

    async def _post(
        self, session: aiohttp.ClientSession, path: str, body: Mapping[str, str], *, token: str
    ) -> Mapping[str, Any]:
        """Return the answer's `data`, or the whole answer where it has none."""
        headers = {"Content-Type": "application/json", "X-Vault-Request": "true"}
        headers |= {"X-Vault-Token": token} if token else {}
        headers |= {"X-Vault-Namespace": self._settings.namespace} if self._settings.namespace else {}
        url = f"{self._settings.url}/v1/{path}"
        answer = await exchange(
            session, "POST", url, seconds=self._settings.timeout_seconds, headers=headers, body=body
        )
        if not 200 <= answer.status < 300:
            raise self._refusal(answer, path=path)
        data = answer.body.get("data")
        return data if isinstance(data, dict) else answer.body

    def _refusal(self, answer: JSONAnswer, *, path: str) -> Outside:
        errors = answer.body.get("errors")
        words = safe_words("; ".join(map(str, errors)) if isinstance(errors, list) else answer.text)
        # 412: this replica hasn't seen our token's write yet. 429, 472, 473: a standby. 503: sealed, or under repair.
        if answer.status in {412, 429, 472, 473} or answer.status >= 500:
            return Unreachable(
                f"The transit engine at {self._settings.url} can't do {path} now: {answer.status}: {words}.",
                subject=self._settings.url,
                phase="read",
            )
        return Outside(
            f"The transit engine at {self._settings.url} refuses {path}: {answer.status}: {words}. Check the key's name"
            " and that our policy may update encrypt and decrypt of it.",
            subject=self._settings.url,
            retry=NEVER,
        )

    def _trust(self) -> ssl.SSLContext | bool:
        if self._settings.ca_bundle is None:
            return True
        try:
            return ssl.create_default_context(cafile=self._settings.ca_bundle)
        except OSError as error:
            raise BadInput(
                f"keyring.transit: ca_bundle {self._settings.ca_bundle} can't be read: {error.strerror or 'no PEM'}.",
                subject="keyring",
            ) from error


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _field(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise Unreachable(f"The transit engine's answer has no {name}.", subject=PROVIDER, phase="read")
    return value
