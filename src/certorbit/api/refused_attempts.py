"""Attempts that were refused, in the audit trail: of a bounded number, however many come.

A request that a known key may not send (403) is written down at once, the same again within a minute only counted;
keys that are not taken (401, 403, 429) are only counted, by address. What was counted is written when the minute is
over: in one record for each who, where and what.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from certorbit.api.reading import LONGEST_CONFIG
from certorbit.clock import Clock
from certorbit.errors import CertorbitError, NotAllowed, ReadOnly
from certorbit.model.addresses import group_of
from certorbit.model.audit import Action, Actor, ActorKind, AuditEvent
from certorbit.ports.audit import current_actor
from certorbit.ports.store import Store, UnitOfWork

log = structlog.get_logger(__name__)

WINDOW: Final = timedelta(minutes=1)
MOST_KINDS: Final = 100  # of attempts that one minute tells apart; the rest is counted together
_LONGEST_PATH: Final = 200


@dataclass(slots=True)
class _Tally:
    """Attempts of one kind that are not written down yet."""

    actor: Actor
    event: AuditEvent
    first: datetime
    last: datetime
    count: int = 0


class RefusedAttempts:
    """What was refused by this process within the present minute."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._tallies: dict[tuple[str, ...], _Tally] = {}
        self._writer: asyncio.Task[None] | None = None

    async def note_request(self, error: NotAllowed | ReadOnly, scope: Scope) -> None:
        """Note a request of a known key. Never raises: the client's answer is the refusal, whatever the store says."""
        actor, config = current_actor(), _config_of(scope)
        reason = "maintenance" if isinstance(error, ReadOnly) else error.subject
        event = AuditEvent(
            action=Action.REQUEST_REFUSED,
            config=config,
            details={"reason": reason, "path": _plain(scope["path"])[:_LONGEST_PATH]},
        )
        kind = ("request", actor.key_id, actor.address, actor.method, actor.route, config, reason)
        if self._note(kind, actor, event):
            await self._write([(actor, event)])

    def note_failure(self, *, reason: str, address: str) -> None:
        """Count a key that was not taken. address: IPv6 counts by its /64."""
        actor = Actor(ActorKind.STRANGER, "", address=group_of(address))
        event = AuditEvent(action=Action.AUTHENTICATION_FAILED, details={"reason": reason})
        kind = ("key", actor.address, reason)
        if self._note(kind, actor, event):
            self._tallies[kind].count += 1

    async def flush(self) -> None:
        """Write down what was counted, and begin anew."""
        tallies, self._tallies = self._tallies, {}
        await self._write([(tally.actor, _summary(tally)) for tally in tallies.values() if tally.count])

    def _note(self, kind: tuple[str, ...], actor: Actor, event: AuditEvent) -> bool:
        """Count it, unless it is the first of its kind: then return True."""
        now = self._clock.now()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_later(), name="refused attempts")
        tally = self._tallies.get(kind)
        if tally is None and len(self._tallies) >= MOST_KINDS:
            kind = ("others", kind[0])
            actor = Actor(ActorKind.STRANGER, "others")
            event = AuditEvent(action=event.action, details={"reason": "others"})
            tally = self._tallies.setdefault(kind, _Tally(actor, event, now, now))
        if tally is None:
            self._tallies[kind] = _Tally(actor, event, now, now)
            return True
        tally.last = now
        tally.count += 1
        return False

    async def _write_later(self) -> None:
        while self._tallies:
            await self._clock.sleep(WINDOW.total_seconds())
            await self.flush()

    async def _write(self, records: list[tuple[Actor, AuditEvent]]) -> None:
        now = self._clock.now()

        def add(tx: UnitOfWork) -> None:
            for actor, event in records:
                tx.acting(actor).audit.add(event, now=now)

        if not records:
            return
        try:
            await self._store.write(add)
        except CertorbitError as error:  # the log has every one of them, too
            log.error("audit.refusals_not_written", records=len(records), problem=error.message)  # noqa: TRY400 - said


class RecordRefusals:
    """Writes down what a known key was refused. Stands inside `Authenticate`, which says who that is."""

    def __init__(self, app: ASGIApp, *, refused: RefusedAttempts) -> None:
        self.app = app
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except (NotAllowed, ReadOnly) as error:
            if current_actor().kind in {ActorKind.API_KEY, ActorKind.PERSON}:
                await self._refused.note_request(error, scope)
            raise


def _summary(tally: _Tally) -> AuditEvent:
    details = {
        **tally.event.details,
        "count": tally.count,
        "first": tally.first.isoformat(),
        "last": tally.last.isoformat(),
    }
    return AuditEvent(action=tally.event.action, config=tally.event.config, details=details)


def _config_of(scope: Scope) -> str:
    config = str(scope.get("path_params", {}).get("config", ""))
    return config if config.isprintable() and len(config) <= LONGEST_CONFIG else ""


def _plain(text: str) -> str:
    """Return the text without what a terminal would obey, or a database refuse."""
    return "".join(character if character.isprintable() else "?" for character in text)
