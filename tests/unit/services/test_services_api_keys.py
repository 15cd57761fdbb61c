"""API keys' use-cases: terms, rotation, ends, and what keeps the service administrable."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from desk import PROD, Desk

from certorbit.errors import BadInput, NotAllowed, NotFound, NotSignedIn
from certorbit.model.access import APIKey, APIKeyID, KeyTerms, Principal, Role
from certorbit.services import api_keys

ADMIN = KeyTerms(name="admin", role=Role.ADMIN)
DAY = timedelta(days=1)


async def create(desk: Desk, terms: KeyTerms = ADMIN, *, by: Principal | None = None) -> tuple[APIKey, str]:
    now, secret = desk.clock.now(), api_keys.new_secret()
    key = await desk.store.write(
        lambda tx: api_keys.create_key(tx, terms, now=now, new_id=desk.new_id, secret=secret, by=by)
    )
    return key, secret


async def change(desk: Desk, key: APIKey, *, by: Principal | None = None, **fields: Any) -> APIKey:
    now = desk.clock.now()
    return await desk.store.write(
        lambda tx: api_keys.change_key(tx, key.id, lambda terms: replace(terms, **fields), now=now, by=by)
    )


async def rotate(desk: Desk, key: APIKey, *, overlap: timedelta = DAY, by: Principal | None = None) -> str:
    now, secret = desk.clock.now(), api_keys.new_secret()
    await desk.store.write(lambda tx: api_keys.rotate_key(tx, key.id, overlap=overlap, now=now, secret=secret, by=by))
    return secret


async def works(desk: Desk, secret: str) -> bool:
    try:
        await desk.store.read(lambda tx: api_keys.authenticate(tx, secret, now=desk.clock.now()))
    except NotSignedIn:
        return False
    return True


async def test_terms_are_stored_in_one_form(desk: Desk) -> None:
    terms = KeyTerms(
        name=" ci ",
        role=Role.EDGE,
        may_export_keys=True,
        configurations=(PROD, PROD),
        allowed_addresses=("10.0.0.0/8", "192.0.2.1", "192.0.2.1/32"),
        expires_at=datetime(2027, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=1))),
    )
    key, _ = await create(desk, terms)
    assert key.terms == KeyTerms(
        name="ci",
        role=Role.EDGE,
        may_export_keys=True,
        configurations=(PROD,),
        allowed_addresses=("10.0.0.0/8", "192.0.2.1/32"),
        expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    )
    assert await desk.store.read(lambda tx: tx.api_keys.find(key.id)) == key


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": " "}, "name: "),
        ({"configurations": ("nowhere",)}, "there is no configuration 'nowhere'"),
        ({"configurations": (PROD,) * 51}, "configurations: give 50 at most"),
        ({"allowed_addresses": ("10.0.0.1/8",)}, "allowed_addresses: '10.0.0.1/8' is no network"),
        ({"allowed_addresses": ("10.0.0.1",) * 51}, "allowed_addresses: give 50 at most"),
        ({"expires_at": datetime(2026, 11, 24, 12, 0, tzinfo=UTC)}, "expires_at: "),
        ({"expires_at": datetime(2046, 11, 25, tzinfo=UTC)}, "in the next 20 years"),
        ({"expires_at": datetime.max.replace(tzinfo=timezone(-12 * timedelta(hours=1)))}, "in the next 20 years"),
        ({"expires_at": datetime.min.replace(tzinfo=timezone(12 * timedelta(hours=1)))}, "expires_at: "),
    ],
)
async def test_terms_that_cannot_be_met_are_refused_when_a_key_is_made_or_changed(
    desk: Desk, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        await create(desk, replace(ADMIN, **fields))
    await create(desk)
    key, _ = await create(desk)
    with pytest.raises(BadInput, match=says):
        await change(desk, key, **fields)
    assert await desk.store.read(lambda tx: tx.api_keys.find(key.id)) == key


async def test_a_key_works_until_its_end_and_is_told_so(desk: Desk) -> None:
    key, secret = await create(desk, replace(ADMIN, expires_at=desk.clock.now() + DAY))
    desk.clock.advance(days=1, seconds=-1)
    assert await works(desk, secret)
    desk.clock.advance(1)
    with pytest.raises(NotSignedIn, match=r"'admin' ended at 2026-11-25T12:00:00\+00:00"):
        await desk.store.read(lambda tx: api_keys.authenticate(tx, secret, now=desk.clock.now()))
    await change(desk, key, name="still over")
    await change(desk, key, expires_at=None)
    assert await works(desk, secret)


async def test_after_a_rotation_both_secrets_work_until_the_overlap_is_over(desk: Desk) -> None:
    key, old = await create(desk)
    new = await rotate(desk, key, overlap=2 * DAY)
    assert await works(desk, old)
    assert await works(desk, new)
    found = await desk.store.read(lambda tx: api_keys.authenticate(tx, old, now=desk.clock.now()))
    assert (found.key.id, found.ends_at) == (key.id, desk.clock.now() + 2 * DAY)
    desk.clock.advance(days=2)
    assert not await works(desk, old)
    assert await works(desk, new)


async def test_two_secrets_of_a_key_work_at_most(desk: Desk) -> None:
    key, first = await create(desk)
    second = await rotate(desk, key)
    third = await rotate(desk, key)
    assert [await works(desk, secret) for secret in (first, second, third)] == [False, True, True]
    fourth = await rotate(desk, key, overlap=timedelta(0))
    assert [await works(desk, secret) for secret in (second, third, fourth)] == [False, False, True]


async def test_an_old_secret_ends_with_its_key(desk: Desk) -> None:
    key, old = await create(desk, replace(ADMIN, expires_at=desk.clock.now() + DAY))
    await rotate(desk, key, overlap=5 * DAY)
    found = await desk.store.read(lambda tx: api_keys.authenticate(tx, old, now=desk.clock.now()))
    assert found.ends_at == desk.clock.now() + DAY


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=31)])
async def test_an_overlap_has_bounds(desk: Desk, overlap: timedelta) -> None:
    key, secret = await create(desk)
    with pytest.raises(BadInput, match="overlap_hours: give a number from 0 to 720"):
        await rotate(desk, key, overlap=overlap)
    assert await works(desk, secret)


async def test_a_revoked_key_is_neither_changed_nor_rotated(desk: Desk) -> None:
    await create(desk)
    key, old = await create(desk)
    new = await rotate(desk, key)
    await desk.store.write(lambda tx: api_keys.revoke_key(tx, key.id, now=desk.clock.now()))
    assert [await works(desk, secret) for secret in (old, new)] == [False, False]
    for attempt in (change(desk, key, name="again"), rotate(desk, key)):
        with pytest.raises(BadInput, match="'admin' is revoked for good"):
            await attempt


async def test_an_unknown_key_is_neither_changed_nor_rotated(desk: Desk) -> None:
    key, _ = await create(desk)
    unknown = replace(key, id=APIKeyID("nobody"))
    for attempt in (change(desk, unknown, name="again"), rotate(desk, unknown)):
        with pytest.raises(NotFound, match="'nobody'"):
            await attempt


async def test_nobody_gives_away_a_right_to_export_keys_that_he_lacks(desk: Desk) -> None:
    boss, _ = await create(desk, replace(ADMIN, may_export_keys=True))
    clerk, _ = await create(desk)
    exporting = KeyTerms(name="hook", role=Role.VIEWER, may_export_keys=True)
    key, _ = await create(desk, exporting, by=boss.principal("10.0.0.1"))
    plain, _ = await create(desk, KeyTerms(name="plain", role=Role.VIEWER), by=clerk.principal(""))
    for attempt in (
        create(desk, exporting, by=clerk.principal("")),
        change(desk, plain, may_export_keys=True, by=clerk.principal("")),
        rotate(desk, key, by=clerk.principal("")),  # it would show him the secret of one that may
    ):
        with pytest.raises(NotAllowed, match="no right to export private keys"):
            await attempt
    await change(desk, key, name="renamed", by=clerk.principal(""))
    await rotate(desk, plain, by=clerk.principal(""))


TAKING_AWAY: list[dict[str, Any]] = [
    {"role": Role.OPERATOR},
    {"expires_at": datetime(2027, 1, 1, tzinfo=UTC)},
    {"configurations": (PROD,)},
]


@pytest.mark.parametrize("fields", TAKING_AWAY)
async def test_the_last_key_that_can_always_administer_is_not_taken_away(desk: Desk, fields: dict[str, Any]) -> None:
    last, _ = await create(desk)
    for number, other in enumerate(TAKING_AWAY):  # of no help: one ends, one is limited, one is no administrator's
        await create(desk, replace(ADMIN, name=str(number), **other))
    with pytest.raises(BadInput, match="'admin' is the last administrator's key without an end"):
        await change(desk, last, **fields)
    with pytest.raises(BadInput, match="'admin' is the last administrator's key without an end"):
        await desk.store.write(lambda tx: api_keys.revoke_key(tx, last.id, now=desk.clock.now()))
    await create(desk, replace(ADMIN, name="second"))
    await change(desk, last, **fields)


async def test_nobody_shuts_himself_out_by_addresses(desk: Desk) -> None:
    await create(desk)
    key, _ = await create(desk)
    me: Callable[[str], Principal] = key.principal
    with pytest.raises(BadInput, match=r"this is the key that you use, and your address 10\.0\.0\.1 is in none"):
        await change(desk, key, allowed_addresses=("192.0.2.0/24",), by=me("10.0.0.1"))
    await change(desk, key, allowed_addresses=("10.0.0.0/8",), by=me("10.0.0.1"))
    await change(desk, key, name="other", by=me("10.0.0.1"))
    other, _ = await create(desk)
    await change(desk, key, allowed_addresses=("192.0.2.0/24",), by=other.principal("10.0.0.1"))


@pytest.mark.parametrize(
    "name",
    ["oidc:alice@example.org", "OIDC:alice", "\uff4f\uff49\uff44\uff43:alice", "certorbit", "Certorbit", "\u202eevil", "a\u200bb", "a\nb", "a\x00", "\ud800"],
)  # fmt: skip
async def test_a_name_that_looks_like_somebody_elses_or_is_not_all_seen_is_refused(desk: Desk, name: str) -> None:
    with pytest.raises(BadInput, match=r"^name: ") as caught:
        await create(desk, replace(ADMIN, name=name))
    assert caught.value.subject == "name"
    key, _ = await create(desk, replace(ADMIN, name="edge"))
    with pytest.raises(BadInput, match=r"^name: "):
        await change(desk, key, name=name)


async def test_a_key_named_before_there_were_rules_goes_on(desk: Desk) -> None:
    await create(desk)
    key, secret = await create(desk, replace(ADMIN, name="edge"))
    old = replace(key, name="oidc:alice@example.org")
    await desk.store.write(lambda tx: tx.api_keys.update(old))
    assert await works(desk, secret)
    changed = await change(desk, old, role=Role.EDGE)
    assert (changed.name, changed.role) == (old.name, Role.EDGE)
    assert await works(desk, await rotate(desk, old))
    with pytest.raises(BadInput, match=r"^name: "):
        await change(desk, old, name="oidc:bob@example.org")


@pytest.mark.parametrize("secret", ["correct-horse-battery", "co_20-characters-long", "co_" + "a" * 44])
async def test_no_character_is_kept_of_a_key_that_an_operator_made_up(desk: Desk, secret: str) -> None:
    now = desk.clock.now()
    await desk.store.write(
        lambda tx: api_keys.ensure_first_key(
            tx, bootstrap_secret=secret, now=now, new_id=desk.new_id, random_secret=api_keys.new_secret()
        )
    )
    [key] = await desk.store.read(api_keys.list_keys)
    assert key.prefix == ""
    assert await works(desk, secret)
