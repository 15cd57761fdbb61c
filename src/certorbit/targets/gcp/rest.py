"""A small client for Google's REST APIs: authorized, bounded in time and size, tried again where that can help."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import quote

import aiohttp

from certorbit.clock import Chance, Clock
from certorbit.errors import Unreachable
from certorbit.model.backoff import Poll
from certorbit.net.json_exchange import JSONAnswer, exchange
from certorbit.net.tries import Passing
from certorbit.target_settings import GCPTargetSettings
from certorbit.targets.gcp.problems import (
    Conflict,
    Refusal,
    explain,
    finish,
    read_answer,
    read_compute_operation,
    read_long_operation,
)
from certorbit.targets.gcp.tokens import make_tokens
from certorbit.targets.tries import call_again

API = Literal["compute", "certificatemanager", "cloudresourcemanager"]
_PREFIX: Final[Mapping[str, str]] = {
    "compute": "/compute/v1/",
    "certificatemanager": "/v1/",
    "cloudresourcemanager": "/v1/",
}
_MOST_PAGES: Final = 200  # ours: an answer that never ends is an error
_WAIT_SECONDS: Final = 130.0  # operations.wait of Compute holds the answer back for up to two minutes
_POLL: Final = Poll(first=0.5, longest=5.0, factor=1.6)


class RestClient:
    """Belongs to the event loop that it is first used in."""

    def __init__(self, settings: GCPTargetSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._tokens = make_tokens(settings)
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        api: API,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> Mapping[str, Any]:
        """Return the JSON object of a 2xx answer.

        Args:
            path: below the API's version, each part quoted (`quote_part`). It may be sent up to three times.
            seconds: for one try; None: the settings say.

        Raises:
            Conflict: the thing exists already, or was changed since; never for a GET.
            Outside: everything else, as ports.target tells.
        """
        send = partial(
            self._send, method, path, api=api, query=query, body=body, seconds=seconds or self._settings.timeout_seconds
        )
        name = f"{method} {api}"
        try:
            return await call_again(send, target=self._settings.name, what=name, clock=self._clock, chance=self._chance)
        except Conflict as conflict:
            if method == "GET":  # nothing that a look can be in conflict with
                raise conflict.error from conflict
            raise

    async def list(
        self, path: str, key: str, *, api: API, query: Mapping[str, str] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return the objects under `key` of all pages."""
        found: list[Mapping[str, Any]] = []
        token = ""
        for _ in range(_MOST_PAGES):
            page = await self.call(
                "GET", path, api=api, query={**(query or {}), **({"pageToken": token} if token else {})}
            )
            items = page.get(key)
            found += [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
            token = str(page.get("nextPageToken") or "")
            if not token:
                return found
        raise Unreachable(
            f"Target {self._settings.name}: the list {path} has more than {_MOST_PAGES} pages.",
            subject=self._settings.name,
            phase="read",
        )

    async def finish_compute(self, operation: Mapping[str, Any], *, scope: str, what: str) -> None:
        """Wait until an operation of the Compute API is done. Raises as `call`, and for an operation that failed."""
        path = f"{scope}/operations/{quote_part(str(operation.get('name', '')))}/wait"
        give_up = self._clock.now().timestamp() + self._settings.operation_seconds
        turn = 0
        while operation.get("status") != "DONE":
            await self._pause(turn, give_up=give_up, what=what)
            operation = await self.call("POST", path, api="compute", seconds=_WAIT_SECONDS)
            turn += 1
        self._judge(read_compute_operation(operation), what=what)

    async def finish_long(self, operation: Mapping[str, Any], *, what: str) -> None:
        """Wait until a google.longrunning operation is done. Raises as `finish_compute`."""
        path = "/".join(quote_part(part) for part in str(operation.get("name", "")).split("/"))
        give_up = self._clock.now().timestamp() + self._settings.operation_seconds
        turn = 0
        while operation.get("done") is not True:
            await self._pause(turn, give_up=give_up, what=what)
            operation = await self.call("GET", path, api="certificatemanager")
            turn += 1
        self._judge(read_long_operation(operation), what=what)

    async def pause(self, turn: int) -> None:
        """Wait between two looks at something that will soon be done."""
        await self._clock.sleep(_POLL.pause(turn, uniform=self._chance.between))

    def seconds_now(self) -> float:
        return self._clock.now().timestamp()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _pause(self, turn: int, *, give_up: float, what: str) -> None:
        if self.seconds_now() >= give_up:
            raise Unreachable(
                f"Target {self._settings.name}: {what}: Google's operation isn't done after"
                f" {self._settings.operation_seconds:g} s; it may still be.",
                subject=self._settings.name,
                phase="read",
            )
        if turn:  # the first look comes at once
            await self.pause(turn - 1)

    def _judge(self, refusal: Refusal | None, *, what: str) -> None:
        if refusal is None:
            return
        problem = explain(refusal, target=self._settings.name, what=what, now=self._clock.now())
        raise problem if isinstance(problem, Conflict) else finish(problem)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        api: API,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        seconds: float,
    ) -> Mapping[str, Any]:
        url = (self._settings.endpoint_url or f"https://{api}.googleapis.com") + _PREFIX[api] + path
        answer = await self._ask(method, url, query=query, body=body, seconds=seconds)
        if answer.status == 401 and self._tokens.forget():  # it may have run out on the way, or been revoked
            answer = await self._ask(method, url, query=query, body=body, seconds=seconds)
        if 200 <= answer.status < 300:
            return answer.body
        raise explain(read_answer(answer), target=self._settings.name, what=f"{method} {path}", now=self._clock.now())

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        seconds: float,
    ) -> JSONAnswer:
        headers = {"Authorization": f"Bearer {await self._tokens.get()}", "Content-Type": "application/json"}
        try:
            return await exchange(
                self._open_session(), method, url, seconds=seconds, headers=headers, query=query, body=body
            )
        except Unreachable as error:
            raise Passing(error) from error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self._session


def quote_part(text: str) -> str:
    """Return one part of a path, so that nothing in it can lead elsewhere."""
    return quote(text, safe="")
