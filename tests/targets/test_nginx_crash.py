"""kill -9 before the actions of a change of a real nginx's files: it serves all the time, and ends as it should."""

from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from certorbit.targets.nginx import make
from targets.client_certificates import OURS, THEIRS, gets_in, make_policy
from targets.crash_child import CrashRunner, change
from targets.file_parts import key_of, make_parts, shake_hands
from targets.nginx_process import RealNginx
from targets.target_bench import make_bundle

pytestmark = pytest.mark.crash
MOST_ACTIONS = 60


async def test_a_change_that_is_killed_anywhere_is_finished_or_undone_by_the_next_call() -> None:
    async with AsyncExitStack() as stack:
        nginx = RealNginx(stack, listeners=1)
        await nginx.start(stack)
        runner = CrashRunner(nginx.settings(), stack.enter_context(ExitStack()))
        port = nginx.ports[0]
        key = key_of("web", "https0", port)
        version, was_killed = {turn: make_bundle("www", turn).facts.fingerprint for turn in (1, 2)}, True
        for turn in range(1, MOST_ACTIONS):
            await change(make(nginx.settings(), make_parts()), [["install", "www", 1], ["set_default", "www"]])
            assert await shake_hands(port, "www.example.com") == version[1]
            was_killed = runner.run([["install", "www", 2], ["set_default", "www"]], kill_at=turn)
            # One of the two is served, whatever happened: the files of both are there.
            assert len(await shake_hands(port, "www.example.com")) == 64
            again = make(nginx.settings(), make_parts())
            wanted = 1 + turn % 2  # half of the runs go back
            await change(again, [["install", "www", wanted], ["set_default", "www"]])
            assert await shake_hands(port, "www.example.com") == version[wanted]
            assert (await again.look(key)).default.endswith("/prod/www")
            assert set((await again.list_copies()).values()) == {version[wanted]}
            assert list((nginx.folder / "certorbit").rglob("*.previous")) == []
            if not was_killed:
                break
        assert not was_killed, "the change never came to its end"
        assert turn > 8
        assert "[emerg]" not in nginx.words()


async def test_a_change_of_who_gets_in_that_is_killed_anywhere_is_finished_by_the_next_call(tmp_path: Path) -> None:
    files = [OURS.issue(tmp_path, "ours"), THEIRS.issue(tmp_path, "theirs")]
    policies = [make_policy(OURS, crls=[OURS.list_revoked()]), make_policy(THEIRS)]
    steps = [["verify", asdict(policy)] for policy in policies]
    lets_in = [[False, True, False], [False, False, True]]
    async with AsyncExitStack() as stack:
        nginx = RealNginx(stack, listeners=1, checks_clients=True)
        await change(await nginx.start(stack), [["install", "www", 1], ["set_default", "www"], steps[0]])
        runner = CrashRunner(nginx.settings(), stack.enter_context(ExitStack()))
        port, now, was_killed = nginx.ports[0], 0, True
        home = nginx.folder / "certorbit"

        async def see() -> int:
            """Return which policy is in force. It fails if none is, or if there is a mixture."""
            return lets_in.index([await gets_in(port, "www.example.com", client) for client in (None, *files)])

        for turn in range(1, MOST_ACTIONS):
            was_killed = runner.run([steps[1 - now]], kill_at=turn)
            seen = await see()
            again = make(nginx.settings(), make_parts())
            if turn % 2:
                await change(again, [steps[1 - now]])
                assert await see() == 1 - now
            else:  # another change than the one that died starts from what was noted, or from what came to its end
                await change(again, [["install", "www", 1 + turn // 2 % 2]])
                assert await see() in {now, seen}
            now = await see()
            left = sorted(path.suffix for path in (home / f"https0-{port}").iterdir() if path.is_file())
            assert left == [[".ca", ".crl"], [".ca"]][now]
            assert list(home.rglob("*.previous")) == []
            if not was_killed:
                break
        assert not was_killed, "the change never came to its end"
        assert turn > 8
        assert "[emerg]" not in nginx.words()
