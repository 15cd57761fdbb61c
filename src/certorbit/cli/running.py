"""What the commands do: run a server, run a worker, look after API keys, check targets."""

import asyncio
import gc
import signal
import socket
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import structlog
import uvicorn
import uvloop

from certorbit.api.app import make_app
from certorbit.api.challenges import make_challenge_app
from certorbit.app import CLOCK, Service, new_id, open_service, open_store, open_targets
from certorbit.deploying.checking import check_target
from certorbit.errors import NotFound, Refused
from certorbit.model.access import APIKey, Role
from certorbit.observe.logs import set_up_logs
from certorbit.ports.target import Finding
from certorbit.services import api_keys
from certorbit.settings import Settings, split_listen

log = structlog.get_logger(__name__)
T = TypeVar("T")

DRAIN_SECONDS = 10.0  # how long a stopping worker lets steps end; what is cut off goes on at the next start
GARBAGE_THRESHOLD = 10_000  # new objects between two looks at the youngest; Python's 700 is for small programs
GRACE_SECONDS = 5  # how long open requests may go on; a POST that is cut off is safe to repeat


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: one of ours stops all servers of the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_server(settings: Settings, *, host: str, port: int, with_worker: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        CertorbitError: what keeps the service from starting.
    """
    _run(settings, _serve(settings, host=host, port=port, with_worker=with_worker))


def run_worker(settings: Settings) -> None:
    """Run workflows until SIGTERM or SIGINT.

    Raises:
        CertorbitError: what keeps the worker from starting.
    """
    _run(settings, _work(settings))


def create_api_key(settings: Settings, *, name: str, role: Role, may_export_keys: bool) -> str:
    """Store a new API key's hash and return the key."""
    secret = api_keys.new_secret()

    async def create() -> None:
        async with open_store(settings) as store:
            await store.write(
                lambda tx: api_keys.create_key(
                    tx,
                    name=name,
                    role=role,
                    may_export_keys=may_export_keys,
                    now=CLOCK.now(),
                    new_id=new_id,
                    secret=secret,
                )
            )

    _run(settings, create())
    return secret


def list_api_keys(settings: Settings) -> Sequence[APIKey]:
    """Return the records of all API keys."""

    async def read() -> Sequence[APIKey]:
        async with open_store(settings) as store:
            return await store.read(api_keys.list_keys)

    return _run(settings, read())


def check_targets(settings: Settings, names: Sequence[str]) -> Mapping[str, Sequence[Finding]]:
    """Check targets from the settings alone, one after the other; no names: all of them. No database is opened.

    Raises:
        NotFound: there is no target of this name. BadInput: a target's package is not installed.
    """

    async def check() -> Mapping[str, Sequence[Finding]]:
        async with open_targets(settings) as targets:
            if unknown := [name for name in names if name not in targets.by_name]:
                known = ", ".join(targets.by_name) or "none"
                raise NotFound(
                    f"There is no target {unknown[0]!r} in the settings; there are: {known}.", subject="target"
                )
            return {name: await check_target(targets.by_name[name].target) for name in names or targets.by_name}

    return _run(settings, check())


def _run(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    set_up_logs(level=settings.log_level, style=settings.log_format)
    return uvloop.run(work)


async def _serve(settings: Settings, *, host: str, port: int, with_worker: bool) -> None:
    with ExitStack() as stack:
        # Before the service: a first administrator's key must not be made by a process that can't go on to show it.
        sockets = [stack.enter_context(_listen(host, port))]
        if settings.http01_listen:
            sockets.append(stack.enter_context(_listen(*split_listen(settings.http01_listen))))
        address = _url(sockets[0])
        async with open_service(settings, public_url=settings.public_url or address) as service:
            parts = service.parts()
            apps = [make_app(parts), make_challenge_app(parts)]
            servers = [_server(app) for app in apps[: len(sockets)]]
            _stop_on_signals(servers)
            if service.first_key is not None:
                # Shown once; only its hash is kept. Standard output, because the log goes to other places.
                print(f"The first administrator's API key (shown this once): {service.first_key}", flush=True)
            if with_worker:
                await service.start_work()
            _settle_memory()
            log.info("service.starting", url=address, worker=with_worker, issuer=service.issuers[0].name)
            try:
                await asyncio.gather(
                    *(server.serve(sockets=[sock]) for server, sock in zip(servers, sockets, strict=True))
                )
            finally:
                await _stop(service)


async def _work(settings: Settings) -> None:
    async with open_service(settings, public_url=settings.public_url) as service:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await service.start_work()
        _settle_memory()
        log.info("worker.ready", issuer=service.issuers[0].name)
        try:
            await stop.wait()
        finally:
            await _stop(service)


async def _stop(service: Service) -> None:
    log.info("service.stopping")
    await service.stop_periodic()
    await service.engine.stop(drain_seconds=DRAIN_SECONDS)


def _settle_memory() -> None:
    """Take what is loaded for good out of the garbage collector's sight.

    A full collection otherwise walks half a million objects of modules and schemas that never go away, some tens of
    milliseconds in which nothing is served; and with thousands of short-lived rows per list it comes often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 50)


def _server(app: Any) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


def _stop_on_signals(servers: Sequence[_Server]) -> None:
    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        Refused: the address can't be used; the message says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise Refused(
            f"{host}:{port} can't be listened on: {error.strerror}. Name another address or port.", subject="port"
        ) from error


def _url(listener: socket.socket) -> str:
    """Return the URL that clients reach the listener by; every address means this machine's name."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
