"""Waiting until a zone's name servers show a TXT value, or for a fixed time."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import SolverFailed, Unreachable
from certorbit.model.backoff import Poll
from certorbit.net.resolve import NameServer, Resolution, read_txt
from certorbit.solver_settings import DNSSolverSettings, split_server

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.5  # seconds
LONGEST_PAUSE: Final = 10.0


class Propagation:
    """The wait of one solver.

    Args:
        kind: the solver's type, for messages.
    """

    def __init__(
        self, *, kind: str, settings: DNSSolverSettings, resolution: Resolution, clock: Clock, chance: Chance
    ) -> None:
        self._kind = kind
        self._settings = settings
        self._resolution = resolution
        self._clock = clock
        self._chance = chance
        self._poll = Poll(first=FIRST_PAUSE, longest=LONGEST_PAUSE, limit=settings.propagation_seconds)

    async def wait(self, name: str, values: frozenset[str], *, zone: str) -> None:
        """Return when all name servers of the zone show all values; other values beside them don't matter.

        A name server is done once it has shown them. It counts with all its addresses, but one that doesn't answer is
        passed over while another of the same server does: this machine may have no IPv6.

        Raises:
            SolverFailed: not within the limit. The message names the servers and what each lacks.
        """
        if self._settings.wait_seconds is not None:
            log.info("dns01.waits", solver=self._kind, name=name, seconds=self._settings.wait_seconds)
            await self._clock.sleep(self._settings.wait_seconds)
            return
        start = self._clock.now()
        waiting = await self._name_servers(zone)
        turn = 0
        while True:
            lacks = await asyncio.gather(*(_find_lack(server, name, values) for server in waiting))
            left = {server: lack for server, lack in zip(waiting, lacks, strict=True) if lack}
            if not left:
                log.info("dns01.visible", solver=self._kind, name=name, zone=zone, polls=turn + 1)
                return
            if not await self._pause(turn, start=start):
                raise self._too_late(name, zone=zone, lacks=[f"{s.name} ({lack})" for s, lack in left.items()])
            waiting, turn = list(left), turn + 1

    async def _name_servers(self, zone: str) -> Sequence[NameServer]:
        if self._settings.check_servers:
            return [NameServer(text, (split_server(text),)) for text in self._settings.check_servers]
        try:
            return await self._resolution.find_name_servers(zone)
        except Unreachable as error:
            raise SolverFailed(
                f"The {self._kind} solver can't find the name servers of the zone {zone}: {error.message} Set the"
                " solver's resolvers, check_servers, or wait_seconds.",
                subject=zone,
            ) from error

    async def _pause(self, turn: int, *, start: datetime) -> bool:
        """Wait before the next look and return True, or return False when the limit is over."""
        left = start + timedelta(seconds=self._poll.limit) - self._clock.now()
        if left <= timedelta(0):
            return False
        await self._clock.sleep(min(self._poll.pause(turn, uniform=self._chance.between), left.total_seconds()))
        return True

    def _too_late(self, name: str, *, zone: str, lacks: Sequence[str]) -> SolverFailed:
        return SolverFailed(
            f"The TXT record {name} was written by the {self._kind} solver, but after"
            f" {self._poll.limit:g} seconds not all name servers of the zone {zone} show it: {', '.join(lacks)}. Check"
            " that they are told of changes, or raise the solver's propagation_seconds; where they can't be asked from"
            " here, set check_servers or wait_seconds.",
            subject=zone,
        )


async def _find_lack(server: NameServer, name: str, values: frozenset[str]) -> str:
    """Return what this server lacks, in words; "" when it shows all values."""
    looks = await asyncio.gather(*(_look(address, name, values) for address in server.addresses))
    if any(look is False for look in looks):
        return "the value isn't there"
    return "" if any(looks) else "no usable answer"


async def _look(address: tuple[str, int], name: str, values: frozenset[str]) -> bool | None:
    """Return whether the values are there; None when there is no usable answer."""
    try:
        return values <= await read_txt(name, server=address)
    except Unreachable as error:
        log.info("dns01.name_server_silent", name=name, server=address[0], message=error.message)
        return None
