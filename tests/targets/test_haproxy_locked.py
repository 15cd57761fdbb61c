"""HAProxy lets one command about certificates in at a time and turns the others away; such words are no final ones."""

import asyncio
import socket
from pathlib import Path

import pytest

from certorbit.net.tries import Passing
from certorbit.targets.haproxy.runtime import RuntimeAPI
from targets.haproxy_bench import keys_of, make_target
from targets.haproxy_process import RunningHAProxy, settings_for, start_haproxy

STORES = 6000  # names of 150 characters: a list of them doesn't fit into the socket's and HAProxy's buffers
PER_COMMAND = 80


async def fill(haproxy: RunningHAProxy) -> None:
    """Make so many certificate stores, without content, that listing them takes a reader."""
    names = [f"/{'x' * 140}/{number}" for number in range(STORES)]
    for start in range(0, STORES, PER_COMMAND):
        await haproxy.ask("; ".join(f"new ssl cert {name}" for name in names[start : start + PER_COMMAND]))


async def test_a_command_that_is_turned_away_is_tried_again(tmp_path: Path) -> None:
    async with start_haproxy(tmp_path, listeners=1) as haproxy:
        await fill(haproxy)
        settings = settings_for(haproxy)
        runtime = RuntimeAPI(target="edge", socket=haproxy.socket, timeout_seconds=10)
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(haproxy.socket)
            slow.sendall(b"show ssl cert\n")  # and doesn't read on: HAProxy is in the middle of its answer
            assert slow.recv(1)
            with pytest.raises(Passing, match="currently locked"):
                await runtime.inventory()
            with pytest.raises(Passing, match="currently locked"):
                await runtime.loaded([haproxy.listeners[0].crt_list])
        (key,) = keys_of(settings)
        assert (await make_target(settings).look(key)).certificates == ()


async def test_our_own_commands_do_not_turn_each_other_away(tmp_path: Path) -> None:
    async with start_haproxy(tmp_path, listeners=1) as haproxy:
        runtime = RuntimeAPI(target="edge", socket=haproxy.socket, timeout_seconds=10)
        default = str(Path(haproxy.directory) / "https-1" / "default.pem")
        answers = await asyncio.gather(*(runtime.loaded([default]) for _ in range(200)))
        assert all(set(answer) == {default} for answer in answers)
