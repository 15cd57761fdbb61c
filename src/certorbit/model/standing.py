"""How things stand in numbers, for those who watch the service (docs/metrics.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from certorbit.model.deployment import Stage
from certorbit.model.operation import OperationState


class RevocationStanding(StrEnum):
    """What is known now of the revocation of a certificate, and whether that can change.

    As `Verdict.at` says it, but for what is unknown and not looked at any more.
    """

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"  # its lists are not to be had or not to be believed; it is looked at again
    UNCHECKED = "unchecked"  # it names no list, its chain lacks the issuer, or it has expired: nothing can be found out


@dataclass(frozen=True, slots=True)
class AttachmentGroup:
    """is_as_wanted: a handshake showed the entry's current version; the only thing that an alarm leaves out."""

    target: str
    stage: Stage
    is_as_wanted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """attachments: on all listeners. certificates: current versions that can be revoked. deployments: of one day."""

    attachments: Mapping[AttachmentGroup, int]
    certificates: Mapping[RevocationStanding, int]
    deployments: Mapping[OperationState, int]
