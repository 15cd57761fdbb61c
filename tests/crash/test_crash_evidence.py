"""The checks of the crash suite can fail: each finds the one thing that is wrong in otherwise good evidence."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certorbit.model.entry import VersionID, key_context
from crash.evidence import Evidence, check_everything
from crash.nodes import plan_moments
from fakes.memory_keyring import MemoryKeyring
from make import make_chain

BEGIN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EVENTS = ["order.counted", "order.proving", "order.finalising", "order.collecting"]
STEPS = ["place_order", "prove", "finalise", "store"]
KEYRING = MemoryKeyring()
Change = Callable[[dict[str, Any]], object]


def good() -> dict[str, Any]:
    """Return the parts of evidence of one issuance, `www`, with nothing wrong in it; each step takes a second."""
    chain = make_chain(names=["www.example.com"])
    sealed = KEYRING.seal(chain.key_pem.encode(), context=key_context(VersionID("v")))
    log = [
        {
            "event": event,
            "operation": "o",
            "attempt": 1,
            "order": "v",
            "timestamp": (BEGIN + timedelta(seconds=number)).isoformat(),
        }
        for number, event in enumerate(EVENTS)
    ]
    steps = [
        {
            "workflow_uuid": "o.1",
            "function_id": number + 1,
            "function_name": name,
            "completed_at_epoch_ms": int((BEGIN.timestamp() + number + 1) * 1000),
        }
        for number, name in enumerate(STEPS)
    ]
    return {
        "entries": [{"uid": "u", "id": "www"}],
        "versions": [{"id": "v", "entry_uid": "u", "chain_pem": chain.chain_pem, "sealed_key": sealed}],
        "operations": [{"id": "o", "entry_id": "www", "state": "succeeded", "attempt": 1}],
        "intents": [{"id": "v", "url": "https://ca/1", "requests": 1, "sealed_key": b""}],
        "requests": [{"order_id": "v"}],
        "workflows": [{"workflow_uuid": "o.1", "status": "SUCCESS"}],
        "steps": steps,
        "log": log,
        "orders_at_ca": 1,
        "certificates_at_ca": 1,
    }


def check(parts: dict[str, Any], **acknowledged: str) -> None:
    check_everything(Evidence(**parts), acknowledged=acknowledged or {"www": "www.example.com"}, keyring=KEYRING)


def late(parts: dict[str, Any]) -> None:
    again = parts["log"][1] | {"timestamp": (BEGIN + timedelta(seconds=2, milliseconds=1)).isoformat()}
    parts["log"].append(again)


CHANGES: dict[str, tuple[Change, str]] = {
    "lost": (lambda p: (p["versions"].clear(), p.update(certificates_at_ca=0)), "lost"),
    "stored twice": (lambda p: p["versions"].append(p["versions"][0] | {"id": "w"}), "stored twice"),
    "two operations": (lambda p: p["operations"].append(p["operations"][0] | {"id": "q"}), "another number"),
    "certificate thrown away": (lambda p: p.update(certificates_at_ca=2), "that we don't have"),
    "step ran again": (late, "prove of o.1 was finished at .* and ran again"),
    "step without checkpoint": (lambda p: p["steps"].pop(), "has no checkpoint"),
    "step recorded twice": (lambda p: p["steps"].append(dict(p["steps"][0])), "the same step twice"),
    "no log": (lambda p: p["log"].clear(), "no log"),
    "uncounted order": (lambda p: p.update(orders_at_ca=2), "more orders than the ledger"),
    "tables differ": (lambda p: p["intents"][0].update(requests=2), "differently"),
    "asked without counting": (lambda p: p["log"].insert(0, p["log"][0]), "without being counted"),
    "unfinished": (lambda p: p["operations"][0].update(state="running"), "did not succeed"),
    "workflow left": (lambda p: p["workflows"][0].update(status="PENDING"), "a workflow was left"),
    "failed attempt": (lambda p: p["log"].append({"event": "issuance.attempt_failed"}), "attempts failed"),
    "key doesn't open": (lambda p: p["versions"][0].update(sealed_key=b"rubbish"), "does not open"),
    "other key": (
        lambda p: p["versions"][0].update(chain_pem=make_chain(names=["www.example.com"], key_index=9).chain_pem),
        "another key",
    ),
    "key left": (lambda p: p["intents"][0].update(sealed_key=b"x"), "keep their key"),
}


def test_good_evidence_passes() -> None:
    check(good())


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_wrong_is_found(name: str) -> None:
    change, says = CHANGES[name]
    parts = good()
    change(parts)
    with pytest.raises(AssertionError, match=says):
        check(parts)


def test_another_name_is_found() -> None:
    with pytest.raises(AssertionError):
        check(good(), www="ftp.example.com")


def test_the_summary_counts_duplicates_and_steps_begun_again() -> None:
    evidence = Evidence(**good())
    again = replace(evidence, requests=[*evidence.requests, *evidence.requests], log=[*evidence.log, *evidence.log])
    assert "duplicates 1" in again.summary(kills=3)
    assert "steps begun again 4" in again.summary()


def test_moments_differ_and_are_spread_evenly_and_are_the_same_for_a_seed() -> None:
    events = [*EVENTS, "worker.started"]
    moments = list(plan_moments(events, kills=60, most_occurrences=4, seed=1))
    assert len(set(moments)) == 60
    assert [moment.event for moment in moments] == events * 12
    assert list(plan_moments(events, kills=60, most_occurrences=4, seed=1)) == moments
    assert {moment.occurrence for moment in moments} == {1, 2, 3, 4}
    assert any(moment.delay == 0 for moment in moments)
    assert any(moment.delay > 0 for moment in moments)
