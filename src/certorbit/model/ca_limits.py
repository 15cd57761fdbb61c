"""The limits of each CA, and which of them an order counts against (letsencrypt.org/docs/rate-limits)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from certorbit.errors import BadInput
from certorbit.limit_settings import LimitOverride, LimitsSettings, parse_rate
from certorbit.model.identifiers import hash_identifiers, normalise_identifier
from certorbit.model.limits import Rule, RuleName, make_rule
from certorbit.model.registered_domain import registered_domain_of

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
# Its last profile with clientAuth ended on 2026-07-08 (letsencrypt.org/docs/profiles). Other public CAs do the same by
# the rules of the browsers; what one of them issues all the same is looked at when it comes.
FOR_SERVERS_ALONE = frozenset({LETS_ENCRYPT, LETS_ENCRYPT_STAGING})


class OrderKind(StrEnum):
    """What an order is to the CA. The values are stored with every counted request."""

    NEW = "new"
    RENEWAL = "renewal"  # this account had a certificate for exactly these names from this CA before
    ARI_RENEWAL = "ari-renewal"  # it names its predecessor, inside the window that the CA gave (RFC 9773 §5)
    BARREN = "barren"  # a new one that no certificate can come of any more: the certificates' limits don't count it
    UNCOUNTED = "uncounted"  # a renewal of that sort, or one that never reached the CA


@dataclass(frozen=True, slots=True)
class AccountKey:
    """An account at a CA: the directory's URL and the issuer's name in the settings."""

    directory: str
    name: str


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """A newOrder that somebody would like to send. identifiers: normalised."""

    account: AccountKey
    identifiers: tuple[str, ...]
    kind: OrderKind


@dataclass(frozen=True, slots=True)
class Charge:
    """One limit that an order counts against. spends: see `limits.Demand`."""

    rule: Rule
    subject: str
    spends: bool = True


@dataclass(frozen=True, slots=True)
class CALimits:
    """The limits of one directory. overrides: by rule and subject; None: no limit."""

    host: str
    rules: Mapping[RuleName, Rule]
    overrides: Mapping[tuple[RuleName, str], Rule | None] = field(default_factory=dict)

    def rule(self, name: RuleName, subject: str) -> Rule | None:
        """Return the rule for a subject; None if it has no limit."""
        return self.overrides.get((name, subject), self.rules.get(name))

    def charges(self, order: OrderRequest) -> Sequence[Charge]:
        """Return what the order counts against; each (rule, subject) once.

        A renewal that the CA asked for (ARI) counts against nothing; one of the same names not against its account
        and its domains, but against its set. Names that failed too often are refused whatever the order is else.
        """
        if order.kind in {OrderKind.ARI_RENEWAL, OrderKind.UNCOUNTED}:
            return ()
        if order.kind is OrderKind.BARREN:
            return self._charges([(RuleName.ORDERS_PER_ACCOUNT, order.account.name, True)])
        wanted: list[tuple[RuleName, str, bool]] = []
        if order.kind is OrderKind.NEW:
            wanted.append((RuleName.ORDERS_PER_ACCOUNT, order.account.name, True))
            domains = sorted({registered_domain_of(identifier) for identifier in order.identifiers})
            wanted += [(RuleName.CERTIFICATES_PER_DOMAIN, domain, True) for domain in domains]
        wanted.append((RuleName.CERTIFICATES_PER_SET, hash_identifiers(order.identifiers), True))
        subjects = [failure_subject(order.account.name, identifier) for identifier in sorted(set(order.identifiers))]
        wanted += [(name, subject, False) for name in FAILURE_RULES for subject in subjects]
        return self._charges(wanted)

    def failure_charges(self, account: str, identifiers: Iterable[str]) -> Sequence[Charge]:
        """Return what failed authorizations count against."""
        subjects = [failure_subject(account, identifier) for identifier in sorted(set(identifiers))]
        return self._charges([(name, subject, True) for name in FAILURE_RULES for subject in subjects])

    def blame(self, detail: str, order: OrderRequest) -> Charge | None:
        """Return the limit that a CA's sentence about a rate limit means.

        The sentences are Boulder's; of another CA's sentence we know only that the account should slow down. None if
        there is no such limit in our settings.
        """
        name, subject = _read_sentence(detail, order)
        rule = self.rule(name, subject)
        return Charge(rule, subject) if rule else None

    def explain(self, name: RuleName, subject: str, *, until: datetime, identifiers: Sequence[str]) -> str:
        """Return what is waited for and until when, for people."""
        rule = self.rule(name, subject)
        allowed = f"{rule.capacity} {_THINGS[name]}{_show_pace(rule)}" if rule else _THINGS[name]
        shown = _show_subject(name, subject, identifiers)
        return f"{shown}: {allowed} at {self.host}; next at {_show_instant(until)}"

    def _charges(self, wanted: Iterable[tuple[RuleName, str, bool]]) -> Sequence[Charge]:
        return [
            Charge(rule, subject, spends=spends)
            for name, subject, spends in wanted
            if (rule := self.rule(name, subject)) is not None
        ]


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """The limits of every CA that has some."""

    by_directory: Mapping[str, CALimits] = field(default_factory=dict)

    def of(self, directory: str) -> CALimits | None:
        """Return the CA's limits; None: it has none that we know of, and nothing is asked or counted."""
        return self.by_directory.get(directory)


NO_LIMITS = LimitPolicy()
FAILURE_RULES = (RuleName.FAILED_AUTHORIZATIONS, RuleName.CONSECUTIVE_FAILURES)
_THINGS = {
    RuleName.ORDERS_PER_ACCOUNT: "new orders",
    RuleName.CERTIFICATES_PER_DOMAIN: "certificates",
    RuleName.CERTIFICATES_PER_SET: "certificates for exactly these names",
    RuleName.FAILED_AUTHORIZATIONS: "failed authorizations",
    RuleName.CONSECUTIVE_FAILURES: "failed authorizations in a row",
}
# Boulder, ratelimits/limiter.go: 'too many certificates (50) already issued for "example.com" in the last 168h0m0s…'
_QUOTED = re.compile(r'for "([^"\s]{1,253})"')


def failure_subject(account: str, identifier: str) -> str:
    """Return the subject of the limits on failed authorizations: they are per name and account."""
    return f"{account} {identifier}"


def policy_from(settings: LimitsSettings) -> LimitPolicy:
    """Return the rules that the settings mean.

    Raises:
        BadInput: an override's subject is no registered domain.
    """
    if not settings.enabled:
        return NO_LIMITS
    defaults = {
        LETS_ENCRYPT: {name: getattr(settings, name) for name in RuleName},
        # What staging allows in a row isn't published; the production's number is the safe one.
        LETS_ENCRYPT_STAGING: {name: getattr(settings, f"staging_{name}", None) for name in RuleName}
        | {RuleName.CONSECUTIVE_FAILURES: settings.consecutive_failures},
    }
    directories = dict.fromkeys([*defaults, *(override.directory for override in settings.overrides)])
    return LimitPolicy(
        {
            directory: _limits_of(
                directory,
                defaults.get(directory, {}),
                [override for override in settings.overrides if override.directory == directory],
            )
            for directory in directories
        }
    )


def _limits_of(directory: str, rates: Mapping[RuleName, str], overrides: Sequence[LimitOverride]) -> CALimits:
    rules = {name: _rule(name, rate) for name, rate in rates.items()}
    special: dict[tuple[RuleName, str], Rule | None] = {}
    for override in overrides:
        name = RuleName(override.limit)
        if override.subject:
            special[name, _read_subject(name, override.subject)] = _rule(name, override.value)
        else:
            rules[name] = _rule(name, override.value)
    kept = {name: rule for name, rule in rules.items() if rule is not None}
    return CALimits(urlsplit(directory).hostname or directory, kept, special)


def _rule(name: RuleName, rate: str) -> Rule | None:
    parsed = parse_rate(rate)
    return make_rule(name, count=parsed[0], period=parsed[1]) if parsed else None


def _read_subject(name: RuleName, subject: str) -> str:
    if name is not RuleName.CERTIFICATES_PER_DOMAIN or "/" in subject:  # an account; an IPv6 network
        return subject
    domain = normalise_identifier(subject).value
    registered = registered_domain_of(domain)
    if registered != domain:
        raise BadInput(
            f"limits.overrides: certificates are counted by registered domain; {subject!r} belongs to"
            f" {registered!r}. Name that one.",
            subject="limits.overrides",
        )
    return domain


def _read_sentence(detail: str, order: OrderRequest) -> tuple[RuleName, str]:
    quoted = _QUOTED.search(detail)
    if "exact set" in detail:
        return RuleName.CERTIFICATES_PER_SET, hash_identifiers(order.identifiers)
    if quoted and "failed authorizations" in detail:
        return RuleName.FAILED_AUTHORIZATIONS, failure_subject(order.account.name, quoted[1])
    if quoted and quoted[1] in {registered_domain_of(identifier) for identifier in order.identifiers}:
        return RuleName.CERTIFICATES_PER_DOMAIN, quoted[1]
    return RuleName.ORDERS_PER_ACCOUNT, order.account.name


def _show_subject(name: RuleName, subject: str, identifiers: Sequence[str]) -> str:
    match name:
        case RuleName.ORDERS_PER_ACCOUNT:
            return f"account {subject!r}"
        case RuleName.CERTIFICATES_PER_SET:
            more = f" and {len(identifiers) - 3} more" if len(identifiers) > 3 else ""
            return ", ".join(identifiers[:3]) + more
        case RuleName.FAILED_AUTHORIZATIONS | RuleName.CONSECUTIVE_FAILURES:
            return subject.rpartition(" ")[2]
        case RuleName.CERTIFICATES_PER_DOMAIN:
            return subject


def _show_pace(rule: Rule) -> str:
    if rule.name is RuleName.CONSECUTIVE_FAILURES:
        return f" (one is forgiven per {_show_period(rule.refill)})"
    return f" per {_show_period(rule.period)}"


def _show_period(period: timedelta) -> str:
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        number = round(period / unit, 1)
        if number >= 1:
            return f"{number:g} {name}s" if number != 1 else name
    seconds = round(period.total_seconds())
    return f"{seconds} seconds" if seconds > 1 else "second"


def _show_instant(instant: datetime) -> str:
    rounded_up = instant + timedelta(microseconds=-instant.microsecond % 1_000_000)
    return f"{rounded_up:%Y-%m-%d %H:%M:%S} UTC"
