"""What the provider says of itself (OpenID Connect Discovery 1.0), and its keys; both are kept for a while."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from certorbit.clock import Clock
from certorbit.errors import Unreachable
from certorbit.oidc.fetching import ProviderHTTP, unreachable
from certorbit.oidc.key_set import KeySet, PublicKey, read_key_set
from certorbit.oidc_settings import is_safe_url

log = structlog.get_logger(__name__)

FRESH: Final = timedelta(hours=1)
USABLE: Final = timedelta(days=1)  # while the provider doesn't answer
RETRY_AFTER: Final = timedelta(seconds=5)  # a provider that just failed isn't asked at once for the next browser
KEYS_EVERY: Final = timedelta(seconds=30)  # at most so often for a key id that isn't known


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """userinfo_endpoint: "" if there is none. names_issuer: answers carry `iss` (RFC 9207)."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    token_methods: tuple[str, ...]
    names_issuer: bool


class ProviderMetadata:
    """Metadata and keys, fetched when they are needed; one request at a time for each, whoever waits."""

    def __init__(self, issuer: str, *, http: ProviderHTTP, clock: Clock) -> None:
        self._issuer = issuer
        self._http = http
        self._clock = clock
        self._lock = asyncio.Lock()
        self._metadata: tuple[datetime, Metadata] | None = None
        self._keys: tuple[datetime, KeySet] | None = None
        self._failed: tuple[datetime, Unreachable] | None = None
        self._keys_tried_at: datetime | None = None

    async def get(self) -> Metadata:
        """Return the metadata. Raises Unreachable."""
        async with self._lock:
            return await self._get()

    async def keys_for(self, kid: str | None, *, algorithm: str) -> KeySet:
        """Return the keys, fetched anew if none of those that are known fits. Raises Unreachable."""
        async with self._lock:
            metadata = await self._get()
            now = self._clock.now()
            known = self._keys
            if known is not None and now - known[0] < FRESH and _has(known[1], kid, algorithm):
                return known[1]
            tried_at = self._keys_tried_at
            if tried_at is None or not timedelta(0) <= now - tried_at < KEYS_EVERY:
                self._keys_tried_at = now
                return await self._fetch_keys(metadata, now=now)
            if known is None:
                raise unreachable(_host(metadata.jwks_uri), "its keys could not be had a moment ago", phase="read")
            return known[1]

    async def _get(self) -> Metadata:
        now = self._clock.now()
        known = self._metadata
        if known is not None and timedelta(0) <= now - known[0] < FRESH:
            return known[1]
        if self._failed is not None and timedelta(0) <= now - self._failed[0] < RETRY_AFTER:
            if known is not None and now - known[0] < USABLE:
                return known[1]
            raise _again(self._failed[1])
        try:
            metadata = await self._fetch()
        except Unreachable as error:
            self._failed = (now, error)
            log.warning("oidc.metadata_failed", problem=error.message)
            if known is None or now - known[0] >= USABLE:
                raise
            return known[1]
        self._metadata, self._failed = (now, metadata), None
        return metadata

    async def _fetch(self) -> Metadata:
        host = _host(self._issuer)
        answer = await self._http.get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if answer.status != 200:
            raise unreachable(host, f"its metadata answered {answer.status}", phase="read")
        # OpenID Connect Discovery 1.0 §4.3: the issuer MUST be identical; else another one's tokens would count.
        if answer.body.get("issuer") != self._issuer:
            raise unreachable(host, "its metadata has another issuer than [oidc] issuer", phase="read")
        return _read(answer.body, host=host)

    async def _fetch_keys(self, metadata: Metadata, *, now: datetime) -> KeySet:
        known = self._keys
        try:
            answer = await self._http.get(metadata.jwks_uri)
            if answer.status != 200 or not answer.body:
                raise unreachable(_host(metadata.jwks_uri), f"its keys answered {answer.status}", phase="read")
        except Unreachable as error:
            log.warning("oidc.keys_failed", problem=error.message)
            if known is None or now - known[0] >= USABLE:
                raise
            return known[1]
        self._keys = (now, read_key_set(answer.body))
        return self._keys[1]


def _has(keys: KeySet, kid: str | None, algorithm: str) -> bool:
    found: PublicKey | None = keys.find(kid, algorithm=algorithm)
    return found is not None


def _read(body: Mapping[str, Any], *, host: str) -> Metadata:
    urls = {}
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        url = body.get(name)
        if not isinstance(url, str) or not is_safe_url(url):
            raise unreachable(host, f"its metadata has no usable {name}", phase="read")
        urls[name] = url
    userinfo = body.get("userinfo_endpoint")
    methods = body.get("token_endpoint_auth_methods_supported")
    return Metadata(
        **urls,
        userinfo_endpoint=userinfo if isinstance(userinfo, str) and is_safe_url(userinfo) else "",
        token_methods=tuple(m for m in methods if isinstance(m, str)) if isinstance(methods, list) else (),
        names_issuer=body.get("authorization_response_iss_parameter_supported") is True,
    )


def _again(error: Unreachable) -> Unreachable:
    """Return the same error anew: one that was raised once holds on to its frames."""
    return Unreachable(error.message, subject=error.subject, phase=error.phase)


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
