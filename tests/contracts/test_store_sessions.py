"""What the store keeps of people's sessions, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest

from certorbit.errors import LostRace
from certorbit.model.access import Role
from certorbit.model.entry import ConfigID
from certorbit.model.session import Session, SessionID
from certorbit.storage import SQLStore
from records import NOW

MINUTE = timedelta(minutes=1)
SESSION = Session(
    id=SessionID("s1"),
    digest="ab" * 32,
    state_digest="cd" * 32,
    rules_digest="ef" * 32,
    subject="u-1",
    name="oidc:ada@example.test",
    email="ada@example.test",
    role=Role.OPERATOR,
    may_export_keys=True,
    configurations=(ConfigID("prod"), ConfigID("é")),
    created_at=NOW,
    expires_at=NOW + 60 * MINUTE,
    last_seen_at=NOW,
)


async def test_everything_of_a_session_is_read_back(store: SQLStore) -> None:
    await store.write(lambda tx: tx.sessions.add(SESSION))
    assert await store.read(lambda tx: tx.sessions.find(SESSION.digest)) == SESSION
    assert await store.read(lambda tx: tx.sessions.find("12" * 32)) is None
    assert await store.read(lambda tx: tx.sessions.has_state(SESSION.state_digest))
    assert not await store.read(lambda tx: tx.sessions.has_state("12" * 32))


async def test_one_sign_in_gives_one_session(store: SQLStore) -> None:
    await store.write(lambda tx: tx.sessions.add(SESSION))
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.sessions.add(replace(SESSION, digest="12" * 32)))


async def test_the_last_use_goes_forwards_only(store: SQLStore) -> None:
    await store.write(lambda tx: tx.sessions.add(SESSION))
    for at, expected in ((NOW + 2 * MINUTE, 2), (NOW + MINUTE, 2), (NOW + 3 * MINUTE, 3)):
        await store.write(lambda tx, at=at: tx.sessions.note_seen(SESSION.digest, now=at))  # type: ignore[misc]
        found = await store.read(lambda tx: tx.sessions.find(SESSION.digest))
        assert found == replace(SESSION, last_seen_at=NOW + expected * MINUTE)
    await store.write(lambda tx: tx.sessions.note_seen("12" * 32, now=NOW))


async def test_an_ended_session_is_gone(store: SQLStore) -> None:
    await store.write(lambda tx: tx.sessions.add(SESSION))
    assert await store.write(lambda tx: tx.sessions.delete(SESSION.digest))
    assert not await store.write(lambda tx: tx.sessions.delete(SESSION.digest))
    assert await store.read(lambda tx: tx.sessions.find(SESSION.digest)) is None


async def test_sessions_whose_time_is_over_go(store: SQLStore) -> None:
    other = replace(SESSION, digest="12" * 32, state_digest="34" * 32, expires_at=NOW + 61 * MINUTE)
    for session in (SESSION, other):
        await store.write(lambda tx, session=session: tx.sessions.add(session))  # type: ignore[misc]
    assert await store.write(lambda tx: tx.sessions.delete_expired(now=NOW + 60 * MINUTE)) == 1
    assert await store.read(lambda tx: tx.sessions.find(other.digest)) == other
