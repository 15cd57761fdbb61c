"""Identifiers: the DNS names and IP addresses of a certificate (RFC 8555 §9.7.7, RFC 8738)."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

import idna

from certorbit.errors import BadIdentifier

MOST_IDENTIFIERS = 100  # contract.md, Certificates; Let's Encrypt's limit too
LONGEST_NAME = 253  # RFC 1035 §2.3.4 without the root's dot
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


class IdentifierType(StrEnum):
    """The identifier types that we can order."""

    DNS = "dns"
    IP = "ip"


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """One name or address, normalised: lower case, A-labels, no trailing dot; addresses in canonical text."""

    type: IdentifierType
    value: str

    @property
    def is_wildcard(self) -> bool:
        return self.value.startswith("*.")


def normalise_identifier(text: str) -> Identifier:
    """Return the identifier that a person's text means.

    Raises:
        BadIdentifier: it is neither a DNS name that can be in a certificate nor an IP address.
    """
    name = text.strip().rstrip(".") if text.strip() != "." else ""
    if not name:
        raise BadIdentifier("domains: an empty name was given; leave it out.", subject="domains")
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return Identifier(IdentifierType.DNS, _normalise_name(name, shown=text))
    if getattr(address, "scope_id", None):
        raise BadIdentifier(f"domains: {_show(text)} has a zone; give the plain address.", subject="domains")
    return Identifier(IdentifierType.IP, str(address))


def normalise_identifiers(texts: Iterable[str]) -> tuple[Identifier, ...]:
    """Return the identifiers in the given order without duplicates.

    Raises:
        BadIdentifier: none, more than 100, or one that is malformed (the message names it).
    """
    identifiers = tuple(dict.fromkeys(normalise_identifier(text) for text in texts))
    if not identifiers:
        raise BadIdentifier("domains: no name was given; name at least one.", subject="domains")
    if len(identifiers) > MOST_IDENTIFIERS:
        raise BadIdentifier(
            f"domains: {len(identifiers)} names were given; at most {MOST_IDENTIFIERS} fit into one "
            "certificate. Split them over several.",
            subject="domains",
        )
    return identifiers


def hash_identifiers(values: Iterable[str]) -> str:
    """Return the CA's own notion of 'the same certificate' (contract.md, `le_hash`).

    Returns: lower-case hex SHA-256 of the sorted values joined with commas.
    """
    return sha256(",".join(sorted(values)).encode()).hexdigest()


def _normalise_name(name: str, *, shown: str) -> str:
    wildcard = name.startswith("*.")
    base = name[2:] if wildcard else name
    try:
        # Plain ASCII without A-labels is its own encoding; the table look-ups cost more than all else here.
        is_plain = base.isascii() and "xn--" not in base.lower()
        ascii_name = base if is_plain else idna.encode(base, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError):
        # Labels that IDNA 2008 refuses but DNS names hold (a "--" in places 3 and 4) still pass below if they are
        # plain ASCII; everything else is no name.
        ascii_name = base.lower() if base.isascii() else ""
    ascii_name = ascii_name.lower()
    labels = ascii_name.split(".")
    if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise BadIdentifier(
            f"domains: {_show(shown)} is not a domain name; give a full name such as www.example.com"
            " (a wildcard as *.example.com).",
            subject="domains",
        )
    full = "*." + ascii_name if wildcard else ascii_name
    if len(full) > LONGEST_NAME:
        raise BadIdentifier(f"domains: {_show(shown)} is longer than {LONGEST_NAME} characters.", subject="domains")
    return full


def _show(text: str) -> str:
    """Return hostile text fit for one line of a message."""
    shown = text if len(text) <= 80 else text[:77] + "..."
    return repr(shown)
