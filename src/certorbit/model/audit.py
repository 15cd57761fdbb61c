"""The audit trail: who did what, from where, when, from what to what; and the chain that shows tampering.

Pure: nothing here writes (`ports/audit.py`). What a record may say, and how to check the chain with other programs, is
in docs/audit.md; why it is made so in docs/decisions/0011-audit-chain.md.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from certorbit.model.access import Principal
from certorbit.model.change import Change, ChangeKind

NO_HASH: Final = "0" * 64  # what the first record names as the one before it


class ActorKind(StrEnum):
    API_KEY = "api-key"
    PERSON = "person"  # signed in (docs/sign-in.md)
    SERVICE = "service"  # workflows and sweeps: nobody asked
    COMMAND = "command"  # somebody at the machine, past the API
    STRANGER = "stranger"  # nobody knows who


class Action(StrEnum):
    """What was done. Names are kept for ever: they stand in records."""

    CERTIFICATE_CREATED = "certificate.created"
    CERTIFICATE_CHANGED = "certificate.changed"
    CERTIFICATE_DELETED = "certificate.deleted"
    CERTIFICATE_ISSUED = "certificate.issued"
    REVOCATION_ASKED = "certificate.revocation-asked"
    REVOCATION_FAILED = "certificate.revocation-failed"
    CERTIFICATE_REVOKED = "certificate.revoked"
    REPLACEMENT_STARTED = "certificate.replacement-started"
    RENEWAL_STARTED = "renewal.started"
    RENEWAL_CHANGED = "renewal.changed"
    SERVER_GROUP_CREATED = "server-group.created"
    SERVER_GROUP_CHANGED = "server-group.changed"
    SERVER_GROUP_DELETED = "server-group.deleted"
    ATTACHMENT_CREATED = "attachment.created"
    ATTACHMENT_CHANGED = "attachment.changed"
    ATTACHMENT_DELETED = "attachment.deleted"
    CONFIGURATION_CHANGED = "configuration.changed"
    CONFIGURATION_PUBLISHED = "configuration.published"
    REGIONS_CHANGED = "regions.changed"
    OPERATION_RETRIED = "operation.retried"
    OPERATION_CANCELLED = "operation.cancelled"
    DEPLOYMENT_STARTED = "deployment.started"
    DEPLOYMENT_DONE = "deployment.done"
    DEPLOYMENT_FAILED = "deployment.failed"
    TARGET_CHECKED = "target.checked"
    KEY_EXPORTED = "key.exported"
    API_KEY_CREATED = "api-key.created"
    API_KEY_CHANGED = "api-key.changed"
    API_KEY_ROTATED = "api-key.rotated"
    API_KEY_REVOKED = "api-key.revoked"
    SESSION_STARTED = "session.started"
    SESSION_ENDED = "session.ended"
    MAINTENANCE_SWITCHED = "maintenance.switched"
    KEYRING_ROTATED = "keyring.rotated"
    KEYRING_REWRAPPED = "keyring.rewrapped"
    KEYRING_RETIRED = "keyring.retired"
    BACKUP_MADE = "backup.made"
    BACKUP_RESTORED = "backup.restored"
    REQUEST_REFUSED = "request.refused"
    AUTHENTICATION_FAILED = "authentication.failed"
    AUDIT_EXPIRED = "audit.expired"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and by which request.

    name: of the API key or the person; `certorbit` for the service; the user at the machine for a command. key_id: of
    the API key, or of the person's session. address: "" when nobody knows. route: a route's template, or the command.
    """

    kind: ActorKind
    name: str
    key_id: str = ""
    role: str = ""
    address: str = ""
    method: str = ""
    route: str = ""
    request_id: str = ""


SERVICE_ACTOR: Final = Actor(ActorKind.SERVICE, "certorbit")


def actor_of(principal: Principal, *, method: str, route: str, request_id: str) -> Actor:
    """Return who sends a request."""
    return Actor(
        kind=ActorKind.PERSON if principal.is_person else ActorKind.API_KEY,
        name=principal.name,
        key_id=principal.key_id,
        role=principal.role.value,
        address=principal.address,
        method=method,
        route=route,
        request_id=request_id,
    )


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """One thing's state before and after, as JSON values without secrets. None: it wasn't there, or isn't any more."""

    kind: str
    id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """What happened. Its values are text, whole numbers, truth values, lists and objects of these; never a secret.

    config: "" for what concerns no single one. objects: ids of what it was done to, the main one first.
    operation: that it began, or belongs to; "": none. details: what else is to be known.
    """

    action: Action
    config: str = ""
    objects: tuple[str, ...] = ()
    operation: str = ""
    changes: tuple[ObjectChange, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


_MAIN_FIRST: Final = (ChangeKind.CERTIFICATE, ChangeKind.SERVER_GROUP, ChangeKind.ATTACHMENT)


def event_of_changes(config: str, changes: Sequence[Change], *, version: int, operation: str = "") -> AuditEvent:
    """Return the event of one version of a configuration; it is called after the one thing that is the main one."""
    action = Action.CONFIGURATION_CHANGED
    ordered = sorted(changes, key=lambda change: _MAIN_FIRST.index(change.kind))
    main = [change for change in ordered if change.kind is ordered[0].kind]
    if len(main) == 1:
        action = Action(f"{main[0].kind.value}.{main[0].word}")
    return AuditEvent(
        action=action,
        config=config,
        objects=tuple(dict.fromkeys(change.id for change in ordered)),
        operation=operation,
        changes=tuple(ObjectChange(change.kind.value, change.id, change.before, change.after) for change in changes),
        details={"version": version},
    )


@dataclass(frozen=True, slots=True)
class ChainPoint:
    """A record's number and hash: all before it can be checked against it. number: from 1; 0: before the first."""

    number: int = 0
    hash: str = NO_HASH

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


@dataclass(frozen=True, slots=True)
class ChainState:
    """head: the last record in the chain. anchor: the last one that retention deleted; the chain goes on from it."""

    head: ChainPoint
    anchor: ChainPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """A record as stored. place: in the order of writing, for pages.

    number, previous, hash: its link of the chain; None until it is sealed, a second or so after it was written.
    """

    place: int
    at: datetime
    actor: Actor
    event: AuditEvent
    number: int | None = None
    previous: str | None = None
    hash: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the record as JSON values: what is exported, and what is hashed but for `hash` itself."""
        actor, event = self.actor, self.event
        return {
            "number": self.number,
            "previous": self.previous,
            "hash": self.hash,
            "at": self.at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z",
            "who": {"kind": actor.kind.value, "name": actor.name, "key_id": actor.key_id, "role": actor.role},
            "address": actor.address,
            "request": {"id": actor.request_id, "method": actor.method, "route": actor.route},
            "action": event.action.value,
            "config": event.config,
            "objects": list(event.objects),
            "operation": event.operation,
            "changes": [
                {"kind": change.kind, "id": change.id, "before": change.before, "after": change.after}
                for change in event.changes
            ],
            "details": dict(event.details),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which records. None: whatever it is. who: an API key's id, or anybody's name. since: inclusive, until: not."""

    config: str | None = None
    who: str | None = None
    action: str | None = None
    object: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def canonical(value: object) -> str:
    """Return the JSON text of a value: members by name in code-point order, no space, beyond ASCII as `\\uXXXX`.

    As RFC 8785, but for the escapes; there are no numbers in a record but whole ones, so theirs don't matter.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(document: Mapping[str, Any]) -> str:
    """Return a record's hash: SHA-256, lower-case hex, of its canonical text without the member `hash`."""
    return sha256(canonical({name: value for name, value in document.items() if name != "hash"}).encode()).hexdigest()


class BreakKind(StrEnum):
    GAP = "gap"
    CHANGED = "changed"
    REORDERED = "reordered"
    OTHER_CHAIN = "other-chain"


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """Where the chain does not hold, and how it looks. number: of the first record that can't be believed."""

    kind: BreakKind
    number: int
    message: str


class ChainCheck:
    """Walks a chain. `read` the records' documents in order of their numbers, `end` when there are no more.

    start: the anchor; its hash is believed. pins: points that were noted elsewhere, by number.
    """

    _LOOK_AROUND: Final = 500  # numbers on each side that a moved record is tried with

    def __init__(self, start: ChainPoint, *, pins: Iterable[ChainPoint] = ()) -> None:
        self.start = start
        self.point = start
        self._pins: dict[int, str] = {}
        for pin in pins:
            self._pins.setdefault(pin.number, pin.hash)
        self._expired: ChainPoint | None = None

    def read(self, document: Mapping[str, Any]) -> ChainBreak | None:
        """Return what is wrong with the record, or with its place; None: it follows. Read no more after a break."""
        expected = self.point.number + 1
        number = document.get("number")
        if not isinstance(number, int) or isinstance(number, bool) or number < expected:
            return ChainBreak(BreakKind.REORDERED, expected, f"Record {number} stands where {expected} should.")
        if number > expected:
            return ChainBreak(BreakKind.GAP, expected, f"{_records(expected, number - 1)} missing.")
        if digest(document) != document.get("hash"):
            return self._explain(document, number)
        if document.get("previous") != self.point.hash:
            return ChainBreak(
                BreakKind.REORDERED, number, f"Record {number} is whole, but follows another one than {number - 1}."
            )
        self.point = ChainPoint(number, str(document["hash"]))
        self._note_expiry(document)
        return self._check_pin()

    def end(self, head: ChainPoint | None = None) -> ChainBreak | None:
        """Return what is wrong with the whole; None: the chain holds.

        head: as the service has it, from before the records were read; None: only what was read counts.
        """
        if head is not None and self.point.number < head.number:
            return ChainBreak(
                BreakKind.GAP, self.point.number + 1, f"{_records(self.point.number + 1, head.number)} missing."
            )
        if self.start.number and head is not None and self._expired != self.start:
            return ChainBreak(
                BreakKind.GAP, 1, f"{_records(1, self.start.number)} missing, and no record says that they expired."
            )
        if wrong := self._check_pin(self.start):
            return wrong
        for number in sorted(self._pins):
            if number > self.point.number:
                return ChainBreak(BreakKind.GAP, number, f"Record {number}, which was noted elsewhere, is missing.")
            if number < self.start.number:
                return ChainBreak(
                    BreakKind.OTHER_CHAIN,
                    number,
                    f"Record {number} has expired, so what was noted of it can't be checked; note a newer one.",
                )
        return None

    def _check_pin(self, point: ChainPoint | None = None) -> ChainBreak | None:
        at = point or self.point
        if self._pins.get(at.number, at.hash) == at.hash:
            return None
        return ChainBreak(
            BreakKind.OTHER_CHAIN, at.number, f"Record {at.number} has another hash than the one noted elsewhere."
        )

    def _explain(self, document: Mapping[str, Any], number: int) -> ChainBreak:
        """Say of a record whose hash is wrong whether it is another record, moved here, or was changed."""
        for other in range(max(1, number - self._LOOK_AROUND), number + self._LOOK_AROUND + 1):
            if digest({**document, "number": other}) == document.get("hash"):
                return ChainBreak(
                    BreakKind.REORDERED, number, f"Record {other} was moved to the place of record {number}."
                )
        return ChainBreak(BreakKind.CHANGED, number, f"Record {number} was changed: its hash is that of other content.")

    def _note_expiry(self, document: Mapping[str, Any]) -> None:
        details = document.get("details")
        if document.get("action") == Action.AUDIT_EXPIRED and isinstance(details, Mapping):
            self._expired = ChainPoint(details.get("number", 0), details.get("hash", ""))


def _records(first: int, last: int) -> str:
    return f"Record {first} is" if first == last else f"Records {first} to {last} are"
