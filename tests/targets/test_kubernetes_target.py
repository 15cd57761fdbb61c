"""TLS Secrets: what the contract suite doesn't ask, and what the cluster answers on bad days."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from certorbit.errors import (
    CredentialsRefused,
    RetryRule,
    TargetFull,
    TargetGone,
    TargetRefused,
    Throttled,
    Unreachable,
)
from certorbit.model.balancer import Bundle, Copy
from certorbit.model.entry import EntryID
from certorbit.ports.target import Grade, Target
from fakes.clock import FakeClock
from targets.kubernetes_bench import EDGE, make_cluster_target, reach, shown_by
from targets.kubernetes_stand_in import ClusterStandIn, Fault
from targets.target_bench import make_bundle

SECRETS = "/api/v1/namespaces/shop/secrets"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ClusterStandIn]:
    async with ClusterStandIn(tmp_path) as stand_in:
        yield stand_in


@pytest.fixture
async def target(cluster: ClusterStandIn, tmp_path: Path) -> AsyncIterator[Target]:
    made = make_cluster_target(**reach(cluster, tmp_path))
    yield made
    await made.close()


def bundle(entry: str = "www", version: int = 1) -> Bundle:
    return make_bundle(entry, version)  # one way of calling it, for it remembers by the way it is called


async def install(target: Target, entry: str = "www", version: int = 1) -> Copy:
    return await target.install(bundle(entry, version), scope="shop", present=None)


def put_foreign(cluster: ClusterStandIn, *, type_: str = "kubernetes.io/tls") -> None:
    """Write the listener's Secret as somebody else."""
    material = bundle("foreign")
    data = {"tls.crt": material.chain_pem, "tls.key": material.key.reveal(), "ca.crt": "kept"}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    cluster.put("shop", "edge-tls", {"type": type_, "metadata": {"labels": {"team": "shop"}}, "data": encoded})


async def test_a_listener_without_a_secret_holds_nothing(target: Target) -> None:
    listener = await target.look(EDGE)
    assert (listener.default, listener.certificates, listener.max_certificates) == ("", (), 0)
    assert [(e.host, e.port) for e in listener.endpoints] == [("192.0.2.30", 443), ("2001:db8::30", 8443)]
    assert (listener.provider, listener.kind) == ("link11", "kubernetes")


async def test_a_secret_of_somebody_else_is_left(target: Target, cluster: ClusterStandIn) -> None:
    put_foreign(cluster)
    before = dict(cluster.secrets["shop", "edge-tls"])
    assert (await target.look(EDGE)).default == "shop/edge-tls"
    with pytest.raises(TargetRefused, match="adopt = true"):
        await target.set_default(EDGE, await install(target))
    assert cluster.secrets["shop", "edge-tls"] == before


async def test_a_secret_is_adopted_with_what_else_is_in_it(cluster: ClusterStandIn, tmp_path: Path) -> None:
    target = make_cluster_target(adopt=True, **reach(cluster, tmp_path))
    put_foreign(cluster)
    await target.set_default(EDGE, await install(target))
    secret = cluster.secrets["shop", "edge-tls"]
    assert shown_by(cluster, "edge-tls") == bundle().facts.fingerprint
    assert base64.b64decode(secret["data"]["ca.crt"]) == b"kept"
    assert secret["metadata"]["labels"]["team"] == "shop"
    assert secret["metadata"]["annotations"]["certorbit.io/entry"] == "prod/www"
    await target.close()


async def test_a_secret_of_another_type_is_not_adopted(cluster: ClusterStandIn, tmp_path: Path) -> None:
    target = make_cluster_target(adopt=True, **reach(cluster, tmp_path))
    put_foreign(cluster, type_="Opaque")
    with pytest.raises(TargetRefused, match="of type 'Opaque'"):
        await target.set_default(EDGE, await install(target))
    await target.close()


async def test_what_somebody_else_wrote_over_ours_shows_and_is_put_right(
    target: Target, cluster: ClusterStandIn
) -> None:
    copy = await install(target)
    await target.set_default(EDGE, copy)
    secret = cluster.secrets["shop", "edge-tls"]
    foreign = base64.b64encode(bundle("foreign").chain_pem.encode()).decode()
    cluster.put("shop", "edge-tls", {**secret, "data": {**secret["data"], "tls.crt": foreign}})
    assert (await target.look(EDGE)).default == "shop/edge-tls"
    await target.set_default(EDGE, copy)
    assert shown_by(cluster, "edge-tls") == bundle().facts.fingerprint


async def test_another_writer_in_between_is_not_overwritten_unseen(target: Target, cluster: ClusterStandIn) -> None:
    await target.set_default(EDGE, await install(target))
    second = await install(target, version=2)

    async def come_between(_: web.Request) -> web.StreamResponse:
        secret = cluster.secrets["shop", "edge-tls"]
        labels = {**secret["metadata"]["labels"], "team": "shop"}
        cluster.put("shop", "edge-tls", {**secret, "metadata": {**secret["metadata"], "labels": labels}})
        return web.json_response({"kind": "Status", "message": "modified", "reason": "Conflict"}, status=409)

    cluster.faults.append(Fault("PATCH", SECRETS, come_between))
    await target.set_default(EDGE, second)
    assert shown_by(cluster, "edge-tls") == bundle("www", 2).facts.fingerprint
    assert cluster.secrets["shop", "edge-tls"]["metadata"]["labels"]["team"] == "shop"


async def test_a_writer_who_never_rests_is_reported(target: Target, cluster: ClusterStandIn) -> None:
    await target.set_default(EDGE, await install(target))
    cluster.fail("PATCH", SECRETS, 409, "Conflict", message="modified", times=4)
    with pytest.raises(TargetRefused, match="modified"):
        await target.set_default(EDGE, await install(target, version=2))


async def test_a_secret_has_room_for_one_certificate(target: Target) -> None:
    await target.set_default(EDGE, await install(target))
    with pytest.raises(TargetFull, match="one certificate"):
        await target.attach(EDGE, await install(target, "shop"), instead_of="")


async def test_a_copy_that_is_gone_cant_be_served(target: Target) -> None:
    copy = await install(target)
    await target.remove(copy.handle)
    with pytest.raises(TargetGone, match="does not exist"):
        await target.set_default(EDGE, copy)


async def test_secrets_that_are_no_copies_are_never_removed(target: Target, cluster: ClusterStandIn) -> None:
    put_foreign(cluster)
    with pytest.raises(TargetRefused, match="not a copy of ours"):
        await target.remove("shop/edge-tls")
    assert ("shop", "edge-tls") in cluster.secrets


async def test_a_copy_that_became_another_secret_is_not_removed(target: Target, cluster: ClusterStandIn) -> None:
    copy = await install(target)
    cluster.fail("DELETE", SECRETS, 409, "Conflict", message="the UID in the precondition does not match")
    with pytest.raises(TargetRefused, match="precondition"):
        await target.remove(copy.handle)


async def test_a_secret_in_the_copys_place_is_left(target: Target, cluster: ClusterStandIn) -> None:
    copy = await install(target)
    key = ("shop", copy.handle.partition("/")[2])
    cluster.put(*key, {**cluster.secrets[key], "metadata": {}})
    with pytest.raises(TargetRefused, match="not our copy"):
        await install(target)


async def test_a_lost_answer_makes_no_second_copy(target: Target, cluster: ClusterStandIn) -> None:
    cluster.fail("POST", SECRETS, 502, "x", is_done=True)
    first = await install(target)
    assert await install(target) == first
    assert set(await target.list_copies()) == {first.handle}
    assert first.link.endswith("-www")


async def test_the_longest_id_fits(target: Target) -> None:
    long = make_bundle("a" * 63, names=("long.example.com",))
    copy = await target.install(long, scope="shop", present=None)
    assert copy.link.endswith(f"-{EntryID('a' * 63)}")


async def test_copies_are_found_on_all_pages_also_when_the_list_grows_old(
    target: Target, cluster: ClusterStandIn
) -> None:
    cluster.page = 2
    copies = {(await install(target, f"site-{n}")).handle: bundle(f"site-{n}").facts.fingerprint for n in range(5)}
    assert await target.list_copies() == copies
    cluster.fail("GET", SECRETS, 410, "Expired")
    assert await target.list_copies() == copies
    cluster.fail("GET", SECRETS, 410, "Expired", times=2)
    with pytest.raises(Unreachable):
        await target.list_copies()


async def test_a_missing_right_is_named(target: Target, cluster: ClusterStandIn) -> None:
    cluster.rights -= {"create"}
    with pytest.raises(CredentialsRefused, match='cannot create "secrets"'):
        await install(target)
    findings = {finding.what: finding for finding in await target.check()}
    assert findings["secrets:create"].grade is Grade.FAILED
    assert "namespace shop" in findings["secrets:create"].message


async def test_a_spent_quota_is_full(target: Target, cluster: ClusterStandIn) -> None:
    cluster.fail("POST", SECRETS, 403, "Forbidden", message="exceeded quota: secrets, requested: count/secrets=1")
    with pytest.raises(TargetFull, match="quota of Secrets"):
        await install(target)


async def test_throttling_is_waited_out(cluster: ClusterStandIn, tmp_path: Path) -> None:
    clock = FakeClock()
    target = make_cluster_target(clock=clock, **reach(cluster, tmp_path))
    cluster.fail("GET", SECRETS, 429, "TooManyRequests", headers={"Retry-After": "7"})
    with pytest.raises(Throttled) as caught:
        await target.look(EDGE)
    assert (caught.value.retry.rule, caught.value.retry.at) == (RetryRule.AT, clock.now() + timedelta(seconds=7))
    await target.close()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_passes_is_tried_again_and_given_up_in_the_end(
    target: Target, cluster: ClusterStandIn, status: int
) -> None:
    cluster.fail("GET", SECRETS, status, "x", times=2)
    await target.look(EDGE)
    cluster.fail("GET", SECRETS, status, "x", times=3)
    with pytest.raises((Throttled, Unreachable)):
        await target.look(EDGE)


async def test_a_rotated_token_is_read_at_once(target: Target, cluster: ClusterStandIn, tmp_path: Path) -> None:
    await target.look(EDGE)
    cluster.tokens = {"new"}
    (tmp_path / "token").write_text("new")
    cluster.requests.clear()
    await target.look(EDGE)
    assert len(cluster.requests) == 2  # refused once
    cluster.tokens = {"newer"}
    with pytest.raises(CredentialsRefused, match="Unauthorized"):
        await target.look(EDGE)


async def test_the_clusters_words_never_show_a_key(target: Target, cluster: ClusterStandIn) -> None:
    secret = base64.b64encode(bundle().key.reveal().encode()).decode()
    cluster.fail("POST", SECRETS, 422, "Invalid", message=f'data[tls.key]: Invalid value: "{secret}"')
    with capture_logs() as logs, pytest.raises(TargetRefused, match="Invalid value") as caught:
        await install(target)
    assert secret[40:80] not in str(caught.value) + json.dumps(logs)
