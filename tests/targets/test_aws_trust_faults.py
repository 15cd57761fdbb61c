"""Trust stores when something goes wrong: processes that die, refusals, quotas, S3, others that interfere."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import CredentialsRefused, TargetFull, TargetRefused, Unreachable
from certorbit.model.client_policy import ClientPolicy
from certorbit.ports.target import Grade
from certorbit.targets.aws.trust_material import is_older, list_objects, write_material
from make import make_certificate, make_key, pem
from targets.aws_bench import REGION
from targets.aws_server import Fault
from targets.aws_trust_bench import TrustScene, make_big_policy, make_listed_policy, open_trust
from targets.client_certificates import OURS, THEIRS, make_policy

CREATE = "elbv2:CreateTrustStore"
ADD = "elbv2:AddTrustStoreRevocations"
LISTS = "elbv2:DescribeTrustStoreRevocations"
DELETE = "elbv2:DeleteTrustStore"
MODIFY = "elbv2:ModifyListener"
FIND = "elbv2:DescribeTrustStores"
NEEDED = ("elbv2:DescribeListeners", FIND, "elbv2:DescribeTags", "s3:PutObject", CREATE, LISTS, ADD, MODIFY)
CLEANING = ("elbv2:DescribeTrustStoreAssociations", DELETE, "s3:DeleteObject")


@pytest.fixture
async def scene() -> AsyncIterator[TrustScene]:
    async with AsyncExitStack() as stack:
        yield await open_trust(stack)


def make_new_policy() -> ClientPolicy:
    """Return a policy with two lists that no test has had."""
    return make_listed_policy.__wrapped__("one", days=400)


async def test_a_process_may_die_after_any_call_and_the_next_one_completes_it(scene: TrustScene) -> None:
    key, dying, second = scene.make_balancer(), scene.target(), scene.target()
    await second.verify_listener_clients(key, make_new_policy())
    for calls in count():
        old, new = scene.store_of(key), make_new_policy()
        scene.aws.clock.advance(days=1)
        scene.aws.server.calls_left = calls
        with suppress(Unreachable):
            await dying.verify_listener_clients(key, new)
            assert scene.rules.switches[-1].store != old.name  # the rest is cleaning, which nobody waits for
        is_dead, scene.aws.server.calls_left = scene.aws.server.calls_left == 0, None
        assert scene.mutual(key)["Mode"] == "verify"
        await second.verify_listener_clients(key, new)
        store = scene.store_of(key)
        assert (store.tags["certorbit:policy"], len(store.lists)) == (new.digest, 2)
        scene.aws.clock.advance(hours=1)
        await second.verify_listener_clients(key, new)
        assert scene.rules.names(REGION) == {store.name}
        if not is_dead:
            break
    assert calls > 20
    assert {(switch.mode, switch.lists) for switch in scene.rules.switches} == {("verify", 2)}


async def test_whatever_is_refused_once_leaves_what_was_in_force(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_new_policy())
    for action in NEEDED:
        before, policy = scene.mutual(key), make_new_policy()
        scene.aws.server.faults.append(Fault(action, "AccessDenied", status=403))
        service, _, operation = action.partition(":")
        right = f"{'elasticloadbalancing' if service == 'elbv2' else service}:{operation}"
        with pytest.raises(CredentialsRefused, match=f"may call {right}"):
            await target.verify_listener_clients(key, policy)
        assert scene.mutual(key) == before
        await target.verify_listener_clients(key, policy)
        assert scene.store_of(key).tags["certorbit:policy"] == policy.digest


@pytest.mark.parametrize("is_carried_out", [True, False])
async def test_a_lost_answer_is_not_noticed(scene: TrustScene, *, is_carried_out: bool) -> None:
    key, target = scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_new_policy())
    for action in (*NEEDED, *CLEANING):
        if action == ADD:
            continue
        scene.aws.clock.advance(days=1)
        policy = make_new_policy()
        scene.aws.server.faults.append(Fault(action, is_carried_out=is_carried_out))
        await target.verify_listener_clients(key, policy)
        assert scene.store_of(key).tags["certorbit:policy"] == policy.digest
        assert scene.rules.names(REGION) == {scene.store_of(key).name}
    assert [fault.times for fault in scene.aws.server.faults] == [0] * 10


async def test_lists_are_not_added_again_when_the_answer_was_lost(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    scene.aws.server.faults.append(Fault(ADD))
    await target.verify_listener_clients(key, make_listed_policy())
    assert (len(scene.store_of(key).lists), scene.aws.server.count(ADD)) == (2, 1)


async def test_lists_that_never_came_are_told_and_added_the_next_time(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    scene.aws.server.faults.append(Fault(ADD, is_carried_out=False))
    with pytest.raises(Unreachable):
        await target.verify_listener_clients(key, make_listed_policy())
    assert scene.mutual(key) == {"Mode": "off"}
    await target.verify_listener_clients(key, make_listed_policy())
    assert len(scene.store_of(key).lists) == 2


async def test_a_part_of_the_lists_is_never_used_and_made_anew(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    scene.rules.lost_lists = 1
    with pytest.raises(TargetRefused, match="has 1 of 2 revocation lists, so it can't be used"):
        await target.verify_listener_clients(key, make_listed_policy())
    assert (scene.mutual(key), scene.rules.stores) == ({"Mode": "off"}, {})
    await target.verify_listener_clients(key, make_listed_policy())
    assert len(scene.store_of(key).lists) == 2


async def test_lists_that_somebody_took_off_come_back(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_listed_policy())
    scene.store_of(key).lists.clear()
    await target.verify_listener_clients(key, make_listed_policy())
    assert len(scene.store_of(key).lists) == 2


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (MODIFY, "TrustStoreNotFound"),
        (MODIFY, "TrustStoreNotReady"),
        (LISTS, "TrustStoreNotFound"),
        (CREATE, "DuplicateTrustStoreName"),
        (CREATE, "CaCertificatesBundleNotFound"),
        (ADD, "RevocationContentNotFound"),
    ],
)
async def test_another_process_that_was_quicker_does_no_harm(scene: TrustScene, action: str, code: str) -> None:
    key, target = scene.make_balancer(), scene.target()
    scene.aws.server.faults.append(Fault(action, code))
    await target.verify_listener_clients(key, make_listed_policy())
    assert len(scene.store_of(key).lists) == 2
    scene.aws.server.faults.append(Fault(action, code, times=100))
    with pytest.raises(TargetRefused, match=code):
        await target.verify_listener_clients(scene.make_balancer(), make_policy(THEIRS, crls=[THEIRS.list_revoked()]))


async def test_a_trust_store_that_is_never_active_is_not_used(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    scene.rules.looks_until_active = 1000
    with pytest.raises(TargetRefused, match="isn't active after 120 s"):
        await target.verify_listener_clients(key, make_policy(OURS))
    assert scene.rules.switches == []


async def test_a_trust_store_with_our_name_and_without_our_tags_is_not_used(scene: TrustScene) -> None:
    key, target, policy = scene.make_balancer(), scene.target(), make_policy(OURS)
    name = write_material(policy, target="cloud").name
    for tags in ({}, {"certorbit_target": "cloud", "certorbit_policy": "another"}):
        arn = scene.make_foreign_store(name, **tags)
        with pytest.raises(TargetRefused, match=f"trust store {name} in {REGION} already, without our tags"):
            await target.verify_listener_clients(key, policy)
        del scene.rules.stores[REGION, arn]
    assert scene.rules.switches == []


async def test_the_21st_trust_store_is_a_quota_of_the_account(scene: TrustScene) -> None:
    for number in range(20):
        scene.make_foreign_store(f"theirs-{number}")
    with pytest.raises(TargetFull, match=r"TooManyTrustStores.*A quota of the AWS account is reached"):
        await scene.target().verify_listener_clients(scene.make_balancer(), make_policy(OURS))


async def test_more_than_25_cas_are_a_quota_too(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_big_policy(25))
    with pytest.raises(TargetFull, match="It has 26 CAs; AWS's quota is 25"):
        await target.verify_listener_clients(key, make_big_policy(26))
    assert len(scene.store_of(key).authorities) == 25


async def test_what_aws_says_of_a_bundle_or_a_list_is_told(scene: TrustScene) -> None:
    key, target = scene.make_balancer(), scene.target()
    leaf = make_certificate(key=make_key(index=900), subject="CN=none", now=datetime.now(UTC))
    no_ca = ClientPolicy(mode=make_policy().mode, bundle=make_policy().bundle, ca_pem=pem(leaf), crl_pem="")
    with pytest.raises(TargetRefused, match="InvalidCaCertificatesBundle"):
        await target.verify_listener_clients(key, no_ca)
    with pytest.raises(TargetRefused, match="InvalidRevocationContent"):
        await target.verify_listener_clients(key, make_policy(OURS, crls=[THEIRS.list_revoked()]))
    assert scene.rules.switches == []


@pytest.mark.parametrize(("ca_pem", "crl_pem"), [("", ""), ("garbage", ""), (make_policy(OURS).ca_pem, "garbage")])
async def test_a_policy_that_can_not_be_read_is_refused(scene: TrustScene, ca_pem: str, crl_pem: str) -> None:
    policy = ClientPolicy(mode=make_policy().mode, bundle=make_policy().bundle, ca_pem=ca_pem, crl_pem=crl_pem)
    with pytest.raises(TargetRefused, match="CAs or revocation lists of 'clients' can't be read"):
        await scene.target().verify_listener_clients(scene.make_balancer(), policy)


async def test_a_bucket_that_is_not_there_is_told_by_the_settings_name(scene: TrustScene) -> None:
    target = scene.target(trust_store_bucket="trust-nowhere")
    with pytest.raises(
        TargetRefused, match=r"s3:PutObject for s3://trust-nowhere/certorbit/.*Check trust_store_bucket"
    ):
        await target.verify_listener_clients(scene.make_balancer(), make_policy(OURS))


async def test_somebody_elses_bucket_is_not_written_to(scene: TrustScene) -> None:
    scene.rules.bucket_owner = "999999999999"
    with pytest.raises(CredentialsRefused, match="may call s3:PutObject"):
        await scene.target().verify_listener_clients(scene.make_balancer(), make_policy(OURS))
    assert scene.objects() == []


@pytest.mark.parametrize("action", CLEANING)
async def test_what_can_not_be_cleaned_away_is_no_failure_and_tried_again(scene: TrustScene, action: str) -> None:
    key, target = scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_policy(OURS))
    await target.verify_listener_clients(key, make_policy(THEIRS))
    scene.aws.clock.advance(days=1)
    scene.aws.server.faults.append(Fault(action, "AccessDenied", status=403))
    await target.verify_listener_clients(key, make_policy(THEIRS))
    await target.verify_listener_clients(key, make_policy(THEIRS))
    assert scene.rules.names(REGION) == {scene.store_of(key).name}


async def test_a_listener_that_takes_an_unused_trust_store_meanwhile_keeps_it(scene: TrustScene) -> None:
    key, other, target = scene.make_balancer(), scene.make_balancer(), scene.target()
    await target.verify_listener_clients(key, make_policy(OURS))
    old = scene.store_of(key)
    scene.aws.clock.advance(days=1)
    scene.aws.server.faults.append(Fault(DELETE, "TrustStoreInUse"))
    await target.verify_listener_clients(key, make_policy(THEIRS))
    assert old.name in scene.rules.names(REGION)
    await target.verify_listener_clients(other, make_policy(OURS))
    assert scene.store_of(other) is old


async def test_the_check_names_the_rights_for_trust_stores_only_where_they_are_used(scene: TrustScene) -> None:
    scene.aws.server.denied |= {"s3:GetObject", ADD.replace("elbv2", "elasticloadbalancing")}
    findings = await scene.target().check()
    assert {finding.what for finding in findings if finding.grade is Grade.FAILED} == scene.aws.server.denied
    assert f"read trust stores in {REGION}" in {finding.what for finding in findings}
    findings = await scene.target(trust_store_bucket="").check()
    assert {finding.grade for finding in findings} == {Grade.OK}
    assert not any("rust" in finding.what or "s3:" in finding.what for finding in findings)


def test_the_lists_end_with_the_first_one() -> None:
    now = datetime.now(UTC)
    ends = write_material(make_listed_policy(days=3), target="cloud").ends
    assert ends is not None
    assert timedelta(days=2) < ends - now < timedelta(days=4)
    assert write_material(make_policy(OURS), target="cloud").ends is None


def test_the_bundle_has_no_empty_lines_and_nothing_but_certificates() -> None:
    text = "some words\n\n" + make_policy(OURS).ca_pem.replace("\n", "\r\n") + "\n\n"
    policy = ClientPolicy(mode=make_policy().mode, bundle=make_policy().bundle, ca_pem=text, crl_pem="")
    assert write_material(policy, target="cloud").bundle == OURS.certificate.public_bytes(Encoding.PEM)


PLACE = {"certorbit:objects": f"bucket/a/{REGION}/certorbit-1/", "certorbit:lists": "1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"certorbit:objects": ""},
        {"certorbit:objects": "bucket"},
        {"certorbit:objects": "bucket/prod/"},
        {"certorbit:objects": f"bucket/a/{REGION}/certorbit-2/"},
        {"certorbit:objects": f"bucket/x{REGION}/certorbit-1/"},
        {"certorbit:lists": ""},
        {"certorbit:lists": "-1"},
        {"certorbit:lists": "99999999"},
    ],
    ids=str,
)
def test_tags_can_not_name_other_objects_to_delete(wrong: dict[str, str]) -> None:
    keys = [f"a/{REGION}/certorbit-1/{name}.pem" for name in ("ca", "crl-1")]
    assert list_objects(PLACE, region=REGION, name="certorbit-1") == ("bucket", tuple(keys))
    assert list_objects({**PLACE, **wrong}, region=REGION, name="certorbit-1") == ("", ())


@pytest.mark.parametrize("text", ["", "yesterday", "2020-01-01T00:00:00", "9999-12-31T23:59:59+00:00"])
def test_a_trust_store_without_an_instant_is_never_old(text: str) -> None:
    now = datetime.now(UTC)
    assert is_older({"certorbit:created": "2020-01-01T00:00:00+00:00"}, timedelta(minutes=15), now=now)
    assert not is_older({"certorbit:created": text}, timedelta(minutes=15), now=now)
