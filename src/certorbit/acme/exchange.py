"""The exchange with one CA: directory, nonces, signatures and bounded retries around single requests."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import structlog

from certorbit.acme.answer import Answer, rubbish
from certorbit.acme.directory import Directory, read_directory
from certorbit.acme.jws import AccountKey, encode_jws
from certorbit.acme.nonces import NoncePool
from certorbit.acme.problems import About, ProblemType, error_from
from certorbit.acme.transport import Transport, was_not_sent
from certorbit.clock import Chance, Clock
from certorbit.errors import CertorbitError, IssuerRefused, RateLimited, RetryRule, Unreachable

log = structlog.get_logger(__name__)

T = TypeVar("T")

DIRECTORY_LIFETIME = timedelta(hours=1)  # ours: CAs move their doors rarely, and a failure drops it at once
MOST_TRIES = 4
FIRST_PAUSE_SECONDS = 0.5  # full jitter below 0.5, 1 and 2 s: all four tries fit into a waiting request
LONGEST_OWN_WAIT = timedelta(seconds=10)  # a longer Retry-After is the workflow's business
# Pebble rejects one good nonce in five in our tests, and a CA that restarted rejects all that we hold.
MOST_NONCE_TURNS = 10
NONCE_FETCHES_AT_ONCE = 2  # Let's Encrypt: 20 newNonce requests per second and address (facts.md 3.4)
# Failures that pass within seconds. A refused URL, a wrong certificate and rubbish don't.
_PASSING_PHASES = frozenset({"resolve", "connect", "read", "unavailable"})
_DIRECTORY_DOORS = frozenset({About.NONCE, About.NEW_ACCOUNT, About.NEW_ORDER, About.REPLACEMENT, About.REVOCATION})


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: a key and its account's URL; `kid` is None before there is an account."""

    key: AccountKey
    kid: str | None


class Exchange:
    """Requests to one CA that end in a success (2xx) or in a typed error."""

    def __init__(
        self, transport: Transport, *, directory: str, clock: Clock, chance: Chance, max_requests_in_flight: int
    ) -> None:
        self._transport = transport
        self._url = directory
        self._clock = clock
        self._chance = chance
        self._nonces = NoncePool(most=max(max_requests_in_flight, 10))
        self._nonce_turn = asyncio.Semaphore(NONCE_FETCHES_AT_ONCE)
        self._directory: Directory | None = None
        self._directory_read_at: datetime | None = None
        self._directory_turn: Final = asyncio.Lock()

    async def directory(self) -> Directory:
        """Return the CA's directory, at most an hour old, read anew after a failure."""
        if (known := self._known_directory()) is not None:
            return known
        async with self._directory_turn:
            if (known := self._known_directory()) is not None:
                return known
            answer = await self._persist(lambda: self._send("GET", self._url, about=About.DIRECTORY))
            self._directory = read_directory(answer)
            self._directory_read_at = self._clock.now()
            return self._directory

    async def get(self, url: str, *, about: About) -> Answer:
        """Send a request that is not signed (RFC 9773 §4.1) and return the successful answer.

        Raises:
            Unreachable, IssuerRefused and its kinds: `problems.error_from`.
        """
        return await self._persist(lambda: self._send("GET", url, about=about))

    async def post(
        self,
        url: str,
        payload: dict[str, Any] | None,
        *,
        signer: Signer,
        about: About,
        once: bool = False,
        accept: str = "application/json",
    ) -> Answer:
        """Send a signed request and return the successful answer.

        Args:
            payload: None for POST-as-GET (RFC 8555 §6.3).
            once: the request is not harmless to repeat: it is sent again only if the CA surely did not receive it or
                rejected its nonce.

        Raises:
            Unreachable, IssuerRefused and its kinds: `problems.error_from`.
        """
        return await self._persist(
            lambda: self._post_with_nonce(url, payload, signer=signer, about=about, accept=accept), once=once
        )

    async def _post_with_nonce(
        self, url: str, payload: dict[str, Any] | None, *, signer: Signer, about: About, accept: str
    ) -> Answer:
        for turn in range(1, MOST_NONCE_TURNS + 1):
            nonce = await self._take_nonce()
            body = encode_jws(payload, key=signer.key, kid=signer.kid, nonce=nonce, url=url)
            try:
                return await self._send("POST", url, body=body, about=about, accept=accept)
            except IssuerRefused as refused:
                # RFC 8555 §6.5: the error answer provides a fresh nonce, with which the request SHOULD be retried.
                if refused.type != ProblemType.BAD_NONCE or turn == MOST_NONCE_TURNS:
                    raise
        raise AssertionError("the last turn returns or raises")

    async def _send(
        self, method: str, url: str, *, about: About, body: bytes | None = None, accept: str = "application/json"
    ) -> Answer:
        answer = await self._transport.send(method, url, body=body, accept=accept)
        self._nonces.put(answer.headers.get("Replay-Nonce"))
        if 200 <= answer.status < 300:
            return answer
        if answer.status in {404, 405, 410} and about in _DIRECTORY_DOORS:
            self._directory = None  # the CA may have moved this door
        raise error_from(answer, about=about, now=self._clock.now())

    async def _take_nonce(self) -> str:
        if (nonce := self._nonces.take()) is not None:
            return nonce
        async with self._nonce_turn:
            # While we waited for our turn, answers to others may have brought some.
            if (nonce := self._nonces.take()) is not None:
                return nonce
            directory = await self.directory()
            answer = await self._persist(lambda: self._send("HEAD", directory.new_nonce, about=About.NONCE))
            if (nonce := self._nonces.take()) is None:
                raise rubbish(answer, "no usable Replay-Nonce")
            return nonce

    async def _persist(self, work: Callable[[], Awaitable[T]], *, once: bool = False) -> T:
        """Run the request again while its failure is of the passing kind, at most four times in all."""
        for turn in range(1, MOST_TRIES + 1):
            try:
                return await work()
            except (Unreachable, RateLimited) as error:
                pause = self._pause_after(error, turn=turn, once=once)
                if pause is None:
                    if isinstance(error, Unreachable):
                        self._directory = None
                    raise
                log.info("acme.request_repeated", turn=turn, error=type(error).__name__, message=error.message)
                await self._clock.sleep(pause)
        raise AssertionError("the last turn returns or raises")

    def _pause_after(self, error: CertorbitError, *, turn: int, once: bool) -> float | None:
        """Return the seconds to wait before the next try; None: there is none."""
        if turn == MOST_TRIES:
            return None
        if isinstance(error, Unreachable) and error.phase not in _PASSING_PHASES:
            return None
        if once and not (isinstance(error, Unreachable) and was_not_sent(error)):
            return None
        wished = timedelta(0)
        if error.retry.rule is RetryRule.AT and error.retry.at is not None:
            wished = error.retry.at - self._clock.now()
            if wished > LONGEST_OWN_WAIT:
                return None
        return max(wished.total_seconds(), 0.0) + self._chance.between(0.0, FIRST_PAUSE_SECONDS * 2 ** (turn - 1))

    def _known_directory(self) -> Directory | None:
        if self._directory is None or self._directory_read_at is None:
            return None
        fresh = self._clock.now() - self._directory_read_at < DIRECTORY_LIFETIME
        return self._directory if fresh else None
