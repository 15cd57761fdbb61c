"""Listeners that check all of their clients alike: what is agreed on is in force, what isn't changes nothing."""

import pytest
from client_policy_desk import OFF, ON, OPTIONAL, Desk, make_site, put_site
from deployment_parts import Lab
from issuance_parts import Death

from certorbit.model.balancer import ListenerKey
from fakes.fake_target import FOREIGN, ListenerVerifyingTarget

LEAST_PLACES = 10  # fewer would mean that the deaths are not where they should be


def watch_for_open_doors(target: ListenerVerifyingTarget) -> list[str]:
    """Return a list that gets an entry whenever a listener holds a copy of `www` and checks nobody."""
    seen: list[str] = []

    def look(method: str, _place: str) -> None:
        for key, listener in target.listeners.items():
            if key not in target.policies and any("/www" in handle for handle in listener.handles):
                seen.append(method)

    target.after = look
    return seen


async def problem_of(lab: Lab, name: str) -> str:
    """Return why the newest deployment of an entry did not go well."""
    problem = (await lab.operations(name))[-1].problem
    assert problem is not None
    return problem.message


async def serve_both(lab: Lab, key: ListenerKey) -> None:
    """Let the listener serve `www` as its default and `next` beside it."""
    await lab.attach_for_good("www", key, as_default=True)
    await lab.attach_for_good("next", key)


async def test_the_default_that_takes_a_strangers_place_is_never_served_openly(desk: Desk) -> None:
    target = ListenerVerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    open_doors = watch_for_open_doors(target)
    await lab.attach_for_good("www", key, as_default=True)
    await lab.renew("www", 2)
    await lab.drive()
    assert (await lab.stages("www"), open_doors) == ({"https": "proven"}, [])
    assert (target.policies[key].mode, target.policies[key].bundle) == (ON, "clients")
    assert (await lab.attachments("www"))["https"].client_policy == target.policies[key].mark


async def test_a_strangers_clients_are_not_shut_out(desk: Desk) -> None:
    target = ListenerVerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach("www", key)
    await lab.drive()
    assert "also serves somebody-else's" in await problem_of(lab, "www")
    assert (target.policies, target.listeners[key].handles) == ({}, (FOREIGN,))


@pytest.mark.parametrize("mode", [OFF, OPTIONAL])
async def test_a_certificate_that_wants_something_else_stays_off(desk: Desk, mode: str) -> None:
    target = ListenerVerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach_for_good("www", key, as_default=True)
    await put_site(lab, make_site("open", serves="next", mode=OPTIONAL if mode == OPTIONAL else OFF))
    open_doors = watch_for_open_doors(target)
    await lab.attach("next", key)
    await lab.drive()
    assert "checks the clients of all of its certificates alike" in await problem_of(lab, "next")
    assert (open_doors, await lab.stages("next"), target.listeners[key].certificates) == ([], {}, ())


async def test_one_that_wants_the_same_comes_on(desk: Desk) -> None:
    target = ListenerVerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    for name, entry in (("shop", "www"), ("more", "next")):
        await put_site(lab, make_site(name, serves=entry))
    open_doors = watch_for_open_doors(target)
    await serve_both(lab, key)
    assert (await lab.stages("next"), open_doors) == ({"https": "proven"}, [])


async def test_a_check_begins_and_ends_when_all_certificates_want_it(desk: Desk) -> None:
    target = ListenerVerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await serve_both(lab, key)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.drive()
    assert target.policies == {}
    assert "'next' wants mode off" in await problem_of(lab, "www")
    await put_site(lab, make_site("more", serves="next"))
    await lab.drive(most=2)
    assert target.policies[key].mode is ON
    for name in ("www", "next"):
        assert (await lab.operations(name))[-1].problem is None
        assert (await lab.attachments(name))["https"].client_policy == target.policies[key].mark

    await put_site(lab, make_site("shop", serves="www", mode=OFF))
    await lab.drive()
    assert target.policies[key].mode is ON
    await put_site(lab, make_site("more", serves="next", mode=OFF))
    await lab.drive(most=2)
    assert target.policies == {}


@pytest.mark.parametrize("in_place", [True, False], ids=["in-place", "anew"])
async def test_a_version_that_goes_back_leaves_the_check(desk: Desk, *, in_place: bool) -> None:
    target = ListenerVerifyingTarget(in_place=in_place)
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach_for_good("www", key, as_default=True)
    open_doors = watch_for_open_doors(target)
    version = await lab.renew("www", 2)
    lab.prober.bad_leaves.add(("https", version.facts.fingerprint))
    await lab.drive()
    assert (await lab.stages("www"), open_doors) == ({"https": "rolled_back"}, [])
    assert target.policies[key].mode is ON


async def test_a_certificate_that_goes_off_again_leaves_the_listener_as_it_was(desk: Desk) -> None:
    target = ListenerVerifyingTarget(admits={"https"})
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    open_doors = watch_for_open_doors(target)
    await lab.attach("www", key, as_default=True)
    await lab.drive()
    assert "has to show a certificate" in await problem_of(lab, "www")
    assert (target.listeners[key].handles, target.policies, open_doors) == ((FOREIGN,), {}, [])


async def test_a_certificate_that_goes_off_again_leaves_the_check_of_the_others(desk: Desk) -> None:
    target = ListenerVerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    for name, entry in (("shop", "www"), ("more", "next")):
        await put_site(lab, make_site(name, serves=entry))
    await lab.attach_for_good("www", key, as_default=True)
    open_doors = watch_for_open_doors(target)
    version = await lab.renew("next", 2)
    lab.prober.bad_leaves.add(("https", version.facts.fingerprint))
    await lab.attach("next", key)
    await lab.drive()
    assert (await lab.stages("next"), open_doors) == ({}, [])
    assert target.policies[key].mode is ON


async def test_the_last_certificate_takes_the_check_along(desk: Desk) -> None:
    target = ListenerVerifyingTarget()
    key = target.add_listener("https", default="")
    lab = await desk.open(target)
    for name, entry in (("shop", "www"), ("more", "next")):
        await put_site(lab, make_site(name, serves=entry))
    await lab.attach_for_good("www", key)
    await lab.attach_for_good("next", key)
    open_doors = watch_for_open_doors(target)
    await lab.detach("next", key)
    await lab.drive()
    assert target.policies[key].mode is ON
    await lab.detach("www", key)
    await lab.drive()
    assert (target.policies, target.listeners[key].handles, open_doors) == ({}, (), [])


async def test_a_successor_may_close_a_listener(desk: Desk) -> None:
    target = ListenerVerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await lab.attach_for_good("www", key, as_default=True)
    await put_site(lab, make_site("shop", serves="next"))
    await lab.take_over("www", "next")
    await lab.drive()
    assert (await lab.stages("next"), target.policies[key].mode) == ({"https": "proven"}, ON)


async def test_a_successor_never_opens_one(desk: Desk) -> None:
    target = ListenerVerifyingTarget()
    key = target.add_listener("https")
    lab = await desk.open(target)
    await put_site(lab, make_site("shop", serves="www"))
    await lab.attach_for_good("www", key, as_default=True)
    open_doors = watch_for_open_doors(target)
    await put_site(lab, make_site("more", serves="next", mode=OFF))
    await lab.take_over("www", "next")
    await lab.drive()
    assert (target.policies[key].mode, open_doors) == (ON, [])
    assert "'www' wants mode on" in await problem_of(lab, "next")


@pytest.mark.parametrize("in_place", [True, False], ids=["in-place", "anew"])
async def test_wherever_a_process_dies_no_door_is_open(desk: Desk, *, in_place: bool) -> None:
    number, has_died = 0, True
    while has_died:
        number += 1
        target = ListenerVerifyingTarget(in_place=in_place)
        key = target.add_listener("https")
        lab = await desk.open(target)
        await put_site(lab, make_site("shop", serves="www"))
        await lab.attach("www", key, as_default=True)
        open_doors = watch_for_open_doors(target)
        target.before = lambda _method, _place, lab=lab: lab.death.pass_by()  # type: ignore[misc]
        lab.death = lab.mortal_store.death = Death(number)
        await lab.drive()
        assert ((await lab.stages("www")), open_doors) == ({"https": "proven"}, []), number
        has_died = lab.death.deaths > 0
    assert number > LEAST_PLACES
