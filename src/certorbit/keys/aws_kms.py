"""Provider `aws-kms`: a symmetric key of AWS KMS (Encrypt, Decrypt). boto3 blocks, so calls run in a thread."""

import asyncio
import logging
from functools import partial
from typing import Any, Final

import boto3
from botocore import exceptions as failures
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from certorbit.clock import Chance, Clock
from certorbit.errors import NEVER, CertorbitError, Outside, Unreachable
from certorbit.keyring_settings import AWSKMSSettings
from certorbit.keys.tries import call_again
from certorbit.net.json_exchange import safe_words
from certorbit.ports.key_wrapping import WrappedKey

PROVIDER: Final = "aws-kms"
# docs.aws.amazon.com/kms/latest/APIReference, errors of Encrypt and Decrypt that pass.
_PASSING: Final = frozenset(
    {"ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"}
)


class AWSWrapping:
    """Implements `ports.key_wrapping.KeyWrapping`. The key's id goes along as encryption context."""

    def __init__(self, settings: AWSKMSSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        # At DEBUG these write requests with their bodies.
        for noisy in ("botocore", "boto3", "urllib3"):
            logging.getLogger(noisy).setLevel(logging.INFO)

    async def wrap(self, key: bytes, *, key_id: str) -> WrappedKey:
        parameters = {"KeyId": self._settings.key_id, "Plaintext": key, "EncryptionContext": _context(key_id)}
        answer = await self._call("encrypt", parameters)
        return WrappedKey(str(answer["KeyId"]), bytes(answer["CiphertextBlob"]))

    async def unwrap(self, wrapped: WrappedKey, *, key_id: str) -> bytes:
        parameters = {
            "KeyId": wrapped.wrapping_key,
            "CiphertextBlob": wrapped.blob,
            "EncryptionContext": _context(key_id),
        }
        return bytes((await self._call("decrypt", parameters))["Plaintext"])

    async def _call(self, operation: str, parameters: dict[str, Any]) -> Any:
        send = partial(self._send, operation, parameters)
        return await call_again(
            lambda: asyncio.to_thread(send), provider=PROVIDER, clock=self._clock, chance=self._chance
        )

    def _send(self, operation: str, parameters: dict[str, Any]) -> Any:
        try:
            # A client per call: there is one call per key and process, and none of its sockets outlives it.
            client = self._open_client()
            try:
                return getattr(client, operation)(**parameters)
            finally:
                client.close()
        except (ClientError, BotoCoreError) as error:
            raise _translate(error, operation=operation, key=str(parameters["KeyId"])) from error

    def _open_client(self) -> Any:
        settings = self._settings
        session = boto3.session.Session(
            aws_access_key_id=settings.access_key_id or None,
            aws_secret_access_key=settings.secret_access_key.get_secret_value() or None,
            region_name=settings.region or None,
        )
        bounds = Config(
            connect_timeout=settings.timeout_seconds,
            read_timeout=settings.timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        return session.client("kms", endpoint_url=settings.endpoint_url or None, config=bounds)


def _context(key_id: str) -> dict[str, str]:
    return {"certorbit:key": key_id}


def _translate(error: ClientError | BotoCoreError, *, operation: str, key: str) -> CertorbitError:
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        words = safe_words(str(error.response.get("Error", {}).get("Message", "")))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _PASSING or status >= 500:
            return Unreachable(f"AWS KMS can't {operation} now: {code}: {words}.", subject=key, phase="read")
        return Outside(
            f"AWS KMS refuses to {operation} by the key {key}: {code}: {words}. Check that the key is enabled and that"
            " our role may use it (kms:Encrypt, kms:Decrypt).",
            subject=key,
            retry=NEVER,
        )
    if isinstance(error, failures.ConnectionError | failures.HTTPClientError):
        return Unreachable(f"AWS KMS can't be reached ({type(error).__name__}).", subject=key, phase="connect")
    if isinstance(error, NoCredentialsError | NoRegionError):
        return Outside(
            "AWS KMS: no credentials or no region are known; set them in [keyring.aws_kms] or in the environment.",
            subject=key,
            retry=NEVER,
        )
    return Outside(f"AWS KMS: {type(error).__name__}.", subject=key, retry=NEVER)
