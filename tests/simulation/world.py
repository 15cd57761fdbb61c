"""The world of the simulated year: CAs with outages, limits and refusals, names whose proof fails, processes that die.

All that happens by itself (outages, busy hours, broken names) is drawn from the seed before the year begins, so that
afterwards one can ask who could have been saved. What hits a single request (a lost answer, a refusal) is drawn as it
comes and noted with its instant (`World.mishaps`).
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certorbit.errors import AlreadyReplaced, ChallengeFailed, OrderLost, RateLimited, Unreachable, retry_at
from certorbit.model.ca_limits import AccountKey, CALimits, OrderKind, OrderRequest
from certorbit.model.identifiers import Identifier
from certorbit.model.limits import Rule, RuleName
from certorbit.model.renewal import RenewalInfo, note_answer, note_failure
from certorbit.pki.ari import make_cert_id
from fakes.clock import FakeClock

Span = tuple[datetime, datetime]
BACKDATED = timedelta(hours=1)  # public CAs do that for clocks that are behind
RETRY_AFTER = timedelta(hours=6)  # of renewalInfo at Let's Encrypt (facts.md 3.3)
SHORT = timedelta(days=10)
# facts.md 3.2: a pending order of the classic profile lives for a week, of the others for eight hours.
CLASSIC = timedelta(days=90)

# How an outage looks from here: each has one of these. Only what isn't sent surely wasn't heard.
PHASES = ("connect", "read", "unavailable")


class Killed(BaseException):
    """kill -9: nothing catches it, nothing is tidied up."""


@dataclass(frozen=True, slots=True)
class Chances:
    """How likely each mishap is, per request or checkpoint. `NOTHING_HAPPENS` has none of them."""

    kill: float = 0.004  # before a step, after it, after its checkpoint, between newOrder and its answer
    lost: float = 0.004  # a request or its answer is lost though the CA is up
    refusal: float = 0.003  # a validation fails though nothing is wrong with the name
    bad_issue: float = 0.001  # a certificate for somebody else's name


NOTHING_HAPPENS = Chances(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Weather:
    """When a CA answers nothing at all, and when it answers every newOrder with 429. Sorted, without overlaps."""

    down: Sequence[Span] = ()
    busy: Sequence[Span] = ()


def draw_spans(
    random: Random, *, year: Span, mean_gap: timedelta, shortest: timedelta, longest: timedelta
) -> list[Span]:
    """Return spans of trouble; most are near the shortest, few near the longest (evenly spread in their logarithm)."""
    spans = []
    at = year[0] + mean_gap * random.expovariate(1.0)
    while at < year[1]:
        length = shortest * (longest / shortest) ** random.random()
        spans.append((at, at + length))
        at += length + mean_gap * random.expovariate(1.0)
    return spans


def find_span(spans: Sequence[Span], now: datetime) -> Span | None:
    """Return the span that the instant is in."""
    place = bisect_right(spans, now, key=lambda span: span[0]) - 1
    return spans[place] if place >= 0 and now < spans[place][1] else None


class Meter:
    """The audit's own bucket, in whole microseconds: in no window of any length t more than capacity + t / refill."""

    def __init__(self, rule: Rule) -> None:
        self._refill = rule.refill // timedelta(microseconds=1)
        self._slack = self._refill * (rule.capacity - 1)
        self._level = 0

    def wait(self, now: datetime) -> timedelta:
        """Return how long there will be no token."""
        return timedelta(microseconds=max(0, self._level - _microseconds(now) - self._slack))

    def take(self, now: datetime) -> None:
        self._level = max(self._level, _microseconds(now)) + self._refill


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass
class World:
    """What all CAs share: the time, the luck, the names.

    lifetimes: of a certificate, by its first name. broken: when proofs for a certificate fail, by its first name.
    mishaps: the instants at which a single request of a certificate failed by bad luck, by its first name.
    """

    clock: FakeClock
    random: Random
    chances: Chances
    lifetimes: Mapping[str, timedelta]
    broken: Mapping[str, Sequence[Span]]
    mishaps: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    kills: int = 0

    def pass_by(self, name: str = "") -> None:
        """Die here, with a certain probability. name: the certificate whose attempt dies."""
        if self.random.random() < self.chances.kill:
            self.kills += 1
            self.note_mishap(name)
            raise Killed

    def note_mishap(self, name: str) -> None:
        self.mishaps[name].append(self.clock.now())

    def between(self, low: float, high: float) -> float:
        """It is the `Chance` of everybody as well."""
        return self.random.uniform(low, high)


@dataclass
class Order:
    identifiers: tuple[str, ...]
    replaces: str | None
    expires_at: datetime
    status: str = "pending"
    chain_pem: str = ""
    certificates: Sequence["Meter"] = ()


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as the CA remembers it."""

    cert_id: str
    not_after: datetime
    window: Span


class SimulatedCA:
    """An issuer (`ports.issuer.Issuer`) with its CA behind it; it does as Boulder does (facts.md 3.2 to 3.4).

    has_ari: it has renewal windows and takes `replaces`. has_order_list: `find_orders` finds.
    orders_made: how many orders the CA made. refusals_by_limit: how often it had to enforce a limit of its own.
    """

    can_issue_wildcards = False

    def covers(self, identifier: Identifier) -> bool:
        return not identifier.is_wildcard

    async def check_names(self, identifiers: Sequence[Identifier]) -> None:
        """These names have no CAA records."""

    def __init__(
        self, name: str, *, world: World, weather: Weather, limits: CALimits, directory: str, has_ari: bool
    ) -> None:
        self.name = name
        self.directory = directory
        self.weather = weather
        self.orders: dict[str, Order] = {}
        self.orders_made = 0
        self.refusals_by_limit = 0
        self._world = world
        self._limits = limits
        self._has_ari = has_ari
        self._meters: dict[tuple[str, str], Meter] = {}
        self._pending: dict[tuple[str, ...], str] = {}
        self._replacing: dict[str, str] = {}
        self._issued: dict[str, Issued] = {}
        self._known: dict[str, Issued] = {}
        self._sets: set[tuple[str, ...]] = set()
        self._root = _Root.of(name)

    async def find_orders(self, identifiers: Sequence[Identifier]) -> Sequence[str]:
        """Return what RFC 8555 §7.1.2.1 offers; the CA with ARI is like Let's Encrypt, which has no such list."""
        self._answer(identifiers[0].value)
        url = self._find_pending(_values(identifiers))
        return [] if self._has_ari or url is None else [url]

    async def place_order(self, identifiers: Sequence[Identifier], *, replaces: str | None = None) -> str:
        names, now = _values(identifiers), self._world.clock.now()
        self._answer(identifiers[0].value)
        busy = find_span(self.weather.busy, now)
        if busy is not None:
            raise _limited("Service busy", until=busy[1])
        kind = self._classify(names, replaces=replaces)
        certificates = self._enforce_limits(OrderRequest(AccountKey(self.directory, self.name), names, kind))
        url = self._find_pending(names) or self._make_order(names, replaces=replaces)
        self.orders[url].certificates = certificates
        self._world.pass_by(identifiers[0].value)
        self._lose_answer(identifiers[0].value)
        return url

    async def prove(self, order_url: str) -> None:
        order = self._find(order_url)
        first = order.identifiers[0]
        if order.status in {"ready", "valid"}:
            return
        now = self._world.clock.now()
        broken = find_span(self._world.broken.get(first, ()), now) is not None
        unlucky = not broken and self._happens(self._world.chances.refusal, first)
        if broken or unlucky:
            self._drop(order_url, order)
            self._count_failure(first)
            raise ChallengeFailed(
                "The CA could not validate.",
                type="urn:ietf:params:acme:error:unauthorized",
                detail="wrong answer",
                subproblems={first: "wrong answer"},
            )
        order.status = "ready"
        self._lose_answer(first)

    async def finalise(self, order_url: str, *, csr_der: bytes) -> None:
        order = self._find(order_url)
        if order.status == "ready":
            is_bad = self._happens(self._world.chances.bad_issue, order.identifiers[0])
            order.chain_pem = self._issue(order, csr_der, names=("elsewhere.test",) if is_bad else order.identifiers)
            order.status = "valid"
            self._pending.pop(order.identifiers, None)
        self._lose_answer(order.identifiers[0])

    async def collect(self, order_url: str) -> str:
        return self._find(order_url).chain_pem

    async def revoke(self, chain_pem: str, *, reason: int) -> None:
        raise AssertionError("nobody revokes in this world")

    async def renewal_info(self, chain_pem: str, *, previous: RenewalInfo | None) -> RenewalInfo | None:
        if not self._has_ari:
            return None
        now, uniform = self._world.clock.now(), self._world.between
        if find_span(self.weather.down, now) is not None:
            return note_failure(
                previous, problem="no answer", is_passing=True, retry_after=None, now=now, uniform=uniform
            )
        issued = self._issued[chain_pem]
        assert now < issued.not_after, "RFC 9773 §4.3: not asked about expired certificates"
        return note_answer(
            previous,
            start=issued.window[0],
            end=issued.window[1],
            explanation_url="",
            retry_after=RETRY_AFTER,
            now=now,
            uniform=uniform,
        )

    async def close(self) -> None:
        return

    def _classify(self, names: tuple[str, ...], *, replaces: str | None) -> OrderKind:
        """Return what the order is to the limits; refuse a predecessor that has a successor already."""
        if replaces is not None and self._has_ari:
            predecessor = self._known.get(replaces)
            replacing = self.orders.get(self._replacing.get(replaces, ""))
            is_taken = replacing is not None and self._status(replacing) != "invalid"
            if predecessor is None or is_taken:
                raise AlreadyReplaced(
                    "Replaced.", type="urn:ietf:params:acme:error:alreadyReplaced", detail="replaced", status=409
                )
            if predecessor.window[0] <= self._world.clock.now() < predecessor.window[1]:
                return OrderKind.ARI_RENEWAL
        return OrderKind.RENEWAL if names in self._sets else OrderKind.NEW

    def _enforce_limits(self, order: OrderRequest) -> list[Meter]:
        """Count the order, or refuse it. Returns: what counts its certificate, when that is issued."""
        now = self._world.clock.now()
        meters = {
            charge: self._meters.setdefault((charge.rule.name, charge.subject), Meter(charge.rule))
            for charge in self._limits.charges(order)
            if charge.spends
        }
        wait = max((meter.wait(now) for meter in meters.values()), default=timedelta(0))
        if wait > timedelta(0):
            self.refusals_by_limit += 1
            raise _limited("too many new orders", until=now + wait)
        certificates = []
        for charge, meter in meters.items():
            if charge.rule.name is RuleName.ORDERS_PER_ACCOUNT:
                meter.take(now)
            else:
                certificates.append(meter)
        return certificates

    def _count_failure(self, name: str) -> None:
        now = self._world.clock.now()
        for charge in self._limits.failure_charges(self.name, [name]):
            meter = self._meters.setdefault((charge.rule.name, charge.subject), Meter(charge.rule))
            self.refusals_by_limit += meter.wait(now) > timedelta(0)
            meter.take(now)

    def _make_order(self, names: tuple[str, ...], *, replaces: str | None) -> str:
        self.orders_made += 1
        url = f"{self.directory}/order/{self.orders_made}"
        lifetime = self._world.lifetimes[names[0]]
        lives = timedelta(days=7) if lifetime >= CLASSIC else timedelta(hours=8)
        self.orders[url] = Order(names, replaces, self._world.clock.now() + lives)
        self._pending[names] = url
        if replaces is not None:
            self._replacing[replaces] = url
        return url

    def _find_pending(self, names: tuple[str, ...]) -> str | None:
        url = self._pending.get(names)
        return url if url and self._status(self.orders[url]) in {"pending", "ready"} else None

    def _status(self, order: Order) -> str:
        is_over = order.status in {"pending", "ready"} and order.expires_at <= self._world.clock.now()
        return "invalid" if is_over else order.status

    def _find(self, url: str) -> Order:
        order = self.orders[url]
        self._answer(order.identifiers[0])
        if self._status(order) == "invalid":
            raise OrderLost("The order is invalid.", type="about:blank", detail="invalid")
        return order

    def _drop(self, url: str, order: Order) -> None:
        order.status = "invalid"
        if self._pending.get(order.identifiers) == url:
            del self._pending[order.identifiers]

    def _issue(self, order: Order, csr_der: bytes, *, names: tuple[str, ...]) -> str:
        lifetime = self._world.lifetimes[order.identifiers[0]]
        not_before = self._world.clock.now().replace(microsecond=0) - BACKDATED
        not_after = not_before + lifetime - timedelta(seconds=1)
        chain_pem = self._root.issue(csr_der, names=names, not_before=not_before, not_after=not_after)
        middle = not_after - lifetime / (2 if lifetime < SHORT else 3)
        issued = Issued(make_cert_id(chain_pem) or "", not_after, (middle - lifetime / 100, middle + lifetime / 100))
        self._issued[chain_pem] = self._known[issued.cert_id] = issued
        self._sets.add(order.identifiers)
        for meter in order.certificates:
            meter.take(self._world.clock.now())
        return chain_pem

    def _answer(self, name: str) -> None:
        """Raise Unreachable if the CA is down, or the request is lost on its way."""
        down = find_span(self.weather.down, self._world.clock.now())
        if down is not None:
            raise Unreachable("No answer.", subject=self.name, phase=PHASES[int(down[0].timestamp()) % len(PHASES)])
        if self._happens(self._world.chances.lost, name):
            raise Unreachable("The request was lost.", subject=self.name, phase="read")

    def _lose_answer(self, name: str) -> None:
        """Raise Unreachable though the CA has done its work."""
        if self._happens(self._world.chances.lost, name):
            raise Unreachable("The answer was lost.", subject=self.name, phase="read")

    def _happens(self, probability: float, name: str) -> bool:
        happens = self._world.random.random() < probability
        if happens:
            self._world.note_mishap(name)
        return happens


def _limited(sentence: str, *, until: datetime) -> RateLimited:
    return RateLimited(
        f"{sentence}.",
        type="urn:ietf:params:acme:error:rateLimited",
        detail=sentence,
        status=429,
        retry=retry_at(until),
    )


def _values(identifiers: Sequence[Identifier]) -> tuple[str, ...]:
    return tuple(identifier.value for identifier in identifiers)


class _Root:
    """One key that signs everything: real certificates, each in a fraction of a millisecond."""

    of: Callable[[str], "_Root"]

    def __init__(self, common_name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        self._key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        root = self._build(self._name, self._key.public_key(), datetime(2020, 1, 1, tzinfo=UTC), days=36500)
        basic = x509.BasicConstraints(ca=True, path_length=None)
        signed = root.add_extension(basic, critical=True).sign(self._key, SHA256())
        self._root_pem = signed.public_bytes(Encoding.PEM).decode()

    def issue(self, csr_der: bytes, *, names: Sequence[str], not_before: datetime, not_after: datetime) -> str:
        public_key = x509.load_der_x509_csr(csr_der).public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        days = (not_after - not_before) / timedelta(days=1)
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        leaf = self._build(x509.Name([]), public_key, not_before, days=days).add_extension(san, critical=True)
        return leaf.sign(self._key, SHA256()).public_bytes(Encoding.PEM).decode() + self._root_pem

    def _build(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, not_before: datetime, *, days: float
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_before + timedelta(days=days))
            .add_extension(self._key_id, critical=False)
        )


_Root.of = cache(_Root)
