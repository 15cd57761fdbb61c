"""ALB listeners check client certificates by trust stores: what is made, switched, shared, lifted and cleaned away.

The contract (tests/contracts/test_listener_client_verification.py) can't be joined: it knocks at listeners with client
certificates, and behind moto there is no TLS. So what is put into force is looked at here, not who gets in.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from cryptography.x509 import load_pem_x509_certificate
from pydantic import ValidationError

from certorbit.errors import TargetGone, TargetRefused
from certorbit.model.balancer import ListenerKey
from certorbit.target_settings import AWSTargetSettings
from targets.aws_bench import REGION
from targets.aws_trust_bench import TrustScene, make_listed_policy, open_trust
from targets.aws_trust_stores import Switch
from targets.client_certificates import OPTIONAL, OURS, THEIRS, make_policy
from targets.target_bench import make_bundle

OFF = {"Mode": "off"}
CHANGES = ("elbv2:CreateTrustStore", "elbv2:AddTrustStoreRevocations", "elbv2:ModifyListener", "s3:PutObject")


@pytest.fixture
async def scene() -> AsyncIterator[TrustScene]:
    async with AsyncExitStack() as stack:
        yield await open_trust(stack)


async def test_a_listener_checks_by_the_cas_and_all_lists_from_its_first_change_on(scene: TrustScene) -> None:
    key, policy = scene.make_balancer(), make_listed_policy("one")
    await scene.target().verify_listener_clients(key, policy)
    store = scene.store_of(key)
    assert scene.mutual(key) == {
        "Mode": "verify",
        "TrustStoreArn": store.arn,
        "IgnoreClientCertificateExpiry": False,
    }
    assert store.authorities == (OURS.certificate, THEIRS.certificate)
    assert list(store.lists.values()) == [1, 1]
    assert scene.rules.switches == [Switch(key.listener, "verify", store.name, 2)]
    assert (store.tags["certorbit:target"], store.tags["certorbit:policy"]) == ("cloud", policy.digest)
    assert len(store.name) == 32


async def test_the_objects_lie_where_the_settings_say(scene: TrustScene) -> None:
    bucket = scene.make_bucket(f"acme-{REGION}")
    key = scene.make_balancer()
    target = scene.target(
        trust_store_bucket=bucket.replace(REGION, "{region}"), trust_store_prefix="a/b/", tags={"team": "web"}
    )
    await target.verify_listener_clients(key, make_listed_policy())
    store = scene.store_of(key)
    folder = f"a/b/{REGION}/{store.name}"
    assert scene.objects(bucket) == [f"{folder}/{name}.pem" for name in ("ca", "crl-1", "crl-2")]
    kept = scene.aws.client("s3").get_object(Bucket=bucket, Key=f"{folder}/ca.pem")["Body"].read()
    assert load_pem_x509_certificate(kept) == OURS.certificate
    assert store.tags["team"] == "web"


async def test_a_repeat_changes_nothing(scene: TrustScene) -> None:
    key, policy = scene.make_balancer(), make_listed_policy()
    for target in (scene.target(), scene.target()):
        scene.aws.server.calls.clear()
        await target.verify_listener_clients(key, policy)
    assert [call for call in scene.aws.server.calls if call in CHANGES] == []
    assert len(scene.rules.switches) == 1


async def test_listeners_of_a_region_share_a_trust_store(scene: TrustScene) -> None:
    front, back = scene.make_balancer(), scene.make_balancer()
    for key in (front, back):
        await scene.target().verify_listener_clients(key, make_policy(OURS))
    assert scene.store_of(front) is scene.store_of(back)
    assert scene.aws.server.count("elbv2:CreateTrustStore") == 1


@pytest.mark.parametrize("processes", [1, 2])
async def test_many_that_want_the_same_at_once_make_one_trust_store(scene: TrustScene, processes: int) -> None:
    targets = [scene.target() for _ in range(processes)]
    keys = [scene.make_balancer() for _ in range(4)]
    wanted = [
        target.verify_listener_clients(key, make_listed_policy())
        for key, target in zip(keys, targets * 4, strict=False)
    ]
    await asyncio.gather(*wanted)
    assert len({scene.store_of(key).arn for key in keys}) == 1
    assert {switch.lists % 2 for switch in scene.rules.switches} == {0}
    assert all(switch.lists for switch in scene.rules.switches)


async def test_regions_and_targets_have_trust_stores_of_their_own(scene: TrustScene) -> None:
    here, there = scene.make_balancer(), scene.make_balancer(region="eu-central-1")
    beside = scene.make_balancer()
    target = scene.target(regions=[REGION, "eu-central-1"])
    for key in (here, there):
        await target.verify_listener_clients(key, make_policy(OURS))
    other_key = replace(beside, target="other")
    await scene.target(name="other").verify_listener_clients(other_key, make_policy(OURS))
    stores = [scene.store_of(key) for key in (here, there, beside)]
    assert stores[0].name == stores[1].name != stores[2].name
    assert len(scene.rules.stores) == 3


async def test_another_policy_takes_the_old_ones_place_in_one_change(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_listed_policy())
    scene.aws.clock.advance(days=1)
    await target.verify_listener_clients(key, make_listed_policy("one", "two"))
    assert [(switch.mode, switch.lists) for switch in scene.rules.switches] == [("verify", 2), ("verify", 2)]
    assert list(scene.store_of(key).lists.values()) == [2, 1]


async def test_what_no_listener_uses_any_more_is_deleted_with_its_objects(scene: TrustScene) -> None:
    front, back = scene.make_balancer(), scene.make_balancer()
    target, foreign = scene.target(), scene.make_foreign_store()
    for key in (front, back):
        await target.verify_listener_clients(key, make_listed_policy())
    old = scene.store_of(front)
    scene.aws.clock.advance(days=1)
    await target.verify_listener_clients(front, make_policy(OURS))
    assert old.name in scene.rules.names(REGION)  # the other listener's
    await target.verify_listener_clients(back, make_policy(OURS))
    new = scene.store_of(front)
    assert scene.rules.names(REGION) == {new.name, "theirs"}
    assert scene.objects() == [f"certorbit/{REGION}/{new.name}/ca.pem", "theirs.pem"]
    assert (REGION, foreign) in scene.rules.stores


async def test_an_unused_trust_store_is_left_for_some_minutes_to_who_may_be_making_it(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    for policy in (make_policy(OURS), make_policy(THEIRS)):
        await target.verify_listener_clients(key, policy)
    assert len(scene.rules.names(REGION)) == 2
    scene.aws.clock.advance(minutes=20)
    await target.verify_listener_clients(key, make_policy(THEIRS))
    assert scene.rules.names(REGION) == {scene.store_of(key).name}


async def test_another_targets_trust_stores_are_left_alone(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    old = {"certorbit_created": "2020-01-01T00:00:00+00:00", "certorbit_policy": "x"}
    scene.make_foreign_store("certorbit-abc", certorbit_target="other", **old)
    scene.make_foreign_store("certorbit-untagged")
    scene.make_foreign_store("someones", certorbit_target="cloud", **old)
    await target.verify_listener_clients(key, make_policy(OURS))
    assert {"certorbit-abc", "certorbit-untagged", "someones"} < scene.rules.names(REGION)


async def test_without_a_policy_our_check_is_lifted(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_policy(OURS))
    scene.aws.clock.advance(hours=1)
    for _ in range(2):
        await scene.target(trust_store_bucket="").verify_listener_clients(key, None)
        assert scene.mutual(key) == OFF
    assert [switch.mode for switch in scene.rules.switches] == ["verify", "off"]
    assert scene.rules.names(REGION) == set()


@pytest.mark.parametrize("kind", ["passthrough", "foreign", "other target's"])
async def test_what_somebody_else_set_up_is_left_alone(scene: TrustScene, kind: str) -> None:
    key, target = scene.make_balancer(), scene.target()
    if kind == "passthrough":
        scene.set_mutual(key, Mode="passthrough")
    elif kind == "foreign":
        scene.set_mutual(key, Mode="verify", TrustStoreArn=scene.make_foreign_store())
    else:
        tags = {"certorbit_target": "other", "certorbit_policy": "x"}
        scene.set_mutual(key, Mode="verify", TrustStoreArn=scene.make_foreign_store("certorbit-abc", **tags))
    before, stores = scene.mutual(key), dict(scene.rules.stores)
    await target.verify_listener_clients(key, None)
    with pytest.raises(TargetRefused, match="somebody else set up its mutual authentication"):
        await target.verify_listener_clients(key, make_policy(OURS))
    assert (scene.mutual(key), scene.rules.stores) == (before, stores)


async def test_expired_clients_stay_outside_also_where_somebody_let_them_in(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_policy(OURS))
    arn = scene.store_of(key).arn
    scene.set_mutual(
        key,
        Mode="verify",
        TrustStoreArn=arn,
        IgnoreClientCertificateExpiry=True,
        AdvertiseTrustStoreCaNames="on",
    )
    await target.verify_listener_clients(key, make_policy(OURS))
    assert scene.mutual(key) == {
        "Mode": "verify",
        "TrustStoreArn": arn,
        "IgnoreClientCertificateExpiry": False,
        "AdvertiseTrustStoreCaNames": "on",
    }


async def test_the_check_stays_through_all_changes_of_certificates(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_policy(OURS))
    before = scene.mutual(key)
    www = await target.install(make_bundle("www"), scope=REGION, present=None)
    shop = await target.install(make_bundle("shop", 3), scope=REGION, present=None)
    await target.set_default(key, www)
    await target.attach(key, shop, instead_of="")
    await target.install(make_bundle("www", 2), scope=REGION, present=www)
    await target.set_default(key, shop)
    await target.attach(key, www, instead_of="")
    await target.detach(key, www.handle)
    assert scene.mutual(key) == before


async def test_mode_optional_is_refused(scene: TrustScene) -> None:
    key = scene.make_balancer()
    with pytest.raises(TargetRefused, match="has no client_certificate_mode 'optional'"):
        await scene.target().verify_listener_clients(key, make_policy(OURS, mode=OPTIONAL))
    assert (scene.mutual(key), scene.rules.stores) == (OFF, {})


async def test_without_a_bucket_a_policy_is_refused_by_the_settings_name(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target(trust_store_bucket="")
    with pytest.raises(TargetRefused, match="Set trust_store_bucket"):
        await target.verify_listener_clients(key, make_policy(OURS))
    await target.verify_listener_clients(key, None)
    assert scene.mutual(key) == OFF


@pytest.mark.parametrize("kind", ["network", "classic", "cloudfront"])
async def test_other_listeners_can_only_be_without_a_check(scene: TrustScene, kind: str) -> None:
    make = {"classic": scene.aws.make_classic, "cloudfront": scene.aws.make_distribution}
    key = make[kind]("front-trust") if kind in make else scene.make_balancer(kind=kind)
    target = scene.target()
    await target.verify_listener_clients(key, None)
    with pytest.raises(TargetRefused, match="Application Load Balancer"):
        await target.verify_listener_clients(key, make_policy(OURS))
    assert (scene.rules.switches, scene.rules.stores) == ([], {})


async def test_a_listener_that_is_gone_is_told(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    scene.aws.client("elbv2").delete_listener(ListenerArn=key.listener)
    for nowhere in (key, ListenerKey("cloud", "", "nowhere", "nowhere", 1)):
        for policy in (make_policy(OURS), None):
            with pytest.raises(TargetGone):
                await target.verify_listener_clients(nowhere, policy)


async def test_a_list_that_has_ended_is_not_put_into_force_but_stays_there(scene: TrustScene) -> None:
    front, back, target = scene.make_balancer(), scene.make_balancer(), scene.target()
    policy = make_listed_policy(days=3)
    await target.verify_listener_clients(front, policy)
    scene.aws.clock.advance(days=4)
    await target.verify_listener_clients(front, policy)
    with pytest.raises(TargetRefused, match="a revocation list of the bundle ended at"):
        await target.verify_listener_clients(back, policy)
    assert (scene.mutual(front)["Mode"], scene.mutual(back)) == ("verify", OFF)


@pytest.mark.parametrize(
    "wrong",
    [
        {"trust_store_bucket": "Trust"},
        {"trust_store_bucket": "a"},
        {"trust_store_bucket": "trust-{zone}"},
        {"trust_store_bucket": "s3://trust"},
        {"trust_store_bucket": "trust", "services": ["elb"]},
        {"trust_store_bucket": "trust", "trust_store_prefix": "certorbit"},
        {"trust_store_bucket": "trust", "trust_store_prefix": "/x/"},
    ],
    ids=str,
)
def test_settings_of_trust_stores_that_can_not_work_are_refused_at_the_start(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        AWSTargetSettings.model_validate({"name": "cloud", "type": "aws", **wrong})
