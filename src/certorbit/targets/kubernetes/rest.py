"""A small client for the Kubernetes API: authorized, bounded in time and size, tried again where that can help."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import (
    CredentialsRefused,
    Outside,
    TargetFull,
    TargetGone,
    TargetRefused,
    Throttled,
    Unreachable,
)
from certorbit.net.json_exchange import JSONAnswer, exchange, read_retry_after, safe_words
from certorbit.net.tries import Passing
from certorbit.target_settings import KubernetesTargetSettings
from certorbit.targets.kubernetes.connection import Connection, connect
from certorbit.targets.tries import call_again

log = structlog.get_logger(__name__)

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"  # RFC 7396
# Names and annotations alone: a list of copies must not bring their private keys.
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
MANAGER: Final = "certorbit"  # who changed a field, in `managedFields`
_TOKEN_SECONDS: Final = 60.0  # tokens are rotated: the file is read this often, and at once when one is refused
_MOST_PAGES: Final = 200


class Conflict(Exception):
    """The object exists already, or was changed since it was read (409). It never leaves this package."""

    def __init__(self, error: Outside) -> None:
        super().__init__(error.message)
        self.error = error


class Expired(Conflict):
    """A list's `continue` is too old (410): the list is to be read anew."""


class KubernetesClient:
    """Belongs to the event loop that it is first used in."""

    def __init__(self, settings: KubernetesTargetSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._connection: Connection | None = None
        self._session: aiohttp.ClientSession | None = None
        self._token = ""
        self._token_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Mapping[str, Any]:
        """Return the object of a 2xx answer. It may be sent up to three times.

        Raises:
            Conflict: the object exists already, or was changed since it was read; never for a GET.
            Outside: everything else, as ports.target tells.
        """
        try:
            return await self._call(method, path, query=query, body=body, content_type=content_type, accept=accept)
        except Conflict as conflict:
            if method == "GET":  # nothing that a look can be in conflict with
                raise conflict.error from conflict
            raise

    async def list(self, path: str, *, query: Mapping[str, str], accept: str) -> Sequence[Mapping[str, Any]]:
        """Return the items of all pages; from the start again, once, if the list grew too old on the way."""
        try:
            return await self._pages(path, query=query, accept=accept)
        except Conflict:
            log.info("kubernetes.list_expired", target=self._settings.name)
        try:
            return await self._pages(path, query=query, accept=accept)
        except Conflict as conflict:
            raise conflict.error from conflict

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _pages(self, path: str, *, query: Mapping[str, str], accept: str) -> Sequence[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        token = ""
        for _ in range(_MOST_PAGES):
            asked = {**query, "limit": "200", **({"continue": token} if token else {})}
            page = await self._call("GET", path, query=asked, accept=accept)
            items, metadata = page.get("items"), page.get("metadata")
            found += [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
            token = str(metadata.get("continue") or "") if isinstance(metadata, dict) else ""
            if not token:
                return found
        raise Unreachable(
            f"Target {self._settings.name}: the list {path} has more than {_MOST_PAGES} pages.",
            subject=self._settings.name,
            phase="read",
        )

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        accept: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
    ) -> Mapping[str, Any]:
        headers = {"Accept": accept, "Content-Type": content_type}
        send = partial(self._send, method, path, query=query, body=body, headers=headers)
        name = self._settings.name
        return await call_again(send, target=name, what=method, clock=self._clock, chance=self._chance)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> Mapping[str, Any]:
        answer = await self._ask(method, path, query=query, body=body, headers=headers)
        if answer.status == 401 and await self._read_new_token():
            answer = await self._ask(method, path, query=query, body=body, headers=headers)
        if 200 <= answer.status < 300:
            return answer.body
        raise self._explain(answer, what=f"{method} {path}")

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> JSONAnswer:
        session, server = await self._open_session()
        authorization = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            return await exchange(
                session,
                method,
                server + path,
                seconds=self._settings.timeout_seconds,
                headers={**headers, **authorization},
                query=query,
                body=body,
            )
        except Unreachable as error:
            raise Passing(error) from error

    async def _open_session(self) -> tuple[aiohttp.ClientSession, str]:
        async with self._lock:
            if self._connection is None:
                self._connection = await asyncio.to_thread(connect, self._settings)
            if self._session is None:
                self._session = aiohttp.ClientSession(
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    connector=aiohttp.TCPConnector(ssl=self._connection.tls),
                )
            now = self._clock.now()
            if self._token_at is None or (now - self._token_at).total_seconds() >= _TOKEN_SECONDS:
                self._token = await asyncio.to_thread(self._connection.read_token)
                self._token_at = now
            return self._session, self._connection.server

    async def _read_new_token(self) -> bool:
        """Return whether there is another token than the one that was refused."""
        refused = self._token
        self._token_at = None
        await self._open_session()
        return self._token != refused

    def _explain(self, answer: JSONAnswer, *, what: str) -> Exception:  # noqa: PLR0911 - a table
        """Return what to raise for an answer of an error status: a `Status` object (API conventions)."""
        target, status = self._settings.name, answer.status
        words = safe_words(str(answer.body.get("message") or answer.text)) or str(status)
        said = f"Target {target}: {what}: the cluster says {words!r}."
        if status == 403 and "exceeded quota" in words:
            return TargetFull(f"{said} Raise the namespace's quota of Secrets.", subject=target)
        if status in {401, 403}:
            return CredentialsRefused(f"{said} Grant the right to the target's account.", subject=target)
        if status == 404:
            return TargetGone(said, subject=target)
        if status == 409:
            return Conflict(TargetRefused(said, subject=target))
        if status == 410:
            return Expired(Unreachable(said, subject=target, phase="read"))
        if status == 429:
            retry = read_retry_after(answer.retry_after, now=self._clock.now())
            throttled = Throttled(said, subject=target, retry=retry)
            return throttled if answer.retry_after else Passing(throttled)
        if status >= 500:
            return Passing(Unreachable(said, subject=target, phase="read"))
        return TargetRefused(said, subject=target)


def quote_part(text: str) -> str:
    """Return one part of a path, so that nothing in it can lead elsewhere."""
    return quote(text, safe="")
