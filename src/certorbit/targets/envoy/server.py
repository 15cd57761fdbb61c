"""The SDS server: gRPC around the sessions of the proxies that are connected to this process.

What it serves is a catalog that `show` replaces; it knows nothing of slots and entries.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
import structlog

from certorbit.clock import Clock
from certorbit.errors import TargetRefused, Unreachable
from certorbit.model.material import Material
from certorbit.pki.selfsigned import make_placeholder
from certorbit.ports.target import Finding, Grade
from certorbit.target_settings import EnvoyTargetSettings
from certorbit.target_settings.envoy import UNIX
from certorbit.targets.envoy.answers import Tally, find_askers, find_unchecking, tally
from certorbit.targets.envoy.binding import bind
from certorbit.targets.envoy.credentials import make_credentials
from certorbit.targets.envoy.messages import (
    Ask,
    Push,
    Secret,
    read_ask,
    read_delta_ask,
    write_delta_push,
    write_push,
)
from certorbit.targets.envoy.session import Catalog, Session, digest

log = structlog.get_logger(__name__)

SERVICE: Final = "envoy.service.secret.v3.SecretDiscoveryService"
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second process on the same port is an error, not a share of the connections
    ("grpc.max_receive_message_length", 1 << 20),  # an Envoy's first request lists its extensions: some 100 KiB
    ("grpc.keepalive_time_ms", 30_000),  # a proxy whose machine is gone leaves the list of the connected ones
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # proxies may keep their connection alive as well
)
_Request = TypeVar("_Request")


class SDSServer:
    """An `Outlet` that proxies connect to. Nothing is opened before `start`."""

    def __init__(self, settings: EnvoyTargetSettings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._catalog: Catalog = {}
        self._sessions: dict[Session, None] = {}
        self._answered = asyncio.Condition()
        self._server: Any = None
        self._placeholder: Material | None = None
        self.address = settings.listen  # with the port that the system chose, once it is open

    async def placeholder(self) -> Material:
        if self._placeholder is None:
            self._placeholder = make_placeholder(now=self._clock.now())
        return self._placeholder

    async def start(self) -> None:
        credentials = make_credentials(self._settings) if self._settings.has_tls else None
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((self._make_handlers(),))
        self.address = bind(server, self._settings, credentials)
        await server.start()
        self._server = server
        log.info("envoy.listening", target=self._settings.name, address=self.address, tls=credentials is not None)

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)  # proxies end no stream by themselves; they connect again

    async def show(self, catalog: Catalog) -> None:
        self._catalog = catalog
        for session in self._sessions:
            session.woken.set()

    async def confirm(self, secrets: Sequence[Secret]) -> str:
        seconds = self._settings.acknowledge_seconds
        if not secrets or not seconds or self._server is None:
            return ""
        if not find_askers(self._sessions, secrets):
            log.warning("envoy.no_proxy", target=self._settings.name, secrets=[secret.name for secret in secrets])
            return ""
        told = await self._hear_answers(secrets, is_enough=lambda told: not told.pending)
        if told.pending:
            log.warning("envoy.silent", target=self._settings.name, proxies=told.pending)
        return told.refusal

    async def confirm_check(self, secret: Secret, *, beside: Collection[str]) -> str:
        if not self._settings.acknowledge_seconds or self._server is None:
            return ""
        if not find_askers(self._sessions, [secret]):
            log.warning("envoy.no_proxy", target=self._settings.name, secrets=[secret.name])
        # A proxy that connects at this moment asks for one secret after the other.
        told = await self._hear_answers(
            [secret], is_enough=lambda told: not told.pending and not self.find_unchecking(secret.name, beside=beside)
        )
        if told.refusal:
            return told.refusal
        if unchecking := self.find_unchecking(secret.name, beside=beside):
            raise TargetRefused(
                f"{self._settings.name}: {unchecking[0]} serves the listener and doesn't ask for {secret.name!r}, so it"
                " would check nobody; complete its validation_context_sds_secret_config (docs/targets/envoy.md, Client"
                " certificates).",
                subject=self._settings.name,
            )
        if told.pending:
            raise Unreachable(
                f"{self._settings.name}: {told.pending[0]} has not taken {secret.name!r} within"
                f" {self._settings.acknowledge_seconds:g} seconds; until it has, it may let in others.",
                subject=self._settings.name,
                phase="read",
            )
        return ""

    def find_unchecking(self, name: str, *, beside: Collection[str]) -> Sequence[str]:
        return find_unchecking(self._sessions, name, beside=beside)

    async def find_stale(self, catalog: Catalog) -> Collection[str]:  # noqa: ARG002 - it can't be seen from here
        return ()

    async def check(self) -> Sequence[Finding]:
        if self._server is None:
            return [await self._check_reach()]
        found = [Finding("reach", Grade.OK, f"This process serves secrets at {self.address}.")]
        asked = {name for session in self._sessions for name in session.names}
        unasked = sorted(self._catalog.keys() - asked)
        if not self._sessions:
            message = f"No proxy is connected to {self.address}; look at its sds_config and at the network between."
            found.append(Finding("proxies", Grade.WARNING, message))
        elif unasked:
            message = f"No connected proxy asks for {', '.join(unasked)}; compare with its sds_secret_configs."
            found.append(Finding("proxies", Grade.WARNING, message))
        else:
            nodes = {session.node or session.peer for session in self._sessions}
            found.append(Finding("proxies", Grade.OK, f"{len(nodes)} connected."))
        for session in self._sessions:
            found += [
                Finding("secrets", Grade.FAILED, f"{session} refuses {name}: {said}")
                for name, said in session.refusals().items()
            ]
            found += [
                Finding("secrets", Grade.WARNING, f"{session} asks for {name[:100]!r}, which no listener here has.")
                for name in session.missing()
            ]
        return found

    async def _hear_answers(self, secrets: Sequence[Secret], *, is_enough: Callable[[Tally], bool]) -> Tally:
        """Return what proxies said, as soon as one refused or it is enough, else when the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.acknowledge_seconds), self._answered:
                while not ((told := tally(self._sessions, secrets)).refusal or is_enough(told)):
                    await self._answered.wait()
        return tally(self._sessions, secrets)

    async def _check_reach(self) -> Finding:
        """Look at the server from outside: this process (the command line) isn't the one that serves."""
        address = self._settings.listen
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                if address.startswith(UNIX):
                    _, writer = await asyncio.open_unix_connection(address.removeprefix(UNIX))
                else:
                    host, _, port = address.rpartition(":")
                    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except (OSError, TimeoutError) as error:
            message = f"Nobody listens at {address} ({type(error).__name__}); is the service running on this machine?"
            return Finding("reach", Grade.FAILED, message)
        writer.close()
        return Finding("reach", Grade.OK, f"Something listens at {address}.")

    def _make_handlers(self) -> Any:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                    self._stream, request_deserializer=read_ask, response_serializer=write_push
                ),
                "DeltaSecrets": grpc.stream_stream_rpc_method_handler(
                    self._stream_delta, request_deserializer=read_delta_ask, response_serializer=write_delta_push
                ),
                "FetchSecrets": grpc.unary_unary_rpc_method_handler(
                    self._fetch, request_deserializer=read_ask, response_serializer=write_push
                ),
            },
        )

    async def _stream(self, requests: AsyncIterator[Any], context: Any) -> None:
        session = Session(target=self._settings.name, peer=context.peer(), is_delta=False)
        await self._serve(session, requests, session.hear, context)

    async def _stream_delta(self, requests: AsyncIterator[Any], context: Any) -> None:
        session = Session(target=self._settings.name, peer=context.peer(), is_delta=True)
        await self._serve(session, requests, session.hear_delta, context)

    async def _fetch(self, ask: Ask, context: Any) -> Push:
        """Answer once, for clients that poll."""
        session = Session(target=self._settings.name, peer=context.peer(), is_delta=False)
        try:
            session.hear(ask)
        except TargetRefused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        push = session.next_push(self._catalog)
        return push or Push(version=digest(self._catalog, ()), nonce="", secrets=())

    async def _serve(
        self,
        session: Session,
        requests: AsyncIterator[_Request],
        hear: Callable[[_Request], None],
        context: Any,
    ) -> None:
        """Carry one stream until the proxy ends it: requests in, what is due out."""
        self._sessions[session] = None
        reading = asyncio.create_task(self._read(session, requests, hear), name="envoy-sds-requests")
        reading.add_done_callback(lambda _: session.woken.set())
        try:
            while not reading.done():
                session.woken.clear()
                while push := session.next_push(self._catalog):
                    await context.write(push)
                await session.woken.wait()
            reading.result()
        except TargetRefused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        finally:
            reading.cancel()
            del self._sessions[session]
            await self._tell_waiters()
            log.debug("envoy.left", target=self._settings.name, node=session.node, peer=session.peer)

    async def _read(
        self, session: Session, requests: AsyncIterator[_Request], hear: Callable[[_Request], None]
    ) -> None:
        async for request in requests:
            hear(request)
            session.woken.set()
            await self._tell_waiters()

    async def _tell_waiters(self) -> None:
        async with self._answered:
            self._answered.notify_all()
