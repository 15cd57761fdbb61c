"""A sign-in that was begun and isn't ended: what the browser keeps of it, and what follows from that. Pure.

Nothing of it is stored here: state, nonce and PKCE verifier are derived from random bits in a cookie that only the
browser has that began, so any node can go on, and strangers who begin sign-ins fill no table.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from certorbit.errors import BadInput

MOST_TIME: Final = timedelta(minutes=10)  # to type a password and a second factor
_LONGEST_PATH: Final = 512
_COOKIE: Final = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9]{1,11})\.([A-Za-z0-9_-]{1,1024})")
# A path of our own: browsers take `//host` and `/\host` for another machine, and drop tabs and line ends first.
_LOCAL_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


@dataclass(frozen=True, slots=True)
class Attempt:
    """secret: 256 random bits, base64url. begun_at: whole seconds, UTC. goes_to: a path of ours."""

    secret: str
    begun_at: datetime
    goes_to: str

    def __repr__(self) -> str:
        return f"Attempt(begun_at={self.begun_at.isoformat()})"

    @property
    def state(self) -> str:
        return self._derive("state")

    @property
    def nonce(self) -> str:
        return self._derive("nonce")

    @property
    def verifier(self) -> str:
        """Return the PKCE code verifier (RFC 7636 §4.1: 43 characters or more)."""
        return self._derive("verifier")

    @property
    def challenge(self) -> str:
        """Return the verifier's S256 challenge (RFC 7636 §4.2)."""
        return _encode(hashlib.sha256(self.verifier.encode()).digest())

    def cookie(self) -> str:
        return f"{self.secret}.{int(self.begun_at.timestamp())}.{_encode(self.goes_to.encode())}"

    def _derive(self, purpose: str) -> str:
        message = f"{purpose}\n{int(self.begun_at.timestamp())}\n{self.goes_to}"
        return _encode(hmac.digest(self.secret.encode(), message.encode(), "sha256"))


def begin(secret: str, *, goes_to: str, now: datetime) -> Attempt:
    """Return a new sign-in. Raises BadInput unless `goes_to` is a path here."""
    if len(goes_to) > _LONGEST_PATH or not _LOCAL_PATH.fullmatch(goes_to):
        raise BadInput(
            "next: give a path of this service that begins with one slash, for example /docs.", subject="next"
        )
    return Attempt(secret, now.astimezone(UTC).replace(microsecond=0), goes_to)


def read_cookie(text: str, *, now: datetime) -> Attempt | None:
    """Return the sign-in that a browser says it has begun; None: there is none, or it is over."""
    found = _COOKIE.fullmatch(text)
    if found is None:
        return None
    begun_at = datetime.fromtimestamp(int(found[2]), tz=UTC)
    if not timedelta(seconds=-60) <= now - begun_at <= MOST_TIME:
        return None
    try:
        goes_to = base64.urlsafe_b64decode(found[3] + "=" * (-len(found[3]) % 4)).decode("ascii")
        return begin(found[1], goes_to=goes_to, now=begun_at)
    except (ValueError, binascii.Error, BadInput):
        return None


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
