"""Provider `gcp-kms`: a symmetric key of Google's Cloud KMS over REST (cryptoKeys.encrypt, cryptoKeys.decrypt).

cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys. Plain text and cipher text go with
their CRC32C, so that what the network or the service garbles is noticed, not stored.
"""

import asyncio
import base64
import binascii
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import aiohttp
import google.auth
import google.auth.transport.requests
from google.auth.exceptions import GoogleAuthError, TransportError
from google.oauth2 import service_account

from certorbit.clock import Chance, Clock
from certorbit.errors import NEVER, Outside, Unreachable
from certorbit.keyring_settings import GCPKMSSettings
from certorbit.keys.crc32c import crc32c
from certorbit.keys.tries import call_again
from certorbit.net.json_exchange import JSONAnswer, exchange, safe_words
from certorbit.ports.key_wrapping import WrappedKey

PROVIDER: Final = "gcp-kms"
_SCOPES: Final = ("https://www.googleapis.com/auth/cloudkms",)


class GCPWrapping:
    """Implements `ports.key_wrapping.KeyWrapping`. The key's id goes along as additional authenticated data."""

    def __init__(self, settings: GCPKMSSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance

    async def wrap(self, key: bytes, *, key_id: str) -> WrappedKey:
        body = {
            "plaintext": _encode(key),
            "plaintextCrc32c": str(crc32c(key)),
            "additionalAuthenticatedData": _encode(key_id.encode()),
        }

        async def send() -> WrappedKey:
            answer = await self._send(self._settings.key, "encrypt", body)
            if answer.get("verifiedPlaintextCrc32c") is not True:
                raise _garbled(self._settings.key)
            name = str(answer.get("name") or self._settings.key)
            return WrappedKey(name, _decode(answer, "ciphertext", key=self._settings.key))

        return await call_again(send, provider=PROVIDER, clock=self._clock, chance=self._chance)

    async def unwrap(self, wrapped: WrappedKey, *, key_id: str) -> bytes:
        body = {
            "ciphertext": _encode(wrapped.blob),
            "ciphertextCrc32c": str(crc32c(wrapped.blob)),
            "additionalAuthenticatedData": _encode(key_id.encode()),
        }
        # Decrypting takes the key; which of its versions it was, the ciphertext says.
        path = wrapped.wrapping_key.partition("/cryptoKeyVersions/")[0]

        async def send() -> bytes:
            return _decode(await self._send(path, "decrypt", body), "plaintext", key=path)

        return await call_again(send, provider=PROVIDER, clock=self._clock, chance=self._chance)

    async def _send(self, path: str, verb: str, body: Mapping[str, str]) -> Mapping[str, Any]:
        headers = {"Authorization": f"Bearer {await self._token()}", "Content-Type": "application/json"}
        url = f"{self._settings.endpoint_url}/v1/{path}:{verb}"
        # A session per call: there is one call per key and process, from whichever event loop.
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as session:
            answer = await exchange(
                session, "POST", url, seconds=self._settings.timeout_seconds, headers=headers, body=body
            )
        if 200 <= answer.status < 300:
            return answer.body
        raise _refusal(answer, path=path, verb=verb)

    async def _token(self) -> str:
        if self._settings.token is not None:
            return self._settings.token.get_secret_value()
        try:
            return await asyncio.to_thread(self._fetch_token)
        except TransportError as error:
            raise Unreachable(
                f"Google's token server doesn't answer ({type(error).__name__}).",
                subject=self._settings.key,
                phase="read",
            ) from error
        except (GoogleAuthError, OSError, ValueError) as error:
            words = safe_words(str(error)) if isinstance(error, GoogleAuthError) else type(error).__name__
            source = self._settings.credentials_file or "the environment's credentials"
            raise Outside(f"No access token for Google's KMS by {source}: {words}.", retry=NEVER) from error

    def _fetch_token(self) -> str:
        if self._settings.credentials_file is not None:
            read = service_account.Credentials.from_service_account_file
            credentials: Any = read(str(self._settings.credentials_file), scopes=_SCOPES)  # type: ignore[no-untyped-call]
        else:
            credentials, _ = google.auth.default(scopes=_SCOPES)
        request = google.auth.transport.requests.Request()
        credentials.refresh(partial(request, timeout=self._settings.timeout_seconds))
        return str(credentials.token)


def _refusal(answer: JSONAnswer, *, path: str, verb: str) -> Outside:
    error = answer.body.get("error")
    words = safe_words(str(error.get("message", "")) if isinstance(error, dict) else answer.text)
    if answer.status in {408, 429} or answer.status >= 500:
        return Unreachable(f"Google's KMS can't {verb} now: {answer.status}: {words}.", subject=path, phase="read")
    return Outside(
        f"Google's KMS refuses to {verb} by the key {path}: {answer.status}: {words}. Check that the key is enabled and"
        " that our account may use it (roles/cloudkms.cryptoKeyEncrypterDecrypter).",
        subject=path,
        retry=NEVER,
    )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(answer: Mapping[str, Any], name: str, *, key: str) -> bytes:
    """Return the field's bytes. Raises Unreachable: they aren't what their checksum says."""
    try:
        data = base64.b64decode(str(answer.get(name, "")), validate=True)
    except (binascii.Error, ValueError):
        raise _garbled(key) from None  # the cause would show what it sent
    if answer.get(f"{name}Crc32c") != str(crc32c(data)):
        raise _garbled(key)
    return data


def _garbled(key: str) -> Unreachable:
    return Unreachable("Google's KMS got or gave garbled data (CRC32C).", subject=key, phase="read")
