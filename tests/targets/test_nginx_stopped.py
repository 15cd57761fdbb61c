"""What the check says of an nginx that does not run, or that can't be seen: a change there would fail at its reload."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from certorbit.errors import TargetRefused
from certorbit.ports.target import Finding, Grade, Target
from certorbit.targets.nginx import make
from targets.file_parts import bundle_of, key_of, make_parts
from targets.nginx_process import RealNginx


async def reach(target: Target) -> Finding:
    (finding,) = [finding for finding in await target.check() if finding.what == "reach"]
    return finding


async def test_an_nginx_that_was_stopped_fails_the_check_as_it_fails_the_change() -> None:
    async with AsyncExitStack() as stack:
        nginx = RealNginx(stack, listeners=1)
        async with AsyncExitStack() as while_it_runs:
            target = await nginx.start(while_it_runs)
            assert (await reach(target)).grade is Grade.OK
            running = (nginx.folder / "nginx.pid").read_text()
        stopped = await reach(target)
        assert stopped.grade is Grade.FAILED
        assert f"{nginx.folder}/nginx.pid holds no process id" in stopped.message, "`nginx -t` left an empty one"
        key = key_of("web", "https0", nginx.ports[0])
        copy = await target.install(bundle_of("www"), scope=target.scope_of(key), present=None)
        with pytest.raises(TargetRefused, match="nginx can't be told to reload"):
            await target.attach(key, copy, instead_of="")
        (nginx.folder / "nginx.pid").write_text(running)  # as a master leaves it that was killed
        killed = await reach(target)
        assert (killed.grade, "there is no such process" in killed.message) == (Grade.FAILED, True)
        blind = make(nginx.settings(pid_file=""), make_parts())
        assert (await reach(blind)).grade is Grade.WARNING, "somebody who knows that it can't be seen has said so"


@pytest.mark.parametrize(
    ("content", "grade", "says"),
    [
        ("", Grade.FAILED, "holds no process id"),  # nginx: invalid PID number ""
        ("0\n", Grade.FAILED, "holds no process id"),  # would be our own process group
        ("-1\n", Grade.FAILED, "holds no process id"),  # would be everybody
        (f"{'9' * 30}\n", Grade.FAILED, "there is no such process"),
        ("ours\n", Grade.FAILED, "which is another program"),
    ],
)
async def test_what_is_no_master_of_nginx_is_told_apart(content: str, grade: Grade, says: str) -> None:
    async with AsyncExitStack() as stack:
        nginx = RealNginx(stack, listeners=1)
        (nginx.folder / "nginx.pid").write_text(content.replace("ours", str(os.getpid())))
        found = await reach(make(nginx.settings(), make_parts()))
        assert found.grade is grade
        assert says in found.message
        assert 'pid_file = ""' in found.message


async def test_a_master_whose_workers_are_not_seen_is_only_pointed_out() -> None:
    """bash with the title of a master stands for an nginx whose workers another namespace hides."""
    async with AsyncExitStack() as stack:
        nginx = RealNginx(stack, listeners=1)
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", 'exec -a "nginx: master process" cat'), stdin=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        try:
            (nginx.folder / "nginx.pid").write_text(f"{process.pid}\n")
            while b"master process" not in _title(process.pid) or b"bash" in _title(process.pid):
                await asyncio.sleep(0)
            assert (await reach(make(nginx.settings(), make_parts()))).grade is Grade.WARNING
        finally:
            process.stdin.close()
            await process.wait()


def _title(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()
