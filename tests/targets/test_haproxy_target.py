"""The HAProxy target beyond the contract: defaults, files, restarts, rights and limits, with the real HAProxy."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.model.balancer import Copy
from certorbit.model.entry import ConfigID
from make import make_chain
from targets.haproxy_process import shake_hands, start_haproxy
from targets.haproxy_scene import Scene, leaf_in, make_scene, open_scene
from targets.target_bench import make_bundle


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as made:
        yield made


async def test_a_handle_is_the_path_and_a_link_ends_in_the_entry(scene: Scene) -> None:
    copy = await scene.install(make_bundle("www"))
    assert copy.handle == f"{scene.haproxy.directory}/https-1/prod.www.pem"
    assert copy.link == "haproxy://edge/https-1/prod/www"


async def test_files_have_mode_and_owner_of_the_settings(tmp_path: Path) -> None:
    async with start_haproxy(tmp_path) as haproxy:
        for mode, folder_mode in (("0600", 0o700), ("640", 0o750)):
            scene = make_scene(haproxy, mode=mode, owner=str(os.getuid()), group=str(os.getgid()))
            copy = await scene.install(make_bundle("www"))
            assert stat.S_IMODE(os.stat(copy.handle).st_mode) == int(mode, 8)  # noqa: PTH116 - the plain system call
            assert stat.S_IMODE(Path(copy.handle).parent.stat().st_mode) == folder_mode
        scene = make_scene(haproxy, owner="nobody-of-that-name")
        with pytest.raises(TargetRefused, match="nobody-of-that-name"):
            await scene.install(make_bundle("www"))


async def test_a_restart_serves_exactly_what_was_served(scene: Scene) -> None:
    www, shop, home = make_bundle("www"), make_bundle("shop", 3), make_bundle("home", 4)
    await scene.put_on(make_bundle("www", 2))
    for bundle in (www, shop, home):
        await scene.put_on(bundle)
    await scene.target.detach(scene.first, (await scene.install(shop)).handle)
    await scene.target.set_default(scene.first, await scene.install(home))
    names = ["", "www.example.com", "shop.example.com", "home.example.com"]
    before = [await scene.served(name) for name in names]
    assert before == [home.facts.fingerprint, www.facts.fingerprint, home.facts.fingerprint, home.facts.fingerprint]
    looked = await scene.target.look(scene.first)
    await scene.haproxy.restart()
    assert [await scene.served(name) for name in names] == before
    assert await scene.target.look(scene.first) == looked
    assert await scene.complaints() == []


async def test_the_default_follows_its_copy_after_a_restart_too(scene: Scene) -> None:
    copy = await scene.put_on(make_bundle("www"))
    await scene.target.set_default(scene.first, copy)
    await scene.haproxy.restart()
    new = make_bundle("www", 2)
    assert await scene.install(new) == copy
    assert await scene.served() == new.facts.fingerprint
    assert (await scene.target.look(scene.first)).default == copy.handle
    await scene.haproxy.restart()
    assert await scene.served() == await scene.served("www.example.com") == new.facts.fingerprint


async def test_the_default_before_is_not_kept_beside_the_new_one(scene: Scene) -> None:
    first, second = await scene.put_on(make_bundle("www")), await scene.put_on(make_bundle("shop", 3))
    await scene.target.set_default(scene.first, first)
    await scene.target.set_default(scene.first, second)
    listener = await scene.target.look(scene.first)
    assert (listener.default, listener.certificates) == (second.handle, ())
    await scene.target.remove(first.handle)
    assert set(await scene.target.list_copies()) == {second.handle}


async def test_a_default_is_not_removed_also_where_haproxy_would_allow_it(scene: Scene) -> None:
    copy = await scene.install(make_bundle("www"))
    await scene.target.set_default(scene.first, copy)
    with pytest.raises(TargetRefused, match="in use by listener 'https-1'"):
        await scene.target.remove(copy.handle)
    assert Path(copy.handle).exists()


async def test_the_operators_own_default_comes_back(scene: Scene) -> None:
    foreign = (await scene.target.look(scene.first)).default
    assert foreign == str(scene.default_file)
    copy = await scene.put_on(make_bundle("www"))
    for _ in range(2):
        await scene.target.set_default(scene.first, copy)
        await scene.target.set_default(scene.first, Copy(handle=foreign, link=foreign))
        await scene.target.set_default(scene.first, Copy(handle=foreign, link=foreign))
        assert await scene.served() == scene.haproxy.placeholder
        assert (await scene.target.look(scene.first)).default == foreign
    await scene.haproxy.restart()
    assert await scene.served() == scene.haproxy.placeholder


async def test_a_default_of_somebody_else_is_shown_and_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.pem"
    chain = make_chain(names=["foreign.example.com"], key_index=98)
    foreign.write_text(chain.chain_pem + chain.key_pem)
    lines = f"# by hand\n\n{foreign} [alpn h2,http/1.1] foreign.example.com !x.example.com\n"
    async with start_haproxy(tmp_path, first_lines=[lines]) as haproxy:
        scene = make_scene(haproxy)
        bundle = make_bundle("www")
        copy = await scene.put_on(bundle)
        listener = await scene.target.look(scene.first)
        assert (listener.default, listener.certificates) == (str(foreign), (copy.handle,))
        with pytest.raises(TargetRefused, match=r"Make .*/https-1/default\.pem the first line"):
            await scene.target.set_default(scene.first, copy)
        assert await scene.served("www.example.com") == bundle.facts.fingerprint
        assert await scene.served() == leaf_in(foreign)
        await scene.target.detach(scene.first, copy.handle)
        assert scene.crt_list.read_text() == lines
        assert await scene.complaints() == []


async def test_an_empty_list_with_strict_sni_works(tmp_path: Path) -> None:
    async with start_haproxy(tmp_path, options="strict-sni", first_lines=[""]) as haproxy:
        scene = make_scene(haproxy)
        bundle = make_bundle("www")
        copy = await scene.put_on(bundle)
        for _ in range(2):
            listener = await scene.target.look(scene.first)
            assert (listener.default, listener.certificates) == ("", (copy.handle,))
            assert await scene.served("www.example.com") == bundle.facts.fingerprint
            assert await scene.served() == ""
            await haproxy.restart()
        await scene.target.detach(scene.first, copy.handle)
        assert await scene.served("www.example.com") == ""
        assert scene.crt_list.read_text() == ""


async def test_each_listener_changes_by_itself(scene: Scene) -> None:
    old, new = make_bundle("www"), make_bundle("www", 2)
    for key in (scene.first, scene.second):
        await scene.put_on(old, at=key)
    await scene.install(new)
    assert await shake_hands(scene.first.port, "www.example.com") == new.facts.fingerprint
    assert await shake_hands(scene.second.port, "www.example.com") == old.facts.fingerprint


async def test_a_new_version_may_have_other_names_and_another_kind_of_key(scene: Scene) -> None:
    copy = await scene.put_on(make_bundle("www"))
    new = make_bundle("www", 2, names=("www.example.com", "neu.example.com"), key_type="rsa-2048")
    assert await scene.install(new) == copy
    assert await scene.served("neu.example.com") == await scene.served("www.example.com") == new.facts.fingerprint


async def test_the_most_certificates_is_kept(tmp_path: Path) -> None:
    async with open_scene(tmp_path, max_certificates=2) as scene:
        held = [await scene.put_on(make_bundle(f"site-{number}")) for number in range(2)]
        third = await scene.install(make_bundle("site-3"))
        with pytest.raises(TargetFull, match=r"2 certificates .* the most is 2"):
            await scene.target.attach(scene.first, third, instead_of="")
        assert set((await scene.target.look(scene.first)).certificates) == {copy.handle for copy in held}
        await scene.target.attach(scene.first, held[0], instead_of="")
        await scene.target.attach(scene.first, third, instead_of=held[0].handle)
        assert set((await scene.target.look(scene.first)).certificates) == {held[1].handle, third.handle}
        await scene.target.set_default(scene.first, held[0])


async def test_a_copy_that_is_not_there_can_not_be_attached(scene: Scene) -> None:
    missing = f"{scene.haproxy.directory}/https-1/prod.missing.pem"
    for handle in (missing, "/etc/passwd"):
        with pytest.raises(TargetGone):
            await scene.target.attach(scene.first, Copy(handle=handle, link=handle), instead_of="")


@pytest.mark.parametrize("handle", ["/etc/passwd", "{directory}/x.pem", "{directory}/../secret/a.b.pem", "a.b.pem"])
async def test_nothing_outside_of_the_directory_is_removed(scene: Scene, handle: str) -> None:
    with pytest.raises(TargetRefused, match="nothing is deleted"):
        await scene.target.remove(handle.format(directory=scene.haproxy.directory))


async def test_configurations_with_odd_names_have_files_and_links_of_their_own(scene: Scene) -> None:
    odd = [ConfigID(text) for text in ("a b", "../x", "ü", "x" * 255, "x" * 254 + "y", "a.b", ".")]
    bundles = [replace(make_bundle("www"), config=config) for config in odd]
    copies = [await scene.put_on(bundle) for bundle in bundles]
    assert len({copy.handle for copy in copies}) == len({copy.link for copy in copies}) == len(odd)
    assert {Path(copy.handle).parent for copy in copies} == {scene.default_file.parent}
    assert {copy.link.rsplit("/", 1)[-1] for copy in copies} == {"www"}
    assert set(await scene.target.list_copies()) == {copy.handle for copy in copies}
    await scene.haproxy.restart()
    assert set((await scene.target.look(scene.first)).certificates) == {copy.handle for copy in copies}


async def test_many_changes_at_once_all_arrive(scene: Scene) -> None:
    bundles = [make_bundle(f"site-{number}", number % 5 + 1) for number in range(12)]
    places = [(bundle, key) for bundle in bundles for key in (scene.first, scene.second)]
    await asyncio.gather(*(scene.put_on(bundle, at=key) for bundle, key in places))
    for bundle, key in places:
        assert await shake_hands(key.port, f"{bundle.entry_id}.example.com") == bundle.facts.fingerprint
    assert await scene.complaints() == []


async def test_the_runtime_api_by_tcp_works_too(tmp_path: Path) -> None:
    async with start_haproxy(tmp_path) as haproxy:
        scene = make_scene(haproxy, socket=haproxy.admin_address)
        bundle = make_bundle("www")
        await scene.put_on(bundle)
        assert await scene.served("www.example.com") == bundle.facts.fingerprint
        assert await scene.complaints() == []
