"""Processes of ours that are killed at chosen moments, and the choice of the moments."""

import random
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.service import Service

PATIENCE = 150.0  # seconds until a run that hangs fails; an attempt that failed while the store was away waits 60 to 72
LONGEST_DELAY = 0.060  # seconds; the steps of an issuance take 5 to 100 ms against Pebble
LONGEST_START_DELAY = 0.400  # seconds; the work of a worker that has just started


@dataclass(frozen=True, slots=True)
class Moment:
    """When a process is killed: so many seconds after the n-th line of an event since its start."""

    event: str
    occurrence: int
    delay: float

    def __str__(self) -> str:
        return f"{self.event} #{self.occurrence} +{self.delay * 1000:.1f} ms"


def plan_moments(events: Sequence[str], *, kills: int, most_occurrences: int, seed: int) -> Iterator[Moment]:
    """Yield as many different moments, the same ones for a seed, evenly over the events.

    Every third is at the event itself, the others fall between it and the next ones. `worker.*` events come once.
    """
    chance = random.Random(seed)
    chosen: set[Moment] = set()
    while len(chosen) < kills:
        event = events[len(chosen) % len(events)]
        is_start = event.startswith("worker.")
        longest = LONGEST_START_DELAY if is_start else LONGEST_DELAY
        delay = 0.0 if chance.random() < 1 / 3 else round(chance.uniform(0.0, longest), 4)
        moment = Moment(event, 1 if is_start else chance.randint(1, most_occurrences), delay)
        if moment not in chosen:
            chosen.add(moment)
            yield moment


@dataclass
class Node(Service):
    """A service process that can be started again after a kill; its log goes on over all its lives."""

    name: str = ""  # for messages
    _first_line: int = 0  # of the present life

    def start(self, *, wait_ready: bool = True) -> "Node":
        self._first_line = len(self.lines)  # all of an earlier life is read: `kill` and `stop` see to it
        super().start(wait_ready=wait_ready)
        return self

    def _follow(self, process: Any) -> None:
        super()._follow(process)
        with self._news:
            self._news.notify_all()  # it ended: those who wait for an event look

    def wait_ready(self, *, seconds: float = PATIENCE) -> None:
        """As the base, but only lines of this life count."""
        if self.command[0] == "serve":
            super().wait_ready(seconds=seconds)
        else:
            self.wait_here("worker.ready", seconds=seconds)

    def wait_here(self, event: str, *, count: int = 1, seconds: float = PATIENCE, **fields: object) -> dict[str, Any]:
        """Return the count-th line of the event since the last start, with these fields."""

        def find() -> dict[str, Any] | None:
            lines = [line for line in self.life if line.get("event") == event and fields.items() <= line.items()]
            return lines[count - 1] if len(lines) >= count else None

        with self._news:
            self._news.wait_for(lambda: find() or not self.is_running, timeout=seconds)
            found = find()
        assert found, f"{self.name} wrote no {event} #{count} {fields}: {''.join(self.text[-30:])}"
        return found

    @property
    def life(self) -> list[dict[str, Any]]:
        """The log lines since the last start."""
        return self.lines[self._first_line :]

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill_at(self, moment: Moment) -> None:
        """kill -9 at the moment."""
        self.wait_here(moment.event, count=moment.occurrence)
        if moment.delay:
            threading.Event().wait(moment.delay)
        self.kill()

    def suspend(self) -> None:
        """Let it stand still, as a machine that sleeps."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Stop it, whatever state it is in."""
        if self.is_running:
            self.resume()
            self.stop()


def wait_for_first(nodes: Sequence[Node], event: str, *, count: int = 1) -> Node:
    """Return the node that is the first to write the count-th line of the event. The nodes are of one scene."""

    def find() -> Node | None:
        return next((node for node in nodes if sum(line.get("event") == event for line in node.life) >= count), None)

    news = nodes[0]._news
    with news:
        news.wait_for(find, timeout=PATIENCE)
        found = find()
    assert found, f"nobody wrote {event} #{count}: {[''.join(node.text[-10:]) for node in nodes]}"
    return found


def all_lines(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Return the log of all processes."""
    return [line for node in nodes for line in node.lines]
