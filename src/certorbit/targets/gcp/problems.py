"""What a refusal of Google's APIs means, in our errors; the one place that reads their error bodies.

Compute answers `{"error": {"code", "message", "errors": [{"reason"}]}}`, newer APIs `{"error": {"code", "message",
"status", "details": [{"reason"}]}}` (AIP-193). Operations that fail have the same in two more shapes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from certorbit.errors import (
    CredentialsRefused,
    Outside,
    TargetFull,
    TargetGone,
    TargetRefused,
    Throttled,
    Unreachable,
)
from certorbit.net.json_exchange import JSONAnswer, read_retry_after, safe_words
from certorbit.net.tries import Passing

# google.rpc.Code to HTTP status, as its own comments map them.
_RPC_STATUS: Final = {3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 13: 500, 14: 503, 16: 401}
_ABORTED: Final = 10
_RATES: Final = frozenset({"ratelimitexceeded", "userratelimitexceeded"})
_QUOTAS: Final = frozenset({"quotaexceeded", "limitexceeded"})
_GONE: Final = frozenset({"notfound", "resourcenotfound"})
_EXISTS: Final = frozenset({"alreadyexists", "resourcealreadyexists"})
_SOON: Final = frozenset({"aborted", "resourcenotready"})  # another operation on the same thing is under way


class Conflict(Exception):
    """The thing exists already (409), or was changed since it was read (412). It never leaves this package."""

    def __init__(self, error: Outside) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Refusal:
    """reasons: Google's words for machines, in lower case without underscores. words: those for people."""

    status: int
    reasons: frozenset[str]
    words: str
    retry_after: str = ""


def read_answer(answer: JSONAnswer) -> Refusal:
    """Return the refusal in an answer of an error status."""
    error = _dict(answer.body.get("error"))
    found = [error.get("status"), *(_dict(item).get("reason") for item in _items(error, "errors", "details"))]
    return Refusal(
        status=answer.status,
        reasons=_reasons(found),
        words=safe_words(str(error.get("message") or answer.text)),
        retry_after=answer.retry_after,
    )


def read_compute_operation(operation: Mapping[str, Any]) -> Refusal | None:
    """Return why an operation of the Compute API failed; None: it did what it should."""
    errors = _items(_dict(operation.get("error")), "errors")
    if not errors:
        return None
    status = operation.get("httpErrorStatusCode")
    return Refusal(
        status=status if isinstance(status, int) else 400,
        reasons=_reasons([_dict(item).get("code") for item in errors]),
        words=safe_words("; ".join(str(_dict(item).get("message", "")) for item in errors)),
    )


def read_long_operation(operation: Mapping[str, Any]) -> Refusal | None:
    """Return why a google.longrunning operation failed; None: it did what it should."""
    error = _dict(operation.get("error"))
    if not error:
        return None
    code = error.get("code")
    found = [_dict(item).get("reason") for item in _items(error, "details")]
    return Refusal(
        status=_RPC_STATUS.get(code, 400) if isinstance(code, int) else 400,
        reasons=_reasons([*found, "aborted" if code == _ABORTED else None]),
        words=safe_words(str(error.get("message", ""))),
    )


def explain(refusal: Refusal, *, target: str, what: str, now: datetime) -> Outside | Passing | Conflict:  # noqa: PLR0911 - a table
    """Return what to raise.

    what: the thing that it was about, for the message.
    """
    status, reasons = refusal.status, refusal.reasons
    said = f"Target {target}: {what}: Google says {refusal.words or status!r}."
    if status == 401:
        return CredentialsRefused(f"{said} Give the target other credentials.", subject=target)
    if reasons & _QUOTAS:
        return TargetFull(f"{said} Raise the quota, or remove what isn't needed.", subject=target)
    if status == 429 or reasons & _RATES:
        retry = read_retry_after(refusal.retry_after, now=now)
        throttled = Throttled(said, subject=target, retry=retry)
        return throttled if refusal.retry_after else Passing(throttled)
    if reasons & _SOON:
        return Passing(Throttled(said, subject=target))
    if status >= 500:
        return Passing(Unreachable(said, subject=target, phase="read"))
    if status == 403:
        return CredentialsRefused(f"{said} Grant the right to the target's account.", subject=target)
    if status == 404 or reasons & _GONE:
        return TargetGone(said, subject=target)
    if status in {409, 412} or reasons & _EXISTS:
        return Conflict(TargetRefused(said, subject=target))
    return TargetRefused(said, subject=target)


def finish(problem: Outside | Passing | Conflict) -> Outside:
    """Return the error to raise where nothing is tried again."""
    return problem if isinstance(problem, Outside) else problem.error


def _reasons(found: list[Any]) -> frozenset[str]:
    return frozenset(text.lower().replace("_", "") for text in found if isinstance(text, str))


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(holder: Mapping[str, Any], *keys: str) -> list[Any]:
    lists = [holder.get(key) for key in keys]
    return [item for found in lists if isinstance(found, list) for item in found]
