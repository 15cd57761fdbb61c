"""kill -9 while writing: what was acknowledged is there, and what is there is whole."""

import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

import pytest
import sqlalchemy as sa

from certorbit.storage import make_engine

# Writes an entry with its operation per transaction, and says so once the store has answered.
WRITER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from records import make_entry, make_operation
from certorbit.clock import SystemChance, SystemClock
from certorbit.storage import SQLStore, make_engine

async def main():
    store = SQLStore(make_engine(sys.argv[1]), clock=SystemClock(), chance=SystemChance())
    def add(name):
        def work(tx):
            entry = make_entry(name)
            tx.entries.add(entry)
            tx.operations.add(make_operation(entry_id=name, entry_uid=entry.uid))
        return work
    async def write(lane):
        for number in range(100_000):
            name = f"{sys.argv[3]}-{lane}-{number}"
            await store.write(add(name))
            print(f"{name}\\n", end="", flush=True)  # in one write, also without a buffer: never half a line
    await asyncio.gather(*(write(lane) for lane in range(4)))

asyncio.run(main())
"""

COUNTS = (
    "SELECT (SELECT count(*) FROM entries e LEFT JOIN versions v ON v.id = e.current_version WHERE v.id IS NULL),"
    " (SELECT count(*) FROM entries e LEFT JOIN operations o ON o.entry_uid = e.uid WHERE o.id IS NULL),"
    " (SELECT count(*) FROM operations o LEFT JOIN entries e ON o.entry_uid = e.uid WHERE e.uid IS NULL)"
)


@pytest.mark.crash
def test_what_was_acknowledged_survives_kill_9(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO configurations VALUES ('prod', '', 1, '2026-01-01T00:00:00.000000+00:00')")
        )
    acknowledged: set[str] = set()
    for round_number in range(5):
        acknowledged |= write_and_kill(
            database_url, prefix=f"r{round_number}", after=random.Random(round_number).randint(1, 80)
        )
    with engine.connect() as connection:
        names = set(connection.execute(sa.text("SELECT id FROM entries")).scalars())
        halves = tuple(connection.execute(sa.text(COUNTS)).one())
        if engine.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    engine.dispose()
    assert acknowledged
    assert acknowledged <= names
    assert halves == (0, 0, 0)


def write_and_kill(url: str, *, prefix: str, after: int) -> set[str]:
    """Return what the writer said it had written before it was killed, some time after so many lines."""
    command = [sys.executable, "-c", WRITER, url, str(Path(__file__).parent.parent), prefix]
    with (
        TemporaryFile("w+") as complaints,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as writer,
    ):
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(after)]
        writer.kill()
        lines += writer.stdout.readlines()
        complaints.seek(0)
        assert all(line.endswith("\n") for line in lines), f"the writer stopped by itself: {complaints.read()[-2000:]}"
    return {line.strip() for line in lines}
