"""How a renewal's state and the forecast are written."""

from collections import Counter
from datetime import UTC
from typing import Any

from certorbit.api.answers import format_instant, format_optional
from certorbit.api.operations import render_problem
from certorbit.model.ca_limits import AccountKey
from certorbit.model.forecast import Forecast, PlannedRenewal, Unrenewed
from certorbit.model.operation import Operation
from certorbit.model.renewal import RenewalInfo
from certorbit.services.renewals import RenewalStatus


def render_status(status: RenewalStatus) -> dict[str, Any]:
    """Return how a renewal stands as plain values."""
    schedule, version, following = status.schedule, status.entry.current, status.following
    # What an earlier look planned counts no more if nothing renews it now.
    is_planned = schedule.renew_at is not None and following.kind is not None
    return {
        "automatic": following.is_automatic,
        "obstacle": following.obstacle.value if following.obstacle else None,
        "explanation": following.message,
        "revoked": status.is_revoked,
        "renew_at": format_optional(schedule.renew_at) if is_planned else None,
        "reason": schedule.reason if is_planned else "",
        "look_at": format_optional(schedule.look_at),
        "paused": schedule.paused,
        "issuer": schedule.issuer,
        "ari": _render_info(schedule.info) if schedule.info else None,
        "not_after": format_instant(version.facts.not_after) if version else None,
        "operation": _render_unfinished(status.unfinished) if status.unfinished else None,
    }


def _render_unfinished(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.id,
        "state": operation.state.value,
        "attempt": operation.attempts_begun,
        "next_attempt_at": format_optional(operation.next_attempt_at),
        "problem": render_problem(operation.problem),
    }


def render_forecast(forecast: Forecast) -> dict[str, Any]:
    """Return the forecast as plain values, with the sums by issuer and day."""
    by_account: dict[AccountKey, Counter[str]] = {}
    for renewal in forecast.renewals:
        day = renewal.expected_at.astimezone(UTC).date().isoformat()
        by_account.setdefault(renewal.account, Counter())[day] += 1
    return {
        "total": len(forecast.renewals),
        "is_complete": forecast.is_complete,
        "items": [_render_planned(renewal) for renewal in forecast.renewals],
        "issuers": [
            {
                "issuer": account.name,
                "directory": account.directory,
                "total": days.total(),
                "days": [{"date": day, "count": count} for day, count in sorted(days.items())],
            }
            for account, days in sorted(by_account.items(), key=lambda item: item[0].name)
        ],
        "held_back": [_render_held_back(renewal) for renewal in forecast.renewals if renewal.held_back],
        "unrenewed": [_render_unrenewed(one) for one in forecast.unrenewed],
    }


def _render_planned(renewal: PlannedRenewal) -> dict[str, Any]:
    return {
        "config": renewal.entry.config,
        "entry": renewal.entry.id,
        "identifiers": renewal.entry.identifiers,
        "issuer": renewal.account.name,
        "renew_at": format_instant(renewal.renew_at),
        "reason": renewal.reason,
        "expected_at": format_instant(renewal.expected_at),
    }


def _render_unrenewed(one: Unrenewed) -> dict[str, Any]:
    return {
        "config": one.entry.config,
        "entry": one.entry.id,
        "identifiers": one.entry.identifiers,
        "not_after": format_instant(one.not_after),
        "obstacle": one.obstacle.value,
        "explanation": one.message,
    }


def _render_held_back(renewal: PlannedRenewal) -> dict[str, Any]:
    held_back = renewal.held_back
    assert held_back is not None
    return {
        "config": renewal.entry.config,
        "entry": renewal.entry.id,
        "issuer": renewal.account.name,
        "renew_at": format_instant(renewal.renew_at),
        "expected_at": format_instant(renewal.expected_at),
        "rule": held_back.rule.value,
        "message": held_back.message,
    }


def _render_info(info: RenewalInfo) -> dict[str, Any]:
    return {
        "start": format_optional(info.start),
        "end": format_optional(info.end),
        "chosen_at": format_optional(info.chosen_at),
        "explanation_url": info.explanation_url,
        "checked_at": format_instant(info.checked_at),
        "next_check_at": format_instant(info.next_check_at),
        "problem": info.problem,
    }
