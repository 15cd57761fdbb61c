"""What changed in a configuration: its versions, as differences. Private keys are never in them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from certorbit.model.entry import ConfigID


class ChangeKind(StrEnum):
    """What sort of thing changed."""

    CERTIFICATE = "certificate"
    ATTACHMENT = "attachment"
    SERVER_GROUP = "server-group"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing's state before and after, as JSON values. before None: it was made; after None: it was deleted.

    id: of the certificate or server group; of an attachment `<listener key> <certificate id>`.
    """

    kind: ChangeKind
    id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def word(self) -> str:
        if self.before is None:
            return "created"
        return "deleted" if self.after is None else "changed"


@dataclass(frozen=True, slots=True)
class ConfigurationVersion:
    """One change by one request. number: the configuration's version after it. by: name of the API key."""

    config: ConfigID
    number: int
    at: datetime
    by: str
    changes: tuple[Change, ...]


def undo(versions: Iterable[ConfigurationVersion]) -> dict[tuple[ChangeKind, str], Mapping[str, Any] | None]:
    """Return what each thing touched by the versions was before all of them. versions: in any order."""
    found: dict[tuple[ChangeKind, str], Mapping[str, Any] | None] = {}
    for version in sorted(versions, key=lambda version: version.number, reverse=True):
        for change in reversed(version.changes):
            found[change.kind, change.id] = change.before
    return found
