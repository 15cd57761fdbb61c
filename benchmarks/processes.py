"""Programs under measurement: start them with a log, wait for them, and read how much CPU they took (Linux)."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return user and system CPU seconds of the process, its ended children and its living descendants."""
    parents = {}
    ticks = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            ticks[int(stat.parent.name)] = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    if pid not in ticks:
        raise RuntimeError(f"process {pid} is gone: it ended under the measurement")
    return sum(ticks[one] for one in ticks if _descends(one, pid, parents)) / _TICKS


def _descends(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while pid != ancestor and pid in parents:
        pid = parents[pid]
    return pid == ancestor


@contextlib.contextmanager
def running(
    command: list[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    folder: Path,
    stop_seconds: float = 15.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a folder, with exactly this environment, for as long as the block lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(is_done: Callable[[], bool], *, seconds: float, what: str, log: Path, every: float = 0.05) -> None:
    """Return as soon as `is_done` says so; fail with the end of the program's log when the seconds are over."""
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-15:])
            raise TimeoutError(f"{what}: not within {seconds:.0f} s. The end of {log}:\n  {tail}")
        time.sleep(every)
