"""How a renewal's state and the forecast are written."""

from collections import Counter
from datetime import UTC
from typing import Any

from certorbit.api.answers import format_instant, format_optional
from certorbit.model.ca_limits import AccountKey
from certorbit.model.forecast import Forecast, PlannedRenewal
from certorbit.model.renewal import RenewalInfo
from certorbit.services.renewals import RenewalStatus


def render_status(status: RenewalStatus) -> dict[str, Any]:
    """Return how a renewal stands as plain values."""
    schedule, version, unfinished = status.schedule, status.entry.current, status.unfinished
    return {
        "renew_at": format_optional(schedule.renew_at),
        "reason": schedule.reason,
        "look_at": format_optional(schedule.look_at),
        "paused": schedule.paused,
        "issuer": schedule.issuer,
        "ari": _render_info(schedule.info) if schedule.info else None,
        "not_after": format_instant(version.facts.not_after) if version else None,
        "operation": {"id": unfinished.id, "state": unfinished.state.value} if unfinished else None,
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
