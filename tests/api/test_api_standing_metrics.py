"""The metrics that say how things stand: what an alarm can be made of (docs/metrics.md)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from api.balancing import attach, find_entry, write
from api.material import make_leaf
from api.server import API
from certorbit.api.standing_metrics import StandingMetrics
from certorbit.errors import Unreachable
from certorbit.model.crl import Verdict, VerdictState
from certorbit.model.deployment import Stage
from certorbit.model.operation import OperationKind, OperationState
from certorbit.observe.metrics import Metrics
from records import make_operation


def upload(api: API) -> str:
    name = api.new_name()
    assert api.upload(name, make_leaf(api.ca, f"{name}.example.test")).status == 201
    return name


def numbers(text: str, metric: str) -> dict[str, float]:
    """Return the metric's series, by what stands in the braces."""
    lines = [line for line in text.splitlines() if line.startswith((f"{metric}{{", f"{metric} "))]
    pairs = [line.removeprefix(metric).rpartition(" ") for line in lines]
    return {labels.strip("{}"): float(number) for labels, _, number in pairs}


def watch(api: API, metric: str) -> dict[str, float]:
    """Return what a watcher sees that comes a minute later."""
    api.clock.advance(minutes=1)
    answer = api.call("GET", "/metrics", key="reader")
    assert answer.status == 200
    return numbers(answer.body.decode(), metric)


def series(*, stage: str, as_wanted: str) -> str:
    return f'target="edge",stage="{stage}",as_wanted="{as_wanted}"'


def test_a_listener_that_does_not_serve_what_it_should_is_seen(fresh_api: API) -> None:
    api, name = fresh_api, upload(fresh_api)
    attachment = attach(api, name)
    entry = find_entry(api, name)
    assert entry.current is not None
    proven = replace(attachment, version=entry.current.id)
    write(api, lambda tx: tx.attachments.update(proven))
    assert watch(api, "certorbit_attachments") == {series(stage="proven", as_wanted="yes"): 1}
    for stage in set(Stage) - {Stage.PROVEN}:
        write(api, lambda tx, stage=stage: tx.attachments.update(replace(proven, stage=stage)))  # type: ignore[misc]
        assert watch(api, "certorbit_attachments") == {series(stage=stage.value, as_wanted="no"): 1}
    write(api, lambda tx: tx.attachments.update(replace(proven, version=None)))
    assert watch(api, "certorbit_attachments") == {series(stage="proven", as_wanted="no"): 1}, "another version"
    write(api, lambda tx: tx.attachments.delete(proven.id))
    assert watch(api, "certorbit_attachments") == {}


def test_what_is_known_of_revocation_is_seen(fresh_api: API) -> None:
    api, name = fresh_api, upload(fresh_api)
    none = {f'revocation="{known}"': 0.0 for known in ("good", "revoked", "unknown", "unchecked")}
    assert watch(api, "certorbit_certificates") == {**none, 'revocation="unknown"': 1}, "not looked at yet"
    current = find_entry(api, name).current
    assert current is not None
    for state, look_at, known in (
        (VerdictState.GOOD, api.clock.now(), "good"),
        (VerdictState.REVOKED, api.clock.now(), "revoked"),
        (VerdictState.UNKNOWN, api.clock.now(), "unknown"),
        (VerdictState.UNKNOWN, None, "unchecked"),
    ):
        verdict = Verdict(state=state, checked_at=api.clock.now())
        write(api, lambda tx, v=verdict, at=look_at: tx.revocations.put_verdict(current.id, v, look_at=at))  # type: ignore[misc]
        assert watch(api, "certorbit_certificates") == {**none, f'revocation="{known}"': 1}


def test_deployments_are_seen_for_a_day_by_where_they_stand(fresh_api: API) -> None:
    api = fresh_api
    none = {f'state="{state.value}"': 0.0 for state in OperationState}
    assert watch(api, "certorbit_deployments_of_a_day") == none
    failed = make_operation(state=OperationState.FAILED, kind=OperationKind.DEPLOY, created_at=api.clock.now())
    write(api, lambda tx: tx.operations.add(failed))
    assert watch(api, "certorbit_deployments_of_a_day") == {**none, 'state="failed"': 1}
    api.clock.advance(days=1)
    assert watch(api, "certorbit_deployments_of_a_day") == none


def test_several_watchers_cost_one_reading(fresh_api: API) -> None:
    def seen() -> float:
        text = fresh_api.call("GET", "/metrics").body.decode()
        return numbers(text, "certorbit_certificates")['revocation="unknown"']

    assert seen() == 0
    upload(fresh_api)
    assert seen() == 0
    fresh_api.clock.advance(10)
    assert seen() == 1


class Database:
    """Stands for a store whose database is away, or back again."""

    def __init__(self, api: API) -> None:
        self.api, self.is_away = api, False

    async def read(self, work: Callable[[Any], Any]) -> Any:
        if self.is_away:
            raise Unreachable("The database doesn't answer.", subject="database", phase="connect")
        return await self.api.parts.store.read(work)


@pytest.mark.parametrize("begins_away", [False, True])
async def test_while_the_database_is_away_old_numbers_are_not_shown(api: API, *, begins_away: bool) -> None:
    metrics, database = Metrics(), Database(api)
    counter = metrics.counter("a_total", meaning="Things.")
    counter.add()
    standing = StandingMetrics(store=database, clock=api.clock, metrics=metrics)  # type: ignore[arg-type]
    for is_away in (True, False) if begins_away else (False, True, False):
        database.is_away = is_away
        api.clock.advance(minutes=1)
        await standing.refresh()
        text = metrics.render()
        assert numbers(text, "certorbit_database_up") == {"": 0.0 if is_away else 1.0}
        assert bool(numbers(text, "certorbit_certificates")) is not is_away
        assert numbers(text, "a_total") == {"": 1.0}, "what the process itself counts is there all the same"
