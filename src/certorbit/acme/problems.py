"""Problem documents (RFC 7807, RFC 8555 §6.7) and the one function that turns an answer into a typed error."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from certorbit.acme.answer import Answer, clean, rubbish
from certorbit.errors import (
    BACKOFF,
    AccountProblem,
    AlreadyReplaced,
    CertorbitError,
    IssuerRefused,
    OrderLost,
    RateLimited,
    Retry,
    Unreachable,
)

URN = "urn:ietf:params:acme:error:"
MOST_SUBPROBLEMS = 200  # ours: twice the identifiers of an order


class ProblemType(StrEnum):
    """The error types of RFC 8555 §6.7, each with the section that uses it."""

    ACCOUNT_DOES_NOT_EXIST = URN + "accountDoesNotExist"  # §7.3.1
    ALREADY_REVOKED = URN + "alreadyRevoked"  # §7.6
    BAD_CSR = URN + "badCSR"  # §7.4
    BAD_NONCE = URN + "badNonce"  # §6.5
    BAD_PUBLIC_KEY = URN + "badPublicKey"  # §6.2
    BAD_REVOCATION_REASON = URN + "badRevocationReason"  # §7.6
    BAD_SIGNATURE_ALGORITHM = URN + "badSignatureAlgorithm"  # §6.2
    CAA = URN + "caa"  # §6.7
    COMPOUND = URN + "compound"  # §6.7.1
    CONNECTION = URN + "connection"  # §6.7
    DNS = URN + "dns"  # §6.7
    EXTERNAL_ACCOUNT_REQUIRED = URN + "externalAccountRequired"  # §7.3.4
    INCORRECT_RESPONSE = URN + "incorrectResponse"  # §8.1
    INVALID_CONTACT = URN + "invalidContact"  # §7.3
    MALFORMED = URN + "malformed"  # §6.7
    ORDER_NOT_READY = URN + "orderNotReady"  # §7.4
    RATE_LIMITED = URN + "rateLimited"  # §6.6
    REJECTED_IDENTIFIER = URN + "rejectedIdentifier"  # §7.4
    SERVER_INTERNAL = URN + "serverInternal"  # §6.7
    TLS = URN + "tls"  # §6.7
    UNAUTHORIZED = URN + "unauthorized"  # §6.7
    UNSUPPORTED_CONTACT = URN + "unsupportedContact"  # §7.3
    UNSUPPORTED_IDENTIFIER = URN + "unsupportedIdentifier"  # §7.4
    USER_ACTION_REQUIRED = URN + "userActionRequired"  # §7.3.3
    ALREADY_REPLACED = URN + "alreadyReplaced"  # RFC 9773 §5
    INVALID_PROFILE = URN + "invalidProfile"  # draft-ietf-acme-profiles §5


class About(StrEnum):
    """What a request is about: the words of the message, and what decides in doubt which error it is."""

    DIRECTORY = "the directory"
    NONCE = "a nonce"
    NEW_ACCOUNT = "the account's registration"
    ACCOUNT = "the account"
    ORDER_LIST = "the list of orders"
    NEW_ORDER = "the new order"
    REPLACEMENT = "the new order as a replacement"
    ORDER = "the order"
    AUTHORIZATION = "the authorization"
    CHALLENGE = "the challenge"
    FINALISATION = "the certificate request"
    CERTIFICATE = "the certificate's download"
    REVOCATION = "the revocation"
    RENEWAL_INFO = "the renewal information"


_CLASSES: Mapping[str, type[IssuerRefused]] = {
    ProblemType.RATE_LIMITED: RateLimited,
    ProblemType.ALREADY_REPLACED: AlreadyReplaced,
    ProblemType.ORDER_NOT_READY: OrderLost,
    ProblemType.ACCOUNT_DOES_NOT_EXIST: AccountProblem,
    ProblemType.EXTERNAL_ACCOUNT_REQUIRED: AccountProblem,
    ProblemType.USER_ACTION_REQUIRED: AccountProblem,
    ProblemType.INVALID_CONTACT: AccountProblem,
    ProblemType.UNSUPPORTED_CONTACT: AccountProblem,
}
_PASSING = {ProblemType.SERVER_INTERNAL, ProblemType.BAD_NONCE}
_ABOUT_ACCOUNT = {About.NEW_ACCOUNT, About.ACCOUNT, About.NEW_ORDER, About.REPLACEMENT}
_ABOUT_ORDER = {About.ORDER, About.AUTHORIZATION, About.CHALLENGE, About.FINALISATION, About.CERTIFICATE}
_HINTS: Mapping[str, str] = {
    ProblemType.EXTERNAL_ACCOUNT_REQUIRED: " Set the issuer's eab_kid and eab_hmac_key to what the CA gave you.",
    ProblemType.INVALID_CONTACT: " Mend the issuer's contact.",
    ProblemType.UNSUPPORTED_CONTACT: " Mend the issuer's contact.",
    ProblemType.INVALID_PROFILE: " Mend the issuer's profile.",
}


@dataclass(frozen=True, slots=True)
class ProblemDocument:
    """A problem as the CA wrote it, cleaned. subproblems: `type: detail` by identifier."""

    type: str
    detail: str
    subproblems: Mapping[str, str] = field(default_factory=dict)
    instance: str = ""

    @property
    def sentence(self) -> str:
        """The type's last word and the detail, as they stand in messages."""
        return ": ".join(part for part in (self.type.removeprefix(URN), self.detail) if part)


def read_problem(value: object) -> ProblemDocument | None:
    """Return the problem in a JSON value; None if the value isn't one. Parts that are malformed are left out."""
    if not isinstance(value, dict) or not isinstance(value.get("type", ""), str):
        return None
    if "type" not in value and "detail" not in value:
        return None
    return ProblemDocument(
        type=clean(value.get("type", "about:blank"), longest=200),
        detail=_text(value, "detail") or _text(value, "title"),
        subproblems=_read_subproblems(value.get("subproblems")),
        instance=_text(value, "instance"),
    )


def error_from(answer: Answer, *, about: About, now: datetime) -> CertorbitError:
    """Return the typed error for an answer that isn't a success.

    A 5xx is `Unreachable`: the CA may or may not have done what we asked. The CA's `Retry-After` becomes the rule of
    a rate limit and of a 5xx.
    """
    problem = _problem_of(answer)
    if answer.status >= 500 and (problem is None or problem.type != ProblemType.RATE_LIMITED):
        return _unavailable(answer, problem, about=about, now=now)
    if problem is None:
        return _wordless(answer, about=about, now=now)
    return refusal(
        problem,
        ca=answer.ca,
        about=about,
        status=answer.status,
        retry=answer.retry(now) if answer.status == 429 or problem.type == ProblemType.RATE_LIMITED else None,
    )


def refusal(
    problem: ProblemDocument, *, ca: str, about: About, status: int = 0, retry: Retry | None = None
) -> IssuerRefused:
    """Return the error of a problem document, from an answer or from inside an order (status 0)."""
    if retry is None and problem.type in _PASSING:
        retry = BACKOFF
    message = f"The CA {ca} refused {about}: {problem.sentence}"
    if problem.subproblems:
        message += f" ({list_by_identifier(problem.subproblems)})"
    if problem.instance.startswith("https://"):
        message += f" See {problem.instance}"
    return _class_of(problem, about=about, status=status)(
        message + _HINTS.get(problem.type, ""),
        type=problem.type,
        detail=problem.detail,
        status=status,
        subproblems=problem.subproblems,
        retry=retry,
    )


def list_by_identifier(sentences: Mapping[str, str], *, most: int = 10) -> str:
    """Return `a.example: why; b.example: why`, sorted, at most so many, with the number of the others."""
    shown = [f"{identifier}: {sentence}" for identifier, sentence in sorted(sentences.items())[:most]]
    hidden = len(sentences) - len(shown)
    return "; ".join(shown) + (f"; and {hidden} more" if hidden else "")


def _class_of(problem: ProblemDocument, *, about: About, status: int) -> type[IssuerRefused]:
    if problem.type in _CLASSES:
        return _CLASSES[problem.type]
    if status == 429:
        return RateLimited
    if status == 409 and about is About.REPLACEMENT:
        return AlreadyReplaced  # RFC 9773 §5: some CAs answer 409 with another type
    if problem.type == ProblemType.UNAUTHORIZED and about in _ABOUT_ACCOUNT:
        return AccountProblem  # deactivated, revoked, or bound to a wrong external key
    if status == 404 and about in _ABOUT_ORDER:
        return OrderLost
    return IssuerRefused


def _unavailable(answer: Answer, problem: ProblemDocument | None, *, about: About, now: datetime) -> Unreachable:
    said = f": {problem.sentence}" if problem else "."
    return Unreachable(
        f"The CA {answer.ca} could not serve {about} (status {answer.status}){said}",
        subject=answer.host,
        phase="unavailable",
        retry=answer.retry(now),
    )


def _wordless(answer: Answer, *, about: About, now: datetime) -> CertorbitError:
    """Return the error of an answer without a problem document: the status alone speaks."""
    if answer.status == 429:
        return refusal(
            ProblemDocument(ProblemType.RATE_LIMITED, "too many requests"),
            ca=answer.ca,
            about=about,
            status=429,
            retry=answer.retry(now),
        )
    if answer.status == 404 and about in _ABOUT_ORDER:
        return refusal(
            ProblemDocument("about:blank", "not found (404)"), ca=answer.ca, about=about, status=404, retry=BACKOFF
        )
    if 300 <= answer.status < 400:
        target = clean(answer.headers.get("Location", ""), longest=200)
        return Unreachable(
            f"The CA {answer.ca} redirected {about} to {target!r}; ACME requests follow no redirect. If that is its"
            " new directory, set it as the issuer's directory.",
            subject=answer.host,
            phase="answer",
        )
    return rubbish(answer, f"no problem document for {about}")


def _problem_of(answer: Answer) -> ProblemDocument | None:
    try:
        return read_problem(orjson.loads(answer.body))
    except orjson.JSONDecodeError:
        return None


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    return clean(text) if isinstance(text, str) else ""


def _read_subproblems(value: object) -> dict[str, str]:
    """Return `type: detail` by identifier; two for one identifier are joined (RFC 8555 §6.7.1)."""
    sentences: dict[str, str] = {}
    for part in value[:MOST_SUBPROBLEMS] if isinstance(value, list) else []:
        problem = read_problem(part)
        identifier = part.get("identifier") if isinstance(part, dict) else None
        if problem is None:
            continue
        name = _text(identifier, "value") if isinstance(identifier, dict) else ""
        name = name or "(no identifier)"
        sentences[name] = f"{sentences[name]}, {problem.sentence}" if name in sentences else problem.sentence
    return sentences
