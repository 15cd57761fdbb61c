"""Key wrapping: the service or device that keeps a key-encryption key safe at rest.

Asked once per key and process, at the start or when a new key appears: never for a single secret.
"""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """wrapping_key: which of the provider's keys did it, in its own words: what an operator must not delete."""

    wrapping_key: str
    blob: bytes = field(repr=False)


class KeyWrapping(Protocol):
    """One provider. Calls are bounded in time and tried again where that helps; they may come from any event loop.

    `key_id` is no secret; providers that can bind it to the wrapped key do. Callers check that what they get is the
    key of this id.
    """

    async def wrap(self, key: bytes, *, key_id: str) -> WrappedKey:
        """Wrap a key of 32 bytes.

        Raises:
            Unreachable: no answer. Outside: the provider says no; the message says to what and what to do.
        """
        ...

    async def unwrap(self, wrapped: WrappedKey, *, key_id: str) -> bytes:
        """Return the key. Raises as `wrap`; Broken: it was wrapped for another id, or is damaged."""
        ...
