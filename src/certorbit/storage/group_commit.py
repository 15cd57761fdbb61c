"""Transactions that wait for each other's commit share one.

SQLite has one writer, and a commit that survives a power cut takes a millisecond or more of waiting for the disk. All
writes that come while one commit runs go into the next transaction together; each caller still gets its answer only
when its own effects are on the disk.

A function that raises must leave nothing behind, and must not take the others with it: the transaction is rolled back
and each of them runs again in one of its own. Functions of the store may run more than once (`ports.store`), and
refusals are rare enough for that.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from certorbit.ports.store import UnitOfWork

T = TypeVar("T")
Work = Callable[[UnitOfWork], Any]

LARGEST_GROUP: Final = 64  # keeps a transaction in the tens of milliseconds


class GroupCommit:
    """Runs writing functions in one thread, in the order in which they came.

    Args:
        run_all: runs functions in one transaction and returns their results after the commit; raises, with nothing
            written, if one of them raises.
    """

    def __init__(self, run_all: Callable[[Sequence[Work]], list[Any]]) -> None:
        self._run_all = run_all
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._lock = threading.Lock()
        self._waiting: list[tuple[Work, Future[Any]]] = []
        self._is_running = False

    async def run(self, work: Callable[[UnitOfWork], T]) -> T:
        """Return the function's result when its effects are committed, or raise what it raised."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.append((work, future))
            if not self._is_running:
                self._is_running = True
                self._thread.submit(self._drain)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let what was submitted end."""
        self._thread.shutdown(wait=True)

    def _drain(self) -> None:
        while group := self._take():
            # A caller who was cancelled while it waited here has not begun; one who runs is run to its end.
            live = [(work, future) for work, future in group if future.set_running_or_notify_cancel()]
            if live:
                self._settle(live)

    def _take(self) -> list[tuple[Work, Future[Any]]]:
        with self._lock:
            group = self._waiting[:LARGEST_GROUP]
            del self._waiting[:LARGEST_GROUP]
            self._is_running = bool(group)
            return group

    def _settle(self, group: Sequence[tuple[Work, Future[Any]]]) -> None:
        try:
            results = self._run_all([work for work, _ in group])
        except BaseException as error:  # noqa: BLE001 - handed to those who wait for it, never swallowed
            if len(group) == 1:
                group[0][1].set_exception(error)
                return
            for alone in group:
                self._settle([alone])
            return
        for (_, future), result in zip(group, results, strict=True):
            future.set_result(result)
