"""The pool of anti-replay nonces (RFC 8555 §6.5)."""

import re
from collections import deque

# RFC 8555 §6.5.1: clients MUST ignore values outside the base64url alphabet; 256 is more than any CA sends.
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,256}")


class NoncePool:
    """Nonces that the CA gave and that were not used yet, freshest first: CAs forget old ones.

    Args:
        most: how many are kept; the oldest are dropped. No more are needed than requests are in flight.
    """

    def __init__(self, *, most: int) -> None:
        self._nonces: deque[str] = deque(maxlen=most)

    def put(self, nonce: str | None) -> None:
        """Keep a `Replay-Nonce` header; nothing, and what is none, is ignored."""
        if nonce is not None and _NONCE.fullmatch(nonce):
            self._nonces.append(nonce)

    def take(self) -> str | None:
        """Return the freshest nonce and forget it; None if there is none."""
        return self._nonces.pop() if self._nonces else None

    def __len__(self) -> int:
        return len(self._nonces)
