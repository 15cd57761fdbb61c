"""The CA's objects as values: orders, authorizations, challenges (RFC 8555 §7.1). What doesn't fit is refused."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from certorbit.acme.answer import Answer, rubbish
from certorbit.acme.problems import ProblemDocument, read_problem
from certorbit.model.identifiers import Identifier, IdentifierType

MOST_PARTS = 1000  # ours: authorizations of an order or challenges of an authorization; ten times what we order
# RFC 8555 §8.3: the token MUST NOT contain characters outside the base64url alphabet. It becomes a part of a URL path
# and a key of the store, so nothing else is let through; 128 bits of entropy are 22 characters.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")


class Status(StrEnum):
    """The states of orders, authorizations and challenges (RFC 8555 §7.1.6)."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Order:
    """An order (RFC 8555 §7.1.3). certificate: "" until it is valid. retry_after: the CA's wish for the next look."""

    url: str
    status: Status
    identifiers: tuple[Identifier, ...]
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str
    problem: ProblemDocument | None
    retry_after: timedelta | None


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge (RFC 8555 §8). token: checked; "" for types that have none."""

    type: str
    url: str
    status: Status
    token: str
    problem: ProblemDocument | None


@dataclass(frozen=True, slots=True)
class Authorization:
    """An authorization (RFC 8555 §7.1.4). identifier: of a wildcard, the name without `*.`."""

    url: str
    status: Status
    identifier: Identifier
    is_wildcard: bool
    challenges: tuple[Challenge, ...]
    retry_after: timedelta | None = field(default=None)

    @property
    def name(self) -> str:
        """The identifier as it was ordered, for messages."""
        return f"*.{self.identifier.value}" if self.is_wildcard else self.identifier.value

    @property
    def problem(self) -> ProblemDocument | None:
        """Why it failed: the error of its first challenge that has one."""
        return next((challenge.problem for challenge in self.challenges if challenge.problem), None)


def read_order(answer: Answer, *, url: str, now: datetime) -> Order:
    """Return the order in an answer; `url` is its own (`Location` or what was asked).

    Raises:
        Unreachable: the answer holds no order; phase "answer".
    """
    value = answer.read_object()
    error = value.get("error")
    return Order(
        url=url,
        status=_status(value, answer),
        identifiers=tuple(_identifier(part, answer) for part in _list(value, "identifiers", answer)),
        authorizations=tuple(_url(part, answer) for part in _list(value, "authorizations", answer)),
        finalize=_url(value.get("finalize"), answer),
        certificate=_url(value["certificate"], answer) if value.get("certificate") else "",
        problem=read_problem(error),
        retry_after=answer.retry_after(now),
    )


def read_authorization(answer: Answer, *, now: datetime) -> Authorization:
    """Return the authorization in an answer.

    Raises:
        Unreachable: the answer holds none, or a token with characters that a token never has; phase "answer".
    """
    value = answer.read_object()
    return Authorization(
        url=answer.url,
        status=_status(value, answer),
        identifier=_identifier(value.get("identifier"), answer),
        is_wildcard=value.get("wildcard") is True,
        challenges=tuple(_challenge(part, answer) for part in _list(value, "challenges", answer)),
        retry_after=answer.retry_after(now),
    )


def _challenge(value: object, answer: Answer) -> Challenge:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise rubbish(answer, "a challenge without a type")
    token = value.get("token", "")
    if token != "" and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise rubbish(answer, "a token with characters outside of base64url")
    return Challenge(
        type=value["type"],
        url=_url(value.get("url"), answer),
        status=_status(value, answer),
        token=token,
        problem=read_problem(value.get("error")),
    )


def _identifier(value: object, answer: Answer) -> Identifier:
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        try:
            return Identifier(IdentifierType(str(value.get("type"))), value["value"].lower())
        except ValueError:
            pass  # a type that we never order
    raise rubbish(answer, "an identifier that is neither dns nor ip")


def _status(value: Mapping[str, Any], answer: Answer) -> Status:
    try:
        return Status(str(value.get("status")))
    except ValueError:
        raise rubbish(answer, "an unknown status") from None


def _list(value: Mapping[str, Any], name: str, answer: Answer) -> Sequence[object]:
    parts = value.get(name)
    if not isinstance(parts, list) or len(parts) > MOST_PARTS:
        raise rubbish(answer, f"{name} is no list of a sane length")
    return parts


def _url(value: object, answer: Answer) -> str:
    if not isinstance(value, str) or not value:
        raise rubbish(answer, "something else where a URL belongs")
    return value
