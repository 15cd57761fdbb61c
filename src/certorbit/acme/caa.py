"""CAA records (RFC 8659): whether the names' owners let this CA issue, asked before an order is counted.

The CA looks for itself, and its word is what counts. This look spares an order that would surely be refused, and says
which record stands in the way. Whatever isn't certain is left to the CA: a DNS that doesn't answer, a CA that doesn't
say by which names it goes, the parameters of RFC 8657 (the account, the way of proof).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from certorbit.acme.problems import ProblemType, list_by_identifier
from certorbit.acme.waiting import gather_all
from certorbit.errors import CAAForbids, Unreachable
from certorbit.model.identifiers import Identifier, IdentifierType
from certorbit.net.resolve import CAARecord

log = structlog.get_logger(__name__)

MOST_SECONDS: Final = 5.0  # for all names of an order; the client of a new certificate waits meanwhile
MOST_AT_ONCE: Final = 10
MOST_SHOWN: Final = 3  # records or CAs in a message
# The registered tags (IANA, PKIX CAA properties); a critical one that isn't among them forbids (RFC 8659 §4.1).
KNOWN_TAGS: Final = frozenset({"issue", "issuewild", "issuemail", "issuevmc", "iodef", "contactemail", "contactphone"})


class CAALookup(Protocol):
    """Where CAA records are looked up: `net.resolve.Resolution`."""

    async def find_caa(self, name: str) -> Sequence[CAARecord]:
        """Return the records at a name, or where its CNAMEs lead. Raises Unreachable."""
        ...


async def check_caa(
    identifiers: Sequence[Identifier],
    *,
    ca: str,
    ca_names: Sequence[str],
    lookup: CAALookup,
    limit_seconds: float = MOST_SECONDS,
) -> None:
    """Return unless CAA records forbid the CA to issue for one of the names. Asks nobody if the CA has no names.

    Args:
        ca: the issuer's name, for messages.
        ca_names: the directory's `caaIdentities`.
        limit_seconds: for all names; what is not known by then is left to the CA.

    Raises:
        CAAForbids: `subproblems` has the record and what to add, by identifier.
    """
    names = [identifier.value for identifier in identifiers if identifier.type is IdentifierType.DNS]
    if not (names and ca_names):
        return
    climb = _Climb(lookup, ca=ca)
    try:
        async with asyncio.timeout(limit_seconds):
            await gather_all(climb.find(name) for name in names)
    except TimeoutError:
        log.info("caa.late", issuer=ca, names=len(names), known=len(climb.found))
    reasons = {
        name: explain(records, is_wildcard=name.startswith("*."), ca_names=ca_names)
        for name, records in climb.found.items()
    }
    forbidden = {name: reason for name, reason in reasons.items() if reason}
    if forbidden:
        detail = list_by_identifier(forbidden)
        raise CAAForbids(
            f"CAA records forbid the issuer {ca!r} to issue, so it was not asked: {detail}",
            type=ProblemType.CAA,
            detail=detail,
            subproblems=forbidden,
        )


def explain(records: Sequence[CAARecord], *, is_wildcard: bool, ca_names: Sequence[str]) -> str:
    """Return why the records forbid the CA to issue for a name, and what to do; "" if they don't (RFC 8659 §4).

    records: of one name, one at least.
    """
    owner = _show(records[0].owner)
    unknown = sorted({record.tag for record in records if record.is_critical and record.tag not in KNOWN_TAGS})
    if unknown:
        return (
            f"the CAA records at {owner} have the critical property {_show(unknown[0])}, which CAs don't"
            " know, so none may issue; remove it, or its critical flag"
        )
    tag, relevant = _relevant(records, is_wildcard=is_wildcard)
    allowed = [_issuer_domain(record.value) for record in relevant]
    if not relevant or {domain.lower() for domain in allowed} & {own.lower() for own in ca_names}:
        return ""
    others = list(dict.fromkeys(_show(domain) for domain in allowed if domain))
    shown = ", ".join(others[:MOST_SHOWN]) + (f" and {len(others) - MOST_SHOWN} more" if others[MOST_SHOWN:] else "")
    own = " or ".join(_show(domain) for domain in ca_names[:MOST_SHOWN])
    hint = ""
    if any(";" in record.value and "=" in record.value for record in relevant):
        hint = "; the parameters there (RFC 8657: accounturi, validationmethods) hold for the CAs beside them only"
    return (
        f"the CAA records ({tag}) at {owner} allow {shown or 'no CA'}, not {own}; add the record"
        f' {owner}. CAA 0 {tag} "{_show(ca_names[0])}"{hint}'
    )


def _relevant(records: Sequence[CAARecord], *, is_wildcard: bool) -> tuple[str, Sequence[CAARecord]]:
    """Return the tag that decides, and its records: `issuewild` for wildcards if there is one (RFC 8659 §4.3)."""
    if is_wildcard and (wild := [record for record in records if record.tag == "issuewild"]):
        return "issuewild", wild
    return "issue", [record for record in records if record.tag == "issue"]


def _issuer_domain(value: str) -> str:
    """Return the domain before the parameters; "" allows nobody (RFC 8659 §4.2)."""
    return value.partition(";")[0].strip(" \t")


def _show(text: str) -> str:
    """Return what somebody else wrote into a zone so that it fits a line."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])


@dataclass(slots=True)
class _Climb:
    """The look-ups of one order, so many at once; each domain is asked once for all names that are below it.

    found: by identifier; one without records, or whose records nobody knows, is not in it.
    """

    lookup: CAALookup
    ca: str
    found: dict[str, Sequence[CAARecord]] = field(default_factory=dict)
    _known: dict[str, Sequence[CAARecord] | Unreachable] = field(default_factory=dict)
    _turns: dict[str, asyncio.Lock] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))

    async def find(self, name: str) -> None:
        """Find the closest records at or above a name (RFC 8659 §3)."""
        domain = name.removeprefix("*.")
        while domain:
            answer = await self._ask(domain)
            if isinstance(answer, Unreachable):
                # What stands above it would be of no use: closer records may be there.
                log.info("caa.not_checked", issuer=self.ca, name=name, message=answer.message)
                return
            if answer:
                self.found[name] = answer
                return
            domain = domain.partition(".")[2]

    async def _ask(self, domain: str) -> Sequence[CAARecord] | Unreachable:
        async with self._turns.setdefault(domain, asyncio.Lock()):
            if domain not in self._known:
                async with self._slots:
                    try:
                        self._known[domain] = await self.lookup.find_caa(domain)
                    except Unreachable as error:
                        self._known[domain] = error
        return self._known[domain]
