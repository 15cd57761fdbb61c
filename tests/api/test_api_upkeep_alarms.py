"""The alarms of docs/metrics.md about ends, renewals, targets and workers, against what a real service's /metrics says.

Prometheus' own evaluation stands in `fires`, as far as these rules go: one aggregate of one metric, compared with a
number. That the rules are Prometheus' language, `promtool check rules` has shown.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from api.balancing import find_entry, write
from api.material import make_leaf
from api.server import API
from api.test_api_standing_metrics import Database
from certorbit.api.upkeep_metrics import UpkeepMetrics
from certorbit.errors import Unreachable
from certorbit.model.operation import OperationKind, OperationState, problem_from
from certorbit.model.schedule import Schedule
from certorbit.observe.metrics import Metrics
from certorbit.ports.store import UnitOfWork
from records import make_operation

PAGE: Final = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
YAML: Final = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "groups:" in text)
RULES: Final = {rule["alert"]: rule["expr"] for rule in yaml.safe_load(YAML)["groups"][0]["rules"]}
_RULE = re.compile(r"(max|min)(?: by \(([\w, ]+)\) )?\((\w+)(?:\{(.*)\})?\) (>|<|==) (\d+)")
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)(!?=)"((?:[^"\\]|\\.)*)"')
HOUR = timedelta(hours=1)


def read_samples(text: str) -> list[tuple[str, Mapping[str, str], float]]:
    """Return what an answer in the text format says: name, labels and number of each series."""
    found = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        found.append((match[1], {name: value for name, _, value in _LABEL.findall(match[2] or "")}, float(match[3])))
    return found


def fires(alert: str, text: str) -> set[str]:
    """Return for which labels the rule holds, as text; {""} for a rule without."""
    match = _RULE.fullmatch(RULES[alert])
    assert match, RULES[alert]
    aggregate, by, metric, selector, comparison, limit = match.groups()
    groups: dict[str, list[float]] = {}
    for name, labels, number in read_samples(text):
        if name == metric and all(
            (labels[key] == value) is (sign == "=") for key, sign, value in _LABEL.findall(selector or "")
        ):
            groups.setdefault(labels[by] if by else "", []).append(number)
    holds: Callable[[float], bool] = {
        ">": lambda number: number > float(limit),
        "<": lambda number: number < float(limit),
        "==": lambda number: number == float(limit),
    }[comparison]
    return {group for group, numbers in groups.items() if holds({"max": max, "min": min}[aggregate](numbers))}


def scrape(api: API) -> str:
    """Return what a watcher sees that comes a minute later."""
    api.clock.advance(minutes=1)
    answer = api.call("GET", "/metrics", key="reader")
    assert answer.status == 200
    return answer.body.decode()


def sweep(tx: UnitOfWork, name: str, now: datetime, every: timedelta) -> None:
    assert tx.schedules.claim_sweep(name, now=now, every=every)


@pytest.fixture
def shop(fresh_api: API) -> str:
    """Return a certificate that ends in half a day, of a service where all else is as it should be."""
    name = fresh_api.new_name()
    leaf = make_leaf(fresh_api.ca, f"{name}.example.test")
    assert fresh_api.upload(name, leaf).status == 201
    entry = find_entry(fresh_api, name)
    assert entry.current is not None
    fresh_api.clock.advance((entry.current.facts.not_after - fresh_api.clock.now() - 12 * HOUR).total_seconds())
    return name


def plan(api: API, name: str, *, in_time: timedelta | None) -> None:
    now, uid = api.clock.now(), find_entry(api, name).uid
    renew_at = None if in_time is None else now + in_time
    write(api, lambda tx: tx.schedules.put(Schedule(entry_uid=uid, look_at=now, renew_at=renew_at)))


def test_a_certificate_that_nobody_renews_is_an_alarm_until_somebody_does(fresh_api: API, shop: str) -> None:
    api = fresh_api
    for in_time, is_alarm in ((None, True), (HOUR, False)):
        plan(api, shop, in_time=in_time)
        assert bool(fires("CertificateEndsUnrenewed", scrape(api))) is is_alarm
    api.clock.advance(3 * HOUR.total_seconds())
    assert fires("CertificateEndsUnrenewed", scrape(api)) == {""}, "it was due, and nothing began"


def test_a_renewal_that_goes_on_until_the_last_day_is_an_alarm(fresh_api: API, shop: str) -> None:
    api, uid = fresh_api, find_entry(fresh_api, shop).uid
    assert fires("RenewalDoesNotSucceed", scrape(api)) == set()
    tried = make_operation("o", entry_uid=uid, kind=OperationKind.REPLACE, state=OperationState.WAITING)
    write(api, lambda tx: tx.operations.add(tried))
    text = scrape(api)
    assert fires("RenewalDoesNotSucceed", text) == {""}
    assert fires("CertificateEndsUnrenewed", text) == set()
    assert fires("OperationsWait", text) == {"replace"}
    write(api, lambda tx: tx.operations.update(replace(tried, state=OperationState.SUCCEEDED)))
    assert fires("OperationsWait", scrape(api)) == set()


def test_the_last_day_of_a_configurations_first_certificate_and_its_end_are_alarms(fresh_api: API, shop: str) -> None:
    api = fresh_api
    assert find_entry(api, shop).current is not None
    text = scrape(api)
    assert fires("ConfigurationNearItsEnd", text) == {"prod"}
    assert fires("CertificateEnded", text) == set()
    api.clock.advance(12 * HOUR.total_seconds())
    text = scrape(api)
    assert fires("CertificateEnded", text) == {""}
    (first,) = [number for name, labels, number in read_samples(text) if name == "certorbit_first_end_seconds"]
    assert first == -120, "two watchers came, a minute after each step"


def test_a_fresh_certificate_is_no_alarm(fresh_api: API) -> None:
    name = fresh_api.new_name()
    assert fresh_api.upload(name, make_leaf(fresh_api.ca, f"{name}.example.test")).status == 201
    text = scrape(fresh_api)
    for alert in ("CertificateEndsUnrenewed", "RenewalDoesNotSucceed", "ConfigurationNearItsEnd", "CertificateEnded"):
        assert fires(alert, text) == set(), alert


def test_a_target_that_does_not_answer_is_an_alarm_and_so_is_one_that_nobody_asks(fresh_api: API) -> None:
    api = fresh_api
    away = problem_from(Unreachable("No answer.", subject="edge", phase="connect"))
    assert fires("TargetNotSeen", scrape(api)) == set()
    for target in ("edge", "other"):
        write(api, lambda tx, target=target: tx.listeners.replace(target, [], now=api.clock.now()))  # type: ignore[misc]
    assert fires("TargetNotSeen", scrape(api)) == fires("TargetNotLookedAt", scrape(api)) == set()
    write(api, lambda tx: tx.listeners.miss("edge", away, now=api.clock.now()))
    text = scrape(api)
    assert fires("TargetNotSeen", text) == {"edge"}
    assert fires("TargetNotLookedAt", text) == set()
    api.clock.advance(1800)
    assert fires("TargetNotLookedAt", scrape(api)) == {"edge", "other"}


def test_without_a_worker_there_is_an_alarm_at_once_and_later_one_for_each_job(fresh_api: API) -> None:
    api = fresh_api
    text = scrape(api)
    assert fires("CertorbitHasNoWorker", text) == {""}, "there never was one"
    assert fires("SweepIsLate", text) == set()
    for name, minutes in (("renewal", 1), ("deployment", 5)):
        write(api, lambda tx, n=name, m=minutes: sweep(tx, n, api.clock.now(), timedelta(minutes=m)))  # type: ignore[misc]
    text = scrape(api)
    assert fires("CertorbitHasNoWorker", text) == fires("SweepIsLate", text) == set()
    api.clock.advance(5 * 60)
    assert fires("CertorbitHasNoWorker", scrape(api)) == {""}
    api.clock.advance(10 * 60)
    assert fires("SweepIsLate", scrape(api)) == {"renewal"}
    api.clock.advance(5 * 60)
    assert fires("SweepIsLate", scrape(api)) == {"renewal", "deployment"}


async def test_while_the_database_is_away_old_numbers_are_not_shown(api: API) -> None:
    metrics, database = Metrics(), Database(api)
    upkeep = UpkeepMetrics(store=database, clock=api.clock, metrics=metrics)  # type: ignore[arg-type]
    for is_away in (False, True, False):
        database.is_away = is_away
        api.clock.advance(minutes=1)
        await upkeep.refresh()
        assert bool(read_samples(metrics.render())) is not is_away


def test_a_minute_of_watchers_costs_one_reading(fresh_api: API) -> None:
    def seen() -> Any:
        samples = read_samples(fresh_api.call("GET", "/metrics").body.decode())
        return next(number for name, labels, number in samples if labels == {"validity": "valid"})

    assert seen() == 0
    name = fresh_api.new_name()
    assert fresh_api.upload(name, make_leaf(fresh_api.ca, f"{name}.example.test")).status == 201
    fresh_api.clock.advance(59)
    assert seen() == 0
    fresh_api.clock.advance(1)
    assert seen() == 1
