"""People's session cookies, as requests show them: read, looked up, and believed only from our own pages."""

from collections import OrderedDict
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import structlog
from starlette.types import Scope

from certorbit.api.failed_attempts import FailedAttempts
from certorbit.clock import Clock
from certorbit.errors import NotAllowed, NotSignedIn, TooManyFailures
from certorbit.model.session import Session, SignInRules
from certorbit.ports.store import Store
from certorbit.services import sessions

log = structlog.get_logger(__name__)

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FETCH_HEADERS: Final = frozenset({b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"})
_MOST_GOOD: Final = 4096  # digests of cookies that were right once
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class Cookies:
    """Our cookies' names and attributes. origin: where browsers reach us, as `https://certs.example.org`."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.is_secure = origin.startswith("https://")
        # `__Host-` (RFC 6265bis §4.1.3.2): no other host of the domain, and nobody on plain HTTP, can set it.
        prefix = "__Host-" if self.is_secure else ""
        self.session = f"{prefix}certorbit-session"
        self.sign_in = f"{prefix}certorbit-sign-in"

    def set(self, name: str, value: str, *, seconds: int) -> str:
        """Return a Set-Cookie header. Lax: the provider's redirect to us is a navigation from another site."""
        secure = "; Secure" if self.is_secure else ""
        return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"

    def clear(self, name: str) -> str:
        return self.set(name, "", seconds=0)

    def read(self, headers: list[tuple[bytes, bytes]], name: str) -> str | None:
        """Return the cookie's value; None: there is none, or more than one (then one of them is not ours)."""
        wanted = name.encode()
        pairs = [pair.strip().partition(b"=") for key, line in headers if key == b"cookie" for pair in line.split(b";")]
        values = [value for own, _, value in pairs if own == wanted]
        return values[0].decode("latin-1") if len(values) == 1 else None


class KnownSessions:
    """Tells who calls by the cookie. Nothing is remembered: a session that was ended is over at once, everywhere.

    Unknown cookies of one address are slowed down, as unknown API keys are; one that was right before is looked up.
    """

    def __init__(
        self, *, store: Store, clock: Clock, rules: SignInRules, cookies: Cookies, failures_per_minute: int
    ) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules
        self._cookies = cookies
        self._attempts = FailedAttempts(per_minute=failures_per_minute)
        self._good: OrderedDict[str, None] = OrderedDict()

    def find_secret(self, scope: Scope) -> str | None:
        """Return the session cookie of a request; None: there is none, or an Authorization header, which goes first."""
        if any(name == b"authorization" for name, _ in scope["headers"]):
            return None
        return self._cookies.read(scope["headers"], self._cookies.session)

    async def authenticate(self, secret: str, *, address: str) -> Session:
        """Return the cookie's session.

        Raises:
            NotSignedIn: it is unknown, or over. TooManyFailures: too many unknown ones came from there.
            Unreachable: the database did not answer.
        """
        now, digest = self._clock.now(), sessions.digest_secret(secret)
        if digest not in self._good:
            self._check_attempts(address, now=now)
        try:
            session = await self._store.read(lambda tx: sessions.find_session(tx, digest, rules=self._rules, now=now))
        except NotSignedIn:
            if self._good.pop(digest, True) is True:  # a browser that goes on after its session's end tries nothing
                self._attempts.note(address, "", now=now)
            log.info("session.refused", address=address)
            raise
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > _MOST_GOOD:
            self._good.popitem(last=False)
        if sessions.is_use_due(session, now=now):
            await self._store.write(lambda tx: tx.sessions.note_seen(digest, now=now))
        return session

    def check_origin(self, scope: Scope) -> None:
        """Return if the request comes from our own pages, or from no page.

        Browsers send cookies whoever's page makes them send a request; what is looked at is what pages can't forge,
        Origin (RFC 6454) and Sec-Fetch-Site (Fetch Metadata). A change needs one of them. Following a link to us is
        no other page's request: it can't read the answer; the provider's redirect at the end of a sign-in is one.

        Raises:
            NotAllowed: it is another site's doing, or a change without a word of where it comes from.
        """
        said = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _FETCH_HEADERS}
        origin, site = said.get(b"origin"), said.get(b"sec-fetch-site")
        is_change = scope["method"] not in _SAFE_METHODS
        is_link = not is_change and said.get(b"sec-fetch-mode") == "navigate"
        is_link = is_link and said.get(b"sec-fetch-dest") == "document"
        is_foreign = origin is not None and _tidy(origin) != self._cookies.origin
        is_foreign = is_foreign or (site not in {None, "same-origin", "none"} and not is_link)
        if is_foreign or (is_change and origin is None and site != "same-origin"):
            raise NotAllowed(
                "Your session counts only for requests from this service's own pages (Origin); for programs there are"
                " API keys.",
                subject="origin",
            )

    def _check_attempts(self, address: str, *, now: datetime) -> None:
        try:
            self._attempts.check_address(address, now=now)
        except TooManyFailures as error:
            raise TooManyFailures(
                f"Too many unknown sessions came from {address or 'your address'}; try again in {error.seconds} s.",
                subject="session",
                seconds=error.seconds,
            ) from None


def origin_of(url: str) -> str:
    """Return the origin of a URL, as browsers write it (RFC 6454 §6.1)."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    is_default = parts.port is None or parts.port == _DEFAULT_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{parts.port}"


def _tidy(origin: str) -> str:
    """Return a header's origin; anything that is none stays as it is, and is nobody's."""
    try:
        return origin_of(origin) if "://" in origin and origin.count("/") == 2 else origin
    except ValueError:
        return origin
