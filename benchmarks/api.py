"""Requests per second and latencies of the API: GET one, GET a list of 1,000, POST upload.

A real `certorbit serve` on SQLite, asked over 32 kept-alive connections from this process, which takes a part of the
same two cores: the numbers are what a client on the same machine sees. Every load is bounded in requests and in
time. Writes benchmarks/results/api.json.
"""

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from certorbit_process import Service, serving
from material import Upload, make_uploads

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "api.json"
CONNECTIONS = 32
ENTRIES = 1000
Request = Callable[[], Awaitable[None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="at most so long for each reading load")
    arguments = parser.parse_args()
    uploads = make_uploads(ENTRIES)
    with tempfile.TemporaryDirectory(prefix="certorbit-bench-") as name, serving(Path(name)) as service:
        results = asyncio.run(measure(service, uploads, seconds=arguments.seconds))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Written: {RESULTS.relative_to(ROOT)}")


async def measure(service: Service, uploads: list[Upload], *, seconds: float) -> dict[str, dict[str, float]]:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(headers=service.headers, connector=connector, timeout=timeout) as session:
        waiting = iter(uploads)
        turn = itertools.cycle(range(ENTRIES))

        async def upload() -> None:
            one = next(waiting)
            await ask(session, "POST", service.certificate(one.entry), status=201, body=one.body)

        async def get_one() -> None:
            await ask(session, "GET", service.certificate(uploads[next(turn)].entry), status=200)

        async def list_all() -> None:
            await ask(session, "GET", f"{service.address}/api/v4.3/conf/prod/certificates", status=200)

        return {
            "upload": await load("upload", upload, requests=ENTRIES, seconds=120),
            "get_one": await load("get_one", get_one, requests=50_000, seconds=seconds),
            "list_1000": await load("list_1000", list_all, requests=2_000, seconds=seconds),
        }


async def ask(
    session: aiohttp.ClientSession, method: str, url: str, *, status: int, body: dict[str, object] | None = None
) -> None:
    async with session.request(method, url, json=body) as answer:
        content = await answer.read()
        if answer.status != status:
            raise RuntimeError(f"{method} {url}: {answer.status} {content[:500]!r}")


async def load(name: str, request: Request, *, requests: int, seconds: float) -> dict[str, float]:
    """Send requests over all connections until either bound is reached; return the numbers."""
    times: list[float] = []
    numbers = iter(range(requests))
    began = time.perf_counter()
    deadline = began + seconds

    async def work() -> None:
        while time.perf_counter() < deadline and next(numbers, None) is not None:
            sent = time.perf_counter()
            await request()
            times.append(time.perf_counter() - sent)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(work())
    elapsed = time.perf_counter() - began
    times.sort()
    result = {
        "req_per_s": round(len(times) / elapsed, 1),
        "p50_ms": round(1000 * times[len(times) // 2], 2),
        "p99_ms": round(1000 * times[int(len(times) * 0.99)], 2),
        "requests": len(times),
    }
    print(f"{name}: {result['req_per_s']} requests/s, p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms", flush=True)
    return result


if __name__ == "__main__":
    main()
