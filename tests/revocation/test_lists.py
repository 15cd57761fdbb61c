"""Lists are downloaded once for all, kept until they end, and replaced by nothing that is worse."""

import asyncio
from datetime import timedelta

import pytest
from cryptography import x509
from revocation_scene import Scene

from certorbit.pki.crl_points import identify_issuer
from certorbit.ports.crl_source import CRLCopy
from certorbit.revocation.lists import PAUSES
from certorbit.revocation_settings import RevocationSettings
from make import Chain, make_certificate, make_crl, make_key

PATH = "/1.crl"
DAY = timedelta(days=1)


async def find(scene: Scene, chain: Chain, path: str = PATH) -> CRLCopy:
    issuer = chain.issuers[0]
    return await scene.lists.find(scene.web.url(path), issuer=issuer, issuer_id=identify_issuer(issuer))


def requests(scene: Scene) -> int:
    return len(scene.web.requests)


async def test_fifty_that_ask_at_once_cause_one_download_and_one_parse(scene: Scene) -> None:
    chain = scene.chain(PATH)
    scene.publish(PATH, chain, revoked=[5])
    copies = await asyncio.gather(*(find(scene, chain) for _ in range(50)))
    assert requests(scene) == 1
    assert all(copy.index is not None and copy.index is copies[0].index for copy in copies)


async def test_a_list_is_asked_for_again_after_the_settings_hours_and_only_if_it_changed(scene: Scene) -> None:
    chain = scene.chain(PATH)
    scene.publish(PATH, chain, etag='"1"')
    first = await find(scene, chain)
    assert timedelta(hours=5) < first.next_look_at - scene.clock.now() <= timedelta(hours=6)
    await find(scene, chain)
    assert requests(scene) == 1
    scene.web.say(PATH, status="304 Not Modified")
    scene.clock.advance(hours=6)
    second = await find(scene, chain)
    assert requests(scene) == 2
    assert 'If-None-Match: "1"' in scene.web.requests[1]
    assert second.index is first.index
    assert second.next_look_at > first.next_look_at + timedelta(hours=5)


async def test_a_list_that_ends_soon_is_asked_for_ahead_of_its_end(scene: Scene) -> None:
    chain = scene.chain(PATH)
    scene.publish(PATH, chain, end=scene.clock.now() + timedelta(hours=2))
    copy = await find(scene, chain)
    assert timedelta(hours=1.5) < copy.next_look_at - scene.clock.now() < timedelta(hours=2)


async def test_a_process_that_starts_anew_reads_the_stored_list_without_a_download(scene: Scene) -> None:
    chain = scene.chain(PATH)
    scene.publish(PATH, chain, revoked=[5])
    await find(scene, chain)
    scene.lists = scene.make_lists()
    copy = await find(scene, chain)
    assert copy.index is not None
    assert copy.index.size == 1
    assert requests(scene) == 1


async def test_no_answer_keeps_the_list_that_is_there_until_it_ends(scene: Scene) -> None:
    chain = scene.chain(PATH)
    scene.publish(PATH, chain, end=scene.clock.now() + DAY)
    await find(scene, chain)
    scene.web.say(PATH, status="503 Busy")
    scene.clock.advance(hours=6)
    kept = await find(scene, chain)
    assert kept.index is not None
    assert kept.problem == "127.0.0.1 answered 503."
    scene.clock.advance(hours=18)
    ended = await find(scene, chain)
    assert ended.index is None
    assert "published no newer one" in ended.problem


async def test_an_ended_list_is_never_confirmed_by_not_modified(scene: Scene) -> None:
    chain = scene.chain(PATH)
    scene.publish(PATH, chain, etag='"1"', end=scene.clock.now() + timedelta(hours=1))
    await find(scene, chain)
    scene.web.say(PATH, status="304 Not Modified")
    scene.clock.advance(hours=2)
    assert (await find(scene, chain)).index is None
    assert "If-None-Match" not in scene.web.requests[1]


async def test_failures_are_repeated_ever_more_slowly(scene: Scene) -> None:
    chain = scene.chain(PATH)
    for pause in (*PAUSES, PAUSES[-1]):
        copy = await find(scene, chain)
        assert copy.index is None
        assert copy.next_look_at - scene.clock.now() == pause
        asked = requests(scene)
        await find(scene, chain)
        assert requests(scene) == asked
        scene.clock.advance(pause.total_seconds())


async def test_a_list_that_works_again_is_taken_at_once_and_its_failures_are_forgotten(scene: Scene) -> None:
    chain = scene.chain(PATH)
    for _ in range(3):
        copy = await find(scene, chain)
        scene.clock.advance((copy.next_look_at - scene.clock.now()).total_seconds())
    scene.publish(PATH, chain)
    copy = await find(scene, chain)
    assert copy.index is not None
    assert copy.problem == ""


@pytest.mark.parametrize("forgery", ["signature", "name", "old", "ended", "future", "delta", "rubbish", "huge"])
async def test_nothing_forged_takes_the_place_of_a_good_list(scene: Scene, forgery: str) -> None:
    chain = scene.chain(PATH)
    scene.settings = RevocationSettings(most_mebibytes=1)
    scene.lists = scene.make_lists()
    scene.publish(PATH, chain, revoked=[5], number=7)
    good = await find(scene, chain)
    scene.clock.advance(hours=6)
    now = scene.clock.now()
    stranger = make_certificate(key=make_key(index=90), subject="CN=Stranger", is_ca=True)
    bodies = {
        "signature": make_crl(chain.issuers[0], make_key(index=90), number=8, start=now),
        "name": make_crl(stranger, chain.issuer_keys[0], number=8, start=now),
        "rubbish": b"<html>",
        "huge": bytes(1024 * 1024 + 1),
    }
    if forgery in bodies:
        scene.web.say(PATH, bodies[forgery])
    elif forgery == "old":
        scene.publish(PATH, chain, number=6)
    elif forgery == "ended":
        scene.publish(PATH, chain, number=8, start=now - DAY, end=now)
    elif forgery == "future":
        scene.publish(PATH, chain, number=8, start=now + timedelta(hours=1))
    else:
        scene.publish(PATH, chain, number=8, extensions=[(x509.DeltaCRLIndicator(3), True)])
    copy = await find(scene, chain)
    assert requests(scene) == 2
    assert copy.index is good.index
    assert copy.problem != ""
    scene.lists = scene.make_lists()
    reread = (await find(scene, chain)).index
    assert reread is not None
    assert reread.number == 7


async def test_a_forged_number_locks_nobody_out(scene: Scene) -> None:
    chain = scene.chain(PATH)
    scene.web.say(PATH, make_crl(chain.issuers[0], make_key(index=90), number=2**158))
    assert (await find(scene, chain)).index is None
    scene.publish(PATH, chain, number=1)
    scene.clock.advance(minutes=2)
    assert (await find(scene, chain)).index is not None


async def test_two_issuers_that_share_a_url_don_t_share_a_list(scene: Scene) -> None:
    ours, other = scene.chain(PATH), scene.chain(PATH, depth=2)
    scene.publish(PATH, ours)
    assert (await find(scene, ours)).index is not None
    assert (await find(scene, other)).index is None
    assert (await find(scene, ours)).index is not None


async def test_with_the_setting_off_nothing_is_downloaded(scene: Scene) -> None:
    scene.settings = RevocationSettings(check=False)
    scene.lists = scene.make_lists()
    copy = await find(scene, scene.chain(PATH))
    assert copy.index is None
    assert "[revocation] check" in copy.problem
    assert requests(scene) == 0


async def test_downloads_are_counted_by_outcome(scene: Scene) -> None:
    chain = scene.chain(PATH)
    await find(scene, chain)
    scene.web.say(PATH, b"rubbish")
    scene.clock.advance(minutes=2)
    await find(scene, chain)
    scene.publish(PATH, chain)
    scene.clock.advance(minutes=6)
    await find(scene, chain)
    text = scene.metrics.render()
    for outcome in ("unreachable", "unusable", "new"):
        assert f'certorbit_crl_downloads_total{{outcome="{outcome}"}} 1' in text
