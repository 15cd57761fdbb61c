"""For which names the built-in CA may issue: DNS subtrees as in name constraints (RFC 5280 §4.2.1.10)."""

import re
from collections.abc import Iterable, Sequence

from cryptography import x509

from certorbit.errors import BadIdentifier, IssuerRefused
from certorbit.internal_ca.request import ACME_ERROR
from certorbit.model.identifiers import Identifier, IdentifierType, normalise_identifier

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def normalise_subtrees(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the subtrees in lower case as A-labels, without duplicates; `*.x`, `.x` and `x` mean the same.

    Raises:
        BadIdentifier: one is not a DNS name (a single label such as `internal` is fine).
    """
    return tuple(dict.fromkeys(_normalise_subtree(text) for text in texts))


def read_subtrees(root: x509.Certificate) -> tuple[str, ...]:
    """Return the subtrees that a root of ours permits; none: it has no constraints."""
    try:
        constraints = root.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(subtree.value for subtree in constraints.permitted_subtrees or () if isinstance(subtree, x509.DNSName))


def check_limits(identifiers: Iterable[Identifier], *, limits: Iterable[Sequence[str]]) -> None:
    """Return if every limit allows every identifier.

    Args:
        limits: each a list of subtrees; an empty one allows everything. IP addresses are in no subtree.

    Raises:
        IssuerRefused: rejectedIdentifier, with a sentence for each identifier that isn't allowed (RFC 8555 §6.7.1).
    """
    effective = [subtrees for subtrees in limits if subtrees]
    refused = {
        identifier.value: f"{identifier.value} is not in {' or '.join(subtrees)}"
        for identifier in identifiers
        for subtrees in effective
        if not _is_within(identifier, subtrees)
    }
    if refused:
        detail = f"The built-in CA may not issue for: {', '.join(sorted(refused))}."
        raise IssuerRefused(
            f"{detail} Change internal_ca.permitted_names, or use another issuer.",
            type=ACME_ERROR + "rejectedIdentifier",
            detail=detail,
            subproblems=refused,
        )


def _is_within(identifier: Identifier, subtrees: Sequence[str]) -> bool:
    if identifier.type is not IdentifierType.DNS:
        return False
    name = identifier.value.removeprefix("*.")
    return any(name == subtree or name.endswith("." + subtree) for subtree in subtrees)


def _normalise_subtree(text: str) -> str:
    name = text.strip().lower().removeprefix("*").strip(".")
    if _LABEL.fullmatch(name) and not name.isdigit():
        return name
    try:
        identifier = normalise_identifier(name)
    except BadIdentifier:
        identifier = None
    if identifier is None or identifier.type is not IdentifierType.DNS or identifier.is_wildcard:
        raise BadIdentifier(
            f"internal_ca.permitted_names: {text[:80]!r} is not a DNS subtree; give for example example.com or"
            " internal.",
            subject="internal_ca.permitted_names",
        )
    return identifier.value
