"""What gives an entry its next version by itself: a renewal, a replacement, or nothing, and why not."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from certorbit.errors import CertorbitError
from certorbit.model.entry import Entry, Source
from certorbit.model.identifiers import Identifier, normalise_identifiers
from certorbit.model.issuer_order import IssuerOrder, explain_none, origin_of, permitted
from certorbit.model.operation import OperationKind

Covers = Callable[[str, Identifier], bool]  # whether the issuer of this name has a solver for the identifier


class Obstacle(StrEnum):
    """Why an entry gets no next version by itself."""

    BUILT_IN = "built-in"  # the placeholder
    CA_BUNDLE = "ca-bundle"
    NOT_ISSUED = "not-issued"  # its first issuance is under way
    AUTO_RENEW_OFF = "auto-renew-off"
    AUTO_REPLACE_OFF = "auto-replace-off"
    NO_CA = "no-ca"  # uploaded, and no CA is configured (docs/decisions/0007)
    NO_ISSUER = "no-issuer"  # its CA is not configured any more (docs/decisions/0013)
    NO_PUBLIC_NAME = "no-public-name"
    NO_SOLVER = "no-solver"
    PAUSED = "paused"

    @property
    def is_for_good(self) -> bool:
        """Return whether nothing can change it: such an entry is not looked at again."""
        return self in {Obstacle.BUILT_IN, Obstacle.CA_BUNDLE}


_SENTENCES = {
    Obstacle.BUILT_IN: "It is built in, and nothing renews it.",
    Obstacle.CA_BUNDLE: "A bundle of CA certificates is uploaded, never renewed.",
    Obstacle.NOT_ISSUED: "It is not issued yet.",
    Obstacle.AUTO_RENEW_OFF: "le_auto_renew is false.",
    Obstacle.AUTO_REPLACE_OFF: "It was uploaded, and le_auto_replace is false.",
}


@dataclass(frozen=True, slots=True)
class NextVersion:
    """What gives an entry its next version.

    kind: of the operation; None: nothing does by itself. PAUSED is the one obstacle that stands beside a kind: all is
        planned, and nothing is started.
    obstacle: why nothing happens by itself; None: it does. message: the same for people, "" if it does.
    issuers: who may be asked, in order; none if nobody may.
    """

    kind: OperationKind | None
    obstacle: Obstacle | None = None
    message: str = ""
    issuers: tuple[str, ...] = ()

    @property
    def is_automatic(self) -> bool:
        return self.obstacle is None


def find_next(
    entry: Entry, *, order: IssuerOrder, covers: Covers, chosen: str = "", paused: bool = False
) -> NextVersion:
    """Return what gives the entry its next version, or why nothing does.

    A generated version is renewed (`le_auto_renew`), an uploaded one replaced (`le_auto_replace`) if every name can be
    proven: wildcards need a DNS-01 solver (contract.md). Both only by an issuer that may (`permitted`).

    chosen, paused: what an operator said of it (`Schedule`).
    """
    found = _find_kind(entry, order=order, covers=covers, chosen=chosen)
    if found.kind is not None and paused:
        message = "An operator paused it, or a roll-back did; the audit trail says who (resume lets it go on)."
        return NextVersion(found.kind, Obstacle.PAUSED, message, found.issuers)
    return found


def _find_kind(entry: Entry, *, order: IssuerOrder, covers: Covers, chosen: str) -> NextVersion:
    version = entry.current
    if (obstacle := _find_obstacle(entry)) is not None:
        return _nothing(obstacle, _SENTENCES[obstacle])
    is_upload = version is not None and version.source is Source.UPLOADED
    origin = origin_of(entry)
    issuers = permitted(order, origin, chosen=chosen)
    if not issuers:
        return _nothing(Obstacle.NO_CA if is_upload else Obstacle.NO_ISSUER, explain_none(origin, order))
    if is_upload:
        return _replace(entry, issuers, covers=covers)
    return NextVersion(OperationKind.RENEW, issuers=issuers)


def _find_obstacle(entry: Entry) -> Obstacle | None:
    """Return what stands in the way whoever issues."""
    if entry.source is Source.BUILT_IN:
        return Obstacle.BUILT_IN
    if entry.side.is_ca_bundle:
        return Obstacle.CA_BUNDLE
    if entry.current is None:
        return Obstacle.NOT_ISSUED
    if entry.current.source is Source.GENERATED:
        return None if entry.le_auto_renew else Obstacle.AUTO_RENEW_OFF
    return None if entry.le_auto_replace else Obstacle.AUTO_REPLACE_OFF


def _replace(entry: Entry, issuers: tuple[str, ...], *, covers: Covers) -> NextVersion:
    try:
        identifiers = normalise_identifiers(entry.identifiers)
    except CertorbitError as error:
        return _nothing(Obstacle.NO_PUBLIC_NAME, f"It was uploaded, and no CA issues for its names: {error.message}")
    bare = [identifier.value for identifier in identifiers if not covers(issuers[0], identifier)]
    if bare:
        return _nothing(
            Obstacle.NO_SOLVER,
            f"It was uploaded, and the issuer {issuers[0]!r} has no solver for {', '.join(bare[:3])} (docs/dns-01.md).",
        )
    return NextVersion(OperationKind.REPLACE, issuers=issuers)


def _nothing(obstacle: Obstacle, message: str) -> NextVersion:
    return NextVersion(None, obstacle, message)
