"""Commands of the operator's: argument lists, never a shell, a time limit, their words cut short."""

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Final

from certorbit.errors import CredentialsRefused, TargetRefused

# Commands get no more of our environment than cron would give: it holds keys and database passwords.
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_MOST_READ: Final = 16 * 1024 * 1024  # bytes of a command's output


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. status: its exit code. output: stdout and stderr together. is_cut: there was more."""

    status: int
    output: str
    is_cut: bool


async def run_command(
    command: Sequence[str], *, seconds: float, target: str, environment: Mapping[str, str] | None = None
) -> Outcome:
    """Run a command to its end.

    Raises:
        CredentialsRefused: we may not run it.
        TargetRefused: it isn't there, or ran longer than `seconds` (it and its process group are killed).
    """
    with TemporaryFile() as output:  # a pipe would stay open in whatever the command leaves running
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**_ENVIRONMENT, **(environment or {})},
                cwd="/",
                start_new_session=True,
            )
        except PermissionError as error:
            raise CredentialsRefused(
                f"Target {target}: we may not run {command[0]!r}. Give the service's user the right to.", subject=target
            ) from error
        except OSError as error:
            raise TargetRefused(
                f"Target {target}: the command {command[0]!r} can't be run: {error.strerror}. Look at the settings.",
                subject=target,
            ) from error
        try:
            async with asyncio.timeout(seconds):
                status = await process.wait()
        except TimeoutError as error:
            raise TargetRefused(
                f"Target {target}: the command {command[0]!r} did not end within {seconds:g} s and was killed.",
                subject=target,
            ) from error
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        output.seek(0)
        read = output.read(_MOST_READ)
        return Outcome(status, read.decode("utf-8", "replace"), is_cut=bool(output.read(1)))


def find_program(program: str) -> str:
    """Return the path of a program that `run_command` would run, "" if there is none that we may run."""
    return shutil.which(program, path=_ENVIRONMENT["PATH"]) or ""
