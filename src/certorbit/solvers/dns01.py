"""DNS-01 (RFC 8555 §8.4): TXT values under `_acme-challenge`, written by a `ports.dns.DNSZoneWriter`.

What is here is the same for all providers: where the record goes (CNAME, zone), one writer at a time per name, the
wait until the name servers show it, and taking away exactly what was added.
"""

import asyncio
import base64
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import structlog

from certorbit.errors import SolverFailed, Unreachable
from certorbit.model.identifiers import Identifier, IdentifierType
from certorbit.net.resolve import Resolution
from certorbit.ports.dns import DNSZoneWriter
from certorbit.ports.solver import Proof
from certorbit.solver_settings import DNSSolverSettings
from certorbit.solvers.propagation import Propagation
from certorbit.solvers.zones import is_in_zone

log = structlog.get_logger(__name__)

T = TypeVar("T")

LABEL: Final = "_acme-challenge"  # RFC 8555 §8.4
LONGEST_FINISH: Final = 10.0  # seconds that a cancelled write may go on; a stopping process has not much more
MOST_AT_ONCE: Final = 8  # names of one solver that are written at a time; providers limit their clients


class NameLocks:
    """One lock per TXT name. All DNS-01 solvers of a process share one object of this class."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock of a name. It lives as long as somebody holds it or waits for it."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is written: the name at the end of the CNAMEs, and its zone."""

    name: str
    zone: str


class DNS01Solver:
    """Shows key authorizations in the DNS.

    Args:
        locks: shared by all solvers of the process.
    """

    def __init__(
        self,
        *,
        writer: DNSZoneWriter,
        settings: DNSSolverSettings,
        resolution: Resolution,
        propagation: Propagation,
        locks: NameLocks,
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._resolution = resolution
        self._propagation = propagation
        self._locks = locks
        self._turn = asyncio.Semaphore(MOST_AT_ONCE)
        self._written: dict[tuple[str, str], Place] = {}  # by name and value, until it is removed

    @property
    def challenge_type(self) -> str:
        return "dns-01"

    def covers(self, identifier: Identifier, *, is_wildcard: bool) -> bool:  # noqa: ARG002 - wildcards are no different
        """Return whether the name is in our zone; addresses are in none (RFC 8738 §7)."""
        return identifier.type is IdentifierType.DNS and is_in_zone(identifier.value, zone=self._settings.zone)

    async def present(self, proofs: Sequence[Proof]) -> None:
        """Add all values, then return when the name servers show all of them.

        Raises:
            SolverFailed: a value could not be written, or did not show in time. What was written stays until
                `clean_up`.
        """
        entries = {(challenge_name(proof), challenge_value(proof)) for proof in proofs}
        places = await _gather(self._add(name, value) for name, value in sorted(entries))
        expected: dict[Place, set[str]] = {}
        for place, (_, value) in zip(places, sorted(entries), strict=True):
            expected.setdefault(place, set()).add(value)
        await _gather(
            self._propagation.wait(place.name, frozenset(values), zone=place.zone) for place, values in expected.items()
        )

    async def clean_up(self, proofs: Sequence[Proof]) -> None:
        """Remove our values and nothing else; all are tried before the first failure is raised."""
        entries = {(challenge_name(proof), challenge_value(proof)) for proof in proofs}
        await _gather(self._remove(name, value) for name, value in sorted(entries))

    async def _add(self, name: str, value: str) -> Place:
        place = await self._find_place(name)
        self._written[name, value] = place
        async with self._turn, self._locks.lock(place.name):
            reference = await _finish(self._writer.add_txt(place.name, value, zone=place.zone))
        log.info("dns01.value_added", solver=self._writer.kind, name=place.name, zone=place.zone)
        await self._writer.wait_applied(reference)
        return place

    async def _remove(self, name: str, value: str) -> None:
        place = self._written.get((name, value)) or await self._find_place(name)
        async with self._turn, self._locks.lock(place.name):
            await _finish(self._writer.remove_txt(place.name, value, zone=place.zone))
        self._written.pop((name, value), None)
        log.info("dns01.value_removed", solver=self._writer.kind, name=place.name, zone=place.zone)

    async def _find_place(self, name: str) -> Place:
        try:
            target = await self._resolution.follow(name) if self._settings.follow_cname else name
            zone = self._settings.dns_zone or await self._resolution.find_zone(target)
        except Unreachable as error:
            raise SolverFailed(
                f"The {self._writer.kind} solver can't find out where {name} is written: {error.message} Check the"
                " solver's resolvers; with dns_zone set and follow_cname = false nobody has to be asked.",
                subject=name,
            ) from error
        return Place(target, zone)


def challenge_name(proof: Proof) -> str:
    """Return where the CA looks: the same name for a domain and for its wildcard (RFC 8555 §8.4)."""
    return f"{LABEL}.{proof.identifier.value.removeprefix('*.')}"


def challenge_value(proof: Proof) -> str:
    """Return what the CA looks for: the digest of the key authorization, base64url (RFC 8555 §8.4)."""
    return base64.urlsafe_b64encode(sha256(proof.key_authorization.encode()).digest()).rstrip(b"=").decode()


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Return the result; when we are cancelled, let the work end first, within limits.

    A call that runs in a thread can't be stopped. Were the lock released before it ends, it could add the value again
    after the clean-up has removed it.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=LONGEST_FINISH)
        if not task.cancel():
            task.exception()  # it was looked at: nobody is told any more
        raise


async def _gather(works: Iterable[Awaitable[T]]) -> list[T]:
    """Return the results in order. All works run to their end before the first failure is raised."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
