"""API keys as requests show them: looked up, remembered for two seconds, slowed down when nobody knows them."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from certorbit.api.failed_attempts import FailedAttempts
from certorbit.api.key_uses import KeyUses
from certorbit.clock import Clock
from certorbit.errors import NotAllowed, NotSignedIn, TooManyFailures
from certorbit.model.access import APIKeyID, Principal
from certorbit.model.addresses import Network, is_within, read_networks
from certorbit.observe.metrics import Metrics
from certorbit.ports.store import Store, UnitOfWork
from certorbit.services import api_keys
from certorbit.services.api_keys import Recognised

log = structlog.get_logger(__name__)
_Value = TypeVar("_Value")

_KEPT = timedelta(seconds=2)  # a key changed or revoked in another process works as before at most this much longer
_MOST_KEPT = 1024  # keys in the cache; only known keys get in, so strangers can't fill it
_MOST_GOOD = 4096  # secrets that were right once; a set of digests
_PREFIXES_KEPT = timedelta(seconds=10)
FAILURES_PER_MINUTE = 30


@dataclass(slots=True)
class _Known:
    """A key, and who came with it last."""

    found: Recognised
    since: datetime
    networks: tuple[Network, ...]
    principal: Principal | None = None

    def admit(self, address: str) -> Principal:
        """Return the key's holder. Raises NotAllowed if the key may not be used from there."""
        if self.principal is not None and self.principal.address == address:
            return self.principal
        key = self.found.key
        if self.networks and not is_within(address, self.networks):
            raise NotAllowed(
                f"The API key {key.name!r} may not be used from {address or 'an unknown address'}; an administrator"
                " can allow it.",
                subject="address",
            )
        self.principal = key.principal(address)
        return self.principal


class KnownKeys:
    """Tells who calls.

    A secret that was right before in this process is always looked up. Any other one is refused unread while too many
    of its prefix, or of its address, were wrong; but of a bad address those with the prefix of a key here are looked
    up, so that a good key behind the same NAT as a bad caller gets in at its first request.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        metrics: Metrics | None = None,
        failures_per_minute: int = FAILURES_PER_MINUTE,
    ) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._good: OrderedDict[str, None] = OrderedDict()
        self._changes = 0
        self._attempts = FailedAttempts(per_minute=failures_per_minute)
        self._uses = KeyUses(store=store)
        self._prefixes: frozenset[str] = frozenset()
        self._prefixes_at: datetime | None = None
        self._failures = (metrics or Metrics()).counter(
            "certorbit_authentication_failures_total",
            meaning="API keys that were shown and not taken: unknown, ended, from a wrong address, or too many.",
            labels=("reason",),
        )

    async def authenticate(self, secret: str, *, address: str = "") -> Principal:
        """Return who holds the key.

        Raises:
            NotSignedIn: it is unknown, revoked or ended. NotAllowed: it may not be used from this address.
            TooManyFailures: too many wrong ones came. Unreachable: the database did not answer.
        """
        digest = api_keys.digest_secret(secret)
        now = self._clock.now()
        known = self._known.get(digest)
        try:
            if known is None or not timedelta(0) <= now - known.since <= _KEPT:
                known = await self._look_up(secret, digest, address=address, now=now)
            elif known.found.ends_at is not None:
                api_keys.check_not_ended(known.found, now=now)
            principal = known.admit(address)
        except (NotSignedIn, NotAllowed, TooManyFailures) as error:
            self._note_failure(error, secret, digest, address=address, now=now)
            raise
        self._uses.note(principal.key_id, address, now=now)
        return principal

    def forget(self, key_id: APIKeyID) -> None:
        """Forget a key that was just changed or revoked."""
        self._changes += 1
        for digest in [d for d, known in self._known.items() if known.found.key.id == key_id]:
            del self._known[digest]

    async def _look_up(self, secret: str, digest: str, *, address: str, now: datetime) -> _Known:
        if digest not in self._good:
            await self._check_attempts(api_keys.prefix_of(secret), address=address, now=now)
        changes = self._changes
        found = await self._store.read(lambda tx: api_keys.authenticate(tx, secret, now=now))
        known = _Known(found, now, read_networks(found.key.allowed_addresses, subject="allowed_addresses"))
        if changes == self._changes:  # else what was read may be older than a change
            _keep(self._known, digest, known, most=_MOST_KEPT)
        _keep(self._good, digest, None, most=_MOST_GOOD)
        return known

    async def _check_attempts(self, prefix: str, *, address: str, now: datetime) -> None:
        self._attempts.check_prefix(prefix, now=now)
        try:
            self._attempts.check_address(address, now=now)
        except TooManyFailures:
            if prefix not in await self._known_prefixes(now):
                raise

    async def _known_prefixes(self, now: datetime) -> frozenset[str]:
        """Return the prefixes of the keys here, as they were some seconds ago at most."""
        at = self._prefixes_at
        if at is None or not timedelta(0) <= now - at <= _PREFIXES_KEPT:
            self._prefixes_at = now  # before it is read: not everybody who is slowed down reads it
            self._prefixes = await self._store.read(_list_prefixes)
        return self._prefixes

    def _note_failure(
        self,
        error: NotSignedIn | NotAllowed | TooManyFailures,
        secret: str,
        digest: str,
        *,
        address: str,
        now: datetime,
    ) -> None:
        reason = reason_of(error)
        self._failures.add(reason)
        prefix = api_keys.prefix_of(secret)
        if reason == "unknown":
            self._good.pop(digest, None)
            self._attempts.note(address, prefix, now=now)
        write = log.debug if reason == "slowed" else log.warning
        # What has another form than our keys may be somebody's password for something else.
        shown = api_keys.shown_prefix_of(secret)
        write("authentication.failed", reason=reason, address=address, prefix=shown)


def _list_prefixes(tx: UnitOfWork) -> frozenset[str]:
    return frozenset(key.prefix for key in tx.api_keys.list() if key.revoked_at is None)


def reason_of(error: NotSignedIn | NotAllowed | TooManyFailures) -> str:
    """Return why a key was not taken, as logs, metrics and the audit trail have it."""
    if isinstance(error, NotSignedIn) and error.subject == "authorization":
        return "missing"
    if isinstance(error, TooManyFailures):
        return "slowed"
    if isinstance(error, NotAllowed) or error.subject == "session":
        return error.subject
    return "ended" if error.subject == "expires_at" else "unknown"


def _keep(memory: OrderedDict[str, _Value], name: str, value: _Value, *, most: int) -> None:
    memory[name] = value
    memory.move_to_end(name)
    if len(memory) > most:
        memory.popitem(last=False)
