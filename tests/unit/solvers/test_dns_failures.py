"""What each DNS writer does when its other side refuses, is away, or is quicker: words, tries, no secrets."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from certorbit.errors import BadInput, SolverFailed
from certorbit.model.identifiers import normalise_identifier
from certorbit.net.resolve import Resolution
from certorbit.ports.solver import Proof
from certorbit.solver_settings import (
    DNSSolverSettings,
    LexiconSolverSettings,
    RFC2136SolverSettings,
    Route53SolverSettings,
    WebhookSolverSettings,
)
from certorbit.solvers.dns.lexicon import LexiconWriter
from certorbit.solvers.dns.rfc2136 import RFC2136Writer
from certorbit.solvers.dns.route53 import MOST_SWAPS, Route53Writer
from certorbit.solvers.dns.tries import TRIES
from certorbit.solvers.dns.webhook import WebhookWriter
from certorbit.solvers.dns01 import DNS01Solver, NameLocks
from certorbit.solvers.propagation import Propagation
from e2e.bind import KEY_NAME, KEY_SECRET, Bind, running_bind
from fakes.clock import FakeChance, FakeClock
from fakes.memory_dns import MemoryDNSWriter
from fakes.webhook_endpoint import SECRET, WebhookEndpoint

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"
OTHER_SECRET = "YW5vdGhlci1zZWNyZXQtb2YtdGhlLXRlc3RzLi4uLi4="
NOBODY = "127.0.0.1:9"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(auto_advance=True)


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with running_bind(tmp_path_factory.mktemp("bind"), {ZONE: []}) as running:
        yield running


def rfc2136(clock: FakeClock, **changes: object) -> RFC2136Writer:
    values = {"type": "rfc2136", "key_name": KEY_NAME, "key_secret": KEY_SECRET, **changes}
    return RFC2136Writer(RFC2136SolverSettings.model_validate(values), clock=clock, chance=FakeChance())


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"key_secret": OTHER_SECRET}, "refuses the TSIG key", id="wrong-secret"),
        pytest.param({"key_name": "stranger."}, "refuses the TSIG key", id="unknown-key"),
        pytest.param({"key_algorithm": "hmac-sha512"}, "refuses the TSIG key", id="other-algorithm"),
        pytest.param({"key_name": "", "key_secret": ""}, "answers REFUSED", id="no-key"),
    ],
)
async def test_a_refused_update_is_told_at_once_without_the_key(
    bind: Bind, clock: FakeClock, transport: str, changes: dict[str, object], says: str
) -> None:
    writer = rfc2136(clock, server=bind.server, transport=transport, **changes)
    with pytest.raises(SolverFailed, match=f"can't write into the zone {ZONE}: .*{says}") as caught:
        await writer.add_txt(NAME, "value", zone=ZONE)
    assert KEY_SECRET not in caught.value.message
    assert OTHER_SECRET not in caught.value.message
    assert clock.slept == []
    assert bind.read_txt(NAME) == set()


async def test_a_zone_that_the_server_has_not_is_told(bind: Bind, clock: FakeClock) -> None:
    with pytest.raises(SolverFailed, match=r"zone other\.test: .*answers NOTAUTH\. Let the key update TXT"):
        await rfc2136(clock, server=bind.server).add_txt("_acme-challenge.other.test", "v", zone="other.test")


async def test_a_name_server_that_is_down_is_asked_a_few_times(clock: FakeClock) -> None:
    with pytest.raises(SolverFailed, match=rf"{NOBODY} doesn't answer: .*\. Check the solver's server"):
        await rfc2136(clock, server=NOBODY).add_txt(NAME, "value", zone=ZONE)
    assert len(clock.slept) == TRIES.most - 1


async def test_where_the_record_goes_is_asked_and_what_nobody_knows_is_told(bind: Bind, clock: FakeClock) -> None:
    writer = MemoryDNSWriter()
    settings = DNSSolverSettings()
    resolution = Resolution(resolvers=[bind.server])
    solver = DNS01Solver(
        writer=writer,
        settings=settings,
        resolution=resolution,
        propagation=Propagation(
            kind="memory", settings=settings, resolution=resolution, clock=clock, chance=FakeChance()
        ),
        locks=NameLocks(),
    )
    with pytest.raises(SolverFailed, match=r"can't find out where _acme-challenge\.other\.test is written.*dns_zone"):
        await solver.present([Proof(normalise_identifier("*.other.test"), "token", "token.print")])
    assert writer.calls == []


@pytest.fixture
async def endpoint(clock: FakeClock) -> AsyncIterator[WebhookEndpoint]:
    async with WebhookEndpoint(now=lambda: clock.now().timestamp()) as running:
        yield running


def webhook(clock: FakeClock, url: str, *, secret: str = SECRET) -> WebhookWriter:
    settings = WebhookSolverSettings.model_validate({"type": "webhook", "url": url, "secret": secret, "ttl": 30})
    return WebhookWriter(settings, clock=clock, chance=FakeChance())


async def test_a_webhook_gets_everything_it_needs(endpoint: WebhookEndpoint, clock: FakeClock) -> None:
    writer = webhook(clock, endpoint.url)
    await writer.add_txt(NAME, "value", zone=ZONE)
    assert endpoint.requests == [{"action": "add", "zone": ZONE, "name": NAME, "value": "value", "ttl": 30}]
    await writer.close()


async def test_a_webhook_that_stumbles_is_called_again(endpoint: WebhookEndpoint, clock: FakeClock) -> None:
    endpoint.answers = [500, 429, 503]
    writer = webhook(clock, endpoint.url)
    await writer.add_txt(NAME, "value", zone=ZONE)
    assert endpoint.values[NAME] == {"value"}
    assert len(clock.slept) == 3
    endpoint.answers = [500] * TRIES.most
    with pytest.raises(SolverFailed, match=f"zone {ZONE}: the endpoint answers 500 'scripted answer'"):
        await writer.remove_txt(NAME, "value", zone=ZONE)
    assert endpoint.answers == []
    await writer.close()


async def test_a_webhook_that_refuses_is_believed(endpoint: WebhookEndpoint, clock: FakeClock) -> None:
    writer = webhook(clock, endpoint.url, secret=OTHER_SECRET)
    with pytest.raises(SolverFailed, match="the endpoint answers 401 'bad signature'") as caught:
        await writer.add_txt(NAME, "value", zone=ZONE)
    assert OTHER_SECRET not in caught.value.message
    assert clock.slept == []
    await writer.close()


async def test_a_webhook_that_nobody_serves_is_told_without_its_path(clock: FakeClock) -> None:
    writer = webhook(clock, f"http://{NOBODY}/hidden-path?token=t")
    with pytest.raises(SolverFailed, match="the endpoint doesn't answer: ClientConnector") as caught:
        await writer.add_txt(NAME, "value", zone=ZONE)
    assert "hidden-path" not in caught.value.message
    assert len(clock.slept) == TRIES.most - 1
    await writer.close()


def record_set(*values: str, **more: object) -> dict[str, Any]:
    records = [{"Value": f'"{value}"'} for value in values]
    return {"Name": f"{NAME}.", "Type": "TXT", "TTL": 60, "ResourceRecords": records, **more}


def route53_from_settings(clock: FakeClock, **changes: object) -> Route53Writer:
    settings = Route53SolverSettings.model_validate({"type": "route53", **changes})
    return Route53Writer(settings, clock=clock, chance=FakeChance())


class Amazon:
    """Route 53's answers, in order, each to exactly the request that it belongs to."""

    def __init__(self, clock: FakeClock) -> None:
        client = boto3.client(
            "route53", region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key=OTHER_SECRET
        )
        self.stub = Stubber(client)
        self.stub.activate()
        settings = Route53SolverSettings.model_validate({"type": "route53", "hosted_zone_id": "Z1"})
        self.writer = Route53Writer(settings, clock=clock, chance=FakeChance(), client=client)

    def look(self, *sets: dict[str, Any]) -> None:
        asked = {"HostedZoneId": "Z1", "StartRecordName": f"{NAME}.", "StartRecordType": "TXT", "MaxItems": "1"}
        answer = {"ResourceRecordSets": list(sets), "IsTruncated": False, "MaxItems": "1"}
        self.stub.add_response("list_resource_record_sets", answer, asked)

    def change(self, *changes: tuple[str, dict[str, Any]], fails: bool = False, status: str = "PENDING") -> None:
        batch = [{"Action": action, "ResourceRecordSet": changed} for action, changed in changes]
        asked = {"HostedZoneId": "Z1", "ChangeBatch": {"Comment": "Certorbit, ACME dns-01", "Changes": batch}}
        if fails:
            self.stub.add_client_error("change_resource_record_sets", "InvalidChangeBatch", expected_params=asked)
            return
        info = {"Id": "/change/C1", "Status": status, "SubmittedAt": "2026-11-24T12:00:00Z"}
        self.stub.add_response("change_resource_record_sets", {"ChangeInfo": info}, asked)

    def progress(self, status: str) -> None:
        info = {"Id": "/change/C1", "Status": status, "SubmittedAt": "2026-11-24T12:00:00Z"}
        self.stub.add_response("get_change", {"ChangeInfo": info}, {"Id": "/change/C1"})


async def test_a_lost_race_at_route53_is_run_again_from_what_is_there_now(clock: FakeClock) -> None:
    amazon = Amazon(clock)
    amazon.look()
    amazon.change(("CREATE", record_set("ours")), fails=True)  # another process was quicker
    amazon.look(record_set("theirs"))
    amazon.change(("DELETE", record_set("theirs")), ("CREATE", record_set("theirs", "ours")))
    assert await amazon.writer.add_txt(NAME, "ours", zone=ZONE) == "/change/C1"
    amazon.look(record_set("theirs", "ours", TTL=300))
    amazon.change(("DELETE", record_set("theirs", "ours", TTL=300)), ("CREATE", record_set("theirs")), fails=True)
    amazon.look(record_set("ours"))
    amazon.change(("DELETE", record_set("ours")))
    await amazon.writer.remove_txt(NAME, "ours", zone=ZONE)
    amazon.stub.assert_no_pending_responses()


async def test_endless_races_at_route53_end(clock: FakeClock) -> None:
    amazon = Amazon(clock)
    for _ in range(MOST_SWAPS):
        amazon.look()
        amazon.change(("CREATE", record_set("ours")), fails=True)
    with pytest.raises(SolverFailed, match=f"the change of {NAME} was refused {MOST_SWAPS} times.*InvalidChangeBatch"):
        await amazon.writer.add_txt(NAME, "ours", zone=ZONE)
    amazon.stub.assert_no_pending_responses()


async def test_a_record_with_a_routing_policy_is_left_alone(clock: FakeClock) -> None:
    amazon = Amazon(clock)
    amazon.look(record_set("theirs", SetIdentifier="blue", Weight=1))
    with pytest.raises(SolverFailed, match="has a routing policy"):
        await amazon.writer.add_txt(NAME, "ours", zone=ZONE)


async def test_a_change_is_waited_for_until_it_is_in_sync(clock: FakeClock) -> None:
    amazon = Amazon(clock)
    for status in ("PENDING", "PENDING", "INSYNC"):
        amazon.progress(status)
    await amazon.writer.wait_applied("/change/C1")
    assert len(clock.slept) == 2
    for _ in range(60):
        amazon.progress("PENDING")
    with pytest.raises(SolverFailed, match="/change/C1 is not INSYNC after 300 s"):
        await amazon.writer.wait_applied("/change/C1")


async def test_amazons_refusal_is_told_in_its_words(clock: FakeClock) -> None:
    amazon = Amazon(clock)
    amazon.stub.add_client_error("list_resource_record_sets", "AccessDenied", "User x may not do this")
    with pytest.raises(SolverFailed, match=r"Amazon says: .*User x may not do this\. Check the credentials") as caught:
        await amazon.writer.add_txt(NAME, "ours", zone=ZONE)
    assert OTHER_SECRET not in caught.value.message


def lexicon(clock: FakeClock, **changes: object) -> LexiconWriter:
    settings = LexiconSolverSettings.model_validate({"type": "lexicon", "provider": "localzone", **changes})
    return LexiconWriter(settings, clock=clock, chance=FakeChance())


async def test_a_providers_words_are_told_without_its_options(clock: FakeClock, tmp_path: Path) -> None:
    missing = str(tmp_path / "secret-token-in-a-path")
    with pytest.raises(SolverFailed, match=r"localzone says FileNotFoundError: .*<hidden>") as caught:
        await lexicon(clock, options={"filename": missing}).add_txt(NAME, "value", zone=ZONE)
    assert "secret-token" not in caught.value.message
    assert len(clock.slept) == TRIES.most - 1


async def test_a_provider_that_hangs_is_left_behind(clock: FakeClock, tmp_path: Path) -> None:
    """Opening a FIFO to read waits for a writer: a provider that never comes back."""
    pipe = tmp_path / "zone"
    os.mkfifo(pipe)
    writer = lexicon(clock, options={"filename": str(pipe)}, timeout_seconds=0.2)
    with pytest.raises(SolverFailed, match=r"localzone took more than 0\.2 seconds"):
        await writer.add_txt(NAME, "value", zone=ZONE)
    left = [thread for thread in threading.enumerate() if thread.name == "lexicon"]
    assert len(left) == 1
    assert left[0].daemon
    await asyncio.to_thread(pipe.write_text, "no zone")  # let it go
    await asyncio.to_thread(left[0].join)


@pytest.mark.parametrize(
    ("package", "make"),
    [
        pytest.param("boto3", route53_from_settings, id="route53"),
        pytest.param("lexicon", lexicon, id="lexicon"),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, package: str, make: Callable[[FakeClock], object]
) -> None:
    for module in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # how Python itself says that there is no such package
    with pytest.raises(BadInput, match=r"not installed: pip install 'certorbit\[\w+\]'"):
        make(clock)


@pytest.mark.parametrize(
    ("provider", "says"),
    [
        pytest.param("nosuch", "lexicon has no provider 'nosuch'", id="unknown"),
        pytest.param("softlayer", r"pip install 'dns-lexicon\[softlayer\]'", id="needs-more"),
    ],
)
def test_a_provider_that_cannot_be_used_stops_the_start(clock: FakeClock, provider: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        lexicon(clock, provider=provider)
