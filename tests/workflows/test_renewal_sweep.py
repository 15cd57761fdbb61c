"""The sweep: what it asks, what it decides, what it starts and what it leaves alone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from renewal_desk import NINETY, Desk

from certorbit.model.entry import Side, Source
from certorbit.model.operation import OperationKind, OperationState
from certorbit.workflows.renewal import IDLE, INTERVAL, LEAST_AGE, PAGE, RETRY_BROKEN, SAFETY_NET

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SIX_DAYS = timedelta(hours=160)


@pytest.fixture
async def desk(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "desk.db", template=sqlite_template)
    await made.open()
    yield made
    await made.store.close()


# --- when --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "due_after"), [(NINETY, 60 * DAY), (SIX_DAYS, SIX_DAYS / 2)], ids=["90-days", "160-hours"]
)
async def test_without_ari_it_is_due_when_a_part_of_its_life_is_left(
    desk: Desk, lifetime: timedelta, due_after: timedelta
) -> None:
    began = desk.clock.now()
    uid = await desk.add(lifetime=lifetime)
    assert await desk.sweep() == 0
    schedule = await desk.schedule(uid)
    assert (schedule.look_at, schedule.renew_at, schedule.reason) == (began + due_after, began + due_after, "fraction")
    assert await desk.sweep(after=due_after - 3 * INTERVAL) == 0
    assert await desk.sweep(after=2 * INTERVAL) == 1


async def test_a_started_renewal_is_promised_waits_behind_people_and_is_watched(desk: Desk) -> None:
    uid = await desk.add(age=61 * DAY)
    now = desk.clock.now()
    assert await desk.sweep() == 1
    (operation,) = await desk.operations()
    assert (operation.kind, operation.state, operation.promised) == (OperationKind.RENEW, OperationState.QUEUED, True)
    assert (operation.entry_uid, operation.identifiers) == (uid, ("www.example.com",))
    assert [(job.operation, job.priority, job.delay_seconds) for job in desk.jobs] == [(operation.id, 50, 0.0)]
    assert (await desk.schedule(uid)).look_at == now + SAFETY_NET


async def test_the_cas_window_decides_and_is_asked_for_again_in_time(desk: Desk) -> None:
    began = desk.clock.now()
    uid = await desk.add()
    desk.first.window = (began + 10 * DAY, began + 12 * DAY)
    assert await desk.sweep() == 0
    schedule = await desk.schedule(uid)
    assert (schedule.renew_at, schedule.reason) == (began + 11 * DAY, "ari")
    assert schedule.info is not None
    assert schedule.look_at == schedule.info.next_check_at
    assert began < schedule.look_at < began + 7 * HOUR
    assert desk.first.asked == [(await desk.version(uid)).chain_pem]
    assert not desk.second.asked


async def test_a_window_that_moves_moves_the_renewal(desk: Desk) -> None:
    began = desk.clock.now()
    uid = await desk.add()
    desk.first.window = (began + 10 * DAY, began + 12 * DAY)
    await desk.sweep()
    desk.first.window = (began + 2 * DAY, began + 4 * DAY)
    await desk.sweep(after=7 * HOUR)
    assert (await desk.schedule(uid)).renew_at == began + 3 * DAY
    assert len(desk.first.asked) == 2


async def test_a_window_that_is_over_means_now(desk: Desk) -> None:
    uid = await desk.add(age=2 * DAY)
    desk.first.window = (desk.clock.now() - 2 * DAY, desk.clock.now() - DAY)
    assert await desk.sweep() == 1
    assert (await desk.schedule(uid)).reason == "ari-urgent"


async def test_a_ca_that_does_not_answer_stops_nothing(desk: Desk) -> None:
    uid = await desk.add(age=61 * DAY)
    desk.first.is_silent = True
    assert await desk.sweep() == 1
    info = (await desk.schedule(uid)).info
    assert info is not None
    assert info.problem == "no answer"


async def test_a_new_certificate_is_left_alone_for_an_hour_whatever_its_ca_says(desk: Desk) -> None:
    began = desk.clock.now()
    uid = await desk.add()
    desk.first.window = (began - 2 * DAY, began - DAY)
    assert await desk.sweep() == 0
    assert (await desk.schedule(uid)).look_at == began + LEAST_AGE
    assert await desk.sweep(after=LEAST_AGE - 2 * INTERVAL) == 0
    assert await desk.sweep(after=INTERVAL) == 1


async def test_an_expired_certificate_is_renewed_and_not_asked_about(desk: Desk) -> None:
    uid = await desk.add(age=91 * DAY)
    assert await desk.sweep() == 1
    assert not desk.first.asked
    assert (await desk.schedule(uid)).reason == "expired"


async def test_a_certificate_of_an_issuer_that_is_gone_is_renewed_by_its_dates(desk: Desk) -> None:
    uid = await desk.add(age=61 * DAY, issuer="no-more")
    assert await desk.sweep() == 1
    assert not desk.first.asked
    assert (await desk.schedule(uid)).info is None


# --- whether -----------------------------------------------------------------


async def test_without_le_auto_renew_nothing_is_renewed_and_it_is_looked_at_tomorrow(desk: Desk) -> None:
    uid = await desk.add(age=30 * DAY, le_auto_renew=False)
    now = desk.clock.now()
    assert await desk.sweep() == 0
    schedule = await desk.schedule(uid)
    assert (schedule.look_at, schedule.renew_at) == (now + IDLE, None)
    assert not desk.first.asked


@pytest.mark.parametrize(
    ("replace", "directory", "names", "covers", "starts"),
    [
        (True, "https://ca.example/dir", ("www.example.com",), False, 1),
        (False, "https://ca.example/dir", ("www.example.com",), False, 0),
        (True, "internal", ("www.example.com",), False, 0),
        (True, "https://ca.example/dir", ("example.com", "*.example.com"), False, 0),
        (True, "https://ca.example/dir", ("example.com", "*.example.com"), True, 1),
        (True, "https://ca.example/dir", ("localhost",), False, 0),
    ],
    ids=["on", "off", "built-in-ca-only", "wildcard-without-solver", "wildcard-with-solver", "no-public-name"],
)
async def test_an_upload_is_replaced_by_a_configured_ca_that_can_prove_its_names(
    desk: Desk, *, replace: bool, directory: str, names: tuple[str, ...], covers: bool, starts: int
) -> None:
    desk.issuers = [desk.first]
    desk.first.directory, desk.first.covers_wildcards = directory, covers
    await desk.add(age=61 * DAY, source=Source.UPLOADED, names=names, le_auto_renew=False, le_auto_replace=replace)
    assert await desk.sweep() == starts
    assert [operation.kind for operation in await desk.operations()] == [OperationKind.REPLACE] * starts
    assert not desk.first.asked, "no CA of ours made it"


@pytest.mark.parametrize(
    ("side", "source"),
    [(Side.CLIENT_CA, Source.UPLOADED), (Side.BACKEND_CA, Source.UPLOADED), (Side.SERVER, Source.BUILT_IN)],
    ids=["client-ca", "backend-ca", "placeholder"],
)
async def test_what_never_renews_is_never_looked_at_again(desk: Desk, side: Side, source: Source) -> None:
    uid = await desk.add(age=89 * DAY, side=side, source=source)
    assert await desk.sweep() == 0
    assert (await desk.schedule(uid)).look_at is None


async def test_a_paused_entry_waits_until_it_is_resumed(desk: Desk) -> None:
    uid = await desk.add(age=61 * DAY)
    await desk.change(paused=True)
    assert await desk.sweep() == 0
    schedule = await desk.schedule(uid)
    assert schedule.paused
    assert schedule.reason == "fraction"
    await desk.change(paused=False)
    assert await desk.sweep() == 1


async def test_the_issuer_that_an_operator_chose_renews(desk: Desk) -> None:
    await desk.add(age=61 * DAY)
    await desk.change(issuer="second")
    await desk.sweep()
    (operation,) = await desk.operations()
    assert operation.issuer_name == "second"


async def test_there_is_no_second_operation_while_one_is_under_way(desk: Desk) -> None:
    await desk.add(age=61 * DAY)
    assert await desk.sweep() == 1
    assert await desk.sweep(after=SAFETY_NET) == 0
    assert len(await desk.operations()) == 1


# --- who, and what happens meanwhile -----------------------------------------


async def test_of_two_workers_in_one_minute_one_sweeps(desk: Desk) -> None:
    await desk.add(age=61 * DAY)
    first, second = desk.renewal(), desk.renewal()
    assert sorted(await asyncio.gather(first.sweep(), second.sweep())) == [0, 1]
    await desk.add("other", age=61 * DAY)
    assert await second.sweep() == 0, "this minute was swept"
    desk.clock.advance(minutes=1)
    assert await second.sweep() == 1


async def test_more_than_a_page_is_swept_at_once(desk: Desk) -> None:
    for number in range(PAGE + 1):
        await desk.add(f"e{number}", age=61 * DAY)
    assert await desk.sweep() == PAGE + 1


@pytest.mark.parametrize("what", ["deleted", "replaced", "paused", "given-to-another-issuer"])
async def test_what_happens_while_the_ca_is_asked_counts(desk: Desk, what: str) -> None:
    uid = await desk.add(age=61 * DAY)
    now = desk.clock.now()
    new = desk.make_version(uid)

    class Meddler:
        """The CA's answer takes long enough for an operator to do something."""

        def __init__(self, issuer: object) -> None:
            self._issuer = issuer

        def __getattr__(self, name: str) -> object:
            return getattr(self._issuer, name)

        async def renewal_info(self, chain_pem: str, **_: object) -> None:
            match what:
                case "deleted":
                    await desk.store.write(lambda tx: tx.entries.delete(uid))
                case "replaced":
                    await desk.store.write(lambda tx: tx.entries.add_version(new))
                case "paused":
                    await desk.change(paused=True)
                case _:
                    await desk.change(issuer="second")

    desk.issuers = [Meddler(desk.first), desk.second]  # type: ignore[list-item]
    started = await desk.sweep()
    operations = await desk.operations()
    assert started == len(operations) == (1 if what == "given-to-another-issuer" else 0)
    if what == "given-to-another-issuer":
        assert operations[0].issuer_name == "second"
    elif what == "replaced":
        assert (await desk.schedule(uid)).look_at == now + INTERVAL
    elif what == "paused":
        assert (await desk.schedule(uid)).paused


async def test_an_entry_that_cannot_be_planned_holds_up_nobody_else(desk: Desk) -> None:
    broken, fine = await desk.add("broken", age=61 * DAY), await desk.add("fine", age=61 * DAY)
    desk.first.breaks_at = (await desk.version(broken)).chain_pem
    now = desk.clock.now()
    assert await desk.sweep() == 1
    assert (await desk.schedule(broken)).look_at == now + RETRY_BROKEN
    assert [operation.entry_uid for operation in await desk.operations()] == [fine]
    desk.first.breaks_at = ""
    assert await desk.sweep(after=RETRY_BROKEN) == 1
