"""ALB, NLB, Classic ELB and CloudFront, beyond the contract: limits, switches, pages, regions."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.model.balancer import Copy, Endpoint, Listener, ListenerKey
from certorbit.ports.target import Target
from targets.aws_bench import AWS, REGION, open_aws
from targets.aws_server import MOST_SNI, Fault
from targets.target_bench import make_bundle


@pytest.fixture
async def aws() -> AsyncIterator[AWS]:
    async with AsyncExitStack() as stack:
        yield await open_aws(stack)


async def install(
    target: Target,
    entry: str = "www",
    version: int = 1,
    *,
    present: Copy | None = None,
    key_type: str = "ecdsa-p256",
    scope: str = REGION,
) -> Copy:
    return await target.install(make_bundle(entry, version, key_type=key_type), scope=scope, present=present)


def leaf(version: int = 1) -> str:
    """Return the fingerprint of a version of www with the usual key type."""
    return make_bundle("www", version, key_type="ecdsa-p256").facts.fingerprint


def fill(aws: AWS, key: ListenerKey, count: int) -> None:
    for number in range(count):
        arn = aws.import_foreign(number=10 + number)
        aws.client("elbv2").add_listener_certificates(ListenerArn=key.listener, Certificates=[{"CertificateArn": arn}])


async def discover(target: Target) -> dict[ListenerKey, Listener]:
    return {listener.key: listener for listener in await target.discover()}


async def test_a_network_load_balancer_serves_by_name_and_by_default(aws: AWS) -> None:
    key, target = aws.make_balancer("net", kind="network"), aws.target()
    copy = await install(target)
    await target.attach(key, copy, instead_of="")
    assert (await target.look(key)).kind == "network"
    assert aws.served_by_alb(key, "www.example.com") == leaf()
    await target.set_default(key, copy)
    assert aws.served_by_alb(key, "") == leaf()


async def test_the_26th_certificate_is_refused_before_anything_is_touched(aws: AWS) -> None:
    key, target = aws.make_balancer("front"), aws.target()
    fill(aws, key, MOST_SNI)
    copy = await install(target)
    before = await target.look(key)
    aws.server.calls.clear()
    with pytest.raises(TargetFull, match="holds 25 certificates beside its default, 25 is the limit"):
        await target.attach(key, copy, instead_of="")
    assert {call for call in aws.server.calls if "Describe" not in call} == set()
    assert await target.look(key) == before


async def test_the_limit_of_aws_itself_counts_where_the_settings_say_more(aws: AWS) -> None:
    key, target = aws.make_balancer("front"), aws.target(max_listener_certificates=100)
    fill(aws, key, MOST_SNI)
    with pytest.raises(TargetFull, match="TooManyCertificates"):
        await target.attach(key, await install(target), instead_of="")


async def test_a_full_listener_takes_a_new_version_in_place_but_no_other_copy(aws: AWS) -> None:
    key, target = aws.make_balancer("front"), aws.target()
    first = await install(target)
    await target.attach(key, first, instead_of="")
    fill(aws, key, MOST_SNI - 1)
    second = await install(target, version=2, present=first)
    await target.attach(key, second, instead_of=first.handle)
    assert aws.served_by_alb(key, "www.example.com") == leaf(2)
    other = await install(target, version=3, present=second, key_type="rsa-2048")
    with pytest.raises(TargetFull, match="needs a free place"):
        await target.attach(key, other, instead_of=second.handle)
    assert aws.served_by_alb(key, "www.example.com") == leaf(2)


async def test_another_key_type_makes_a_new_copy_and_both_kinds_of_places_are_switched(aws: AWS) -> None:
    listed, default, target = aws.make_balancer("front"), aws.make_balancer("back"), aws.target()
    old = await install(target, key_type="rsa-2048")
    await target.attach(listed, old, instead_of="")
    await target.set_default(default, old)
    new = await install(target, version=2, present=old)
    assert new.handle != old.handle
    for key in (listed, default):
        await target.attach(key, new, instead_of=old.handle)
        await target.attach(key, new, instead_of=old.handle)
        assert aws.served_by_alb(key, "www.example.com") == leaf(2)
        assert not (await target.look(key)).holds(old.handle)
    assert (await target.look(default)).default == new.handle
    await target.remove(old.handle)
    assert set(await target.list_copies()) == {new.handle}


async def test_a_copy_in_place_changes_all_listeners_of_the_region(aws: AWS) -> None:
    keys, target = [aws.make_balancer("front"), aws.make_classic("old")], aws.target()
    copy = await install(target)
    for key in keys:
        await target.set_default(key, copy)
    await install(target, version=2, present=copy)
    new = leaf(2)
    assert (aws.served_by_alb(keys[0], ""), aws.served_by_classic(keys[1], "")) == (new, new)


async def test_an_old_default_that_was_on_the_list_too_is_taken_off_it(aws: AWS) -> None:
    """AWS keeps the list as it is when the default changes, and doesn't take the default one off."""
    key, target = aws.make_balancer("front"), aws.target()
    ours = await install(target)
    await target.attach(key, ours, instead_of="")
    foreign = (await target.look(key)).default
    await target.set_default(key, ours)  # now on the list and the default
    other = await install(target, "shop")
    await target.set_default(key, other)
    assert (await target.look(key)).handles == (other.handle,)
    fill_one = {"ListenerArn": key.listener, "Certificates": [{"CertificateArn": foreign}]}
    aws.client("elbv2").add_listener_certificates(**fill_one)
    aws.client("elbv2").modify_listener(**fill_one)
    await target.set_default(key, other)
    assert (await target.look(key)).certificates == (foreign,)  # somebody else's stays on his list


async def test_a_new_certificate_that_elb_does_not_know_yet_is_waited_for(aws: AWS) -> None:
    key, target = aws.make_balancer("front"), aws.target()
    copy = await install(target)
    aws.server.faults.append(Fault("elbv2:AddListenerCertificates", "CertificateNotFound", times=4))
    await target.attach(key, copy, instead_of="")
    assert (await target.look(key)).holds(copy.handle)
    assert aws.server.count("elbv2:AddListenerCertificates") == 5


async def test_a_certificate_that_stays_unknown_is_gone(aws: AWS) -> None:
    key, target = aws.make_balancer("front"), aws.target()
    copy = await install(target)
    await target.remove(copy.handle)
    began = aws.clock.now()
    with pytest.raises(TargetGone, match="CertificateNotFound"):
        await target.attach(key, copy, instead_of="")
    assert (aws.clock.now() - began).total_seconds() < 60


async def test_all_pages_of_load_balancers_and_distributions_are_read(aws: AWS) -> None:
    keys = {aws.make_balancer(f"front-{number}") for number in range(52)}  # moto's pages: 50, of distributions 100
    keys |= {aws.make_distribution(f"site-{number}", has_certificate=False) for number in range(101)}
    assert set(await discover(aws.target())) == keys


async def test_listeners_without_tls_are_left_out(aws: AWS) -> None:
    key = aws.make_classic("old")  # has a plain listener as well
    balancer = aws.make_balancer("front")
    item = aws.client("elbv2").describe_listeners(ListenerArns=[balancer.listener])["Listeners"][0]
    plain = aws.client("elbv2").create_listener(
        LoadBalancerArn=item["LoadBalancerArn"], Protocol="HTTP", Port=80, DefaultActions=item["DefaultActions"]
    )["Listeners"][0]["ListenerArn"]
    target = aws.target()
    assert set(await discover(target)) == {key, balancer}
    for nowhere in (replace(balancer, listener=plain, port=80), replace(key, listener="80", port=80)):
        with pytest.raises(TargetGone, match="no such TLS listener"):
            await target.look(nowhere)


async def test_each_region_has_a_copy_of_its_own(aws: AWS) -> None:
    target = aws.target(regions=[REGION, "eu-central-1"])
    keys = [aws.make_balancer("front"), aws.make_balancer("front", region="eu-central-1")]
    assert set(await discover(target)) == set(keys)
    assert [target.scope_of(key) for key in keys] == [REGION, "eu-central-1"]
    copies = [await install(target, scope=target.scope_of(key)) for key in keys]
    assert len({copy.handle for copy in copies}) == 2
    for key, copy in zip(keys, copies, strict=True):
        await target.attach(key, copy, instead_of="")
        assert aws.served_by_alb(key, "www.example.com") == leaf()
    assert set(await target.list_copies()) == {copy.handle for copy in copies}
    assert {account for account, _ in aws.ledger.spent} == {f"123456789012/{REGION}", "123456789012/eu-central-1"}


async def test_what_the_settings_leave_out_is_not_touched(aws: AWS) -> None:
    classic, balancer = aws.make_classic("old"), aws.make_balancer("front", region="eu-central-1")
    target = aws.target(services=["elbv2"])
    assert await discover(target) == {}
    for key in (classic, balancer):
        with pytest.raises(TargetGone, match="settings leave out"):
            await target.look(key)


async def test_a_key_that_names_another_load_balancer_or_port_is_gone(aws: AWS) -> None:
    key, target = aws.make_balancer("front"), aws.target()
    aws.make_balancer("back")
    for wrong in (
        replace(key, load_balancer="back"),
        replace(key, port=8443),
        replace(key, listener=key.listener + "0"),
    ):
        with pytest.raises(TargetGone):
            await target.look(wrong)


async def test_the_proof_connects_where_the_settings_say(aws: AWS) -> None:
    private, public = aws.make_balancer("private", port=8443), aws.make_balancer("public")
    target = aws.target(probe_addresses={"private": ["10.0.0.1", "[fd00::1]:444"]})
    assert (await target.look(private)).endpoints == (Endpoint("10.0.0.1", 8443), Endpoint("fd00::1", 444))
    shown = await target.look(public)
    assert shown.endpoints == (Endpoint(shown.dns_name, 443),)
    assert shown.dns_name.endswith("amazonaws.com")


async def test_classic_and_cloudfront_take_no_second_certificate(aws: AWS) -> None:
    target = aws.target()
    for key, scope in ((aws.make_classic("old"), REGION), (aws.make_distribution("site"), "cloudfront")):
        before = await target.look(key)
        copy = await install(target, scope=scope)
        with pytest.raises(TargetFull, match="serves one certificate"):
            await target.attach(key, copy, instead_of="")
        assert await target.look(key) == before
        with pytest.raises(TargetRefused, match="default certificate"):
            await target.detach(key, before.default)


async def test_cloudfront_keeps_everything_but_the_certificate(aws: AWS) -> None:
    key, target = aws.make_distribution("site"), aws.target()
    before = aws.client("cloudfront").get_distribution_config(Id=key.load_balancer)["DistributionConfig"]
    assert target.scope_of(key) == "cloudfront"
    copy = await install(target, scope="cloudfront")
    assert copy.handle.split(":")[3] == "us-east-1"
    await target.set_default(key, copy)
    after = aws.client("cloudfront").get_distribution_config(Id=key.load_balancer)["DistributionConfig"]
    viewers = before.pop("ViewerCertificate"), after.pop("ViewerCertificate")
    assert after == before
    assert viewers[1]["ACMCertificateArn"] == copy.handle
    for kept in ("SSLSupportMethod", "MinimumProtocolVersion"):
        assert viewers[1][kept] == viewers[0][kept]


async def test_a_distribution_without_a_certificate_gets_one_by_sni(aws: AWS) -> None:
    key, target = aws.make_distribution("site", has_certificate=False), aws.target()
    assert (await target.look(key)).handles == ()
    await target.set_default(key, await install(target, scope="cloudfront"))
    config = aws.client("cloudfront").get_distribution_config(Id=key.load_balancer)["DistributionConfig"]
    viewer = config["ViewerCertificate"]
    assert (viewer["SSLSupportMethod"], viewer["MinimumProtocolVersion"]) == ("sni-only", "TLSv1.2_2021")


async def test_a_distribution_that_somebody_else_changed_meanwhile_is_read_again(aws: AWS) -> None:
    key, target = aws.make_distribution("site"), aws.target()
    copy = await install(target, scope="cloudfront")
    aws.server.faults.append(Fault("cloudfront:UpdateDistribution", "PreconditionFailed", status=412, times=2))
    await target.set_default(key, copy)
    assert (await target.look(key)).default == copy.handle
    assert aws.server.count("cloudfront:GetDistributionConfig") == 3


async def test_a_change_of_cloudfront_is_waited_for_and_not_for_ever(aws: AWS) -> None:
    key, target = aws.make_distribution("site"), aws.target()
    copy = await install(target, scope="cloudfront")
    aws.hold_distributions(looks=3)
    await target.set_default(key, copy)
    assert aws.clock.slept
    aws.hold_distributions(looks=10_000)
    other, began = await install(target, "shop", scope="cloudfront"), aws.clock.now()
    with pytest.raises(TargetRefused, match="has not deployed the change within 900 s"):
        await target.set_default(key, other)
    assert (aws.clock.now() - began).total_seconds() < 1000
    aws.server.calls.clear()
    with pytest.raises(TargetRefused):  # the next try waits for the change, and does not make it again
        await target.set_default(key, other)
    assert aws.server.count("cloudfront:UpdateDistribution") == 0


async def test_a_change_of_cloudfront_whose_answer_was_lost_is_made_once(aws: AWS) -> None:
    key, target = aws.make_distribution("site"), aws.target()
    copy = await install(target, scope="cloudfront")
    aws.server.faults.append(Fault("cloudfront:UpdateDistribution"))
    await target.set_default(key, copy)
    assert (await target.look(key)).default == copy.handle
    assert aws.server.count("cloudfront:UpdateDistribution") == 2  # the second one is refused by its ETag


async def test_what_was_deleted_is_gone_and_does_not_stop_the_discovery(aws: AWS) -> None:
    front, back, site, target = *map(aws.make_balancer, ("front", "back")), aws.make_distribution("x"), aws.target()
    for nowhere in (replace(site, load_balancer="E00000000000", listener="E00000000000"), replace(site, port=444)):
        with pytest.raises(TargetGone):
            await target.look(nowhere)
    with pytest.raises(TargetGone):
        await target.look(ListenerKey("cloud", REGION, "old", "443", 443))
    aws.server.faults.append(Fault("elbv2:DescribeListeners", "LoadBalancerNotFound"))
    assert set(await discover(target)) == {back, site}
    assert set(await discover(target)) == {front, back, site}


async def test_cloudfront_refuses_p384_before_an_import_is_spent(aws: AWS) -> None:
    target = aws.target()
    with pytest.raises(TargetRefused, match="CloudFront takes RSA and P-256 keys only, www has ecdsa-p384"):
        await install(target, key_type="ecdsa-p384", scope="cloudfront")
    assert aws.server.count("acm:ImportCertificate") == 0
    assert aws.ledger.spent == []
