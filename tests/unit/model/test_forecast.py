"""The forecast of renewals: who, when, how often, and which limit stands in the way."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certorbit.limit_settings import LimitOverride, LimitsSettings
from certorbit.model import forecast as module
from certorbit.model.ca_limits import NO_LIMITS, AccountKey, LimitPolicy, policy_from
from certorbit.model.entry import Entry
from certorbit.model.forecast import Forecast, forecast
from certorbit.model.identifiers import hash_identifiers
from certorbit.model.limits import Bucket, RuleName
from certorbit.model.renewal import RenewalInfo, RenewalRules
from certorbit.model.schedule import Schedule
from records import make_entry

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FIRST = AccountKey("https://first.example.test/directory", "first")
SECOND = AccountKey("https://second.example.test/directory", "second")
DAY = timedelta(days=1)
Planned = tuple[Entry, Schedule]


def plan(
    entry_id: str,
    *,
    due: timedelta = DAY,
    lifetime: timedelta = 90 * DAY,
    made_by: str = "first",
    chosen: str = "",
    paused: bool = False,
    info: RenewalInfo | None = None,
) -> Planned:
    """Return an entry with a certificate for `<id>.example.com` and what was decided about it."""
    names = (f"{entry_id}.example.com",)
    entry = make_entry(entry_id)
    assert entry.current is not None
    end = NOW + lifetime / 3
    facts = replace(entry.current.facts, san=names, not_before=end - lifetime, not_after=end)
    version = replace(entry.current, facts=facts, issuer_name=made_by, le_hash=hash_identifiers(names))
    schedule = Schedule(
        entry_uid=entry.uid,
        look_at=NOW,
        renew_at=NOW + due,
        reason="fraction",
        paused=paused,
        issuer=chosen,
        info=info,
    )
    return replace(entry, identifiers=names, current=version), schedule


def limits_of(**rates: str) -> LimitPolicy:
    """Return a policy of the first CA: `certificates_per_domain="2/7d"`."""
    overrides = [
        LimitOverride(directory=FIRST.directory, limit=name, value=value)  # type: ignore[arg-type]
        for name, value in rates.items()
    ]
    return policy_from(LimitsSettings(overrides=tuple(overrides)))


def look(
    planned: Sequence[Planned],
    *,
    policy: LimitPolicy = NO_LIMITS,
    days: int = 30,
    buckets: dict[tuple[str, RuleName, str], Bucket] | None = None,
    own: tuple[str, ...] = (),
) -> Forecast:
    return forecast(
        planned,
        accounts=[FIRST, SECOND],
        by_config={make_entry("any").config: own},
        policy=policy,
        buckets=buckets or {},
        rules=RenewalRules(spread=0.0),
        now=NOW,
        until=NOW + days * DAY,
    )


def test_renewals_stand_in_the_order_of_time_and_what_is_overdue_is_due_now() -> None:
    found = look([plan("late", due=2 * DAY), plan("early"), plan("overdue", due=-DAY)])
    assert [(renewal.entry.id, renewal.renew_at - NOW) for renewal in found.renewals] == [
        ("overdue", timedelta(0)),
        ("early", DAY),
        ("late", 2 * DAY),
    ]
    assert all(renewal.expected_at == renewal.renew_at for renewal in found.renewals)
    assert found.is_complete


def test_paused_and_empty_entries_are_left_out() -> None:
    entry, schedule = plan("empty")
    assert look([plan("paused", paused=True), (replace(entry, current=None), schedule)]).renewals == ()


@pytest.mark.parametrize(("chosen", "who"), [("", "first"), ("second", "second"), ("gone", "first")])
def test_the_issuer_is_the_chosen_one_if_it_is_there(chosen: str, who: str) -> None:
    assert look([plan("a", chosen=chosen)]).renewals[0].account.name == who


@pytest.mark.parametrize(("own", "who"), [((), "first"), (("second", "first"), "second"), (("second",), "second")])
def test_the_issuer_is_the_first_of_the_configuration(own: tuple[str, ...], who: str) -> None:
    assert look([plan("a")], own=own).renewals[0].account.name == who
    chosen = "first" if "first" in own else who
    assert look([plan("a", chosen="first")], own=own).renewals[0].account.name == chosen


def test_a_short_lived_certificate_comes_up_again_and_again() -> None:
    found = look([plan("short", due=timedelta(0), lifetime=6 * DAY)], days=10)
    assert [renewal.renew_at - NOW for renewal in found.renewals] == [timedelta(0), 3 * DAY, 6 * DAY, 9 * DAY]


def test_a_limit_holds_back_what_is_too_much_until_there_is_a_token() -> None:
    # From another CA, so the orders count as new ones; all belong to one registered domain.
    planned = [plan(name, due=DAY, made_by="other") for name in ("a", "b", "c")]
    found = look(planned, policy=limits_of(certificates_per_domain="2/10d"))
    held_back = [renewal for renewal in found.renewals if renewal.held_back]
    assert len(held_back) == 1
    (late,) = held_back
    assert late.renew_at == NOW + DAY
    assert late.expected_at == NOW + 6 * DAY
    assert late.held_back is not None
    assert late.held_back.rule is RuleName.CERTIFICATES_PER_DOMAIN
    assert late.held_back.message.startswith("example.com: 2 certificates per 10 days at first.example.test")


def test_tokens_that_are_spent_already_count() -> None:
    key = (FIRST.directory, RuleName.CERTIFICATES_PER_DOMAIN, "example.com")
    empty = Bucket(key[1], key[2], full_at=NOW + 20 * DAY)
    policy = limits_of(certificates_per_domain="2/20d")
    (renewal,) = look([plan("a", made_by="other")], policy=policy, buckets={key: empty}).renewals
    assert renewal.expected_at == NOW + 10 * DAY


def test_a_renewal_of_the_same_names_counts_against_its_set_alone() -> None:
    planned = [plan(name) for name in ("a", "b", "c")]
    assert not any(r.held_back for r in look(planned, policy=limits_of(certificates_per_domain="1/7d")).renewals)
    short = [plan("a", due=timedelta(0), lifetime=6 * DAY)]
    found = look(short, policy=limits_of(certificates_per_set="1/5d"), days=4)
    assert [r.held_back.rule if r.held_back else None for r in found.renewals] == [
        None,
        RuleName.CERTIFICATES_PER_SET,
    ]


def test_a_renewal_in_the_cas_own_window_counts_against_nothing() -> None:
    info = RenewalInfo(NOW, NOW + 2 * DAY, "", NOW + DAY, NOW, NOW + DAY, "")
    policy = limits_of(certificates_per_domain="1/30d", certificates_per_set="1/30d", orders_per_account="1/30d")
    planned = [plan("a", info=info, lifetime=6 * DAY), plan("b", info=info)]
    assert not any(renewal.held_back for renewal in look(planned, policy=policy).renewals)


def test_a_forecast_has_an_end() -> None:
    found = look([plan("instant", lifetime=timedelta(minutes=3))])
    assert len(found.renewals) == module.MOST_RENEWALS
    assert not found.is_complete
    assert look([plan("nothing", lifetime=timedelta(0))]).is_complete
