"""Deployment: which listener is to serve which entry, what was seen there, and how a roll-out goes.

An attachment is a wish that is written down first and fulfilled by a workflow. What a listener really serves is known
by proof only: a handshake.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

from certorbit.model.balancer import ListenerKey
from certorbit.model.client_policy import PolicyMark
from certorbit.model.entry import ConfigID, EntryID, EntryUID, VersionID
from certorbit.model.operation import OperationID, Problem

AttachmentID = NewType("AttachmentID", str)


class Wanted(StrEnum):
    ATTACHED = "attached"
    DETACHED = "detached"  # the row goes when the listener has let go of it


class Stage(StrEnum):
    """Where a listener stands with an entry.

    PENDING → CHANGING → PROVEN | ROLLED_BACK | FAILED | UNSETTLED; PROVEN → DRIFTED → ...
    """

    PENDING = "pending"  # nothing was done yet
    CHANGING = "changing"  # between the first change and its proof: after a crash this is what is looked at first
    PROVEN = "proven"  # a handshake showed the version
    ROLLED_BACK = "rolled_back"  # it was not served; the listener has its old version again
    FAILED = "failed"  # it could not be changed and is as it was
    UNSETTLED = "unsettled"  # neither forward nor back: nobody answered; looked at again at the next attempt
    DRIFTED = "drifted"  # somebody else changed it after it was proven
    DETACHED = "detached"  # it was taken off


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """One handshake of a proof. leaf: fingerprint; "" if there was none, then `error` says why."""

    address: str
    port: int
    server_name: str
    leaf: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the handshakes with a listener showed. message: why it is not served; "" if it is."""

    at: datetime
    is_served: bool
    message: str
    handshakes: tuple[Handshake, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An entry on a listener: what is wanted and what was seen last.

    kind, provider: of the listener, as the API shows them.
    promised: a client was told 200: it stays wanted whatever fails. Else a first failure takes it away.
    replaces: the entry whose place it takes; that one is taken off when this one is proven. "": none.
    version, handle: what was last proven there; None and "" before.
    client_policy: what its clients are checked by, as the target was last told; in force if the stage is PROVEN.
    """

    id: AttachmentID
    listener: ListenerKey
    provider: str
    kind: str
    config: ConfigID
    entry_id: EntryID
    entry_uid: EntryUID
    is_default: bool
    wanted: Wanted
    promised: bool
    created_at: datetime
    updated_at: datetime
    stage: Stage = Stage.PENDING
    replaces: EntryUID | None = None
    version: VersionID | None = None
    handle: str = ""
    proof: Proof | None = None
    problem: Problem | None = None
    client_policy: PolicyMark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a listener held before we changed it; what a roll-back goes back to."""

    default: str
    certificates: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One listener's part of one deployment (an operation of kind deploy), in its latest attempt.

    to_version: None: the entry is taken off. before: None until the listener was looked at.
    """

    operation: OperationID
    attachment: AttachmentID
    listener: ListenerKey
    is_default: bool
    from_version: VersionID | None
    to_version: VersionID | None
    stage: Stage
    updated_at: datetime
    before: Snapshot | None = None
    proof: Proof | None = None
    problem: Problem | None = None


def proof_to_json(proof: Proof) -> dict[str, Any]:
    """Return the proof as a JSON value for a row."""
    return {
        "at": proof.at.isoformat(),
        "is_served": proof.is_served,
        "message": proof.message,
        "handshakes": [[h.address, h.port, h.server_name, h.leaf, h.error] for h in proof.handshakes],
    }


def proof_from_json(stored: Mapping[str, Any]) -> Proof:
    """Return what `proof_to_json` wrote."""
    handshakes: Sequence[Sequence[Any]] = stored["handshakes"]
    return Proof(
        at=datetime.fromisoformat(stored["at"]),
        is_served=stored["is_served"],
        message=stored["message"],
        handshakes=tuple(
            Handshake(address=address, port=port, server_name=name, leaf=leaf, error=error)
            for address, port, name, leaf, error in handshakes
        ),
    )
