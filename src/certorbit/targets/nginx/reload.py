"""Testing nginx's configuration, and the reload up to the moment when new workers alone take connections.

`nginx -s reload` only sends a signal. The master then reads the configuration, starts new workers and tells the old
ones to finish; an old worker that has stopped taking connections says so in its title ("is shutting down"). So the
reload is over when the master has workers, and none of them is one that was serving before.
"""

import os
import re
from pathlib import Path
from typing import Final

from certorbit.clock import Clock
from certorbit.errors import TargetRefused
from certorbit.target_settings.nginx import NginxTargetSettings
from certorbit.targets.commands import Outcome, run_command
from certorbit.targets.file_layout import Place
from certorbit.targets.nginx.configuration import Directive, read_dump
from certorbit.targets.words import show_words

_STAMP: Final = re.compile(r"^\d{4}/\d\d/\d\d [\d:]{8} |(?<=\] )\d+#\d+: ", re.MULTILINE)
_PAUSE: Final = 0.02  # seconds between two looks at the workers


class NginxReload:
    """`file_layout.Activation` for nginx."""

    def __init__(self, settings: NginxTargetSettings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def test(self, place: Place) -> None:  # noqa: ARG002 - nginx tests all of its configuration
        """Raise TargetRefused with nginx's own words if it would refuse its configuration."""
        await self._run(self._settings.test_command, "nginx refuses its configuration")

    async def read_configuration(self) -> tuple[Directive, ...]:
        """Return what is on the disk now, as `nginx -T` shows it.

        Raises:
            TargetRefused: the test command can't be made to show it, nginx refuses it, or it can't be understood.
        """
        name = self._settings.name
        dump = self._settings.dump_command
        if not dump:
            raise TargetRefused(
                f"Target {name}: the test_command has no word -t that could be -T, so it can't be seen whether all"
                " `server` blocks check clients. Set one that has.",
                subject=name,
            )
        outcome = await self._run(dump, "nginx refuses its configuration")
        try:
            return read_dump(outcome)
        except ValueError as error:
            raise TargetRefused(
                f"Target {name}: it can't be seen whether all `server` blocks check clients. What"
                f" {' '.join(dump)} shows can't be read: {show_words(str(error))}.",
                subject=name,
            ) from error

    async def load(self, place: Place) -> None:  # noqa: ARG002 - nginx loads all of its configuration
        """Reload, and wait until no worker of before takes connections, where the workers can be seen.

        Raises:
            TargetRefused: the command failed or hung, or the old workers are still the serving ones.
        """
        before = find_workers(self._settings.pid_file)
        await self._run(self._settings.reload_command, "nginx can't be told to reload")
        if not before:
            return  # in another container, or on a system without /proc: the proof by handshakes tells
        waited = 0.0
        while True:
            now = find_workers(self._settings.pid_file)
            if now and now.isdisjoint(before):
                return
            if waited >= self._settings.timeout_seconds:
                raise TargetRefused(
                    f"Target {self._settings.name}: nginx was told to reload, but after {waited:.0f} s workers of"
                    " before are still serving. Its error log tells why.",
                    subject=self._settings.name,
                )
            await self._clock.sleep(_PAUSE)
            waited += _PAUSE

    async def _run(self, command: tuple[str, ...], complaint: str) -> Outcome:
        name = self._settings.name
        outcome = await run_command(command, seconds=self._settings.timeout_seconds, target=name)
        if outcome.status != 0:
            words = _STAMP.sub("", outcome.output)  # so that the same trouble has the same words
            raise TargetRefused(f"Target {name}: {complaint}: {show_words(words)}.", subject=name)
        return outcome


def find_workers(pid_file: str) -> frozenset[int]:
    """Return the process ids of the master's workers that take connections; none where they can't be seen."""
    try:
        master = int(Path(pid_file).read_text("ascii")) if pid_file else 0
        children = Path(f"/proc/{master}/task/{master}/children").read_text("ascii").split()
    except (OSError, ValueError):
        return frozenset()
    return frozenset(int(child) for child in children if _is_serving(child))


def find_absence(pid_file: str) -> str:
    """Return by which sign nginx's master does not run, in words; "" if it does, or if that can't be told."""
    try:
        content = Path(pid_file).read_text("ascii").strip()
    except FileNotFoundError:
        return f"there is no {pid_file}"
    except (OSError, ValueError):
        return ""
    if not content.isdecimal() or int(content) < 1:
        return f"{pid_file} holds no process id"
    try:
        os.kill(int(content), 0)
    except (ProcessLookupError, OverflowError):
        return f"{pid_file} says {content[:20]}, and there is no such process"
    except PermissionError:
        pass  # another user's: it is there
    try:
        title = Path(f"/proc/{content}/cmdline").read_bytes()
    except OSError:  # no /proc, or it hides other users' processes
        return ""
    return "" if b"master process" in title else f"{pid_file} says {content}, which is another program"


def _is_serving(process: str) -> bool:
    try:
        title = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return False
    return b"worker process" in title and b"shutting down" not in title
