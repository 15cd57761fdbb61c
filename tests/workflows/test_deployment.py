"""The deployment workflow against fake targets: what goes well, what fails, and what is true afterwards."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from deployment_parts import Lab, fingerprint, make_lab

from certorbit.errors import BadInput, CredentialsRefused, InUse, Refused, TargetRefused, Throttled, Unreachable
from certorbit.model.balancer import ListenerKey
from certorbit.model.operation import OperationState
from fakes.fake_target import FOREIGN, FakeTarget

KINDS = [
    pytest.param((True, False), id="in-place"),
    pytest.param((False, False), id="immutable"),
    pytest.param((True, True), id="shared"),
    pytest.param((False, True), id="shared-immutable"),
]


@pytest.fixture(params=KINDS)
async def lab(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Lab]:
    in_place, shared = request.param
    target = FakeTarget(in_place=in_place, shared=shared)
    made = await make_lab(tmp_path / "lab.db", template=sqlite_template, targets=[target])
    yield made
    await made.store.close()


def listeners(lab: Lab, number: int) -> list[ListenerKey]:
    return [lab.targets[0].add_listener(f"l{n}") for n in range(1, number + 1)]


def served(lab: Lab, listener: str, name: str) -> str:
    return lab.targets[0].serve(listener, f"{name}.example.com")[0]


def fail(lab: Lab, error: Callable[[], Exception], *, method: str, place: str, times: int = 1000) -> None:
    """Let the calls of a method at a place fail, so many times."""
    left = [times]

    def before(called: str, at: str) -> None:
        if (called, at) == (method, place) and left[0] > 0:
            left[0] -= 1
            raise error()

    lab.targets[0].before = before


def unreachable() -> Unreachable:
    return Unreachable("No answer.", subject="edge", phase="connect")


async def test_an_attached_certificate_is_served_and_proven(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    await lab.attach_for_good("www", key)
    assert served(lab, "l1", "www") == fingerprint("www", 1)
    row = (await lab.attachments("www"))["l1"]
    assert (row.stage.value, row.version, row.promised) == ("proven", "www-version-1", True)
    assert row.proof is not None
    assert row.proof.is_served
    (operation,) = await lab.operations("www")
    assert operation.state is OperationState.SUCCEEDED
    assert lab.steps(f"{operation.id}.1") == ["plan", "first", "retire", "finish"]


async def test_attaching_again_starts_nothing(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    await lab.attach_for_good("www", key)
    calls = len(lab.targets[0].calls)
    asked = await lab.attach("www", key)
    assert asked.operation is None
    await lab.drive()
    assert len(lab.targets[0].calls) == calls


async def test_a_new_version_reaches_every_listener_and_old_copies_go(lab: Lab) -> None:
    keys = listeners(lab, 3)
    await lab.add_entry("www")
    await lab.attach_for_good("www", *keys)
    await lab.renew("www", 2)
    await lab.drive()
    assert {served(lab, name, "www") for name in ("l1", "l2", "l3")} == {fingerprint("www", 2)}
    assert set(lab.targets[0].copies.values().__iter__().__next__().names) == {"www.example.com"}
    assert {copy.version for copy in lab.targets[0].copies.values()} == {"www-version-2"}
    copies = await lab.store.read(lambda tx: tx.copies.list())
    assert {copy.handle for copy in copies} == set(lab.targets[0].copies)


async def test_the_first_listener_goes_alone_and_stops_the_others_if_it_does_not_serve(lab: Lab) -> None:
    keys = listeners(lab, 3)
    await lab.add_entry("www")
    await lab.attach_for_good("www", *keys)
    lab.prober.bad_leaves = {("l1", fingerprint("www", 2))}
    lab.targets[0].calls.clear()
    await lab.renew("www", 2)
    await lab.drive()
    assert {served(lab, name, "www") for name in ("l1", "l2", "l3")} == {fingerprint("www", 1)}
    if not lab.targets[0].shared:
        assert not [place for method, place in lab.targets[0].calls if method == "install" and place != "l1"]
    (operation,) = (await lab.operations("www"))[1:]
    assert operation.state is OperationState.WAITING
    assert operation.problem is not None
    assert operation.problem.type == "NotServed"
    assert "another certificate is served" in operation.problem.message
    rollout = (await lab.rollouts(operation.id))["l1"]
    assert rollout.stage.value == "rolled_back"
    assert rollout.proof is not None
    assert not rollout.proof.is_served


async def test_what_failed_is_tried_again_and_then_everything_is_proven(lab: Lab) -> None:
    keys = listeners(lab, 3)
    await lab.add_entry("www")
    await lab.attach_for_good("www", *keys)
    lab.prober.bad_leaves = {("l1", fingerprint("www", 2))}
    await lab.renew("www", 2)
    await lab.drive()
    lab.prober.bad_leaves = set()
    await lab.drive(most=2)
    assert {served(lab, name, "www") for name in ("l1", "l2", "l3")} == {fingerprint("www", 2)}
    assert (await lab.operations("www"))[1].state is OperationState.SUCCEEDED
    assert {copy.version for copy in lab.targets[0].copies.values()} == {"www-version-2"}


async def test_a_listener_in_the_middle_that_does_not_serve_is_rolled_back_and_said(lab: Lab) -> None:
    keys = listeners(lab, 4)
    await lab.add_entry("www")
    await lab.attach_for_good("www", *keys)
    lab.prober.bad_leaves = {("l3", fingerprint("www", 2))}
    await lab.renew("www", 2)
    await lab.drive()
    (operation,) = (await lab.operations("www"))[1:]
    assert operation.state is OperationState.WAITING
    assert operation.problem is not None
    if lab.targets[0].shared:  # they change together, so they go back together
        assert {served(lab, f"l{n}", "www") for n in range(1, 5)} == {fingerprint("www", 1)}
        assert "0 of 4 listeners serve it" in operation.problem.message
    else:
        assert [served(lab, f"l{n}", "www") for n in range(1, 5)] == [
            fingerprint("www", version) for version in (2, 2, 1, 1)
        ]
        assert "2 of 4 listeners serve it, 1 failed, 1 were not changed" in operation.problem.message
        assert await lab.stages("www") == {"l1": "proven", "l2": "proven", "l3": "rolled_back", "l4": "proven"}


async def test_a_target_that_is_down_for_a_moment_is_asked_again_at_once(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    fail(lab, unreachable, method="attach", place="l1", times=1)
    await lab.attach_for_good("www", key)
    assert served(lab, "l1", "www") == fingerprint("www", 1)
    assert await lab.stages("www") == {"l1": "proven"}


async def test_a_target_that_is_down_for_longer_keeps_what_it_has_and_is_tried_later(lab: Lab) -> None:
    keys = listeners(lab, 2)
    await lab.add_entry("www")
    await lab.attach_for_good("www", *keys)
    fail(lab, unreachable, method="look", place="l1")
    await lab.renew("www", 2)
    await lab.drive()
    (operation,) = (await lab.operations("www"))[1:]
    assert operation.state is OperationState.WAITING
    assert served(lab, "l1", "www") == fingerprint("www", 1)
    if not lab.targets[0].shared:
        assert served(lab, "l2", "www") == fingerprint("www", 2), "the other listener is not held up"
        assert operation.problem is not None
        assert "1 of 2 listeners serve it, 1 failed" in operation.problem.message
    lab.targets[0].before = lambda *_: None
    await lab.drive(most=2)
    assert served(lab, "l1", "www") == fingerprint("www", 2)
    assert (await lab.operations("www"))[1].state is OperationState.SUCCEEDED


@pytest.mark.parametrize(
    "error",
    [
        lambda: TargetRefused("No such key type.", subject="edge"),
        lambda: CredentialsRefused("acm:ImportCertificate is not allowed.", subject="edge"),
    ],
)
async def test_an_attachment_that_fails_for_good_is_taken_back_and_the_client_is_told(
    lab: Lab, error: Callable[[], Exception]
) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    fail(lab, error, method="install", place=lab.targets[0].scope_of(key))
    asked = await lab.attach("www", key)
    await lab.drive()
    with pytest.raises(Refused, match=error().args[0]):
        await lab.settle(asked)
    assert await lab.attachments("www") == {}
    assert (await lab.operations("www"))[0].state is OperationState.FAILED
    assert lab.targets[0].listeners[key].handles == (FOREIGN,)


async def test_a_fresh_attachment_that_is_not_served_is_taken_off_again(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    lab.prober.bad_leaves = {("l1", fingerprint("www", 1))}
    asked = await lab.attach("www", key, as_default=True)
    await lab.drive()
    with pytest.raises(Refused, match="does not serve 'www'"):
        await lab.settle(asked)
    assert lab.targets[0].listeners[key].handles == (FOREIGN,)
    assert lab.targets[0].listeners[key].default == FOREIGN


async def test_a_default_that_is_not_served_gives_the_place_back(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    for name in ("www", "shop"):
        await lab.add_entry(name)
    await lab.attach_for_good("www", key, as_default=True)
    lab.prober.bad_leaves = {("l1", fingerprint("shop", 1))}
    asked = await lab.attach("shop", key, as_default=True)
    await lab.drive()
    with pytest.raises(Refused):
        await lab.settle(asked)
    assert lab.targets[0].serve("l1", "")[0] == fingerprint("www", 1)
    assert (await lab.attachments("www"))["l1"].is_default
    assert await lab.attachments("shop") == {}


async def test_the_former_default_stays_beside_the_new_one(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    for name in ("www", "shop"):
        await lab.add_entry(name)
    await lab.attach_for_good("www", key, as_default=True)
    await lab.attach_for_good("shop", key, as_default=True)
    assert lab.targets[0].serve("l1", "")[0] == fingerprint("shop", 1)
    assert served(lab, "l1", "www") == fingerprint("www", 1)
    assert not (await lab.attachments("www"))["l1"].is_default
    await lab.renew("www", 2)
    await lab.drive()
    assert served(lab, "l1", "www") == fingerprint("www", 2)
    assert lab.targets[0].serve("l1", "")[0] == fingerprint("shop", 1)


async def test_a_full_listener_is_refused_before_anything_is_touched(lab: Lab) -> None:
    key = lab.targets[0].add_listener("l1", room=2)
    for name in ("www", "shop", "blog"):
        await lab.add_entry(name)
    await lab.attach_for_good("www", key)
    await lab.attach("shop", key)  # on its way: it counts
    calls = len(lab.targets[0].calls)
    with pytest.raises(BadInput, match="takes 2 certificates beside its default and has 2"):
        await lab.attach("blog", key)
    assert len(lab.targets[0].calls) == calls


async def test_a_detached_certificate_is_taken_off_and_its_copy_removed(lab: Lab) -> None:
    keys = listeners(lab, 2)
    await lab.add_entry("www")
    await lab.attach_for_good("www", *keys)
    asked = await lab.detach("www", keys[0])
    assert asked is not None
    await lab.drive()
    await lab.settle(asked)
    assert served(lab, "l1", "www") != fingerprint("www", 1)
    assert served(lab, "l2", "www") == fingerprint("www", 1)
    assert set(await lab.attachments("www")) == {"l2"}
    assert await lab.detach("www", keys[0]) is None
    asked = await lab.detach("www", keys[1])
    await lab.drive()
    assert lab.targets[0].copies == {}
    assert await lab.store.read(lambda tx: tx.copies.list()) == []


async def test_a_default_is_not_detached(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    await lab.attach_for_good("www", key, as_default=True)
    with pytest.raises(InUse, match="is the default of"):
        await lab.detach("www", key)


async def test_one_certificate_takes_the_place_of_another_and_the_old_one_is_unused(lab: Lab) -> None:
    keys = listeners(lab, 2)
    for name in ("www", "new"):
        await lab.add_entry(name)
    await lab.attach_for_good("www", keys[0], as_default=True)
    await lab.attach_for_good("www", keys[1])
    await lab.take_over("www", "new")
    await lab.drive()
    assert await lab.stages("new") == {"l1": "proven", "l2": "proven"}
    assert lab.targets[0].serve("l1", "")[0] == fingerprint("new", 1)
    assert await lab.attachments("www") == {}
    assert {copy.entry for copy in lab.targets[0].copies.values()} == {"uid-new"}


async def test_the_old_one_stays_on_while_the_new_one_is_not_served(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    for name in ("www", "new"):
        await lab.add_entry(name)
    await lab.attach_for_good("www", key)
    lab.prober.bad_leaves = {("l1", fingerprint("new", 1))}
    await lab.take_over("www", "new")
    await lab.drive()
    assert served(lab, "l1", "www") == fingerprint("www", 1)
    assert set(await lab.attachments("www")) == {"l1"}
    lab.prober.bad_leaves = set()
    await lab.drive(most=2)
    assert served(lab, "l1", "new") == fingerprint("new", 1)
    assert await lab.attachments("www") == {}


async def test_the_only_place_of_a_listener_changes_hands(lab: Lab) -> None:
    key = lab.targets[0].add_listener("l1", room=0)
    for name in ("www", "new"):
        await lab.add_entry(name)
    await lab.attach_for_good("www", key)
    assert lab.targets[0].serve("l1", "")[0] == fingerprint("www", 1)
    await lab.attach_for_good("new", key)
    assert lab.targets[0].serve("l1", "")[0] == fingerprint("new", 1)
    assert await lab.attachments("www") == {}
    assert {copy.entry for copy in lab.targets[0].copies.values()} == {"uid-new"}


async def test_a_version_that_comes_while_another_is_rolled_out_is_deployed_next(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    await lab.attach_for_good("www", key)
    await lab.renew("www", 2)

    seen: list[str] = []

    def after(method: str, _place: str) -> None:
        if method == "install" and not seen:
            seen.append(method)

    lab.targets[0].after = after
    await lab.renew("www", 3)
    await lab.drive()
    assert served(lab, "l1", "www") == fingerprint("www", 3)
    assert (await lab.attachments("www"))["l1"].version == "www-version-3"
    assert [operation.state for operation in await lab.operations("www")] == [OperationState.SUCCEEDED] * 2


async def test_a_target_that_left_the_settings_is_said(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    await lab.attach_for_good("www", key)
    lab.targets[0].name = "renamed"
    await lab.renew("www", 2)
    await lab.drive()
    (operation,) = (await lab.operations("www"))[1:]
    assert operation.problem is not None
    assert "no target 'edge' in the settings" in operation.problem.message


async def test_a_throttled_target_is_not_a_reason_to_take_an_attachment_back(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    fail(
        lab,
        lambda: Throttled("Too many requests.", subject="edge"),
        method="install",
        place=lab.targets[0].scope_of(key),
    )
    asked = await lab.attach("www", key)
    await lab.drive()
    await lab.settle(asked)
    assert (await lab.attachments("www"))["l1"].promised
    lab.targets[0].before = lambda *_: None
    await lab.drive(most=2)
    assert served(lab, "l1", "www") == fingerprint("www", 1)


async def test_a_wish_that_changes_while_it_is_fulfilled_is_fulfilled_as_it_is_then(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    await lab.attach("www", key)
    wishes = [lab.attach("www", key, as_default=True)]

    async def meanwhile() -> None:
        if wishes:
            await wishes.pop()

    lab.targets[0].meanwhile = meanwhile
    await lab.drive()
    assert lab.targets[0].serve("l1", "")[0] == fingerprint("www", 1)
    assert await lab.stages("www") == {"l1": "proven"}
    assert [operation.state for operation in await lab.operations("www")] == [OperationState.SUCCEEDED]
