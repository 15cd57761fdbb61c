"""Which limits an order counts against at which CA, what its sentences mean, and what people are told."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from certorbit.errors import BadInput
from certorbit.limit_settings import LimitOverride, LimitsSettings, parse_rate
from certorbit.model.ca_limits import (
    LETS_ENCRYPT,
    LETS_ENCRYPT_STAGING,
    AccountKey,
    CALimits,
    OrderKind,
    OrderRequest,
    policy_from,
)
from certorbit.model.identifiers import hash_identifiers
from certorbit.model.limits import Rule, RuleName

NAMES = ("www.example.com", "example.com", "shop.example.co.uk")
SET = hash_identifiers(NAMES)
FAILURES = [
    *((RuleName.FAILED_AUTHORIZATIONS, f"acme {name}", False) for name in sorted(NAMES)),
    *((RuleName.CONSECUTIVE_FAILURES, f"acme {name}", False) for name in sorted(NAMES)),
]


def lets_encrypt(*overrides: LimitOverride) -> CALimits:
    limits = policy_from(LimitsSettings(overrides=overrides)).of(LETS_ENCRYPT)
    assert limits is not None
    return limits


def make_order(kind: OrderKind = OrderKind.NEW, *, names: tuple[str, ...] = NAMES) -> OrderRequest:
    return OrderRequest(AccountKey(LETS_ENCRYPT, "acme"), names, kind)


def override(limit: str, value: str, *, subject: str = "", directory: str = LETS_ENCRYPT) -> LimitOverride:
    return LimitOverride.model_validate({"directory": directory, "limit": limit, "value": value, "subject": subject})


def charged(limits: CALimits, order: OrderRequest) -> list[tuple[RuleName, str, bool]]:
    return [(charge.rule.name, charge.subject, charge.spends) for charge in limits.charges(order)]


def test_a_new_certificate_counts_against_account_domains_and_set() -> None:
    assert charged(lets_encrypt(), make_order()) == [
        (RuleName.ORDERS_PER_ACCOUNT, "acme", True),
        (RuleName.CERTIFICATES_PER_DOMAIN, "example.co.uk", True),
        (RuleName.CERTIFICATES_PER_DOMAIN, "example.com", True),
        (RuleName.CERTIFICATES_PER_SET, SET, True),
        *FAILURES,
    ]


def test_a_renewal_of_the_same_names_counts_against_the_set_alone() -> None:
    renewal = make_order(OrderKind.RENEWAL)
    assert charged(lets_encrypt(), renewal) == [(RuleName.CERTIFICATES_PER_SET, SET, True), *FAILURES]


def test_a_renewal_that_the_ca_asked_for_counts_against_nothing() -> None:
    assert charged(lets_encrypt(), make_order(OrderKind.ARI_RENEWAL)) == []


def test_a_failure_counts_against_its_name_and_account() -> None:
    charges = lets_encrypt().failure_charges("acme", ["example.com"])
    assert [(charge.rule.name, charge.subject, charge.spends) for charge in charges] == [
        (RuleName.FAILED_AUTHORIZATIONS, "acme example.com", True),
        (RuleName.CONSECUTIVE_FAILURES, "acme example.com", True),
    ]


def test_the_numbers_of_lets_encrypt_are_the_published_ones() -> None:
    rules = lets_encrypt().rules
    assert {name: (rule.capacity, rule.period) for name, rule in rules.items()} == {
        RuleName.ORDERS_PER_ACCOUNT: (300, timedelta(hours=3)),
        RuleName.CERTIFICATES_PER_DOMAIN: (50, timedelta(days=7)),
        RuleName.CERTIFICATES_PER_SET: (5, timedelta(days=7)),
        RuleName.FAILED_AUTHORIZATIONS: (5, timedelta(hours=1)),
        RuleName.CONSECUTIVE_FAILURES: (1152, timedelta(days=1152)),
    }


def test_staging_has_its_own_numbers_and_every_limit() -> None:
    limits = policy_from(LimitsSettings()).of(LETS_ENCRYPT_STAGING)
    assert limits is not None
    assert {name: rule.capacity for name, rule in limits.rules.items()} == {
        RuleName.ORDERS_PER_ACCOUNT: 1500,
        RuleName.CERTIFICATES_PER_DOMAIN: 30_000,
        RuleName.CERTIFICATES_PER_SET: 30_000,
        RuleName.FAILED_AUTHORIZATIONS: 200,
        RuleName.CONSECUTIVE_FAILURES: 1152,
    }


@pytest.mark.parametrize("directory", ["internal", "https://localhost:14000/dir", "https://acme.zerossl.com/v2/DV90"])
def test_other_cas_have_no_limits(directory: str) -> None:
    assert policy_from(LimitsSettings()).of(directory) is None


def test_limits_can_be_switched_off() -> None:
    assert policy_from(LimitsSettings(enabled=False)).of(LETS_ENCRYPT) is None


def test_a_granted_limit_is_that_of_its_subject_alone() -> None:
    limits = lets_encrypt(
        override("certificates_per_domain", "500/7d", subject="example.com"),
        override("orders_per_account", "none", subject="acme"),
    )
    assert [(charge.subject, charge.rule.capacity) for charge in limits.charges(make_order())][:3] == [
        ("example.co.uk", 50),
        ("example.com", 500),
        (SET, 5),
    ]


def test_another_ca_gets_the_limits_that_are_set_for_it() -> None:
    settings = LimitsSettings(overrides=(override("orders_per_account", "10/1h", directory="https://ca.test/dir"),))
    limits = policy_from(settings).of("https://ca.test/dir")
    assert limits is not None
    assert limits.rules == {RuleName.ORDERS_PER_ACCOUNT: Rule(RuleName.ORDERS_PER_ACCOUNT, 10, timedelta(minutes=6))}


def test_a_subject_is_read_as_a_name() -> None:
    limits = lets_encrypt(override("certificates_per_domain", "9/7d", subject="Bücher.Example"))
    rule = limits.rule(RuleName.CERTIFICATES_PER_DOMAIN, "xn--bcher-kva.example")
    assert rule is not None
    assert rule.capacity == 9


def test_a_subject_that_is_no_registered_domain_is_refused_with_the_one_it_belongs_to() -> None:
    with pytest.raises(BadInput, match=r"'www\.example\.com' belongs to 'example\.com'\. Name that one"):
        lets_encrypt(override("certificates_per_domain", "500/7d", subject="www.example.com"))


@pytest.mark.parametrize(
    "value", ["", "50", "50/7", "0/7d", "50/0d", "-5/7d", "50/7w", "50/7d ", "50 / 7d", "fifty/7d"]
)
def test_a_rate_that_cannot_be_read_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match=r"is no limit; write a count and a period as 50/7d"):
        LimitsSettings(orders_per_account=value)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50/7d", (50, timedelta(days=7))),
        ("300/3h", (300, timedelta(hours=3))),
        ("5/90m", (5, timedelta(minutes=90))),
        ("30000/1s", (30_000, timedelta(seconds=1))),
        ("none", None),
    ],
)
def test_a_rate_is_a_count_and_a_period(text: str, rate: tuple[int, timedelta] | None) -> None:
    assert parse_rate(text) == rate


def test_a_subject_where_the_ca_knows_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="certificates_per_set has no subject of its own"):
        override("certificates_per_set", "10/7d", subject="example.com")


@pytest.mark.parametrize(
    ("detail", "rule", "subject"),
    [
        pytest.param(
            "too many new orders (300) from this account in the last 3h0m0s, retry after 2027-01-01 00:00:36 UTC: see",
            RuleName.ORDERS_PER_ACCOUNT,
            "acme",
            id="orders",
        ),
        pytest.param(
            'too many certificates (50) already issued for "example.co.uk" in the last 168h0m0s, retry after',
            RuleName.CERTIFICATES_PER_DOMAIN,
            "example.co.uk",
            id="domain",
        ),
        pytest.param(
            "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s,",
            RuleName.CERTIFICATES_PER_SET,
            SET,
            id="set",
        ),
        pytest.param(
            'too many failed authorizations (5) for "www.example.com" in the last 1h0m0s, retry after 2027',
            RuleName.FAILED_AUTHORIZATIONS,
            "acme www.example.com",
            id="failures",
        ),
        pytest.param("Slow down.", RuleName.ORDERS_PER_ACCOUNT, "acme", id="another CA's words"),
        pytest.param(
            'too many certificates (50) already issued for "somebody.else"',
            RuleName.ORDERS_PER_ACCOUNT,
            "acme",
            id="a domain that isn't the order's",
        ),
    ],
)
def test_a_cas_sentence_names_the_bucket(detail: str, rule: RuleName, subject: str) -> None:
    charge = lets_encrypt().blame(detail, make_order())
    assert charge is not None
    assert (charge.rule.name, charge.subject) == (rule, subject)


def test_a_sentence_about_a_limit_that_is_not_ours_means_no_bucket() -> None:
    assert lets_encrypt(override("orders_per_account", "none")).blame("Slow down.", make_order()) is None


@pytest.mark.parametrize(
    ("rule", "subject", "says"),
    [
        (RuleName.ORDERS_PER_ACCOUNT, "acme", "account 'acme': 300 new orders per 3 hours"),
        (RuleName.CERTIFICATES_PER_DOMAIN, "example.com", "example.com: 50 certificates per 7 days"),
        (
            RuleName.CERTIFICATES_PER_SET,
            SET,
            "www.example.com, example.com, shop.example.co.uk: 5 certificates for exactly these names per 7 days",
        ),
        (RuleName.FAILED_AUTHORIZATIONS, "acme example.com", "example.com: 5 failed authorizations per hour"),
        (
            RuleName.CONSECUTIVE_FAILURES,
            "acme example.com",
            "example.com: 1152 failed authorizations in a row (one is forgiven per day)",
        ),
    ],
)
def test_people_are_told_what_is_waited_for_and_until_when(rule: RuleName, subject: str, says: str) -> None:
    until = datetime(2027, 1, 2, 3, 4, 5, 1, tzinfo=UTC)
    told = lets_encrypt().explain(rule, subject, until=until, identifiers=NAMES)
    assert told == f"{says} at acme-v02.api.letsencrypt.org; next at 2027-01-02 03:04:06 UTC"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("5/90m", "5 new orders per 1.5 hours"),
        ("9/2m", "9 new orders per 2 minutes"),
        ("8/1s", "8 new orders per second"),
    ],
)
def test_a_period_is_told_in_the_largest_unit_that_fits(value: str, says: str) -> None:
    limits = lets_encrypt(override("orders_per_account", value))
    told = limits.explain(
        RuleName.ORDERS_PER_ACCOUNT, "acme", until=datetime(2027, 1, 1, tzinfo=UTC), identifiers=NAMES
    )
    assert told.startswith(f"account 'acme': {says} at ")


def test_a_long_list_of_names_is_shortened() -> None:
    names = tuple(f"n{number}.example.com" for number in range(100))
    told = lets_encrypt().explain(
        RuleName.CERTIFICATES_PER_SET, "x", until=datetime(2027, 1, 1, tzinfo=UTC), identifiers=names
    )
    assert told.startswith("n0.example.com, n1.example.com, n2.example.com and 97 more: 5 certificates")
