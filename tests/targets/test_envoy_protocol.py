"""The SDS server as a gRPC client sees it that speaks Envoy's own messages."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import grpc.aio
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.secret.v3 import sds_pb2_grpc
from google.protobuf import any_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import status_pb2

from certorbit.errors import BadInput, TargetRefused
from certorbit.model.balancer import Copy
from certorbit.ports.target import Grade
from certorbit.targets.envoy.messages import MESSAGES
from certorbit.targets.envoy.session import MOST_NAMES
from certorbit.targets.envoy.target import EnvoyTarget
from fakes.memory_shelf import MemoryShelf
from targets.envoy_bench import HTTPS, make_settings, make_target, start_sds
from targets.sds_client import SECRET, leaf_of, open_client
from targets.target_bench import make_bundle

WWW, NEWER, SHOP = make_bundle("www"), make_bundle("www", 2), make_bundle("shop", 3)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def put_on(target: EnvoyTarget, bundle=WWW) -> Copy:
    copy = await target.install(bundle, scope=target.scope_of(HTTPS), present=None)
    await target.attach(HTTPS, copy, instead_of="")
    return copy


@pytest.mark.parametrize(
    ("ours", "published"),
    [
        ("Any", any_pb2.Any),
        ("Status", status_pb2.Status),
        ("Node", base_pb2.Node),
        ("DiscoveryRequest", discovery_pb2.DiscoveryRequest),
        ("DiscoveryResponse", discovery_pb2.DiscoveryResponse),
        ("DeltaDiscoveryRequest", discovery_pb2.DeltaDiscoveryRequest),
        ("Held", discovery_pb2.DeltaDiscoveryRequest.InitialResourceVersionsEntry),
        ("DeltaDiscoveryResponse", discovery_pb2.DeltaDiscoveryResponse),
        ("Resource", discovery_pb2.Resource),
        ("Secret", secret_pb2.Secret),
        ("TlsCertificate", common_pb2.TlsCertificate),
        ("CertificateValidationContext", common_pb2.CertificateValidationContext),
        ("DataSource", base_pb2.DataSource),
    ],
)
def test_our_messages_are_the_published_ones(ours: str, published) -> None:
    names = {
        FieldDescriptor.TYPE_STRING: "string",
        FieldDescriptor.TYPE_BYTES: "bytes",
        FieldDescriptor.TYPE_INT32: "int32",
    }
    for name, number, kind in MESSAGES[ours]:
        field = published.DESCRIPTOR.fields_by_name[name]
        assert (field.number, field.is_repeated) == (number, kind.startswith("["))
        inner = field.message_type.name if field.message_type else names[field.type]
        assert inner.replace("InitialResourceVersionsEntry", "Held") == kind.strip("[]")


def test_every_message_is_compared() -> None:
    marks = test_our_messages_are_the_published_ones.pytestmark
    assert {row[0] for row in marks[0].args[1]} == set(MESSAGES)


async def test_a_proxy_gets_the_secrets_that_it_asks_for_and_no_others(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack)
    await put_on(target)
    client = await open_client(stack, address)
    await client.send(resource_names=["https-1"])
    answer = await client.receive()
    assert answer.type_url == SECRET
    assert [leaf_of(one) for one in answer.resources] == [("https-1", WWW.chain_pem, WWW.key.reveal())]


async def test_a_change_is_pushed_to_all_that_asked_for_it(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack, acknowledge_seconds=0)
    await put_on(target)
    clients = [await open_client(stack, address, node=f"edge-{number}") for number in range(5)]
    for client in clients:
        await client.send(resource_names=["https-1"])
        await client.accept(await client.receive(), resource_names=["https-1"])
    await target.install(NEWER, scope=target.scope_of(HTTPS), present=None)
    for client in clients:
        answer = await client.receive()
        assert [leaf_of(one)[1] for one in answer.resources] == [NEWER.chain_pem]


async def test_another_set_of_names_gets_all_of_its_secrets(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack)
    await put_on(target)
    client = await open_client(stack, address)
    await client.send(resource_names=["https-1"])
    first = await client.receive()
    await client.accept(first, resource_names=["https-1", "mail-default"])
    second = await client.receive()
    assert [leaf_of(one)[0] for one in second.resources] == ["https-1", "mail-default"]
    assert second.version_info != first.version_info


async def test_an_answer_to_an_older_push_is_not_taken_for_one_to_the_newest(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack, acknowledge_seconds=0)
    await put_on(target)
    client = await open_client(stack, address)
    await client.send(resource_names=["https-1"])
    first = await client.receive()
    await client.accept(first, resource_names=["https-1"])
    await target.install(NEWER, scope=target.scope_of(HTTPS), present=None)
    second = await client.receive()
    await client.accept(first, resource_names=["mail-default"])
    await client.accept(second, resource_names=["https-1", "https-2"])
    assert [leaf_of(one)[0] for one in (await client.receive()).resources] == ["https-1", "https-2"]


async def test_a_change_waits_until_the_proxies_have_accepted_it(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack, acknowledge_seconds=60)
    await put_on(target)
    client = await open_client(stack, address)
    await client.send(resource_names=["https-1"])
    await client.accept(await client.receive(), resource_names=["https-1"])
    change = asyncio.create_task(target.install(NEWER, scope=target.scope_of(HTTPS), present=None))
    answer = await client.receive()
    assert not change.done()
    await client.accept(answer, resource_names=["https-1"])
    assert (await change).handle.startswith("https:443/www/")


async def test_a_silent_proxy_holds_nothing_up_for_longer_than_the_setting(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack, acknowledge_seconds=0.05)
    await put_on(target)
    client = await open_client(stack, address)
    await client.send(resource_names=["https-1"])
    await client.receive()
    await target.install(NEWER, scope=target.scope_of(HTTPS), present=None)
    assert set((await target.list_copies()).values()) == {NEWER.facts.fingerprint}


async def test_a_proxy_that_leaves_is_not_waited_for(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack, acknowledge_seconds=60)
    await put_on(target)
    async with AsyncExitStack() as own:
        client = await open_client(own, address)
        await client.send(resource_names=["https-1"])
        await client.accept(await client.receive(), resource_names=["https-1"])
        change = asyncio.create_task(target.install(NEWER, scope=target.scope_of(HTTPS), present=None))
        await client.receive()
    await change


async def test_a_refusal_takes_the_change_back(stack: AsyncExitStack) -> None:
    shelf = MemoryShelf()
    target, address = await start_sds(stack, shelf=shelf)
    await put_on(target)
    before = shelf.state
    client = await open_client(stack, address, node="edge-7")
    await client.send(resource_names=["https-1"])
    await client.accept(await client.receive(), resource_names=["https-1"])
    change = asyncio.create_task(target.install(NEWER, scope=target.scope_of(HTTPS), present=None))
    await client.refuse(await client.receive(), "not\nmine\x1b[0m" + "x" * 1000, resource_names=["https-1"])
    with pytest.raises(TargetRefused, match=r"edge-7 .*: not\\nmine") as caught:
        await change
    assert len(caught.value.message) < 800
    assert "\x1b" not in caught.value.message
    assert (shelf.state.items, shelf.state.slots) == (before.items, before.slots)
    again = await client.receive()
    assert [leaf_of(one)[1] for one in again.resources] == [WWW.chain_pem]


async def test_a_refusal_of_what_is_there_is_shown_by_the_check(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack)
    await put_on(target)
    client = await open_client(stack, address, node="edge-7")
    await client.send(resource_names=["https-1"])
    await client.refuse(await client.receive(), "too small", resource_names=["https-1"])
    other = await open_client(stack, address, node="edge-8")
    await other.send(resource_names=["https-2", "https-9"])
    await other.receive()
    async with asyncio.timeout(10):
        while not (failed := [one for one in await target.check() if one.grade is Grade.FAILED]):
            await asyncio.sleep(0.01)
    assert [one.message.partition(" (")[0] for one in failed] == ["edge-7"]
    assert failed[0].message.endswith("refuses https-1: too small")
    warnings = [one.message for one in await target.check() if one.grade is Grade.WARNING]
    assert any("https-default" in message for message in warnings)  # nobody asks for it
    assert any("'https-9'" in message for message in warnings)  # somebody asks for it


@pytest.mark.parametrize("is_delta", [False, True], ids=["state-of-the-world", "delta"])
async def test_something_else_than_secrets_is_refused(stack: AsyncExitStack, *, is_delta: bool) -> None:
    _, address = await start_sds(stack)
    client = await open_client(stack, address, is_delta=is_delta)
    await client.send(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")
    assert await client.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("is_delta", [False, True], ids=["state-of-the-world", "delta"])
async def test_endless_names_are_refused(stack: AsyncExitStack, *, is_delta: bool) -> None:
    _, address = await start_sds(stack)
    client = await open_client(stack, address, is_delta=is_delta)
    names = [f"name-{number}" for number in range(MOST_NAMES + 1)]
    await client.send(**{"resource_names_subscribe" if is_delta else "resource_names": names})
    assert await client.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_delta_sends_what_is_new_and_says_what_is_not_there(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack, acknowledge_seconds=0)
    await put_on(target)
    client = await open_client(stack, address, is_delta=True)
    await client.send(resource_names_subscribe=["https-1", "nothing"])
    first = await client.receive()
    assert [(one.name, leaf_of(one.resource)[1]) for one in first.resources] == [("https-1", WWW.chain_pem)]
    assert list(first.removed_resources) == ["nothing"]
    await client.accept(first)
    await client.send(resource_names_subscribe=["https-2"])
    second = await client.receive()
    assert [one.name for one in second.resources] == ["https-2"]
    await client.accept(second, resource_names_unsubscribe=["https-2"])
    await target.attach(HTTPS, await target.install(SHOP, scope="https:443", present=None), instead_of="")
    await target.install(NEWER, scope=target.scope_of(HTTPS), present=None)
    third = await client.receive()
    assert [leaf_of(one.resource)[1] for one in third.resources] == [NEWER.chain_pem]
    assert not third.removed_resources


async def test_delta_sends_again_what_is_subscribed_to_again(stack: AsyncExitStack) -> None:
    _, address = await start_sds(stack)
    client = await open_client(stack, address, is_delta=True)
    await client.send(resource_names_subscribe=["https-1"])
    await client.accept(await client.receive(), resource_names_subscribe=["https-1"])
    assert [one.name for one in (await client.receive()).resources] == ["https-1"]


async def test_delta_spares_a_proxy_that_comes_back_what_it_has(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack)
    await put_on(target)
    client = await open_client(stack, address, is_delta=True)
    await client.send(resource_names_subscribe=["https-1"])
    version = (await client.receive()).resources[0].version
    again = await open_client(stack, address, is_delta=True)
    await again.send(
        resource_names_subscribe=["https-1", "https-2"],
        initial_resource_versions={"https-1": version, "https-2": "another"},
    )
    assert [one.name for one in (await again.receive()).resources] == ["https-2"]


async def test_a_delta_refusal_takes_the_change_back(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack)
    await put_on(target)
    client = await open_client(stack, address, is_delta=True)
    await client.send(resource_names_subscribe=["https-1"])
    await client.accept(await client.receive())
    change = asyncio.create_task(target.install(NEWER, scope=target.scope_of(HTTPS), present=None))
    await client.refuse(await client.receive(), "no")
    with pytest.raises(TargetRefused, match="no"):
        await change
    again = await client.receive()
    assert [leaf_of(one.resource)[1] for one in again.resources] == [WWW.chain_pem]


async def test_a_single_question_is_answered(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack)
    await put_on(target)
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
    stub = sds_pb2_grpc.SecretDiscoveryServiceStub(channel)
    answer = await stub.FetchSecrets(discovery_pb2.DiscoveryRequest(resource_names=["https-1", "nothing"]), timeout=10)
    assert [leaf_of(one)[:2] for one in answer.resources] == [("https-1", WWW.chain_pem)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.FetchSecrets(discovery_pb2.DiscoveryRequest(type_url="x"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_garbage_ends_the_stream_and_harms_nobody_else(stack: AsyncExitStack) -> None:
    _, address = await start_sds(stack)
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
    call = channel.stream_stream("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets")()
    await call.write(b"\xff\xff\xff")
    assert await call.code() is not grpc.StatusCode.OK
    client = await open_client(stack, address)
    await client.send(resource_names=["https-1"])
    assert (await client.receive()).resources


async def test_a_taken_port_is_an_error_that_names_it(stack: AsyncExitStack) -> None:
    _, address = await start_sds(stack)
    second = make_target(make_settings(listen=address))
    with pytest.raises(BadInput, match=address):
        await second.start()
    await second.close()


async def test_a_socket_where_everybody_can_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    target = make_target(make_settings(listen=f"unix:{tmp_path}/sds.sock"))
    with pytest.raises(BadInput, match="0750"):
        await target.start()
    assert list(tmp_path.iterdir()) == []


async def test_a_socket_without_a_directory_is_refused(tmp_path: Path) -> None:
    target = make_target(make_settings(listen=f"unix:{tmp_path}/nowhere/sds.sock"))
    with pytest.raises(BadInput, match="nowhere"):
        await target.start()


async def test_a_socket_of_a_living_process_is_not_taken_over_and_that_of_a_dead_one_is(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "sds.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    _, address = await start_sds(stack, listen=f"unix:{path}")
    with pytest.raises(BadInput, match=r"sds\.sock"):
        await make_target(make_settings(listen=address)).start()
    client = await open_client(stack, address)
    await client.send(resource_names=["https-1"])
    assert (await client.receive()).resources
