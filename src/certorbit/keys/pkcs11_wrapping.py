"""Provider `pkcs11`: an AES key in a hardware security module wraps ours (CKM_AES_KEY_WRAP, RFC 3394)."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pkcs11
from pkcs11.exceptions import NoSuchKey, NoSuchToken, PinIncorrect, PinLocked, PKCS11Error

from certorbit.errors import NEVER, Outside
from certorbit.keyring_settings import PKCS11Settings
from certorbit.ports.key_wrapping import WrappedKey

PROVIDER: Final = "pkcs11"
T = TypeVar("T")
# C_Initialize and a token's login are one per process, whoever calls.
_TURN: Final = threading.Lock()


class PKCS11Wrapping:
    """Implements `ports.key_wrapping.KeyWrapping`. Not tried again: a module is on this machine.

    RFC 3394 has no associated data; that the key is the one of its id, the caller sees by the id, a digest of the key.
    """

    def __init__(self, settings: PKCS11Settings) -> None:
        self._settings = settings

    async def wrap(self, key: bytes, *, key_id: str) -> WrappedKey:  # noqa: ARG002 - see the class
        def work(wrapping_key: Any, session: Any) -> bytes:
            # Only for this session, gone with it: the module wraps objects, not bytes.
            ours = session.create_object(
                {
                    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                    pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
                    pkcs11.Attribute.VALUE: key,
                    **_SESSION_ONLY,
                }
            )
            return bytes(wrapping_key.wrap_key(ours, mechanism=pkcs11.Mechanism.AES_KEY_WRAP))

        blob = await self._run(work, key_label=self._settings.key_label)
        return WrappedKey(f"{self._settings.token_label}/{self._settings.key_label}", blob)

    async def unwrap(self, wrapped: WrappedKey, *, key_id: str) -> bytes:  # noqa: ARG002 - see the class
        def work(wrapping_key: Any, _session: Any) -> bytes:
            ours = wrapping_key.unwrap_key(
                pkcs11.ObjectClass.SECRET_KEY,
                pkcs11.KeyType.AES,
                wrapped.blob,
                mechanism=pkcs11.Mechanism.AES_KEY_WRAP,
                template=_SESSION_ONLY,
            )
            return bytes(ours[pkcs11.Attribute.VALUE])

        return await self._run(work, key_label=wrapped.wrapping_key.partition("/")[2] or self._settings.key_label)

    async def _run(self, work: Callable[[Any, Any], T], *, key_label: str) -> T:
        return await asyncio.to_thread(self._do, work, key_label)

    def _do(self, work: Callable[[Any, Any], T], key_label: str) -> T:
        settings = self._settings
        try:
            with _TURN:
                library = pkcs11.lib(str(settings.module))
                token = library.get_token(token_label=settings.token_label)
                with token.open(user_pin=settings.pin.get_secret_value()) as session:
                    key = session.get_key(label=key_label, object_class=pkcs11.ObjectClass.SECRET_KEY)
                    return work(key, session)
        except (PKCS11Error, RuntimeError, OSError) as error:
            raise Outside(
                f"The security module {settings.module} (token {settings.token_label}, key {key_label}) can't be used:"
                f" {_reason(error)}.",
                subject=str(settings.module),
                retry=NEVER,
            ) from error


_SESSION_ONLY: Final[dict[Any, Any]] = {
    pkcs11.Attribute.TOKEN: False,
    pkcs11.Attribute.SENSITIVE: False,
    pkcs11.Attribute.EXTRACTABLE: True,
}


def _reason(error: Exception) -> str:
    """Return what is known; a module's own text stays out, it may repeat anything."""
    if isinstance(error, PinIncorrect | PinLocked):
        return "the PIN is wrong, or locked after too many wrong ones"
    if isinstance(error, NoSuchToken):
        return "there is no token of this label"
    if isinstance(error, NoSuchKey):
        return "there is no secret key of this label"
    return f"{type(error).__name__}; check the module's path and that the key may wrap and unwrap"
