"""Maintenance windows: midnight, weekdays, time zones and the two days a year that are not 24 hours long."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from certorbit.model.maintenance import MaintenanceWindow, next_allowed
from certorbit.model.renewal import RenewalRules, rules_from
from certorbit.renewal_settings import RenewalSettings
from certorbit.settings import Settings

BERLIN = ZoneInfo("Europe/Berlin")
EVERY_DAY = frozenset(range(7))
HOUR = timedelta(hours=1)


def window(opens: str, closes: str, *, days: frozenset[int] = EVERY_DAY, zone: ZoneInfo = BERLIN) -> MaintenanceWindow:
    return MaintenanceWindow(days, time.fromisoformat(opens), time.fromisoformat(closes), zone)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# 2027-03-28: the clock jumps from 02:00 to 03:00 (01:00 UTC). 2027-10-31: from 03:00 back to 02:00 (01:00 UTC).
WORKDAY_NIGHTS = window("22:00", "04:00", days=frozenset({0, 1, 2, 3, 4}))
TABLE = {
    "inside": (window("22:00", "04:00"), "2027-01-12T22:30", "2027-01-12T22:30"),
    "the opening is inside": (window("22:00", "04:00"), "2027-01-12T21:00", "2027-01-12T21:00"),
    "just before the opening": (window("22:00", "04:00"), "2027-01-12T20:59", "2027-01-12T21:00"),
    "after midnight it is still yesterday's": (window("22:00", "04:00"), "2027-01-13T02:59", "2027-01-13T02:59"),
    "the closing is outside": (window("22:00", "04:00"), "2027-01-13T03:00", "2027-01-13T21:00"),
    "Saturday morning belongs to Friday": (WORKDAY_NIGHTS, "2027-01-16T01:00", "2027-01-16T01:00"),
    "Monday morning belongs to Sunday": (WORKDAY_NIGHTS, "2027-01-18T01:00", "2027-01-18T21:00"),
    "over the weekend": (WORKDAY_NIGHTS, "2027-01-16T03:00", "2027-01-18T21:00"),
    "a week ahead": (window("10:00", "11:00", days=frozenset({1})), "2027-01-12T10:00", "2027-01-19T09:00"),
    "the whole day": (window("00:00", "00:00", days=frozenset({6})), "2027-01-17T22:59", "2027-01-17T22:59"),
    "up to midnight": (window("00:00", "00:00", days=frozenset({6})), "2027-01-17T23:00", "2027-01-23T23:00"),
    "24 hours from noon": (window("12:00", "12:00", days=frozenset({6})), "2027-01-18T10:59", "2027-01-18T10:59"),
    "the local day counts": (
        window("00:00", "06:00", days=frozenset({0}), zone=ZoneInfo("Pacific/Kiritimati")),
        "2027-01-17T10:00",
        "2027-01-17T10:00",
    ),
    "west of us": (
        window("20:00", "23:00", days=frozenset({6}), zone=ZoneInfo("Pacific/Honolulu")),
        "2027-01-18T01:00",
        "2027-01-18T06:00",
    ),
    "yesterday's, where it is two days ago in UTC": (
        window("23:00", "22:00", days=frozenset({5}), zone=ZoneInfo("Pacific/Honolulu")),
        "2027-01-18T07:30",
        "2027-01-18T07:30",
    ),
    "summer time is an hour earlier": (window("22:00", "04:00"), "2027-07-12T12:00", "2027-07-12T20:00"),
    "the short night": (window("22:00", "04:00"), "2027-03-28T01:59", "2027-03-28T01:59"),
    "the short night's end": (window("22:00", "04:00"), "2027-03-28T02:00", "2027-03-28T20:00"),
    "the long night": (window("22:00", "04:00"), "2027-10-31T02:59", "2027-10-31T02:59"),
    "the long night's end": (window("22:00", "04:00"), "2027-10-31T03:00", "2027-10-31T21:00"),
    "a skipped opening is the jump": (window("02:30", "05:00"), "2027-03-28T00:45", "2027-03-28T01:00"),
    "a skipped closing is the jump": (window("01:00", "02:30"), "2027-03-28T00:59", "2027-03-28T00:59"),
    "after a skipped closing": (window("01:00", "02:30"), "2027-03-28T01:00", "2027-03-28T23:00"),
    "a skipped window does not exist": (window("02:10", "02:50"), "2027-03-28T00:00", "2027-03-29T00:10"),
    "a skipped window of a weekly one": (
        window("02:10", "02:50", days=frozenset({6})),
        "2027-03-22T00:00",
        "2027-04-04T00:10",
    ),
    "a repeated opening is the first": (window("02:30", "05:00"), "2027-10-31T00:00", "2027-10-31T00:30"),
    "a repeated closing is the first": (window("01:00", "02:30"), "2027-10-31T00:29", "2027-10-31T00:29"),
    "after a repeated closing": (window("01:00", "02:30"), "2027-10-31T00:30", "2027-11-01T00:00"),
    "half an hour's summer time": (
        window("02:10", "04:00", zone=ZoneInfo("Australia/Lord_Howe")),
        "2027-10-02T15:00",
        "2027-10-02T15:30",
    ),
    "the end of the calendar": (window("22:00", "04:00"), "9999-12-31T12:00", "9999-12-31T12:00"),
}


@pytest.mark.parametrize(
    ("given_window", "instant", "expected"), [pytest.param(*row, id=f"ok/{title}") for title, row in TABLE.items()]
)
def test_the_next_allowed_instant(given_window: MaintenanceWindow, instant: str, expected: str) -> None:
    assert next_allowed(utc(instant), [given_window]) == utc(expected)


def test_without_windows_everything_is_allowed() -> None:
    assert next_allowed(utc("2027-01-12T12:00"), []) == utc("2027-01-12T12:00")


def test_a_window_that_never_opens_forbids_nothing() -> None:
    assert next_allowed(utc("2027-01-12T12:00"), [window("01:00", "02:00", days=frozenset())]) == utc(
        "2027-01-12T12:00"
    )


def test_the_earliest_of_several_windows_counts() -> None:
    windows = [window("22:00", "04:00"), window("13:00", "14:00"), window("23:00", "23:30")]
    assert next_allowed(utc("2027-01-12T11:00"), windows) == utc("2027-01-12T12:00")


ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
minutes = st.integers(0, 24 * 60 - 1).map(lambda minute: time(minute // 60, minute % 60))
any_window = st.builds(
    MaintenanceWindow,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    opens=minutes,
    closes=minutes,
    zone=st.sampled_from(ZONES).map(ZoneInfo),
)
# Years in which these zones had changes at two in the morning, at midnight and by half an hour.
instants = st.integers(0, 12 * 365 * 24 * 60).map(lambda minute: datetime(2016, 1, 1, tzinfo=UTC) + minute * HOUR / 60)


@settings(max_examples=300, deadline=None)
@given(windows=st.lists(any_window, min_size=1, max_size=3), instant=instants)
def test_the_next_allowed_instant_is_in_a_window_and_nothing_before_it_is(
    windows: list[MaintenanceWindow], instant: datetime
) -> None:
    allowed = next_allowed(instant, windows)
    assert allowed >= instant
    assert allowed - instant <= timedelta(days=15)
    assert next_allowed(allowed, windows) == allowed
    if allowed > instant:
        assert next_allowed(allowed - HOUR / 60, windows) == allowed
        halfway = instant + (allowed - instant) / 2
        assert next_allowed(halfway, windows) == allowed


@settings(max_examples=200, deadline=None)
@given(window=any_window, instant=instants)
def test_what_is_allowed_is_so_by_the_clock_on_the_wall(window: MaintenanceWindow, instant: datetime) -> None:
    allowed = next_allowed(instant, [window])
    local = allowed.astimezone(window.zone)
    is_overnight = window.closes <= window.opens
    # Only the repeated hour shows times that are outside by the clock though the window goes on.
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        return
    by_today = local.weekday() in window.days and local.time() >= window.opens
    by_yesterday = is_overnight and (local.weekday() - 1) % 7 in window.days and local.time() < window.closes
    assert (by_today and (is_overnight or local.time() < window.closes)) or by_yesterday


@pytest.mark.parametrize("day", [date(2027, 3, 28), date(2027, 10, 31), date(2027, 6, 1)])
def test_a_night_lasts_as_long_as_the_clock_makes_it(day: date) -> None:
    hours = window("00:00", "06:00").on(day)
    assert hours is not None
    assert hours[1] - hours[0] == {3: 5, 10: 7, 6: 6}[day.month] * HOUR


def read(**values: object) -> RenewalSettings:
    return RenewalSettings.model_validate(values)


def a_window(**changes: object) -> Mapping[str, object]:
    return {"days": ["mon", "sun"], "from": "22:00", "to": "04:30", "time_zone": "Europe/Berlin", **changes}


def test_the_settings_become_rules() -> None:
    rules = rules_from(read(fraction=0.5, short_lifetime_days=7, windows=[a_window()]))
    expected = window("22:00", "04:30", days=frozenset({0, 6}))
    assert rules == RenewalRules(fraction=0.5, short_lifetime=timedelta(days=7), windows=(expected,))


def test_the_defaults_of_settings_and_rules_agree() -> None:
    assert rules_from(RenewalSettings()) == RenewalRules()


def test_windows_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTORBIT_RENEWAL__WINDOWS", json.dumps([a_window(days=["sat"])]))
    assert rules_from(Settings().renewal).windows[0].days == {5}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"windows": [a_window(days=[])]}, "days", id="refused/no days"),
        pytest.param({"windows": [a_window(days=["monday"])]}, "days", id="refused/another word for Monday"),
        pytest.param({"windows": [a_window(**{"from": "24:00"})]}, "from", id="refused/24:00"),
        pytest.param({"windows": [a_window(to="4:00")]}, "to", id="refused/one digit"),
        pytest.param({"windows": [a_window(time_zone="Berlin")]}, "IANA", id="refused/no such zone"),
        pytest.param({"windows": [a_window(time_zone="Europe")]}, "IANA", id="refused/a folder of zones"),
        pytest.param({"windows": [a_window(time_zone="../../etc/passwd")]}, "IANA", id="refused/a path"),
        pytest.param({"windows": [a_window(until="4")]}, "until", id="refused/an unknown name"),
        pytest.param({"fraction": 0.9}, "fraction", id="refused/renewed when just issued"),
        pytest.param({"fraction": 0}, "fraction", id="refused/never"),
        pytest.param({"spread": 0.5}, "spread", id="refused/spread over half of the life"),
        pytest.param({"fraction": 0.04}, "emergency_fraction", id="refused/after the emergency"),
        pytest.param({"short_fraction": 0.05}, "emergency_fraction", id="refused/short ones at the emergency"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        read(**values)
