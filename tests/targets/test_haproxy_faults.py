"""HAProxy gone, refusing, reloaded or changed by others, and runs that died halfway: what is left and what is said."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from certorbit.errors import CredentialsRefused, TargetGone, TargetRefused, Unreachable
from certorbit.model.balancer import Bundle
from certorbit.model.material import PrivateKeyPEM
from certorbit.pki.read import read_facts
from certorbit.ports.target import Grade
from certorbit.targets.haproxy.material import combine
from make import make_certificate, make_chain, make_key, pem, write_key
from targets.haproxy_process import start_haproxy
from targets.haproxy_scene import Scene, leaf_in, make_scene, open_scene, pem_of
from targets.target_bench import make_bundle

OLD, NEW = make_bundle("www"), make_bundle("www", 2)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as made:
        yield made


async def test_a_socket_that_is_gone_is_unreachable(scene: Scene) -> None:
    await scene.haproxy.stop()
    with pytest.raises(Unreachable, match=r"no answer from HAProxy at .*admin\.sock"):
        await scene.install(OLD)
    with pytest.raises(Unreachable) as caught:
        await scene.target.look(scene.first)
    assert not caught.value.was_sent
    assert [(finding.what, finding.grade) for finding in await scene.target.check()] == [("reach", Grade.FAILED)]


async def test_a_socket_of_a_lower_level_is_refused(scene: Scene) -> None:
    plain = make_scene(scene.haproxy, socket=scene.haproxy.user_socket)
    for call in (plain.install(OLD), plain.target.look(plain.first), plain.target.discover()):
        with pytest.raises(CredentialsRefused, match="level admin"):
            await call
    findings = await plain.target.check()
    assert [(finding.what, finding.grade) for finding in findings] == [("reach", Grade.OK), ("admin", Grade.FAILED)]


@pytest.mark.parametrize("kind", ["missing", "a file"])
async def test_a_directory_that_can_not_be_written_is_refused_before_anything_changes(
    scene: Scene, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "nowhere"
    if kind == "a file":
        place.write_text("")
    broken = make_scene(scene.haproxy, directory=str(place))
    with pytest.raises(TargetRefused, match="nowhere"):
        await broken.install(OLD)
    failed = [finding.what for finding in await broken.target.check() if finding.grade is Grade.FAILED]
    assert failed == ["write"]
    assert "nowhere" not in await scene.haproxy.ask("show ssl cert")


async def test_a_list_that_haproxy_does_not_know_is_gone(scene: Scene, tmp_path: Path) -> None:
    other = tmp_path / "other.crtlist"
    other.write_text("")
    tables = [{"name": "https-1", "port": 1, "crt_list": str(other)}, {"name": "b", "crt_list": "/nowhere/b.crtlist"}]
    wrong = make_scene(scene.haproxy, listeners=tables)
    with pytest.raises(TargetGone, match=r"has no crt-list .*other\.crtlist"):
        await wrong.target.look(wrong.first)
    assert len(await wrong.complaints()) == 2


async def test_a_key_that_haproxy_refuses_changes_nothing(scene: Scene) -> None:
    copy = await scene.put_on(OLD)
    await scene.target.set_default(scene.first, copy)
    weak = _weak_bundle()
    with pytest.raises(TargetRefused, match="unable to load SSL certificate"):
        await scene.install(weak)
    assert await scene.served() == leaf_in(copy.handle) == OLD.facts.fingerprint
    assert await scene.complaints() == []
    other = await scene.install(weak, at=scene.second)  # nothing serves it yet
    with pytest.raises(TargetRefused, match="unable to load SSL certificate"):
        await scene.target.attach(scene.second, other, instead_of="")
    assert not (await scene.target.look(scene.second)).holds(other.handle)
    await scene.haproxy.restart()
    assert await scene.complaints() == []


def _weak_bundle() -> Bundle:
    """Return a version with an RSA key of 1024 bits, which OpenSSL doesn't serve."""
    key = make_key("rsa-1024")
    leaf = make_certificate(key=key, subject="CN=weak", names=["www.example.com"])
    return replace(OLD, chain_pem=pem(leaf), key=PrivateKeyPEM(write_key(key)), facts=read_facts(leaf))


async def test_what_does_not_fit_in_haproxys_buffer_is_refused_with_the_way_out(tmp_path: Path) -> None:
    names = tuple(f"name-{number:03}.of-a-rather-long-domain-{number:03}.example.com" for number in range(250))
    big = make_bundle("big", names=names)
    assert len(combine(big)) > 17_000
    async with open_scene(tmp_path) as scene:
        with pytest.raises(TargetRefused, match=r"tune\.bufsize"):
            await scene.install(big)
        assert await scene.target.list_copies() == {}
        await scene.put_on(OLD)
    async with start_haproxy(tmp_path, bufsize=65536) as haproxy:
        scene = make_scene(haproxy)
        await scene.put_on(big)
        assert await scene.served(names[-1]) == big.facts.fingerprint


async def test_our_own_transaction_of_a_dead_run_is_dropped(scene: Scene) -> None:
    copy = await scene.put_on(OLD)
    await scene.haproxy.ask(f"set ssl cert {scene.default_file}", pem_of(NEW))
    assert await scene.install(NEW) == copy
    assert await scene.served("www.example.com") == NEW.facts.fingerprint
    assert await scene.served() == scene.haproxy.placeholder
    assert "# transaction" not in await scene.haproxy.ask("show ssl cert")


async def test_a_transaction_of_somebody_else_is_left_alone_and_named(scene: Scene) -> None:
    await scene.put_on(OLD)
    await scene.haproxy.ask("new ssl cert /srv/other.pem")
    await scene.haproxy.ask("set ssl cert /srv/other.pem", pem_of(OLD))
    with pytest.raises(TargetRefused, match=r"isn't ours \(/srv/other\.pem\).*abort ssl cert"):
        await scene.install(NEW)
    assert await scene.served("www.example.com") == leaf_in(f"{scene.default_file.parent}/prod.www.pem")
    assert any("/srv/other.pem" in text for text in await scene.complaints())
    assert "Success!" in await scene.haproxy.ask("commit ssl cert /srv/other.pem")
    await scene.install(NEW)
    assert await scene.served("www.example.com") == NEW.facts.fingerprint


async def test_a_list_that_somebody_else_edits_keeps_his_lines(scene: Scene) -> None:
    copy = await scene.put_on(OLD)
    text = scene.crt_list.read_text()
    edited = text.replace(f"{copy.handle}\n", f"# ours\n{copy.handle} [alpn h2] www.example.com\n# last line, no end")
    scene.crt_list.write_text(edited)
    scene.crt_list.chmod(0o640)
    other = await scene.put_on(make_bundle("shop", 3))
    assert scene.crt_list.read_text() == f"{edited}\n{other.handle}\n"
    assert scene.crt_list.stat().st_mode & 0o777 == 0o640
    await scene.target.detach(scene.first, copy.handle)
    assert scene.crt_list.read_text() == f"{scene.default_file}\n# ours\n# last line, no end\n{other.handle}\n"


async def test_a_line_that_somebody_else_deleted_is_noticed_and_comes_back(scene: Scene) -> None:
    copy = await scene.put_on(OLD)
    text = scene.crt_list.read_text()
    scene.crt_list.write_text(f"{scene.default_file}\n")
    assert [complaint for complaint in await scene.complaints() if f"serves {copy.handle}, which" in complaint]
    await scene.target.attach(scene.first, copy, instead_of="")
    assert scene.crt_list.read_text() == text
    scene.crt_list.unlink()
    with pytest.raises(TargetRefused, match="there is no crt-list"):
        await scene.target.attach(scene.first, copy, instead_of="")
    assert await scene.complaints()


async def test_a_run_that_died_before_the_file_was_written_is_noticed_and_repeated(scene: Scene) -> None:
    copy = await scene.put_on(OLD)
    await scene.commit_by_hand(copy.handle, pem_of(NEW))
    assert await scene.target.list_copies() == {copy.handle: ""}
    assert any("holds another certificate" in text for text in await scene.complaints())
    await scene.install(NEW)
    assert await scene.target.list_copies() == {copy.handle: NEW.facts.fingerprint}
    await scene.haproxy.restart()
    assert await scene.served("www.example.com") == NEW.facts.fingerprint


async def test_a_first_run_that_died_before_the_content_is_repeated(scene: Scene) -> None:
    handle = f"{scene.default_file.parent}/prod.www.pem"
    await scene.haproxy.ask(f"new ssl cert {handle}")
    assert await scene.target.list_copies() == {}
    assert (await scene.put_on(OLD)).handle == handle
    assert await scene.served("www.example.com") == OLD.facts.fingerprint


@pytest.mark.parametrize("half", ["memory", "file"])
async def test_half_an_attachment_is_noticed_and_repeated(scene: Scene, half: str) -> None:
    copy = await scene.install(OLD)
    if half == "memory":
        await scene.haproxy.ask(f"add ssl crt-list {scene.crt_list} {copy.handle}")
    else:
        scene.crt_list.write_text(f"{scene.default_file}\n{copy.handle}\n")
    assert (await scene.target.look(scene.first)).holds(copy.handle) == (half == "memory")
    assert len(await scene.complaints()) == 1
    with pytest.raises(TargetRefused):
        await scene.target.remove(copy.handle)
    await scene.target.attach(scene.first, copy, instead_of="")
    assert await scene.complaints() == []
    await scene.haproxy.restart()
    assert (await scene.target.look(scene.first)).holds(copy.handle)


async def test_half_a_detachment_still_shows_the_copy(scene: Scene) -> None:
    copy = await scene.put_on(OLD)
    scene.crt_list.write_text(f"{scene.default_file}\n")
    assert (await scene.target.look(scene.first)).holds(copy.handle)
    await scene.target.detach(scene.first, copy.handle)
    assert not (await scene.target.look(scene.first)).holds(copy.handle)


@pytest.mark.parametrize("half", ["memory", "link", "before the line went"])
async def test_half_a_new_default_is_not_shown_as_done(scene: Scene, half: str) -> None:
    before = await scene.put_on(make_bundle("shop", 3))
    await scene.target.set_default(scene.first, before)
    copy = await scene.put_on(OLD)
    if half != "link":
        await scene.commit_by_hand(str(scene.default_file), pem_of(OLD))
    if half != "memory":
        scene.default_file.unlink()
        scene.default_file.symlink_to(Path(copy.handle).name)
    looked = await scene.target.look(scene.first)
    expected = copy.handle if half == "before the line went" else str(scene.default_file)
    assert looked.default == expected
    await scene.target.set_default(scene.first, copy)
    looked = await scene.target.look(scene.first)
    assert (looked.default, looked.certificates) == (copy.handle, ())
    await scene.haproxy.restart()
    assert await scene.served() == OLD.facts.fingerprint


async def test_a_new_version_of_the_default_that_died_halfway_is_repeated(scene: Scene) -> None:
    copy = await scene.install(OLD)
    await scene.target.set_default(scene.first, copy)
    await scene.commit_by_hand(str(scene.default_file), pem_of(NEW))
    assert (await scene.target.look(scene.first)).default == str(scene.default_file)
    await scene.install(NEW)
    assert (await scene.target.look(scene.first)).default == copy.handle
    assert await scene.served() == leaf_in(copy.handle) == NEW.facts.fingerprint


async def test_a_copy_that_no_list_named_at_a_restart_can_still_be_attached(scene: Scene) -> None:
    copy = await scene.install(OLD)
    await scene.haproxy.restart()
    assert copy.handle not in await scene.haproxy.ask("show ssl cert")
    await scene.target.attach(scene.first, copy, instead_of="")
    assert await scene.served("www.example.com") == OLD.facts.fingerprint


async def test_a_reload_between_two_steps_loses_nothing(scene: Scene) -> None:
    copy = await scene.put_on(OLD)
    await scene.haproxy.ask(f"set ssl cert {copy.handle}", pem_of(NEW))
    await scene.haproxy.reload()  # the transaction dies with the old worker
    await scene.install(NEW)
    await scene.haproxy.reload()
    assert await scene.served("www.example.com") == NEW.facts.fingerprint
    assert await scene.complaints() == []


async def test_changes_while_haproxy_reloads_end_in_agreement_or_are_noticed(scene: Scene) -> None:
    await scene.put_on(OLD)
    for bundle in (NEW, OLD, NEW):
        reload = asyncio.create_task(scene.haproxy.reload())
        while not reload.done():
            await scene.install(bundle)
        await reload
        # The new worker may have read the file before a change and answered after it.
        if await scene.served("www.example.com") != bundle.facts.fingerprint:
            assert await scene.complaints()
            await scene.install(bundle)
        assert await scene.served("www.example.com") == bundle.facts.fingerprint
        assert await scene.complaints() == []


async def test_one_changer_at_a_time_over_all_processes(scene: Scene, tmp_path: Path) -> None:
    hasty = make_scene(scene.haproxy, timeout_seconds=0.2)
    await scene.install(OLD)
    descriptor = os.open(tmp_path / "certs" / ".lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(TargetRefused, match="another process"):
            await hasty.install(NEW)
        waiting = asyncio.create_task(scene.install(NEW))
        await hasty.target.look(hasty.first)
        assert leaf_in(f"{scene.default_file.parent}/prod.www.pem") == OLD.facts.fingerprint
    finally:
        os.close(descriptor)
    assert leaf_in((await waiting).handle) == NEW.facts.fingerprint


async def test_an_operators_link_as_default_is_followed_and_kept(tmp_path: Path) -> None:
    chain = make_chain(names=["own.example.com"], key_index=98)
    own = tmp_path / "own.pem"
    own.write_text(chain.chain_pem + chain.key_pem)
    async with open_scene(tmp_path) as scene:
        scene.default_file.unlink()
        scene.default_file.symlink_to(own)
        await scene.haproxy.restart()
        assert (await scene.target.look(scene.first)).default == str(scene.default_file)
        copy = await scene.install(OLD)
        await scene.target.set_default(scene.first, copy)
        assert await scene.served() == OLD.facts.fingerprint
        assert own.read_text() == chain.chain_pem + chain.key_pem


async def test_a_managed_default_that_the_list_no_longer_names_is_no_default(scene: Scene, tmp_path: Path) -> None:
    copy = await scene.install(OLD)
    await scene.target.set_default(scene.first, copy)
    own = tmp_path / "own.pem"
    own.write_text(pem_of(make_bundle("own", 5)))
    scene.crt_list.write_text(f"{own}\n")
    await scene.haproxy.restart()
    looked = await scene.target.look(scene.first)
    assert (looked.default, looked.certificates) == (str(own), ())
    await scene.install(NEW)
    await scene.target.attach(scene.first, copy, instead_of="")
    assert await scene.served("www.example.com") == NEW.facts.fingerprint
    await scene.target.detach(scene.first, copy.handle)
    await scene.target.remove(copy.handle)
    assert await scene.target.list_copies() == {}


async def test_what_haproxy_can_not_parse_leaves_no_empty_place_behind(scene: Scene) -> None:
    broken = replace(OLD, chain_pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(TargetRefused, match="refused `set ssl cert`") as caught:
        await scene.install(broken)
    assert "AAAA" not in caught.value.message
    assert "prod.www" not in await scene.haproxy.ask("show ssl cert")
    assert await scene.target.list_copies() == {}
