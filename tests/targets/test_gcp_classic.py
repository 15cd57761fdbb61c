"""Classic SSL certificates on target proxies: what the contract suite doesn't ask."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from aiohttp import web

from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.model.balancer import Bundle, Copy, shown_link
from certorbit.model.entry import EntryID
from certorbit.ports.target import Grade, Target
from make import make_authorities, make_chain, pem
from targets.gcp_bench import listener_key, make_google_target, open_google
from targets.gcp_stand_in import Fault, GoogleStandIn
from targets.gcp_state import GLOBAL, PROJECT, SELF
from targets.target_bench import make_bundle

WEB, MAIL = listener_key("web"), listener_key("mail", port=993)
WEB_PATH = f"{GLOBAL}/targetHttpsProxies/web"
REGION = f"projects/{PROJECT}/regions/europe-west3"


@pytest.fixture
async def google() -> AsyncIterator[GoogleStandIn]:
    async with AsyncExitStack() as stack:
        yield await open_google(stack)


@pytest.fixture
async def target(google: GoogleStandIn) -> AsyncIterator[Target]:
    made = make_google_target(google)
    yield made
    await made.close()


async def install(target: Target, bundle: Bundle) -> Copy:
    return await target.install(bundle, scope="global", present=None)


async def test_proxies_are_shown_with_all_their_addresses_and_what_they_hold(target: Target) -> None:
    found = {listener.key.load_balancer: listener for listener in await target.discover()}
    assert set(found) == {"mail", "shop", "web"}  # neither the unreached one nor the one with a map
    assert [(e.host, e.port) for e in found["web"].endpoints] == [("192.0.2.10", 443), ("2001:db8::10", 443)]
    assert found["web"].default == f"{SELF}{GLOBAL}/sslCertificates/foreign"
    assert found["web"].max_certificates == 14
    assert found["web"].kind == "target-https-proxy"
    assert (found["mail"].kind, found["mail"].key.port) == ("target-ssl-proxy", 993)


async def test_an_ssl_proxy_takes_and_gives_back_a_certificate(target: Target, google: GoogleStandIn) -> None:
    bundle = make_bundle("www")
    copy = await install(target, bundle)
    await target.attach(MAIL, copy, instead_of="")
    path = f"{GLOBAL}/targetSslProxies/mail"
    assert google.state.served_by_proxy(path, "www.example.com") == bundle.facts.fingerprint
    await target.detach(MAIL, copy.handle)
    assert google.state.served_by_proxy(path, "www.example.com") != bundle.facts.fingerprint


async def test_a_region_has_listeners_and_certificates_of_its_own(google: GoogleStandIn) -> None:
    link = google.state.add_certificate("foreign", make_bundle("foreign").chain_pem, scope=REGION)
    google.state.add_proxy("inner", [link], address="10.0.0.5", scope=REGION)
    target = make_google_target(google, region="europe-west3")
    key = listener_key("inner", region="europe-west3")
    assert [listener.key for listener in await target.discover()] == [key]
    bundle = make_bundle("www")
    copy = await target.install(bundle, scope=target.scope_of(key), present=None)
    await target.attach(key, copy, instead_of="")
    served = google.state.served_by_proxy(f"{REGION}/targetHttpsProxies/inner", "www.example.com")
    assert served == bundle.facts.fingerprint
    assert list(await target.list_copies()) == [copy.handle]
    with pytest.raises(TargetGone):
        await target.look(WEB)
    await target.close()


async def test_the_link_ends_with_the_id_and_is_short_enough(target: Target, google: GoogleStandIn) -> None:
    for entry in ("www", "a" * 50):
        copy = await install(target, replace(make_bundle("www"), entry_id=EntryID(entry)))
        assert copy.link.rsplit("/", 1)[-1].endswith(f"-{entry}")
        google.state.compute.pop(copy.link.removeprefix(SELF))
    bundle = replace(make_bundle("www"), entry_id=EntryID("a" * 63))
    copy = await install(target, bundle)
    name = copy.link.rsplit("/", 1)[-1]
    assert name.endswith(f"-{bundle.facts.not_before:%Y%m%d}")
    assert len(name) <= 63
    assert shown_link(copy.link, bundle.entry_id).endswith("a" * 63)


@pytest.mark.parametrize("count", [1, 6], ids=["no intermediate", "too long"])
async def test_a_chain_that_google_refuses_is_not_sent(target: Target, google: GoogleStandIn, count: int) -> None:
    bundle = make_bundle("www")
    chain = make_chain().leaf_pem + "".join(pem(ca) for ca in make_authorities(count))
    google.requests.clear()
    with pytest.raises(TargetRefused, match=f"has {count} certificate"):
        await install(target, replace(bundle, chain_pem=chain))
    assert not google.requests


async def test_the_sixteenth_certificate_is_refused_before_anything_is_sent(
    target: Target, google: GoogleStandIn
) -> None:
    links = google.state.compute[WEB_PATH]["sslCertificates"]
    links += [google.state.add_certificate(f"more-{n}", make_bundle(f"more-{n}").chain_pem) for n in range(14)]
    google.state.stamp(WEB_PATH)
    copy = await install(target, make_bundle("www"))
    google.requests.clear()
    with pytest.raises(TargetFull, match="holds 15 certificates"):
        await target.attach(WEB, copy, instead_of="")
    assert {method for method, _ in google.requests} == {"GET"}
    await target.attach(WEB, copy, instead_of=links[3])  # one goes, one comes
    held = await target.look(WEB)
    assert held.certificates[2] == copy.handle
    assert len(held.certificates) == 14


async def test_another_writer_in_between_is_not_overwritten(target: Target, google: GoogleStandIn) -> None:
    other = google.state.add_certificate("other", make_bundle("other").chain_pem)
    copy = await install(target, make_bundle("www"))

    async def come_between(_: web.Request) -> web.StreamResponse:
        google.state.compute[WEB_PATH]["sslCertificates"].append(other)
        google.state.stamp(WEB_PATH)
        body = {"error": {"code": 412, "message": "Invalid fingerprint.", "errors": [{"reason": "conditionNotMet"}]}}
        return web.json_response(body, status=412)

    google.faults.append(Fault("PATCH", WEB_PATH, come_between))
    await target.attach(WEB, copy, instead_of="")
    assert (await target.look(WEB)).certificates == (other, copy.handle)


async def test_a_writer_who_never_rests_is_reported(target: Target, google: GoogleStandIn) -> None:
    copy = await install(target, make_bundle("www"))
    google.fail("PATCH", f"/compute/v1/{WEB_PATH}", 412, "conditionNotMet", message="Invalid fingerprint", times=4)
    with pytest.raises(TargetRefused, match="Invalid fingerprint"):
        await target.attach(WEB, copy, instead_of="")


async def test_copies_are_found_on_all_pages_and_only_our_own(target: Target, google: GoogleStandIn) -> None:
    google.page = 2
    bundles = [make_bundle(f"site-{n}") for n in range(5)]
    copies = [await install(target, bundle) for bundle in bundles]
    expected = {copy.handle: bundle.facts.fingerprint for copy, bundle in zip(copies, bundles, strict=True)}
    assert await target.list_copies() == expected
    other = make_google_target(google, owner="another")
    assert await other.list_copies() == {}
    await other.close()


async def test_a_certificate_of_our_name_with_other_content_is_left(target: Target, google: GoogleStandIn) -> None:
    copy = await install(target, make_bundle("www"))
    google.state.compute[copy.handle.removeprefix(SELF)]["certificate"] = make_bundle("foreign").chain_pem
    with pytest.raises(TargetRefused, match="other content"):
        await install(target, make_bundle("www"))


async def test_what_is_elsewhere_is_not_removed(target: Target, google: GoogleStandIn) -> None:
    google.requests.clear()
    for handle in (f"{SELF}projects/other/global/sslCertificates/x", f"{SELF}{GLOBAL}/sslCertificates/a/b"):
        with pytest.raises(TargetRefused, match="by hand"):
            await target.remove(handle)
    assert not google.requests


async def test_attaching_a_copy_that_was_removed_says_so(target: Target) -> None:
    copy = await install(target, make_bundle("www"))
    await target.remove(copy.handle)
    with pytest.raises(TargetGone, match="was not found"):
        await target.attach(WEB, copy, instead_of="")


async def test_the_check_names_missing_rights(target: Target, google: GoogleStandIn) -> None:
    google.state.rights = {"compute.sslCertificates.get"}
    findings = {finding.what: finding for finding in await target.check()}
    assert findings["compute.sslCertificates.create"].grade is Grade.FAILED
    assert "compute.sslCertificates.get" not in findings
    assert findings["read"].grade is Grade.OK
