"""What a CA made or was asked for is held back while no CA is configured, and goes on by itself afterwards."""

from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from issuance_parts import Death, DirectFlow
from renewal_desk import PROD, ARIIssuer, Desk
from structlog.testing import capture_logs

from certorbit.errors import Unreachable
from certorbit.model.commands import Generate
from certorbit.model.entry import EntryID, Side, Source
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.operation import Operation, OperationKind, OperationState
from certorbit.services import certificates
from certorbit.workflows.waking import PAGE

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
AGE = 61 * DAY  # of 90: due
AWAY = Unreachable("The CA is away.", subject="ca", phase="connect")


@pytest.fixture
async def desk(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "desk.db", template=sqlite_template)
    await made.open()
    yield made
    await made.store.close()


def lose_ca(desk: Desk) -> ARIIssuer:
    """Restart without the CA's setting. Returns: the built-in CA, which is what there is then."""
    built_in = ARIIssuer("internal", desk.clock, directory="internal")
    desk.issuers = [built_in]
    desk.restart()
    return built_in


def get_ca_back(desk: Desk) -> None:
    desk.issuers = [desk.first]
    desk.restart()


async def ask_for(desk: Desk, name: str = "new") -> Operation:
    """Ask for a new certificate, as the API does, and promise it."""
    command = Generate(
        config=PROD,
        id=EntryID(name),
        side=Side.SERVER,
        identifiers=normalise_identifiers(["new.example.com"]),
        le_auto_renew=True,
        le_auto_replace=True,
        provider_links=(),
    )
    issuer = desk.issuers[0]
    await desk.store.write(
        lambda tx: certificates.generate(
            tx, command, by="", now=desk.clock.now(), new_id=desk.new_id, covers=issuer.covers, issuer=issuer.name
        )
    )
    return (await desk.operations())[0]


async def test_the_built_in_ca_renews_nothing_that_a_ca_made_and_the_ca_does_when_it_is_back(desk: Desk) -> None:
    uid = await desk.add(age=AGE)
    built_in = lose_ca(desk)
    with capture_logs() as logs:
        assert await desk.sweep() == 0
    schedule = await desk.schedule(uid)
    assert (schedule.renew_at, schedule.reason) == (None, "no-issuer")
    assert built_in.calls == []
    (told,) = [line for line in logs if line["event"] == "renewal.no_issuer"]
    assert (told["log_level"], told["entry"], told["config"]) == ("warning", "shop", "prod")
    assert "'first', which is not configured any more" in told["message"]
    get_ca_back(desk)
    assert await desk.sweep() == 1
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED
    assert (await desk.version(uid)).issuer_name == "first"


async def test_the_start_says_how_many_nobody_renews(desk: Desk) -> None:
    await desk.add("a")
    await desk.add("b")
    await desk.add("off", le_auto_renew=False)
    await desk.add("own", issuer="internal")
    await desk.add("up", source=Source.UPLOADED)
    await desk.sweep()
    lose_ca(desk)
    with capture_logs() as logs:
        await desk.sweep()
        await desk.sweep()
    (told,) = [line for line in logs if line["event"] == "renewal.no_issuer_at_start"]
    assert (told["log_level"], told["certificates"], told["operations"]) == ("warning", 2, 0)
    assert told["issuers"] == ["first"]
    get_ca_back(desk)
    with capture_logs() as logs:
        await desk.sweep()
    assert [line for line in logs if line["event"] == "renewal.no_issuer_at_start"] == []


async def test_the_built_in_ca_named_for_the_certificate_or_its_configuration_renews_it(desk: Desk) -> None:
    uid = await desk.add(age=AGE)
    lose_ca(desk)
    desk.by_config = {PROD: ("internal",)}
    assert await desk.sweep() == 1
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED
    assert (await desk.version(uid)).issuer_name == "internal"
    desk.by_config = {}
    other = await desk.add("other", age=AGE)
    await desk.change("other", issuer="internal")
    assert await desk.sweep() == 1
    await desk.run_attempt()
    assert (await desk.version(other)).issuer_name == "internal"


async def test_a_renewal_that_has_begun_waits_for_its_ca_and_goes_on_when_it_is_back(desk: Desk) -> None:
    await desk.add(age=AGE)
    assert await desk.sweep() == 1
    built_in = lose_ca(desk)
    held = await desk.run_attempt()
    assert held.state is OperationState.WAITING
    assert held.problem is not None
    assert held.problem.type == "NoIssuer"
    assert "not configured any more" in held.problem.message
    assert built_in.calls == []
    get_ca_back(desk)
    await desk.sweep()
    desk.jobs.popleft()  # of the attempt that was planned
    assert desk.jobs[0].delay_seconds == 0
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED


async def test_a_request_that_was_promised_is_not_issued_by_another_kind_of_ca(desk: Desk) -> None:
    operation = await ask_for(desk)
    assert (operation.kind, operation.issuer_name) == (OperationKind.ISSUE, "first")
    built_in = lose_ca(desk)
    with capture_logs() as logs:
        held = await desk.run_attempt()
    assert (held.state, held.issuer_name) == (OperationState.WAITING, "first")
    assert [line["entry"] for line in logs if line["event"] == "renewal.no_issuer"] == ["new"]
    assert built_in.calls == []
    with capture_logs() as logs:
        await desk.sweep()
    (told,) = [line for line in logs if line["event"] == "renewal.no_issuer_at_start"]
    assert (told["certificates"], told["operations"]) == (0, 1)
    get_ca_back(desk)
    await desk.sweep()
    desk.jobs.popleft()
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED


@pytest.mark.parametrize("last", ["place_order", "prove", "finalise"])
async def test_an_attempt_that_a_restart_interrupts_keeps_its_order_for_its_ca(desk: Desk, last: str) -> None:
    operation = await ask_for(desk)
    job = desk.jobs.popleft()
    names = ["place_order", "prove", "finalise"]
    recorded: list[tuple[str, str]] = []
    stop = {"place_order": "prove", "prove": "finalise", "finalise": "collect"}[last]
    desk.first.script[stop] = deque([KeyboardInterrupt()])  # type: ignore[list-item]
    with pytest.raises(KeyboardInterrupt):
        await desk.issuance().run(DirectFlow(recorded, Death()), job.operation, job.attempt)
    assert [name for name, _ in recorded] == names[: names.index(last) + 1]
    built_in = lose_ca(desk)
    await desk.issuance().run(DirectFlow(recorded, Death()), job.operation, job.attempt)
    assert built_in.calls == []
    held = (await desk.operations())[0]
    assert (held.state, held.issuer_name) == (OperationState.WAITING, "first")
    get_ca_back(desk)
    await desk.sweep()
    desk.jobs.popleft()
    done = await desk.run_attempt()
    assert (done.id, done.state) == (operation.id, OperationState.SUCCEEDED)
    assert desk.first.calls.count("place_order") == 1, "its order was kept"


async def test_a_ca_that_fails_is_not_stood_in_for_by_the_built_in_one(desk: Desk) -> None:
    uid = await desk.add(age=AGE)
    built_in = ARIIssuer("lab", desk.clock, directory="internal")
    desk.issuers = [desk.first, built_in]
    desk.first.script["place_order"] = deque([AWAY])
    assert await desk.sweep() == 1
    failed = await desk.run_attempt()
    assert (failed.state, failed.issuer_name) == (OperationState.WAITING, "first")
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED
    assert (await desk.version(uid)).issuer_name == "first"
    assert built_in.calls == []
    desk.by_config = {PROD: ("first", "lab")}
    desk.clock.advance(hours=2)
    desk.first.script["place_order"] = deque([AWAY])
    assert (await desk.renew()).issuer_name == "lab", "the configuration's own list names it"


async def test_a_replacement_of_an_upload_is_bound_to_the_ca_from_its_first_moment(desk: Desk) -> None:
    await desk.add(age=AGE, source=Source.UPLOADED)
    assert await desk.sweep() == 1
    assert (await desk.operations())[0].issuer_name == "first"
    built_in = lose_ca(desk)
    assert (await desk.run_attempt()).state is OperationState.WAITING
    assert built_in.calls == []


async def test_more_than_a_page_of_what_waits_is_gone_through(desk: Desk) -> None:
    lose_ca(desk)
    for number in range(PAGE + 1):
        await desk.add(f"e{number}", age=AGE)
    get_ca_back(desk)
    assert await desk.sweep() == PAGE + 1
    lose_ca(desk)
    for _ in range(PAGE + 1):
        await desk.run_attempt()
    planned = len(desk.jobs)
    get_ca_back(desk)
    await desk.sweep()
    assert len(desk.jobs) == planned + PAGE + 1
    assert all(operation.attempts_begun == 2 for operation in await desk.operations())


# --- what is told, and when -----------------------------------------------------------------------


async def test_what_nothing_renews_is_told_once_a_day_from_when_it_would_be_due(desk: Desk) -> None:
    desk.issuers = [ARIIssuer("internal", desk.clock, directory="internal")]
    uid = await desk.add(age=58 * DAY, source=Source.UPLOADED)
    end = (await desk.version(uid)).facts.not_after
    told: list[float] = []
    while desk.clock.now() < end + 33 * DAY:
        look_at = (await desk.schedule(uid)).look_at
        assert look_at is not None
        assert desk.clock.now() - DAY - HOUR <= look_at
        desk.clock.advance(max(0.0, (look_at - desk.clock.now()).total_seconds()))
        with capture_logs() as logs:
            await desk.renewal().sweep()
        found = [line for line in logs if line["event"] == "renewal.not_automatic"]
        assert all((line["entry"], line["obstacle"]) == ("shop", "no-ca") for line in found)
        told += [(desk.clock.now() - end) / DAY for _ in found]
        desk.clock.advance(minutes=1)
    assert [round(days) for days in told] == list(range(-30, 31))


async def test_what_is_paused_is_told_once_a_day_while_it_is_due(desk: Desk) -> None:
    uid = await desk.add(age=59 * DAY)
    await desk.sweep()
    await desk.change(paused=True)
    told = 0
    for _ in range(12 * 24 * 2):
        with capture_logs() as logs:
            await desk.sweep(after=timedelta(minutes=59) / 2)
        told += sum(line["event"] == "renewal.not_automatic" for line in logs)
    assert await desk.operations() == []
    assert 10 <= told <= 12, "due after a day, and then daily"
    assert (await desk.schedule(uid)).paused


async def test_what_ends_today_is_looked_at_before_it_ends(desk: Desk) -> None:
    desk.issuers = [ARIIssuer("internal", desk.clock, directory="internal")]
    uid = await desk.add(age=89 * DAY + 20 * HOUR, source=Source.UPLOADED)
    now = desk.clock.now()
    await desk.sweep()
    assert (await desk.schedule(uid)).look_at == now + HOUR / 2
    desk.issuers = [desk.first]
    desk.restart()
    assert await desk.sweep() == 1, "a restart looks at once"
