"""DNS writers with the other side of each: a way to look at its records, and to write there as somebody else."""

import asyncio
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import boto3
import dns.rdatatype
import dns.zone
from moto.server import ThreadedMotoServer

from certorbit.clock import Clock
from certorbit.ports.dns import DNSZoneWriter
from certorbit.solver_settings import (
    LexiconSolverSettings,
    RFC2136SolverSettings,
    Route53SolverSettings,
    WebhookSolverSettings,
)
from certorbit.solvers.dns.lexicon import LexiconWriter
from certorbit.solvers.dns.rfc2136 import RFC2136Writer
from certorbit.solvers.dns.route53 import Route53Writer
from certorbit.solvers.dns.webhook import WebhookWriter
from e2e.bind import KEY_NAME, KEY_SECRET, start_bind
from fakes.clock import FakeChance, FakeClock
from fakes.memory_dns import MemoryDNSWriter
from fakes.webhook_endpoint import SECRET, WebhookEndpoint

ZONE = "example.com"


@dataclass(frozen=True)
class Bench:
    """read: the TXT values of a name. write: add a value at a name, as another client of the provider does."""

    writer: DNSZoneWriter
    read: Callable[[str], Awaitable[set[str]]]
    write: Callable[[str, str], Awaitable[None]]


MakeBench = Callable[[Path, AsyncExitStack], Awaitable[Bench]]


def a_clock() -> Clock:
    return FakeClock(auto_advance=True)


async def memory_bench(_folder: Path, _stack: AsyncExitStack) -> Bench:
    writer = MemoryDNSWriter()

    async def read(name: str) -> set[str]:
        return set(writer.values.get(name, ()))

    async def write(name: str, value: str) -> None:
        writer.values.setdefault(name, []).append(value)

    return Bench(writer, read, write)


async def rfc2136_bench(folder: Path, stack: AsyncExitStack, *, transport: str = "tcp") -> Bench:
    bind = await asyncio.to_thread(start_bind, folder / "bind", {ZONE: []})
    stack.push_async_callback(asyncio.to_thread, bind.stop)
    settings = RFC2136SolverSettings.model_validate(
        {
            "type": "rfc2136",
            "server": bind.server,
            "transport": transport,
            "key_name": KEY_NAME,
            "key_secret": KEY_SECRET,
        }
    )

    async def read(name: str) -> set[str]:
        return await asyncio.to_thread(bind.read_txt, name)

    async def write(name: str, value: str) -> None:
        await asyncio.to_thread(bind.add_record, ZONE, name, "TXT", value)

    return Bench(RFC2136Writer(settings, clock=a_clock(), chance=FakeChance()), read, write)


async def rfc2136_over_udp_bench(folder: Path, stack: AsyncExitStack) -> Bench:
    return await rfc2136_bench(folder, stack, transport="udp")


async def route53_bench(_folder: Path, stack: AsyncExitStack) -> Bench:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    await asyncio.to_thread(server.start)
    stack.push_async_callback(asyncio.to_thread, server.stop)
    host, port = server.get_host_and_port()
    # moto's state belongs to the process, not to the server.
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    (await asyncio.to_thread(urllib.request.urlopen, reset, timeout=10)).close()
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "key", "region_name": "us-east-1"}
    client = boto3.client("route53", endpoint_url=f"http://{host}:{port}", **keys)
    stack.callback(client.close)
    zone_id = (await asyncio.to_thread(client.create_hosted_zone, Name=ZONE, CallerReference="1"))["HostedZone"]["Id"]
    settings = Route53SolverSettings.model_validate(
        {
            "type": "route53",
            "endpoint_url": f"http://{host}:{port}",
            "access_key_id": "id",
            "secret_access_key": "key",
        }
    )

    def find(name: str) -> list[str]:
        found = client.list_resource_record_sets(HostedZoneId=zone_id)["ResourceRecordSets"]
        sets = [s for s in found if s["Name"] == name + "." and s["Type"] == "TXT"]
        assert len(sets) <= 1
        return [record["Value"] for s in sets for record in s["ResourceRecords"]]

    def put(name: str, value: str) -> None:
        records = [{"Value": text} for text in [*find(name), f'"{value}"']]
        record_set = {"Name": name, "Type": "TXT", "TTL": 300, "ResourceRecords": records}
        change = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record_set}]}
        client.change_resource_record_sets(HostedZoneId=zone_id, ChangeBatch=change)

    async def read(name: str) -> set[str]:
        return {text.strip('"') for text in await asyncio.to_thread(find, name)}

    async def write(name: str, value: str) -> None:
        await asyncio.to_thread(put, name, value)

    return Bench(Route53Writer(settings, clock=a_clock(), chance=FakeChance()), read, write)


async def lexicon_bench(folder: Path, _stack: AsyncExitStack) -> Bench:
    """lexicon's provider `localzone`, which writes a zone file."""
    file = folder / f"{ZONE}.zone"
    file.write_text(f"$ORIGIN {ZONE}.\n$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1\n")
    settings = LexiconSolverSettings.model_validate(
        {"type": "lexicon", "provider": "localzone", "options": {"filename": str(file)}}
    )

    async def read(name: str) -> set[str]:
        found = dns.zone.from_file(str(file), origin=ZONE).get_rdataset(name + ".", dns.rdatatype.TXT)
        return {b"".join(record.strings).decode() for record in found or ()}

    async def write(name: str, value: str) -> None:
        with file.open("a") as records:
            records.write(f'{name}. 60 IN TXT "{value}"\n')

    return Bench(LexiconWriter(settings, clock=a_clock(), chance=FakeChance()), read, write)


async def webhook_bench(_folder: Path, stack: AsyncExitStack) -> Bench:
    clock = a_clock()
    endpoint = await stack.enter_async_context(WebhookEndpoint(now=lambda: clock.now().timestamp()))
    settings = WebhookSolverSettings.model_validate({"type": "webhook", "url": endpoint.url, "secret": SECRET})

    async def read(name: str) -> set[str]:
        return set(endpoint.values.get(name, ()))

    async def write(name: str, value: str) -> None:
        endpoint.values.setdefault(name, set()).add(value)

    return Bench(WebhookWriter(settings, clock=clock, chance=FakeChance()), read, write)


BENCHES: dict[str, MakeBench] = {
    "memory": memory_bench,
    "rfc2136": rfc2136_bench,
    "rfc2136-udp": rfc2136_over_udp_bench,
    "route53": route53_bench,
    "lexicon": lexicon_bench,
    "webhook": webhook_bench,
}
