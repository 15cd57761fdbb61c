"""Runs changes of a target in processes that kill themselves: before their n-th action on the disk or on a program.

Python's audit events tell each action before it happens, so nothing in the target is changed for the test. One process
imports everything and forks for each run: `python crash_child.py <settings as JSON>`; each line on stdin is a JSON
object `{"kill_at": n, "steps": [["install", entry, version], ["attach", entry], …]}`, each line on stdout is `killed`
or `done`.
"""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ACTIONS = {
    "os.rename", "os.remove", "os.symlink", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "subprocess.Popen",
}  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class CrashRunner:
    """The parent's side."""

    def __init__(self, settings: Any, stack: ExitStack) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(settings.model_dump(mode="json"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        stack.callback(self._end)

    def run(self, steps: list[list[Any]], *, kill_at: int) -> bool:
        """Run the steps; return whether the run was killed, else it came to its end."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"kill_at": kill_at, "steps": steps}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer in {"killed", "done"}, answer
        return answer == "killed"

    def _end(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=20)


async def change(target: Any, steps: list[list[Any]]) -> None:
    """Make the steps at the target's first listener."""
    from certorbit.model.client_policy import ClientPolicy
    from certorbit.model.site import ClientCertificateMode
    from targets.target_bench import make_bundle

    listener = next(iter(sorted(target._places)))
    copies = {}
    for action, entry, *version in steps:
        if action == "install":
            bundle = make_bundle(entry, *version)
            copies[entry] = await target.install(bundle, scope=target.scope_of(listener), present=None)
        elif action == "attach":
            await target.attach(listener, copies[entry], instead_of="")
        elif action == "set_default":
            await target.set_default(listener, copies[entry])
        elif action == "verify":  # its entry is the policy's fields
            mode = ClientCertificateMode(entry["mode"])
            await target.verify_listener_clients(listener, ClientPolicy(**{**entry, "mode": mode}))


def _serve() -> None:
    from pydantic import TypeAdapter

    from certorbit.target_settings import TargetSettings
    from certorbit.targets.registry import make_target
    from targets.file_parts import make_parts
    from targets.target_bench import make_bundle

    settings: Any = TypeAdapter(TargetSettings).validate_json(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # logs don't belong between the answers
    for line in sys.stdin:
        order = json.loads(line)
        for _, entry, *version in order["steps"]:  # before the fork, so that all runs have the same certificates
            if version:
                make_bundle(entry, *version)
        child = os.fork()
        if child == 0:
            _die_at(order["kill_at"])
            asyncio.run(change(make_target(settings, make_parts()), order["steps"]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        answers.write("killed\n" if is_killed else "done\n" if status == 0 else f"status {status}\n")
        answers.flush()


def _die_at(turn: int) -> None:
    counter = itertools.count(1)

    def watch(event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & _WRITES
        if (writes or event in ACTIONS) and next(counter) == turn:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    _serve()
