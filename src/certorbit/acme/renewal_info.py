"""The CA's suggestion when to renew a certificate: ARI (RFC 9773 §4). Never fatal: whatever happens is noted.

What the answer means is decided in `model/renewal.py`; here it is fetched, read and distrusted.
"""

import errno
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from certorbit.acme.answer import Answer, rubbish
from certorbit.acme.exchange import Exchange
from certorbit.acme.problems import About
from certorbit.clock import Chance, Clock
from certorbit.errors import BadMaterial, CertorbitError, Outside, RetryRule, Unreachable
from certorbit.model.renewal import RenewalInfo, is_usable, note_answer, note_failure
from certorbit.pki.ari import make_cert_id

log = structlog.get_logger(__name__)

LONGEST_EXPLANATION_URL = 500  # ours: it is stored and shown, never asked
_EXPLANATION_URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]+)?(?:[/?#][!#$%&'()*+,./0-9:;=?@A-Z_a-z~-]*)?")
# RFC 3339 §5.6; Go's and Java's nanoseconds are cut by Python.
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
# RFC 9773 §4.3.3: time-outs and 5xx are temporary; a refused connection, the DNS and bad answers are long-term.
_TEMPORARY_PHASES = frozenset({"connect", "read", "unavailable"})


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A RenewalInfo object as the CA sent it, read and checked."""

    start: datetime
    end: datetime
    explanation_url: str


class RenewalInfoDoor:
    """Asks one CA. ca: the issuer's name, for messages."""

    def __init__(self, exchange: Exchange, *, ca: str, clock: Clock, chance: Chance) -> None:
        self._exchange = exchange
        self._ca = ca
        self._clock = clock
        self._chance = chance

    async def ask(self, chain_pem: str, *, previous: RenewalInfo | None) -> RenewalInfo | None:
        """Return what is to be remembered from now on; see `ports.issuer.Issuer.renewal_info`."""
        try:
            cert_id = make_cert_id(chain_pem)
            directory = await self._exchange.directory()
            if not directory.renewal_info or cert_id is None:
                return None
            # RFC 9773 §4.1: the resource's URL, a slash and the CertID; the request is not signed.
            url = f"{directory.renewal_info.rstrip('/')}/{cert_id}"
            answer = await self._exchange.get(url, about=About.RENEWAL_INFO)
            suggestion = read_suggestion(answer)
        except (Outside, BadMaterial) as error:
            return self._note_failure(error, previous=previous)
        found = note_answer(
            previous,
            start=suggestion.start,
            end=suggestion.end,
            explanation_url=suggestion.explanation_url,
            retry_after=answer.retry_after(self._clock.now()),
            now=self._clock.now(),
            uniform=self._chance.between,
        )
        self._report(found, cert_id=cert_id, previous=previous)
        return found

    def _note_failure(self, error: CertorbitError, *, previous: RenewalInfo | None) -> RenewalInfo:
        now = self._clock.now()
        wished = error.retry.at - now if error.retry.rule is RetryRule.AT and error.retry.at is not None else None
        noted = note_failure(
            previous,
            problem=error.message,
            is_passing=_is_temporary(error),
            retry_after=wished,
            now=now,
            uniform=self._chance.between,
        )
        log.warning(
            "renewal_info.failed",
            issuer=self._ca,
            message=error.message,
            failures=noted.failures,
            next_check_at=noted.next_check_at.isoformat(),
        )
        return noted

    def _report(self, found: RenewalInfo, *, cert_id: str, previous: RenewalInfo | None) -> None:
        """Log a window that is new. One that moved is worth a warning: the CA has a reason, maybe told at the URL."""
        if found.start is None or found.end is None or found.has_same_window(previous):
            return
        has_moved = previous is not None and previous.start is not None
        (log.warning if has_moved or found.is_urgent else log.info)(
            "renewal_info.window",
            issuer=self._ca,
            cert_id=cert_id,
            start=found.start.isoformat(),
            end=found.end.isoformat(),
            has_moved=has_moved,
            is_urgent=found.is_urgent,
            explanation_url=found.explanation_url,
        )


def read_suggestion(answer: Answer) -> Suggestion:
    """Return the suggestion in a successful answer (RFC 9773 §4.2).

    Raises:
        Unreachable: there is none that can be used; phase "answer".
    """
    value = answer.read_object()
    window = value.get("suggestedWindow")
    if not isinstance(window, dict):
        raise rubbish(answer, "no suggestedWindow")
    start, end = _timestamp(window, "start", answer), _timestamp(window, "end", answer)
    if not is_usable(start, end):
        raise rubbish(answer, "the suggestedWindow ends before it starts")
    return Suggestion(start=start, end=end, explanation_url=_explanation_url(value.get("explanationURL")))


def _timestamp(window: dict[str, Any], name: str, answer: Answer) -> datetime:
    text = window.get(name)
    if not isinstance(text, str) or not _TIMESTAMP.fullmatch(text):
        raise rubbish(answer, f"suggestedWindow.{name} is no RFC 3339 time")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # a 13th month; the year 1 or 9999 in a far time zone
        raise rubbish(answer, f"suggestedWindow.{name} is no time") from None


def _explanation_url(value: object) -> str:
    """Return the URL if people can be shown it as a link; else "": it is a courtesy, not worth an error."""
    if not isinstance(value, str) or len(value) > LONGEST_EXPLANATION_URL or not _EXPLANATION_URL.fullmatch(value):
        return ""
    return value


def _is_temporary(error: CertorbitError) -> bool:
    if not isinstance(error, Unreachable) or error.phase not in _TEMPORARY_PHASES:
        return False
    cause = error.__cause__
    return not (isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED)
