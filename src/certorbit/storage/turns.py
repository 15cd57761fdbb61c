"""Writers of one process take turns on SQLite.

SQLite has one writer at a time. Who finds it busy sleeps and asks again, for up to 25 ms at a time, so a lock that is
held for one millisecond is handed over late and to anybody. Here the writers of a process (the store, the workflow
engine's checkpoints, the engine itself) queue at a lock of ours first, which hands over at once. SQLite's own lock
still decides between processes, and stays what correctness rests on: this one only saves time.
"""

import threading
from typing import Any, Final

import sqlalchemy as sa

# Longer than any transaction of ours; whoever waits in vain goes on to SQLite's own lock.
LONGEST_WAIT_SECONDS: Final = 10.0
_WRITES: Final = ("INSERT", "UPDATE", "DELETE", "REPLACE", "BEGIN IMMEDIATE")
_HELD: Final = "certorbit_turn"


class Turns:
    """The queue of one process for one SQLite database. `watch` every engine that writes to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def watch(self, engine: sa.Engine) -> None:
        """Make the engine's connections take a turn at their first write and end it when they go back to the pool."""
        sa.event.listen(engine, "before_cursor_execute", self._take)
        sa.event.listen(engine.pool, "checkin", self._end)

    def _take(
        self,
        connection: sa.Connection,
        _cursor: object,
        statement: str,
        _parameters: object,
        _context: object,
        _executemany: object,
    ) -> None:
        if not connection.info.get(_HELD) and statement.lstrip()[:15].upper().startswith(_WRITES):
            connection.info[_HELD] = self._lock.acquire(timeout=LONGEST_WAIT_SECONDS)

    def _end(self, _connection: object, record: Any) -> None:
        if record.info.pop(_HELD, False):
            self._lock.release()
