"""Client checks without a look at clients: what Envoy gets in mode `files` and by SDS, what the check says of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from certorbit.errors import TargetRefused, Unreachable
from certorbit.model.balancer import Copy
from certorbit.ports.target import Grade, ShelfState
from certorbit.targets.envoy.catalog import Change, Place, plan_undo
from certorbit.targets.envoy.target import EnvoyTarget
from fakes.memory_shelf import MemoryShelf
from targets.client_certificates import OPTIONAL, OURS, THEIRS, make_policy
from targets.envoy_bench import HTTPS, MAIL, make_settings, make_target, start_sds
from targets.envoy_client_bench import (
    make_client_settings,
    start_client_sds,
    start_with_client_files,
)
from targets.sds_client import SDSClient, open_client, validation_of
from targets.target_bench import make_bundle

NOBODY = "0" * 64
WWW = make_bundle("www")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.mkdir()
    return path


def open_files(directory: Path, *, is_required: bool = True) -> EnvoyTarget:
    return make_target(make_client_settings(is_required=is_required, mode="files", directory=str(directory)))


async def put_on(target: EnvoyTarget) -> Copy:
    copy = await target.install(WWW, scope=target.scope_of(HTTPS), present=None)
    await target.attach(HTTPS, copy, instead_of="")
    return copy


def context_in(path: Path) -> dict[str, object]:
    (resource,) = json.loads(path.read_text())["resources"]
    assert resource["name"] == path.stem
    context = resource["validation_context"]
    assert isinstance(context, dict)
    return context


async def test_the_start_writes_a_check_for_each_listener(directory: Path) -> None:
    await open_files(directory).start()
    assert context_in(directory / "https-clients.json") == {"verify_certificate_hash": [NOBODY]}
    await open_files(directory, is_required=False).start()
    assert context_in(directory / "mail-clients.json") == {}


async def test_a_policy_is_written_with_its_lists_and_survives_the_process(directory: Path) -> None:
    policy = make_policy(OURS, crls=[OURS.list_revoked()])
    await open_files(directory).verify_listener_clients(HTTPS, policy)
    path = directory / "https-clients.json"
    expected = {"trusted_ca": {"inline_string": policy.ca_pem}, "crl": {"inline_string": policy.crl_pem}}
    assert context_in(path) == expected
    before = path.stat().st_ino
    again = open_files(directory)
    await again.start()
    await again.verify_listener_clients(HTTPS, policy)
    assert (context_in(path), path.stat().st_ino) == (expected, before)
    assert context_in(directory / "mail-clients.json") == {"verify_certificate_hash": [NOBODY]}


async def test_a_record_of_an_earlier_version_of_ours_has_no_policies(directory: Path) -> None:
    copy = await put_on(open_files(directory))
    record = directory / ".certorbit" / "shelf.json"
    written = json.loads(record.read_text())
    del written["policies"]
    record.write_text(json.dumps(written))
    target = open_files(directory)
    assert (await target.look(HTTPS)).holds(copy.handle)
    for damaged in ({"https:443": {}}, {"https:443": {"mode": "x", "bundle": "", "ca": "", "crl": ""}}, []):
        record.write_text(json.dumps({**written, "policies": damaged}))
        with pytest.raises(TargetRefused, match=r"shelf\.json"):
            await target.verify_listener_clients(HTTPS, make_policy(OURS))


@pytest.mark.parametrize("text", [None, "", "somebody else's"])
@pytest.mark.parametrize("by_start", [True, False], ids=["start", "repeat"])
async def test_a_check_that_somebody_changed_shows_and_is_repaired(
    directory: Path, text: str | None, *, by_start: bool
) -> None:
    target = open_files(directory)
    copy = await put_on(target)
    policy = make_policy(OURS)
    await target.verify_listener_clients(HTTPS, policy)
    path = directory / "https-clients.json"
    written = path.read_text()
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert (await target.look(HTTPS)).handles == ()
    if by_start:
        await open_files(directory).start()
    else:
        await target.verify_listener_clients(HTTPS, policy)
    assert path.read_text() == written
    assert (await target.look(HTTPS)).holds(copy.handle)


async def test_with_files_a_listener_that_asks_goes_from_nobody_to_optional_and_back(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    target, door = await start_with_client_files(tmp_path, stack, is_required=False)
    clients = [None, THEIRS.issue(tmp_path, "wrong"), OURS.issue(tmp_path, "good")]
    for policy, expected in (
        (None, [True, True, True]),
        (make_policy(OURS, mode=OPTIONAL), [True, False, True]),
        (make_policy(OURS, mode=OPTIONAL, crls=[OURS.list_revoked(*OURS.issued)]), [True, False, False]),
        (None, [True, True, True]),
    ):
        await target.verify_listener_clients(HTTPS, policy)
        assert [await door.lets_in(HTTPS, "www.example.com", client) for client in clients] == expected


async def subscribe(stack: AsyncExitStack, address: str, *names: str) -> tuple[SDSClient, ...]:
    """Return streams like an Envoy's, one per secret, each with its first answer accepted."""
    clients = []
    for name in names:
        client = await open_client(stack, address)
        await client.send(resource_names=[name])
        await client.accept(await client.receive(), resource_names=[name])
        clients.append(client)
    return tuple(clients)


async def test_a_proxy_gets_the_policy_on_the_wire_and_puts_it_in_force_before_the_call_returns(
    stack: AsyncExitStack,
) -> None:
    target, address = await start_client_sds(stack)
    client = await open_client(stack, address)
    await client.send(resource_names=["https-clients"])
    first = await client.receive()
    context = validation_of(first.resources[0])
    assert (list(context.verify_certificate_hash), context.HasField("trusted_ca")) == ([NOBODY], False)
    await client.accept(first, resource_names=["https-clients"])
    policy = make_policy(OURS, crls=[OURS.list_revoked()])
    call = asyncio.create_task(target.verify_listener_clients(HTTPS, policy))
    second = await client.receive()
    assert not call.done()
    context = validation_of(second.resources[0])
    assert context.trusted_ca.inline_bytes.decode() == policy.ca_pem
    assert context.crl.inline_bytes.decode() == policy.crl_pem
    assert list(context.verify_certificate_hash) == []
    await client.accept(second, resource_names=["https-clients"])
    await call


async def test_without_a_policy_the_context_is_there_and_empty(stack: AsyncExitStack) -> None:
    _, address = await start_client_sds(stack, is_required=False)
    client = await open_client(stack, address)
    await client.send(resource_names=["https-clients"])
    assert validation_of((await client.receive()).resources[0]).ByteSize() == 0


async def test_a_proxy_that_is_silent_keeps_the_policy_wanted_and_the_caller_waiting(stack: AsyncExitStack) -> None:
    shelf = MemoryShelf()
    target, address = await start_client_sds(stack, shelf=shelf, acknowledge_seconds=1)
    (client,) = await subscribe(stack, address, "https-clients")
    policy = make_policy(OURS)
    with pytest.raises(Unreachable, match="has not taken 'https-clients'"):
        await target.verify_listener_clients(HTTPS, policy)
    assert shelf.state.policies == {"https:443": policy}
    await client.accept(await client.receive(), resource_names=["https-clients"])
    await target.verify_listener_clients(HTTPS, policy)


async def test_a_proxy_that_connects_at_this_moment_is_waited_for(stack: AsyncExitStack) -> None:
    target, address = await start_client_sds(stack)
    await subscribe(stack, address, "https-default")
    call = asyncio.create_task(target.verify_listener_clients(HTTPS, make_policy(OURS)))
    late = await open_client(stack, address)
    await late.send(resource_names=["https-clients"])
    answer = await late.receive()
    while not validation_of(answer.resources[0]).HasField("trusted_ca"):
        await late.accept(answer, resource_names=["https-clients"])
        answer = await late.receive()
    assert not call.done()
    await late.accept(answer, resource_names=["https-clients"])
    await call


async def test_proxies_that_do_not_serve_the_listener_are_not_waited_for(stack: AsyncExitStack) -> None:
    target, address = await start_client_sds(stack)
    await subscribe(stack, address, "mail-default")
    await target.verify_listener_clients(HTTPS, make_policy(OURS))


async def test_the_check_counts_the_clients_secret_among_those_that_are_asked_for(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack, listeners=[table("www", "www-clients")])
    await subscribe(stack, address, "www")
    (warning,) = [one.message for one in await target.check() if one.grade is Grade.WARNING]
    assert "asks for www-clients;" in warning
    await subscribe(stack, address, "www-clients")
    assert {one.grade for one in await target.check()} == {Grade.OK}


@pytest.mark.parametrize(
    ("listeners", "words"),
    [
        ([{"require_client_certificate": False}], "lets clients in without"),
        ([{"clients_secret": "", "require_client_certificate": False}], "no clients_secret"),
    ],
    ids=["another mode", "no secret"],
)
async def test_settings_that_stopped_to_fit_the_policy_are_a_finding(
    listeners: list[dict[str, object]], words: str
) -> None:
    shelf = MemoryShelf()
    await make_target(make_client_settings(), shelf).verify_listener_clients(HTTPS, make_policy(OURS))
    changed = make_settings(listeners=[{**table("https", "https-clients"), **more} for more in listeners])
    found = [one for one in await make_target(changed, shelf).check() if one.what == "clients"]
    assert [one.grade for one in found] == [Grade.FAILED]
    assert words in found[0].message


async def test_a_policy_is_taken_off_the_shelf_though_the_settings_lost_its_secret() -> None:
    shelf = MemoryShelf()
    await make_target(make_client_settings(), shelf).verify_listener_clients(HTTPS, make_policy(OURS))
    await make_target(make_settings(), shelf).verify_listener_clients(HTTPS, None)
    assert shelf.state.policies == {}


def table(name: str, clients_secret: str, *, is_required: bool = True) -> dict[str, object]:
    return {
        "name": name,
        "port": 443,
        "secrets": [name],
        "clients_secret": clients_secret,
        "require_client_certificate": is_required,
    }


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([table("www", "www")], "'www' is the secret of two slots"),
        ([table("www", "clients"), {**table("api", "clients"), "port": 444}], "'clients' is the secret of two slots"),
        ([table("www", "")], "give its name, or leave both out"),
        ([table("www", "../clients")], "pattern"),
    ],
    ids=["a slot's", "another listener's", "none", "a path"],
)
def test_a_clients_secret_that_can_not_be_is_refused(tables: list[dict[str, object]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make_settings(listeners=tables)


def test_listeners_without_checks_need_no_names() -> None:
    settings = make_settings()
    assert [listener.clients_secret for listener in settings.listeners] == ["", ""]


def test_a_policy_that_is_taken_back_spares_one_that_came_since() -> None:
    place, ours = Place(MAIL, ("mail",), "mail-clients"), make_policy(OURS)
    before = ShelfState(1, (), {}, {place.scope: make_policy(THEIRS)})
    done = Change(handle=place.clients_secret, policies={place.scope: ours})
    after = replace(before, revision=2, policies={place.scope: ours})
    assert plan_undo(after, done, before).policies == before.policies
    assert plan_undo(after, done, ShelfState(0, (), {})).policies == {place.scope: None}
    since = replace(after, policies={place.scope: make_policy(OURS, THEIRS)})
    assert not plan_undo(since, done, before).is_needed
