"""Client certificates in deployments: who may get in is in force before anything is served, and never gets looser."""

from dataclasses import replace
from datetime import timedelta

import pytest
from client_policy_desk import (
    OFF,
    ON,
    OPTIONAL,
    Desk,
    delete_entry,
    delete_site,
    make_site,
    put_site,
    revert,
    version_of,
)
from deployment_parts import Stage
from issuance_parts import Death

from certorbit.errors import InUse, TargetRefused
from certorbit.model.client_policy import ClientPolicy
from certorbit.workflows.inventory import Inventory
from certorbit.workflows.proof import Prover
from certorbit.workflows.turns import ScopeTurns
from fakes.clock import FakeChance
from fakes.fake_target import FakeTarget, VerifyingTarget

LEAST_PLACES = 10  # fewer would mean that the deaths are not where they should be


def served_by(target: VerifyingTarget, listener: str = "https", name: str = "www.example.com") -> ClientPolicy | None:
    return target.policy_of(listener, name)


def watch_for_open_doors(target: VerifyingTarget) -> list[str]:
    """Return a list that gets an entry whenever the listener holds a copy of `www` with no check."""
    seen: list[str] = []

    def look(method: str, _place: str) -> None:
        for key, listener in target.listeners.items():
            ours = [handle for handle in listener.handles if handle.startswith(f"{key.listener}/www")]
            seen.extend(method for handle in ours if (key, handle) not in target.policies)

    target.after = look
    return seen


@pytest.mark.parametrize("in_place", [True, False], ids=["in-place", "anew"])
async def test_a_certificate_whose_clients_are_checked_is_never_served_openly(desk: Desk, *, in_place: bool) -> None:
    target = VerifyingTarget(in_place=in_place)
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    open_doors = watch_for_open_doors(target)
    await lab.attach_for_good("www", key)
    await lab.renew("www", 2)
    await lab.drive()
    assert (await lab.stages("www"), open_doors) == ({"https": "proven"}, [])
    policy = served_by(target)
    assert policy is not None
    assert (policy.mode, policy.bundle) == (ON, "clients")
    row = (await lab.attachments("www"))["https"]
    assert row.client_policy == policy.mark


async def test_each_change_of_a_server_group_reaches_the_listeners(desk: Desk) -> None:
    target = VerifyingTarget()
    keys = [target.add_listener(name) for name in ("http-1", "http-2")]
    lab = await desk.open(target)
    await lab.attach_for_good("www", *keys)
    done = len(await lab.operations("www"))
    for site, expected in (
        (make_site("shop", serves="www"), (ON, "clients")),
        (make_site("shop", serves="www", mode=OPTIONAL), (OPTIONAL, "clients")),
        (make_site("shop", serves="www", checks_by="others"), (ON, "others")),
        (make_site("shop", serves="www", mode=OFF), None),
    ):
        await put_site(lab, site)
        await lab.drive()
        for listener in ("http-1", "http-2"):
            policy = served_by(target, listener)
            assert (policy and (policy.mode, policy.bundle)) == expected
        done += 1
        assert len(await lab.operations("www")) == done
    await put_site(lab, replace(make_site("shop", serves="www", mode=OFF), description="new words"))
    assert len(await lab.operations("www")) == done, "nothing about clients has changed"


async def test_a_target_that_can_not_check_clients_is_not_given_the_certificate(desk: Desk) -> None:
    target = FakeTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www", mode=OPTIONAL))
    asked = await lab.attach("www", key)
    await lab.drive()
    assert target.calls == []
    (operation,) = await lab.operations("www")
    assert operation.problem is not None
    assert "can't check client certificates" in operation.problem.message
    assert operation.problem.type == TargetRefused.__name__
    assert await lab.attachments("www") == {}, "nobody was told 200, so the wish is taken back"
    assert asked.operation == operation.id


async def test_a_policy_that_the_target_refuses_keeps_a_new_certificate_off(desk: Desk) -> None:
    target = VerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))

    def refuse(method: str, _place: str) -> None:
        if method == "verify_clients":
            raise TargetRefused("The default's line can't be changed.")

    target.before = refuse
    await lab.attach("www", key)
    await lab.drive()
    assert not target.listeners[key].certificates
    assert (await lab.operations("www"))[0].state.value == "failed"


@pytest.mark.parametrize("in_place", [True, False], ids=["in-place", "anew"])
async def test_a_version_that_goes_back_leaves_the_check_as_it_is_wanted(desk: Desk, *, in_place: bool) -> None:
    target = VerifyingTarget(in_place=in_place)
    key = target.add_listener("https")
    lab = await desk.open(target)
    await lab.attach_for_good("www", key)
    assert served_by(target) is None
    version = await lab.renew("www", 2)
    await put_site(lab, make_site("shop", serves="www"))
    lab.prober.bad_leaves.add(("https", version.facts.fingerprint))
    await lab.drive()
    assert (await lab.stages("www")) == {"https": "rolled_back"}
    policy = served_by(target)
    assert policy is not None
    assert policy.mode is ON


async def test_a_listener_that_lets_everybody_in_is_not_proven(desk: Desk) -> None:
    target = VerifyingTarget(admits={"https"})
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach("www", key)
    await lab.drive()
    (operation,) = await lab.operations("www")
    assert operation.problem is not None
    assert "has to show a certificate" in operation.problem.message
    assert not target.listeners[key].certificates


async def test_a_server_group_that_goes_or_moves_opens_nothing(desk: Desk) -> None:
    target = VerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach_for_good("www", key)
    open_doors = watch_for_open_doors(target)
    await put_site(lab, make_site("shop", serves="next"))
    await delete_site(lab, "shop")
    await lab.renew("www", 2)
    await lab.drive()
    assert (served_by(target) is not None, open_doors) == (True, [])
    with pytest.raises(InUse, match="still check clients by 'clients'"):
        await delete_entry(lab, "clients")
    await put_site(lab, make_site("shop", serves="www", mode=OFF))
    await lab.drive()
    assert served_by(target) is None
    await put_site(lab, make_site("shop", serves="www", mode=OFF, checks_by=""))
    await delete_entry(lab, "clients")


async def test_the_successor_of_a_certificate_checks_its_clients(desk: Desk) -> None:
    target = VerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach_for_good("www", key)
    open_doors = watch_for_open_doors(target)
    await lab.take_over("www", "next")
    await put_site(lab, make_site("shop", serves="next"))
    await lab.drive()
    policy = served_by(target, name="next.example.com")
    assert (policy is not None, open_doors) == (True, [])
    assert await lab.stages("www") == {}


async def test_the_look_finds_a_door_that_somebody_opened(desk: Desk) -> None:
    target = VerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach_for_good("www", key)
    chance = FakeChance(0.0)
    turns = ScopeTurns(store=lab.store, clock=lab.clock, chance=chance, is_alone=False)
    look = Inventory(
        store=lab.store,
        targets=lab.workflow().targets,
        prover=Prover(prober=lab.prober, clock=lab.clock, chance=chance),
        turns=turns,
        clock=lab.clock,
        chance=chance,
        every=timedelta(minutes=10),
        repairs=True,
        new_id=lab.new_id,
    )
    target.policies.clear()
    assert await look.sweep() == 1
    assert (await lab.stages("www")) == {"https": Stage.DRIFTED.value}
    await lab.drive()
    assert served_by(target) is not None
    assert (await lab.stages("www")) == {"https": Stage.PROVEN.value}


@pytest.mark.parametrize("in_place", [True, False], ids=["in-place", "anew"])
async def test_wherever_a_process_dies_no_door_is_open(desk: Desk, *, in_place: bool) -> None:
    number, has_died = 0, True
    while has_died:
        number += 1
        target = VerifyingTarget(in_place=in_place)
        key = target.add_listener("https")
        lab = await desk.open(target)
        await put_site(lab, make_site("shop", serves="www"))
        await lab.attach("www", key)
        open_doors = watch_for_open_doors(target)
        target.before = lambda _method, _place, lab=lab: lab.death.pass_by()  # type: ignore[misc]
        lab.death = lab.mortal_store.death = Death(number)
        await lab.drive()
        assert ((await lab.stages("www")), open_doors) == ({"https": "proven"}, []), number
        has_died = lab.death.deaths > 0
    assert number > LEAST_PLACES


@pytest.mark.parametrize("detaches_first", [False, True])
async def test_attaching_again_lifts_no_check(desk: Desk, *, detaches_first: bool) -> None:
    target = VerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach_for_good("www", key)
    await delete_site(lab, "shop")
    open_doors = watch_for_open_doors(target)
    if detaches_first:
        await lab.detach("www", key)
    await lab.attach("www", key, as_default=not detaches_first)
    await lab.drive()
    assert (served_by(target) is not None, open_doors) == (True, [])


async def test_a_version_that_comes_back_brings_the_check_that_was_in_force(desk: Desk) -> None:
    target = VerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach_for_good("www", key)
    await delete_site(lab, "shop")
    number = await version_of(lab)
    await lab.detach("www", key)
    await lab.drive()
    assert target.listeners[key].certificates == ()
    open_doors = watch_for_open_doors(target)
    await revert(lab, number)
    await lab.drive()
    assert (served_by(target) is not None, open_doors) == (True, [])
    assert target.listeners[key].certificates != ()
