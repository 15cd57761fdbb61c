"""A verdict gets old: good turns unknown, a hold too, a revocation stands."""

from dataclasses import replace
from datetime import timedelta

import pytest

from certorbit.model.crl import HOLD, Verdict, VerdictState, follow
from make import NOW

HOUR = timedelta(hours=1)
GOOD = Verdict(state=VerdictState.GOOD, checked_at=NOW, valid_until=NOW + HOUR, sources=("u",))
REVOKED = replace(GOOD, state=VerdictState.REVOKED, reason="superseded", revoked_at=NOW - HOUR)
HELD = replace(REVOKED, reason=HOLD)
UNKNOWN = Verdict(state=VerdictState.UNKNOWN, checked_at=NOW, problems=("why",))


@pytest.mark.parametrize("verdict", [GOOD, REVOKED, HELD, UNKNOWN])
def test_before_the_end_of_its_list_a_verdict_stands(verdict: Verdict) -> None:
    assert verdict.at(NOW + HOUR - timedelta(microseconds=1)) == verdict


@pytest.mark.parametrize("verdict", [GOOD, HELD])
def test_from_the_end_of_its_list_it_is_unknown_and_says_since_when(verdict: Verdict) -> None:
    stale = verdict.at(NOW + HOUR)
    assert (stale.state, stale.reason, stale.revoked_at) == (VerdictState.UNKNOWN, "", None)
    assert stale.problems == ("The list that it rested on ended at 2026-11-24T13:00:00+00:00.",)
    assert stale.checked_at == NOW
    assert not stale.is_revoked


def test_a_revocation_stands_without_its_list() -> None:
    assert REVOKED.at(NOW + 1000 * HOUR) == REVOKED


def test_a_look_that_found_nothing_out_leaves_a_known_revocation_as_it_is() -> None:
    later = NOW + 100 * HOUR
    found = replace(UNKNOWN, checked_at=later)
    assert follow(REVOKED, found, now=later) == replace(REVOKED, checked_at=later, problems=("why",))
    assert follow(HELD, found, now=later) == found
    assert follow(GOOD, found, now=later) == found
    assert follow(REVOKED, GOOD, now=later) == GOOD
