"""What gives an entry its next version by itself: a renewal, a replacement, or nothing."""

from collections.abc import Callable

from certorbit.errors import CertorbitError
from certorbit.model.entry import Entry, Source
from certorbit.model.identifiers import Identifier, normalise_identifiers
from certorbit.model.operation import OperationKind


def find_kind(entry: Entry, *, has_configured_ca: bool, covers: Callable[[Identifier], bool]) -> OperationKind | None:
    """Return the kind of operation; None: nothing is to be done for this entry.

    A generated version is renewed (`le_auto_renew`). An uploaded one is replaced (`le_auto_replace`) only by a CA
    that the operator configured: what clients trust must not turn into a certificate of the built-in CA by itself
    (decisions/0007), and only if every name can be proven: wildcards need a DNS-01 solver (contract.md).

    covers: whether the configuration's first issuer has a solver for the name.
    """
    version = entry.current
    if version is None or entry.source is Source.BUILT_IN or entry.side.is_ca_bundle:
        return None
    if version.source is Source.GENERATED:
        return OperationKind.RENEW if entry.le_auto_renew else None
    if not (entry.le_auto_replace and has_configured_ca):
        return None
    try:
        identifiers = normalise_identifiers(entry.identifiers)
    except CertorbitError:
        return None  # names that no CA issues for
    return OperationKind.REPLACE if all(map(covers, identifiers)) else None
