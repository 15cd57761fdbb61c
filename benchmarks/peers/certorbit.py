"""Ourselves: a real `certorbit serve` on SQLite, asked over its HTTP API, through workflow, storage and sealing."""

import asyncio
from pathlib import Path

import aiohttp

from certorbit_process import CERTORBIT, Service, serving
from peers.measure import CA, Result, Stopwatch
from processes import cpu_seconds

AT_ONCE = 32  # POSTs; the orders in flight at the CA are bounded by the setting
MAX_IN_FLIGHT = 12  # Debian's Pebble wedges above 16 requests in flight
LIMIT_SECONDS = 300


def find_missing() -> str:
    return "" if CERTORBIT.exists() else "certorbit is not set up (make setup)"


def issue(ca: CA, *, folder: Path, count: int) -> Result:
    settings = {
        "ACME_DIRECTORY": ca.directory_url,
        "ACME_CA_BUNDLE": str(ca.ca_bundle),
        "ACME_CONTACT": "bench@example.org",
        "ACME_MAX_IN_FLIGHT": str(MAX_IN_FLIGHT),
        "HTTP01_LISTEN": f"127.0.0.1:{ca.http01_port}",
    }
    with serving(folder, settings=settings) as service:
        return asyncio.run(_issue_all(service, ca, count))


async def _issue_all(service: Service, ca: CA, count: int) -> Result:
    numbers = iter(range(count))
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(headers=service.headers, timeout=timeout) as session:

        async def ask_until_none_is_left() -> None:
            for number in numbers:
                await _get_certificate(session, service, f"n{number}")

        await _get_certificate(session, service, "warm-up")
        watch = Stopwatch(ca, client_cpu=lambda: cpu_seconds(service.pid))
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(ask_until_none_is_left())
        return watch.stop(certificates=count, at_once=AT_ONCE)


async def _get_certificate(session: aiohttp.ClientSession, service: Service, name: str) -> None:
    """Ask for a certificate and return when it can be fetched."""
    url = service.certificate(name)
    async with session.post(url, params={"domains": f"{name}.bench.test"}, json={}) as answer:
        if answer.status != 201:
            raise RuntimeError(f"POST {url}: {answer.status} {await answer.text()}")
    while True:
        async with session.get(url) as answer:
            entry = await answer.json()
        if entry["cert_body"]:
            return
        await asyncio.sleep(0.2)  # 201 came at the end of the wait: the issuance goes on
