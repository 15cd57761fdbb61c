"""What the commands do: run a server, run a worker, check targets."""

import asyncio
import gc
import signal
import socket
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import structlog
import uvloop

from certorbit.api.app import make_app
from certorbit.api.challenges import make_challenge_app
from certorbit.app import (
    Service,
    make_service_tls,
    open_service,
    open_targets,
    watch_certificate,
)
from certorbit.cli.memory import forbid_memory_dumps
from certorbit.cli.serving import Server, listen, url_of
from certorbit.deploying.checking import check_target
from certorbit.errors import NotFound
from certorbit.observe.logs import set_up_logs
from certorbit.ports.target import Finding
from certorbit.settings import Settings, split_listen
from certorbit.workflows.periodic import Periodic
from certorbit.workflows.service_tls import Served

log = structlog.get_logger(__name__)
T = TypeVar("T")

DRAIN_SECONDS = 10.0  # how long a stopping worker lets steps end; what is cut off goes on at the next start
GARBAGE_THRESHOLD = 10_000  # new objects between two looks at the youngest; Python's 700 is for small programs


def run_server(settings: Settings, *, host: str, port: int, with_worker: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        CertorbitError: what keeps the service from starting.
    """
    forbid_memory_dumps()
    _run(settings, _serve(settings, host=host, port=port, with_worker=with_worker))


def run_worker(settings: Settings) -> None:
    """Run workflows until SIGTERM or SIGINT.

    Raises:
        CertorbitError: what keeps the worker from starting.
    """
    forbid_memory_dumps()
    _run(settings, _work(settings))


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
        listener = stack.enter_context(listen(host, port))
        challenge_listener = None
        if settings.http01_listen:
            challenge_listener = stack.enter_context(listen(*split_listen(settings.http01_listen)))
        address = url_of(listener, is_tls=settings.tls.is_on)
        async with open_service(settings, public_url=settings.public_url or address) as service:
            parts = service.parts()
            server, watch = await _make_server(make_app(parts), service, listener=listener, url=address)
            servers = [server]
            if challenge_listener is not None:
                servers.append(Server(make_challenge_app(parts), listener=challenge_listener))
            _stop_on_signals(servers)
            if service.first_key is not None:
                # Shown once; only its hash is kept. Standard output, because the log goes to other places.
                print(f"The first administrator's API key (shown this once): {service.first_key}", flush=True)
            if with_worker:
                await service.start_work()
            if watch is not None:
                watch.start()
            _settle_memory()
            log.info("service.starting", url=address, worker=with_worker, issuer=service.issuers[0].name)
            try:
                await asyncio.gather(*(one.serve() for one in servers))
            finally:
                if watch is not None:
                    await watch.stop()
                await _stop(service)


async def _make_server(
    app: Any, service: Service, *, listener: socket.socket, url: str
) -> tuple[Server, Periodic | None]:
    """Return the API's server, and with HTTPS what keeps its certificate new, to be started."""
    tls = make_service_tls(service, url=url)
    if tls is None:
        return Server(app, listener=listener), None
    served = await tls.start()
    if served.is_self_signed:
        # People compare it or hand it to their clients, so it is shown where the first key is.
        print(
            f"Until {service.settings.tls.certificate} is issued, HTTPS has a self-signed certificate;"
            f" its fingerprint: sha256:{served.facts.fingerprint}",
            flush=True,
        )
    server = Server(app, listener=listener, context=served.context)

    async def serve(newer: Served) -> None:
        await server.serve_with(newer.context, hang_up=newer.has_new_clients)

    return server, watch_certificate(tls, seconds=service.settings.tls.look_seconds, serve=serve)


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


def _stop_on_signals(servers: Sequence[Server]) -> None:
    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
