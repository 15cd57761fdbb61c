"""What a deployment says of itself, while it goes back and when it ends; and what is not deployed at all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from deployment_parts import Lab, fingerprint, make_lab
from structlog.testing import capture_logs

from certorbit.errors import BadInput, Unreachable
from certorbit.model.balancer import ListenerKey
from certorbit.storage.tables import metadata
from fakes.fake_target import FakeTarget


@pytest.fixture(params=[True, False], ids=["in-place", "immutable"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Lab]:
    target = FakeTarget(in_place=request.param)
    made = await make_lab(tmp_path / "lab.db", template=sqlite_template, targets=[target])
    yield made
    await made.store.close()


def listeners(lab: Lab, number: int) -> list[ListenerKey]:
    return [lab.targets[0].add_listener(f"l{n}") for n in range(1, number + 1)]


async def test_while_it_goes_back_it_says_why(lab: Lab) -> None:
    (key,) = listeners(lab, 1)
    await lab.add_entry("www")
    await lab.attach_for_good("www", key)
    lab.prober.bad_leaves = {("l1", fingerprint("www", 2))}
    seen: list[tuple[str, str]] = []

    def look_up(_method: str, _place: str) -> None:
        with lab.store.engine.connect() as connection:
            for table in (metadata.tables["rollouts"], metadata.tables["attachments"]):
                row = connection.execute(sa.select(table).order_by(table.c.updated_at.desc())).first()
                assert row is not None
                seen.append((row.stage, row.problem["message"] if row.problem else ""))

    lab.targets[0].before = look_up
    await lab.renew("www", 2)
    await lab.drive()
    told = [message for stage, message in seen if stage == "changing" and message]
    assert told, "the target is told to go back when the reason stands there"
    assert all("does not serve 'www'" in message for message in told)
    assert await lab.stages("www") == {"l1": "rolled_back"}


@pytest.mark.parametrize(
    ("failing", "stage", "level", "summary"),
    [
        (None, "proven", "info", ""),
        ("look", "failed", "warning", "1 failed"),
        ("bad leaf", "rolled_back", "warning", "1 failed"),
        ("bad leaf and no way back", "unsettled", "error", "1 unsettled"),
    ],
)
async def test_a_failure_is_logged_as_loud_as_it_is_bad_and_summed_up_by_its_name(
    lab: Lab, failing: str | None, stage: str, level: str, summary: str
) -> None:
    keys = listeners(lab, 2)
    await lab.add_entry("www")
    await lab.attach_for_good("www", *keys)
    if failing == "look":

        def refuse(method: str, place: str) -> None:
            if (method, place) == ("look", "l1"):
                raise Unreachable("No answer.", subject="edge", phase="connect")

        lab.targets[0].before = refuse
    elif failing is not None:
        lab.prober.bad_leaves = {("l1", fingerprint("www", 2))}
        if failing.endswith("no way back"):
            lab.prober.bad_leaves.add(("l1", fingerprint("www", 1)))
    await lab.renew("www", 2)
    with capture_logs() as logs:
        await lab.drive()
    told = {line["listener"].rpartition("/")[2]: line for line in logs if line["event"] == "deployment.listener"}
    first = next(line for name, line in told.items() if name.startswith("l1"))
    assert (first["stage"], first["log_level"]) == (stage, level)
    (finished,) = [line for line in logs if line["event"] == "deployment.finished"]
    assert finished["log_level"] == ("warning" if failing else "info")
    assert summary in finished["message"]


async def test_an_expired_certificate_is_attached_to_nothing_new_and_stays_where_it_is(lab: Lab) -> None:
    first, second = listeners(lab, 2)
    await lab.add_entry("www")
    await lab.attach_for_good("www", first)
    lab.clock.advance(days=4000)
    await lab.attach("www", first)
    with pytest.raises(BadInput, match=r"ended on .* clients would refuse it. Renew it first"):
        await lab.attach("www", second)
    with pytest.raises(BadInput, match="ended on"):
        await lab.attach("www", first, as_default=True)
    assert sorted(await lab.attachments("www")) == ["l1"]
