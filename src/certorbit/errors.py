"""Every error that crosses a border of Certorbit, in one tree.

CertorbitError                    kind, message, subject (which input), hint (what to do), retry
├─ Refused                        the request can't be done as asked
│  ├─ BadInput                    a malformed or unacceptable value
│  │  ├─ BadMaterial              no certificate, key mismatch, RSA < 2048, encrypted, too big, not a CA
│  │  └─ BadIdentifier            not a name, too many, wildcard without DNS-01
│  ├─ InUse                       names the load balancers that hold it
│  ├─ BuiltIn                     the placeholder can't be changed
│  ├─ NotFound                    configuration, entry, operation … unknown
│  ├─ EntryExists                 the id is taken by other input
│  ├─ IssuanceFailed              the issuer's final word on a request that waited for it
│  ├─ TooLarge                    the request body is over the limit
│  ├─ NotSignedIn / NotAllowed    no or unknown key / a key without the right
│  ├─ TooManyFailures             unknown keys came too often
│  ├─ ReadOnly                    maintenance
│  └─ Publishing                  a publish runs; try again
├─ Outside                        somebody else said no, or nothing
│  ├─ Unreachable                 host, phase (resolve, connect, TLS, read), or refused by the guard
│  ├─ SolverFailed                our proof could not be shown; the CA and its order are as good as before
│  ├─ NoIssuer                    no issuer of the settings may issue it; it goes on when its CA is configured again
│  ├─ IssuerRefused               ACME type URN, detail, sub-problems by identifier
│  │  ├─ RateLimited              429, or rateLimited in a problem document
│  │  ├─ AlreadyReplaced          RFC 9773 §5
│  │  ├─ ChallengeFailed          an authorization became invalid
│  │  ├─ OrderLost                the order is gone, invalid or expired: a new one is needed
│  │  ├─ CAAForbids               CAA records let another CA issue, not this one
│  │  └─ AccountProblem           account unknown, external binding or terms required
│  ├─ BadIssue                    the CA's certificate isn't what we asked for
│  ├─ CRLUnusable                 a revocation list that can't be believed: forged, stale, of another scope
│  └─ DeployFailed                a certificate could not be put on a listener
│     ├─ TargetRefused            the provider says no to it, or its own configuration is broken
│     ├─ TargetFull               a limit of the provider is reached
│     ├─ CredentialsRefused       the provider doesn't know us, or we lack a right
│     ├─ Throttled                too many requests
│     ├─ TargetGone               the listener, load balancer or copy does not exist
│     └─ NotServed                the handshake showed another certificate, or none
├─ LostRace                       serialisation failure; the store runs the transaction again
└─ Broken                         an invariant of ours; logged with an id, never shown

A subclass exists only where code acts on it. Constructors only store. `kind` becomes an HTTP status in one place,
`api/errors.py`. No message ever holds key material.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """What sort of thing went wrong; `api/errors.py` has the one table from kind to HTTP status."""

    BAD_INPUT = "bad_input"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    NOT_SIGNED_IN = "not_signed_in"
    NOT_ALLOWED = "not_allowed"
    TOO_MANY = "too_many"
    READ_ONLY = "read_only"
    BUSY = "busy"
    OUTSIDE = "outside"
    BROKEN = "broken"


class RetryRule(StrEnum):
    """Whether trying the same again can help."""

    NEVER = "never"
    BACKOFF = "backoff"
    AT = "at"


@dataclass(frozen=True, slots=True)
class Retry:
    """Retry as data. `at` is an aware UTC instant and set only for `RetryRule.AT`."""

    rule: RetryRule
    at: datetime | None = None


NEVER = Retry(RetryRule.NEVER)
BACKOFF = Retry(RetryRule.BACKOFF)


def retry_at(instant: datetime) -> Retry:
    """Return the rule 'not before this instant' (aware, UTC)."""
    return Retry(RetryRule.AT, instant)


class CertorbitError(Exception):
    """The root of the tree.

    Args:
        message: one or two sentences for a person: what was wrong, which input, what to do.
        subject: the input or thing that it is about (a field name, an id, a host), or "".
        hint: what to do, when it isn't part of the message.
        retry: whether the same may work later; an error without a rule of its own is BACKOFF only if it is a bug.
    """

    kind: ClassVar[Kind] = Kind.BROKEN
    default_retry: ClassVar[Retry] = NEVER

    def __init__(self, message: str, *, subject: str = "", hint: str = "", retry: Retry | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.hint = hint
        self.retry = retry if retry is not None else self.default_retry


class Refused(CertorbitError):
    """The request can't be done as asked."""

    kind = Kind.BAD_INPUT


class BadInput(Refused):
    """A malformed or unacceptable value."""


class BadMaterial(BadInput):
    """Certificate or key material that can't be used."""


class BadIdentifier(BadInput):
    """A name or address that can't be in a certificate of ours."""


class InUse(Refused):
    """The entry is held by load balancers; the message names them."""


class BuiltIn(Refused):
    """A built-in thing can't be changed or deleted."""


class NotFound(Refused):
    """The configuration, entry, operation or key does not exist."""

    kind = Kind.NOT_FOUND


class EntryExists(Refused):
    """The id is taken by an entry that was made from other input."""

    kind = Kind.CONFLICT


class IssuanceFailed(Refused):
    """The issuer refused while the request waited; the message carries the issuer's own text."""


class TooLarge(Refused):
    """The request body is over the limit."""

    kind = Kind.TOO_LARGE


class NotSignedIn(Refused):
    """No key, or one that we don't know."""

    kind = Kind.NOT_SIGNED_IN


class NotAllowed(Refused):
    """A known key without the right for this request."""

    kind = Kind.NOT_ALLOWED


class TooManyFailures(Refused):
    """Too many unknown keys came from one address or began the same. `seconds`: how long to wait."""

    kind = Kind.TOO_MANY

    def __init__(self, message: str, *, subject: str = "", seconds: int = 1) -> None:
        super().__init__(message, subject=subject)
        self.seconds = seconds


class ReadOnly(Refused):
    """Maintenance mode: nothing may be written."""

    kind = Kind.READ_ONLY


class Publishing(Refused):
    """A publish runs; the client tries again with backoff."""

    kind = Kind.BUSY


class Outside(CertorbitError):
    """Somebody else said no, or nothing at all."""

    kind = Kind.OUTSIDE
    default_retry = BACKOFF


_PHASES_BEFORE_SENDING = frozenset({"guard", "resolve", "connect", "TLS"})


class Unreachable(Outside):
    """No usable answer from a host. `subject` is the host; `phase` says how far we came."""

    def __init__(self, message: str, *, subject: str, phase: str, retry: Retry | None = None) -> None:
        super().__init__(message, subject=subject, retry=retry)
        self.phase = phase

    @property
    def was_sent(self) -> bool:
        """Return whether the host may have received the request; False: it surely has not."""
        return self.phase not in _PHASES_BEFORE_SENDING


class SolverFailed(Outside):
    """Our proof of control could not be shown to the CA. `subject` is the zone or the name.

    The CA has not been asked to look, so the order is kept, and another issuer would be no help.
    """


class NoIssuer(Outside):
    """Its CA is not configured any more, and no other issuer may take over (docs/decisions/0013)."""


class IssuerRefused(Outside):
    """A problem document of a CA (RFC 8555 §6.7, RFC 7807).

    Args:
        type: the problem's URN, for example `urn:ietf:params:acme:error:dns`.
        detail: the CA's own sentence.
        status: the HTTP status of the answer, 0 when the problem came inside another object.
        subproblems: the CA's sentence by identifier, sorted by identifier (RFC 8555 §6.7.1).
    """

    default_retry = NEVER

    def __init__(
        self,
        message: str,
        *,
        type: str,  # noqa: A002 - the field's name in RFC 7807
        detail: str,
        status: int = 0,
        subproblems: Mapping[str, str] | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(message, subject=type, retry=retry)
        self.type = type
        self.detail = detail
        self.status = status
        self.subproblems: dict[str, str] = dict(sorted((subproblems or {}).items()))


class RateLimited(IssuerRefused):
    """The CA limits us; `retry` is AT when it said until when."""

    default_retry = BACKOFF


class AlreadyReplaced(IssuerRefused):
    """The predecessor named in `replaces` has a successor already (RFC 9773 §5)."""


class ChallengeFailed(IssuerRefused):
    """The CA could not see our proof for one or more identifiers."""


class OrderLost(IssuerRefused):
    """The order can't go on (invalid, expired, unknown); a new order may work."""

    default_retry = BACKOFF


class AccountProblem(IssuerRefused):
    """The account can't be used: unknown, deactivated, external binding or terms needed."""


class CAAForbids(IssuerRefused):
    """The names' CAA records (RFC 8659) don't let this CA issue; another issuer's CA may be allowed."""


class BadIssue(Outside):
    """The CA's certificate isn't what we asked for (names, key, dates, chain)."""


class CRLUnusable(Outside):
    """A revocation list from which nothing may be concluded; the message says why."""


class DeployFailed(Outside):
    """A certificate could not be put on a listener, or taken off it. `subject` is the listener or the target."""


class TargetRefused(DeployFailed):
    """The provider says no to the certificate, or its own configuration is broken by somebody else."""


class TargetFull(DeployFailed):
    """A limit of the provider is reached: certificates of a listener, imports of a year."""


class CredentialsRefused(DeployFailed):
    """The provider doesn't know us, or we lack a right; the message names it."""


class Throttled(DeployFailed):
    """The provider wants fewer requests."""


class TargetGone(DeployFailed):
    """The listener, the load balancer or the copy does not exist (any more)."""


class NotServed(DeployFailed):
    """The handshake showed another certificate than the one that was put there, or none."""


class LostRace(CertorbitError):
    """A serialisation failure; the store runs the transaction again."""

    kind = Kind.BUSY
    default_retry = BACKOFF


class Broken(CertorbitError):
    """An invariant of ours does not hold; logged with an id, its text never shown."""

    default_retry = BACKOFF
