"""An answer of the CA: status, headers and a bounded body, and how its parts are read. All of it is hostile."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import orjson
from multidict import CIMultiDictProxy

from certorbit.errors import BACKOFF, Retry, Unreachable, retry_at

LONGEST_RETRY_AFTER = timedelta(days=7)  # ours: no public CA's rate window is longer (facts.md 3.4)
LONGEST_TEXT = 1000  # of one sentence of the CA in a message of ours
_LINK = re.compile(r"<([^<>]*)>([^<]*)")  # RFC 8288 §3
_REL = re.compile(r";\s*rel\s*=\s*\"?([^\";,]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request. ca: the issuer's name, for messages. body: at most the transport's limit."""

    ca: str
    url: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or self.url

    def read_object(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            Unreachable: it is none; phase "answer".
        """
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise rubbish(self, "no JSON") from None
        if not isinstance(value, dict):
            raise rubbish(self, "no JSON object")
        return value

    def location(self) -> str:
        """Return the absolute URL of the `Location` header, unchecked; "" without one."""
        target = self.headers.get("Location", "")
        return self._absolute(target) if target else ""

    def links(self, relation: str) -> Sequence[str]:
        """Return the absolute URLs of the `Link` headers with this relation, in order, unchecked (RFC 8288)."""
        return [
            self._absolute(target)
            for header in self.headers.getall("Link", ())
            for target, parameters in _LINK.findall(header)
            if (found := _REL.search(parameters)) and relation in found.group(1).lower().split()
        ]

    def _absolute(self, target: str) -> str:
        try:
            return urljoin(self.url, target)
        except ValueError:
            return target  # the guard says what is wrong with it

    def retry_after(self, now: datetime) -> timedelta | None:
        """Return what `Retry-After` (seconds or an HTTP date, RFC 9110 §10.2.3) means, from 0 to seven days.

        None: there is no such header, or it can't be read.
        """
        text = self.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            # More than nine digits is more than thirty years.
            return min(timedelta(seconds=int(text[:9]) if len(text) <= 9 else 10**9), LONGEST_RETRY_AFTER)
        try:
            instant = parsedate_to_datetime(text)
        except (ValueError, IndexError, OverflowError):
            return None
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        return min(max(instant - now, timedelta(0)), LONGEST_RETRY_AFTER)

    def retry(self, now: datetime) -> Retry:
        """Return AT the instant of `Retry-After`, or BACKOFF without one."""
        wait = self.retry_after(now)
        return BACKOFF if wait is None else retry_at(now + wait)


def rubbish(answer: Answer, reason: str) -> Unreachable:
    """Return the error for an answer that isn't ACME: a proxy's page, a broken CA. It may well pass."""
    kind = clean(answer.headers.get("Content-Type", "no type"), longest=40)
    # Whatever PEM it is, nothing of it comes into a message.
    excerpt = "PEM" if b"-----BEGIN" in answer.body else clean(answer.body[:160].decode(errors="replace"), longest=80)
    return Unreachable(
        f"The CA {answer.ca} answered {answer.status} for {clean(answer.url, longest=200)} with something that is not"
        f" ACME ({reason}, {kind}): {excerpt!r}.",
        subject=answer.host,
        phase="answer",
    )


def clean(text: str, *, longest: int = LONGEST_TEXT) -> str:
    """Return the CA's text as one line of printable characters, cut to a length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: longest * 2]).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
