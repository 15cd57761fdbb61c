"""Seconds from 'new version stored' to 'proven' on 1, 10 and 100 listeners of a real HAProxy, under handshakes.

One certificate of the built-in CA is attached to every listener, then renewed some times; each time all listeners get
the new version, and the service proves it by handshakes of its own. Meanwhile this process shakes hands with all
listeners at a constant rate, and compares the leaves. Service, HAProxy and the handshakes share the machine.

Writes benchmarks/results/deploy.json: by the number of listeners `seconds`, the median over the renewals from the
version's creation until the last listener's proof is written down; `handshakes` made and how many of them `failed`,
or showed something else than the old or the new leaf; `handshakes_per_s`, the load; `cpu_s`, what the service took
for a renewal and its deployment, the median.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from certorbit_process import Service, serving
from deploy_load import Load
from processes import cpu_seconds

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "deploy.json"
SIZES = (1, 10, 100)
ENTRY = "www"
NAME = "www.bench.test"
NATIVE = "/api/certorbit/v1"
LONGEST_SECONDS = 300.0  # until a deployment ends
ATTACHING_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Renewed:
    seconds: float
    cpu_seconds: float
    leaf: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listeners", type=int, nargs="+", default=SIZES, help="how many listeners, one run for each")
    parser.add_argument("--renewals", type=int, default=5, help="in each run")
    parser.add_argument("--rate", type=float, default=50.0, help="handshakes per second over all listeners")
    arguments = parser.parse_args()
    if shutil.which("haproxy") is None:
        print("HAProxy is missing (Debian package: haproxy): nothing can be measured.", file=sys.stderr)
        return 1
    results = {}
    for size in arguments.listeners:
        load, renewals = asyncio.run(run(size, renewals=arguments.renewals, rate=arguments.rate))
        results[str(size)] = summarise(load, renewals)
        print(f"{size:>4} listeners: {results[str(size)]}", flush=True)
        for failure, times in load.failures.items():
            print(f"     {times} handshakes failed: {failure}", file=sys.stderr)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Written: {RESULTS.relative_to(ROOT)}")
    return 1 if any(result["failed"] for result in results.values()) else 0


def summarise(load: Load, renewals: Sequence[Renewed]) -> dict[str, float]:
    return {
        "seconds": round(statistics.median(renewed.seconds for renewed in renewals), 3),
        "handshakes": load.made,
        "failed": load.failures.total(),
        "handshakes_per_s": load.per_second,
        "cpu_s": round(statistics.median(renewed.cpu_seconds for renewed in renewals), 2),
        "renewals": len(renewals),
    }


async def run(size: int, *, renewals: int, rate: float) -> tuple[Load, list[Renewed]]:
    with tempfile.TemporaryDirectory(prefix="certorbit-bench-") as name:
        folder = Path(name)
        async with proxy(folder, listeners=size) as (ports, table):
            settings = folder / "certorbit.toml"
            settings.write_text(table)
            with serving(folder, settings={"SETTINGS": str(settings)}) as service:
                load = Load(ports, server_name=NAME, per_second=rate)
                return load, await measure(service, load, renewals=renewals)


@contextlib.asynccontextmanager
async def proxy(folder: Path, *, listeners: int) -> AsyncIterator[tuple[list[int], str]]:
    """Start HAProxy the way the tests do. Gives: its listeners' ports, and its `[[targets]]` table."""
    sys.path.append(str(ROOT / "tests"))
    from targets.haproxy_process import settings_for, start_haproxy

    async with start_haproxy(folder, listeners=listeners) as haproxy:
        fields = settings_for(haproxy).model_dump(mode="json", exclude_defaults=True)
        yield [listener.port for listener in haproxy.listeners], write_table({"type": "haproxy", **fields})


def write_table(fields: Mapping[str, Any]) -> str:
    """Return `[[targets]]` as TOML; its strings, numbers and lists read as in JSON."""
    lines = ["[[targets]]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items() if name != "listeners")]
    for listener in fields["listeners"]:
        lines += ["[[targets.listeners]]", *(f"{name} = {json.dumps(value)}" for name, value in listener.items())]
    return "\n".join(lines) + "\n"


async def measure(service: Service, load: Load, *, renewals: int) -> list[Renewed]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(service.address, headers=service.headers, timeout=timeout) as session:
        api = API(session)
        await api.attach_everywhere(len(load.ports))
        print(
            f"{len(load.ports):>4} listeners: attached, renewing under {load.per_second:g} handshakes/s …", flush=True
        )
        leaf = (await api.versions())[0]["fingerprint"]
        results: list[Renewed] = []
        async with load.running():
            for _ in range(renewals):
                before = cpu_seconds(service.pid)
                deployment, version = await api.renew()
                cpu = cpu_seconds(service.pid) - before
                new = version["fingerprint"]
                await load.expect_everywhere(new)
                load.judge({leaf, new})
                leaf = new
                results.append(Renewed(seconds_between(version, deployment), cpu, new))
        return results


def seconds_between(version: Mapping[str, Any], deployment: Mapping[str, Any]) -> float:
    """Return the time from the version's creation until its last listener is known to serve it."""
    proven = max(datetime.fromisoformat(rollout["updated_at"]) for rollout in deployment["listeners"])
    return (proven - datetime.fromisoformat(version["created_at"])).total_seconds()


@dataclass(frozen=True, slots=True)
class API:
    """The requests of an operator: one certificate for all listeners of the target, and its renewal."""

    session: aiohttp.ClientSession

    async def attach_everywhere(self, count: int) -> None:
        """Generate the certificate and attach it; return when every one of the listeners is proven to serve it."""
        await self._ask("POST", f"/api/v4.3/conf/prod/certificates/{ENTRY}", {"domains": NAME}, status=201)
        waiting = iter(await self._wait_found(count))

        async def attach() -> None:
            for listener in waiting:
                where = {
                    "provider": listener["provider"],
                    "region": listener["region"],
                    "listener": listener["listener_name"],
                    "listener-port": str(listener["listener_port"]),
                }
                path = f"/api/v4.3/conf/prod/load-balancers/{listener['name']}/certificates/{ENTRY}"
                await self._ask("PUT", path, where)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(ATTACHING_AT_ONCE):
                tasks.create_task(attach())
        await self._wait_idle()
        await self._check_attached(count)

    async def renew(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Renew, and return the deployment that follows, when it has succeeded, and its version."""
        await self._ask("POST", f"{NATIVE}/configs/prod/certificates/{ENTRY}/renew", status=202)
        operation = await self._wait_idle()
        deployment = await self._ask("GET", f"{NATIVE}/deployments/{operation['id']}")
        if deployment["state"] != "succeeded" or deployment["attempt"] != 1:
            raise RuntimeError(f"The deployment did not succeed at once: {deployment['problem']}")
        version = (await self.versions())[0]
        if {rollout["to_version"] for rollout in deployment["listeners"]} != {version["id"]}:
            raise RuntimeError("The newest deployment is not that of the newest version.")
        return deployment, version

    async def versions(self) -> list[dict[str, Any]]:
        found = await self._ask("GET", f"{NATIVE}/configs/prod/certificates/{ENTRY}/versions")
        return list(found["items"])

    async def _wait_found(self, count: int) -> Sequence[Mapping[str, Any]]:
        """Return the listeners when the service has looked at them all, which it does after its start."""
        async with asyncio.timeout(LONGEST_SECONDS):
            while True:
                found = await self._ask("GET", "/api/v4.3/conf/prod/load-balancers")
                if found["total"] == count:
                    return list(found["items"])
                await asyncio.sleep(0.1)

    async def _wait_idle(self) -> Mapping[str, Any]:
        """Return the newest deployment, when it and what it follows from have ended."""
        async with asyncio.timeout(LONGEST_SECONDS):
            while True:
                found = await self._ask("GET", f"{NATIVE}/operations", {"entry": ENTRY, "limit": "2"})
                for each in found["items"]:
                    if each["problem"]:
                        raise RuntimeError(f"{each['kind']} {each['state']}: {each['problem']['message']}")
                deployments: list[Mapping[str, Any]] = [each for each in found["items"] if each["kind"] == "deploy"]
                if deployments and all(each["finished_at"] for each in found["items"]):
                    return deployments[0]
                await asyncio.sleep(0.1)

    async def _check_attached(self, count: int) -> None:
        found = await self._ask("GET", f"{NATIVE}/configs/prod/certificates/{ENTRY}/deployments")
        stages = [attachment["stage"] for attachment in found["attachments"]]
        if stages != ["proven"] * count:
            raise RuntimeError(f"Not all of {count} listeners have the certificate: {stages}")

    async def _ask(self, method: str, path: str, query: Mapping[str, str] | None = None, *, status: int = 200) -> Any:
        async with self.session.request(method, path, params=query) as answer:
            content = await answer.read()
            if answer.status != status:
                raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
            return json.loads(content) if content else None


if __name__ == "__main__":
    sys.exit(main())
