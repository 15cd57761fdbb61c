"""Who may give a certificate its next version: what clients trust never becomes the built-in CA's by itself.

`permitted` is the one place where that is decided (docs/decisions/0013). The sweep, the attempts, the operator's
commands and the forecast all ask it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from certorbit.model.entry import Entry, Source
from certorbit.model.failover import ALL_ALIKE, OrderByConfig, order_for, prefer
from certorbit.model.operation import Operation, OperationKind

BUILT_IN = "internal"  # the directory of the built-in CA, and its name where no issuer is configured


@dataclass(frozen=True, slots=True)
class IssuerOrder:
    """A configuration's issuers.

    names: in order of preference, one at least. built_in: those that are the built-in CA.
    is_own: the settings name them for this configuration, so each of them is meant for all of its certificates.
    """

    names: tuple[str, ...]
    built_in: frozenset[str]
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a certificate comes from, as far as it binds who may issue the next one.

    made_by: the issuer of its current version; "": it was uploaded, or isn't issued yet.
    asked: the issuer that the operation was put to; "": none yet, or it is no matter of an operation.
    is_upload: the current version was uploaded.
    """

    made_by: str = ""
    asked: str = ""
    is_upload: bool = False


def order_of(config: str, directories: Mapping[str, str], by_config: OrderByConfig = ALL_ALIKE) -> IssuerOrder:
    """Return a configuration's issuers. directories: of all issuers by name, in order of preference."""
    names = order_for(config, tuple(directories), by_config)
    built_in = {name for name, directory in directories.items() if directory == BUILT_IN}
    if BUILT_IN not in directories:
        built_in.add(BUILT_IN)  # what the built-in CA made before another issuer was configured
    return IssuerOrder(
        names, frozenset(built_in), is_own=any(name in directories for name in by_config.get(config, ()))
    )


def origin_of(entry: Entry | None, operation: Operation | None = None) -> Origin:
    """Return where the entry's current version comes from, and what an operation was asked of."""
    version = entry.current if entry is not None else None
    return Origin(
        made_by=version.issuer_name if version is not None else "",
        asked=operation.issuer_name if operation is not None else "",
        is_upload=(version is not None and version.source is Source.UPLOADED)
        or (operation is not None and operation.kind is OperationKind.REPLACE),
    )


def permitted(order: IssuerOrder, origin: Origin, *, chosen: str = "") -> tuple[str, ...]:
    """Return the issuers that may issue the next version, in order; none: it is held back until one is configured.

    The built-in CA may issue what it made itself, and what nobody was asked for yet. What an issuer of another kind
    made, or was asked for, it may issue only where it is named for that: by the configuration's own list, by the
    operator for this certificate, or by standing before that issuer in the order. What was uploaded, only if an
    operator said so of this certificate (docs/decisions/0007).

    chosen: the issuer that an operator chose for the certificate; "": none.
    """
    names = prefer(order.names, chosen)
    if {origin.made_by, origin.asked} & order.built_in:
        return names
    bound = origin.made_by or origin.asked
    if not origin.is_upload and (order.is_own or not bound):
        return names
    # Nothing stands before an issuer that isn't there: an order that lost it says nothing of the operator's wish.
    before = names.index(bound) if bound in names and not origin.is_upload else 0
    return tuple(
        name for place, name in enumerate(names) if name not in order.built_in or name == chosen or place < before
    )


def explain_none(origin: Origin, order: IssuerOrder) -> str:
    """Return why `permitted` names nobody, and what helps."""
    others = ", ".join(order.names)
    if bound := origin.made_by or origin.asked:
        return (
            f"It comes from the issuer {bound!r}, which is not configured any more, and the built-in CA ({others}) does"
            " not take over what another CA issued, for its certificates are trusted by nobody else. Configure the CA"
            " again (CERTORBIT_ACME_DIRECTORY or [[issuers]]) and restart; or name the built-in CA for this"
            " certificate, or for its configuration."
        )
    return (
        f"It was uploaded, and no CA is configured: the built-in CA ({others}) does not replace what others trust by"
        " itself. Configure a CA (CERTORBIT_ACME_DIRECTORY or [[issuers]]) and restart, or upload its successor."
    )
