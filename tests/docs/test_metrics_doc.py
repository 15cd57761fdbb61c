"""docs/metrics.md: every metric and each label's values are there, and the alarms look for what exists."""

import re
from pathlib import Path

import pytest
import yaml

from certorbit.api.standing_metrics import StandingMetrics
from certorbit.api.upkeep_metrics import SWEEPS, UpkeepMetrics
from certorbit.clock import SystemClock
from certorbit.model.deployment import Stage
from certorbit.model.operation import OperationKind, OperationState
from certorbit.model.standing import RevocationStanding
from certorbit.model.upkeep import RenewalStanding, Validity, Within
from certorbit.observe.metrics import Metrics
from certorbit.workflows import inventory, renewal

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "metrics.md").read_text()
RULES = yaml.safe_load(next(text for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) if "groups:" in text))
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES["groups"][0]["rules"]}
REGISTERED = re.compile(r'\.(?:counter|gauge|histogram)\(\s*"(certorbit_[a-z_]+)"(.*?)\n {8}\)', re.DOTALL)
LABELS = re.compile(r"labels=\(([^)]*)\)")
VALUES = {
    "as_wanted": {"yes", "no"},
    "stage": {stage.value for stage in Stage},
    "revocation": {standing.value for standing in RevocationStanding},
    "state": {state.value for state in OperationState},
    "kind": {kind.value for kind in OperationKind},
    "validity": {validity.value for validity in Validity},
    "within": {within.value for within in Within},
    "renewal": {standing.value for standing in RenewalStanding},
    "sweep": {renewal.NAME, inventory.NAME},
}


def registered() -> dict[str, tuple[str, ...]]:
    """Return the labels of every metric that the code registers."""
    found = {}
    for file in (ROOT / "src" / "certorbit").rglob("*.py"):
        for name, rest in REGISTERED.findall(file.read_text()):
            labels = LABELS.search(rest)
            found[name] = tuple(re.findall(r'"(\w+)"', labels[1])) if labels else ()
    return found


def test_the_page_has_every_metric_with_its_labels_and_no_other() -> None:
    rows = re.findall(r"^\| `(certorbit_\w+)` \|([^|]*)\|", TEXT, flags=re.MULTILINE)
    assert {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == registered()
    assert len(rows) > 8


@pytest.mark.parametrize("label", VALUES)
def test_the_page_has_every_value_of_the_labels(label: str) -> None:
    assert [value for value in VALUES[label] if f"`{value}`" not in TEXT] == []


@pytest.mark.parametrize("alert", EXPRESSIONS)
def test_an_alarm_looks_for_series_that_exist(alert: str) -> None:
    expression, known = EXPRESSIONS[alert], registered()
    names = re.findall(r"certorbit_\w+", expression)
    assert names
    for name in names:
        assert name in known
    for label, value in re.findall(r'(\w+)!?="(\w+)"', expression):
        assert value in VALUES[label]
        assert label in known[names[0]]
    for label in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {name.strip() for name in label.split(",")} <= {*known[names[0]], "instance"}


def test_both_alarms_that_matter_most_are_there() -> None:
    assert 'certorbit_attachments{as_wanted="no"' in EXPRESSIONS["ListenerServesOther"]
    assert 'certorbit_certificates{revocation="unknown"}' in EXPRESSIONS["RevocationUnknown"]


def test_the_numbers_that_are_not_read_yet_raise_no_alarm() -> None:
    metrics = Metrics()
    for metrics_of in (StandingMetrics, UpkeepMetrics):
        metrics_of(store=None, clock=SystemClock(), metrics=metrics)  # type: ignore[arg-type]
    assert [line for line in metrics.render().splitlines() if not line.startswith("#")] == []


def test_the_sweeps_that_are_watched_are_those_of_the_workers() -> None:
    assert set(SWEEPS) == {inventory.NAME, renewal.NAME}
