"""Clients of the API that do as contract.md's do: what was not answered is sent again, until it is."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException
from time import monotonic
from types import TracebackType
from typing import Self

from crash.nodes import PATIENCE
from e2e.service import Client

AT_ONCE = 4
PAUSE = 0.02  # seconds before a repeat


class Clients:
    """Ask for certificates, a few at a time, in threads. Every name is asked for under an id of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="client")
        self._asked: dict[str, Future[int]] = {}
        self._ends = threading.Event()

    def ask(self, count: int) -> list[str]:
        """Send so many POSTs for new ids, and go on while they are under way. Return the ids."""
        ids = [f"crash-{len(self._asked) + number}" for number in range(count)]
        for entry_id in ids:
            self._asked[entry_id] = self._threads.submit(self._insist, entry_id)
        return ids

    def acknowledged(self) -> dict[str, str]:
        """Wait until every POST got its 201. Return the ids with their names."""
        for asked in self._asked.values():
            asked.result(timeout=PATIENCE)
        return {entry_id: name_of(entry_id) for entry_id in self._asked}

    def repeats(self) -> int:
        """Return how many POSTs had to be sent again because nobody answered."""
        return sum(asked.result() for asked in self._asked.values())

    def _insist(self, entry_id: str) -> int:
        deadline = monotonic() + PATIENCE
        repeats = 0
        while monotonic() < deadline and not self._ends.is_set():
            try:
                answer = self._client.generate(entry_id, name_of(entry_id))
            except (OSError, HTTPException):  # refused, cut off
                pass
            else:
                if answer.status == 201:
                    return repeats
                assert answer.status == 503, (entry_id, answer)  # the database is away: try again
            repeats += 1
            self._ends.wait(PAUSE)
        raise AssertionError(f"nobody answered the POST for {entry_id}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._threads.shutdown(wait=True, cancel_futures=True)


def name_of(entry_id: str) -> str:
    return f"{entry_id}.example.com"
