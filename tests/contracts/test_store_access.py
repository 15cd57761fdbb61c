"""What the store keeps of API keys and of the read-only mode, on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from certorbit.errors import BadInput, Broken, LostRace
from certorbit.model.access import APIKeyID, KeyUse, Role
from certorbit.model.entry import ConfigID
from certorbit.model.read_only import ReadOnlyMode
from certorbit.services.api_keys import revoke_key
from certorbit.storage import SQLStore, check_schema, make_engine, migrate
from fakes.clock import FakeChance, FakeClock
from records import NOW, make_api_key, make_configuration, make_operation

MINUTE = timedelta(minutes=1)


async def test_everything_of_a_key_is_read_back(store: SQLStore) -> None:
    key = replace(
        make_api_key(),
        role=Role.EDGE,
        configurations=(ConfigID("prod"), ConfigID("é")),
        allowed_addresses=("10.0.0.0/8", "2001:db8::/32"),
        expires_at=NOW + MINUTE,
        rotated_at=NOW,
        previous_digest="ab" * 32,
        previous_ends_at=NOW + 2 * MINUTE,
        last_used_at=NOW,
        last_used_from="2001:db8::1",
    )
    await store.write(lambda tx: tx.api_keys.add(key))
    assert await store.read(lambda tx: tx.api_keys.find(key.id)) == key
    assert await store.read(lambda tx: tx.api_keys.find_by_digest(key.digest)) == key
    assert await store.read(lambda tx: tx.api_keys.find_by_digest("ab" * 32)) == key
    assert await store.read(lambda tx: tx.api_keys.list()) == [key]


async def test_an_update_writes_terms_and_secrets_and_leaves_the_rest(store: SQLStore) -> None:
    key = make_api_key()
    await store.write(lambda tx: tx.api_keys.add(key))
    await store.write(lambda tx: tx.api_keys.revoke(key.id, now=NOW))
    await store.write(lambda tx: tx.api_keys.note_uses([KeyUse(key.id, NOW, "192.0.2.1")]))
    changed = replace(
        key,
        name="other",
        prefix="co_other",
        digest="12" * 32,
        role=Role.AUDITOR,
        may_export_keys=False,
        configurations=(ConfigID("prod"),),
        allowed_addresses=("10.0.0.0/8",),
        expires_at=NOW,
        rotated_at=NOW,
        previous_digest=key.digest,
        previous_ends_at=NOW,
    )
    await store.write(lambda tx: tx.api_keys.update(changed))
    found = await store.read(lambda tx: tx.api_keys.find(key.id))
    assert found == replace(changed, revoked_at=NOW, last_used_at=NOW, last_used_from="192.0.2.1")
    with pytest.raises(Broken, match="'nowhere' is not in the store"):
        await store.write(lambda tx: tx.api_keys.update(replace(key, id=APIKeyID("nowhere"), digest="34" * 32)))


async def test_two_keys_never_share_a_digest_after_a_rotation_either(store: SQLStore) -> None:
    one, two = make_api_key(), make_api_key()
    for key in (one, two):
        await store.write(lambda tx, key=key: tx.api_keys.add(replace(key, previous_digest=f"{key.id}")))  # type: ignore[misc]
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.api_keys.update(replace(two, digest=one.digest)))
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.api_keys.update(replace(two, previous_digest=str(one.id))))


async def test_last_uses_go_forwards_only_and_unknown_keys_are_left_out(store: SQLStore) -> None:
    one, two = make_api_key("one"), make_api_key("two")
    for key in (one, two):
        await store.write(lambda tx, key=key: tx.api_keys.add(key))  # type: ignore[misc]
    uses = [
        KeyUse(two.id, NOW, "192.0.2.2"),
        KeyUse(APIKeyID("nobody"), NOW, ""),
        KeyUse(one.id, NOW, "192.0.2.1"),
    ]
    await store.write(lambda tx: tx.api_keys.note_uses(uses))
    later, earlier = KeyUse(one.id, NOW + MINUTE, ""), KeyUse(two.id, NOW - MINUTE, "198.51.100.1")
    await store.write(lambda tx: tx.api_keys.note_uses([later, earlier]))
    await store.write(lambda tx: tx.api_keys.note_uses([]))
    found = await store.read(lambda tx: tx.api_keys.list())
    assert {key.id: (key.last_used_at, key.last_used_from) for key in found} == {
        "one": (NOW + MINUTE, ""),
        "two": (NOW, "192.0.2.2"),
    }


async def test_two_administrators_who_revoke_each_other_at_once_do_not_both_succeed(store: SQLStore) -> None:
    keys = [replace(make_api_key(), role=Role.ADMIN) for _ in range(2)]
    for key in keys:
        await store.write(lambda tx, key=key: tx.api_keys.add(key))  # type: ignore[misc]
    outcomes = await asyncio.gather(
        *(store.write(lambda tx, key=key: revoke_key(tx, key.id, now=NOW)) for key in keys),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [BadInput]


async def test_the_read_only_mode_is_off_until_it_is_switched(store: SQLStore) -> None:
    assert await store.read(lambda tx: tx.read_only_modes.find()) == ReadOnlyMode(on=False)
    for mode in (ReadOnlyMode(on=True, since=NOW, by="ci"), ReadOnlyMode(on=False, since=NOW + MINUTE, by="é")):
        await store.write(lambda tx, mode=mode: tx.read_only_modes.put(mode))  # type: ignore[misc]
        assert await store.read(lambda tx: tx.read_only_modes.find()) == mode


async def test_operations_of_some_configurations_are_listed_and_counted(store: SQLStore) -> None:
    names = ("prod", "shop", "blog")
    for name in names:
        await store.write(lambda tx, name=name: tx.configurations.add(make_configuration(name)))  # type: ignore[misc]
        await store.write(lambda tx, name=name: tx.operations.add(make_operation(name, config=name)))  # type: ignore[misc]
    for chosen in (("prod",), ("blog", "shop"), ("nowhere",), ("a\x00b", "prod")):
        wanted = frozenset(map(ConfigID, chosen))
        found = await store.read(lambda tx, wanted=wanted: tx.operations.list(config=wanted))  # type: ignore[misc]
        expected = set(chosen) & set(names) if "a\x00b" not in chosen else set()
        assert {operation.config for operation in found} == expected
        assert await store.read(lambda tx, wanted=wanted: tx.operations.count(config=wanted)) == len(expected)  # type: ignore[misc]


async def test_keys_from_before_there_were_roles_go_on(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    config = Config()
    config.set_main_option("script_location", "certorbit.storage:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        insert = sa.text(
            "INSERT INTO api_keys (id, name, prefix, digest, role, may_export_keys, created_at, revoked_at)"
            f" VALUES (:id, 'old', 'co_abc', :id, :role, TRUE, '{NOW.isoformat()}', NULL)"
        )
        connection.execute(insert, [{"id": "a", "role": "admin"}, {"id": "r", "role": "read-only"}])
    migrate(engine)
    check_schema(engine)
    store = SQLStore(engine, clock=FakeClock(auto_advance=True), chance=FakeChance())
    found = await store.read(lambda tx: tx.api_keys.list())
    assert [(key.id, key.role, key.may_export_keys) for key in found] == [
        ("a", Role.ADMIN, True),
        ("r", Role.VIEWER, True),
    ]
    assert {(key.configurations, key.allowed_addresses, key.expires_at, key.last_used_from) for key in found} == {
        ((), (), None, "")
    }
    # A process of the version before goes on to write keys beside this one.
    with engine.begin() as connection:
        connection.execute(insert, [{"id": "n", "role": "read-only"}])
    assert len(await store.read(lambda tx: tx.api_keys.list())) == 3
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
        command.upgrade(config, "head")
    assert len(await store.read(lambda tx: tx.api_keys.list())) == 3
    await store.close()
