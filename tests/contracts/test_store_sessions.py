"""What the store keeps of people's sessions, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest

from certorbit.errors import LostRace
from certorbit.model.session import Session, SessionID
from certorbit.storage import SQLStore
from records import NOW, make_session

MINUTE = timedelta(minutes=1)
SESSION = make_session()


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


async def test_a_session_is_found_by_the_id_that_records_show(store: SQLStore) -> None:
    await store.write(lambda tx: tx.sessions.add(SESSION))
    assert await store.read(lambda tx: tx.sessions.find_by_id(SESSION.id)) == SESSION
    assert await store.read(lambda tx: tx.sessions.find_by_id(SessionID("unknown"))) is None


async def test_sessions_are_listed_the_newest_first_and_those_whose_time_is_over_are_not(store: SQLStore) -> None:
    of_ada = [make_session(subject="ada", created_at=NOW + number * MINUTE) for number in (0, 2)]
    of_oscar = make_session(subject="oscar", created_at=NOW + MINUTE)
    for session in (*of_ada, of_oscar):
        await store.write(lambda tx, session=session: tx.sessions.add(session))  # type: ignore[misc]
    first, last = of_ada

    async def listed(subject: str | None, *, minutes: int) -> list[Session]:
        now = NOW + minutes * MINUTE
        return list(await store.read(lambda tx: tx.sessions.list(subject=subject, now=now)))

    assert await listed(None, minutes=59) == [last, of_oscar, first]
    assert await listed("ada", minutes=59) == [last, first]
    assert await listed(None, minutes=60) == [last, of_oscar]
    assert await listed("ada", minutes=60) == [last]
    for nobody in ("", "Ada", "ada\x00", "%"):
        assert await listed(nobody, minutes=0) == []
