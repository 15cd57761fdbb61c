"""Calls of AWS through boto3, which is synchronous: each one runs in a thread of the target's own small pool.

boto3's own tries are off, ours (`targets.tries`) are in their place: boto3 would also send an ImportCertificate again
whose answer was lost, which leaves a second copy behind and costs a second import of the year's quota.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import boto3
import botocore.session
from botocore import xform_name
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from certorbit.clock import Chance, Clock
from certorbit.errors import TargetRefused, Unreachable
from certorbit.net.tries import Passing
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.refusals import translate
from certorbit.targets.tries import call_again

Answer = Mapping[str, Any]
CLOUDFRONT_REGION: Final = (
    "us-east-1"  # where AWS keeps CloudFront's certificates, and what its requests are signed for
)
_MOST_THREADS: Final = 8
_LONGEST_CONNECT_SECONDS: Final = 10.0
_SESSION_NAME: Final = "certorbit"


@dataclass(frozen=True, slots=True)
class Listing:
    """An operation that answers in pages.

    items: where they are in the answer, by dots. given: the request's field for the token. answered: the answer's,
    by dots.
    """

    service: str
    operation: str
    items: str
    given: str
    answered: str


class Connection:
    """The account, with one client per service and region. Safe to use from several tasks at once."""

    def __init__(self, settings: AWSTargetSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        # At DEBUG these write requests with their bodies, and an import's body is a private key.
        for noisy in ("botocore", "boto3", "urllib3"):
            logging.getLogger(noisy).setLevel(logging.INFO)
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix=f"aws-{settings.name}")
        self._lock = threading.Lock()  # boto3's sessions are not thread-safe, its clients are
        self._session: boto3.session.Session | None = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._identity: Answer | None = None

    @property
    def target(self) -> str:
        return self._settings.name

    async def call(
        self,
        service: str,
        region: str,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        subject: str,
        is_repeatable: bool = True,
    ) -> Answer:
        """Return the operation's answer.

        Args:
            operation: as IAM spells it: `ImportCertificate`.
            subject: what it is about, for messages.
            is_repeatable: False: not sent again if AWS may have received it; throttled requests were not carried out.

        Raises:
            Outside: as `ports.target` lists them.
        """
        send = partial(self._send, service, region, operation, parameters, subject)

        async def once() -> Answer:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, send)
            except Passing as passing:
                if not is_repeatable and isinstance(passing.error, Unreachable) and passing.error.was_sent:
                    raise passing.error from passing.__cause__
                raise

        what = f"{service}:{operation}"
        return await call_again(once, target=self.target, what=what, clock=self._clock, chance=self._chance)

    async def list_all(
        self, listing: Listing, region: str, parameters: Mapping[str, Any], *, subject: str
    ) -> list[Mapping[str, Any]]:
        """Return the items of all pages."""
        found: list[Mapping[str, Any]] = []
        token = ""
        while True:
            asked = {**parameters, listing.given: token} if token else parameters
            page = await self.call(listing.service, region, listing.operation, asked, subject=subject)
            found.extend(_dig(page, listing.items) or ())
            following = str(_dig(page, listing.answered) or "")
            if not following:
                return found
            if following == token:
                raise TargetRefused(
                    f"{self.target}: {listing.service}:{listing.operation} for {subject} answers the same page for"
                    " ever.",
                    subject=subject,
                )
            token = following

    async def identity(self) -> Answer:
        """Return who we are: `Account` and `Arn`. Needs no right. Asked once."""
        if self._identity is None:
            region = (await self.regions())[0]
            self._identity = await self.call("sts", region, "GetCallerIdentity", {}, subject=self.target)
        return self._identity

    async def regions(self) -> tuple[str, ...]:
        """Return the regions of load balancers: those in the settings, or boto3's default one."""
        if self._settings.regions:
            return self._settings.regions
        return (await asyncio.get_running_loop().run_in_executor(self._threads, self._default_region),)

    async def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, service: str, region: str, operation: str, parameters: Mapping[str, Any], subject: str) -> Answer:
        """Call once, in a thread. Raises Outside or Passing."""
        try:
            client = self._client(service, region)
            answer: Answer = getattr(client, xform_name(operation))(**parameters)
        except (ClientError, BotoCoreError) as error:
            refused = translate(error, target=self.target, service=service, operation=operation, subject=subject)
            raise refused from error
        return answer

    def _client(self, service: str, region: str) -> Any:
        key = (service, CLOUDFRONT_REGION if service == "cloudfront" else region)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._open_session().client(
                    service,
                    region_name=key[1],
                    endpoint_url=self._settings.endpoint_url or None,
                    config=self._bounds(),
                )
            return self._clients[key]

    def _default_region(self) -> str:
        try:
            with self._lock:
                region = self._open_session().region_name
        except BotoCoreError as error:
            raise translate(
                error, target=self.target, service="sts", operation="GetCallerIdentity", subject=self.target
            ) from error
        if not region:
            raise TargetRefused(
                f"{self.target}: no region is known; set `regions`, or AWS_DEFAULT_REGION.", subject=self.target
            )
        return str(region)

    def _bounds(self) -> Config:
        seconds = self._settings.timeout_seconds
        return Config(
            connect_timeout=min(seconds, _LONGEST_CONNECT_SECONDS),
            read_timeout=seconds,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=_MOST_THREADS,
        )

    def _open_session(self) -> boto3.session.Session:
        """Return the session, made at first use: reading profiles and asking for credentials takes its time."""
        if self._session is None:
            session = boto3.session.Session(
                aws_access_key_id=self._settings.access_key_id or None,
                aws_secret_access_key=self._settings.secret_access_key.get_secret_value() or None,
            )
            self._session = self._assume_role(session) if self._settings.role_arn else session
        return self._session

    def _assume_role(self, source: boto3.session.Session) -> boto3.session.Session:
        """Return a session with the role's credentials, which botocore renews before they expire."""
        own = source.get_credentials()
        if own is None:
            raise NoCredentialsError
        region = self._settings.regions[0] if self._settings.regions else source.region_name
        create = partial(
            source.client,
            region_name=region or CLOUDFRONT_REGION,
            endpoint_url=self._settings.endpoint_url or None,
            config=self._bounds(),
        )
        wanted = {"RoleSessionName": _SESSION_NAME}
        if external_id := self._settings.external_id.get_secret_value():
            wanted["ExternalId"] = external_id
        fetcher = AssumeRoleCredentialFetcher(create, own, self._settings.role_arn, extra_args=wanted)
        inner = botocore.session.Session()
        inner.register_component("credential_provider", CredentialResolver([_RoleProvider(fetcher)]))
        return boto3.session.Session(botocore_session=inner, region_name=region or source.region_name)


class _RoleProvider(CredentialProvider):  # type: ignore[misc]  # botocore has no types
    METHOD = "assume-role"

    def __init__(self, fetcher: AssumeRoleCredentialFetcher) -> None:
        super().__init__()
        self._fetcher = fetcher

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(refresh_using=self._fetcher.fetch_credentials, method=self.METHOD)


def _dig(answer: Any, path: str) -> Any:
    for name in path.split("."):
        answer = answer.get(name) if answer else None
    return answer
