"""Renewals of a certificate whose clients are checked.

HAProxy 2.6.12 (Debian 12) crashes if a CA file is committed once more, as it is, after the certificate was renewed.
"""

from contextlib import AsyncExitStack
from pathlib import Path

from targets.client_certificates import ClientCA, gets_in, make_policy
from targets.haproxy_bench import keys_of, make_target
from targets.haproxy_process import settings_for, start_haproxy
from targets.target_bench import make_bundle

NAME = "www.example.com"
RENEWALS = 12


async def test_renewals_and_new_lists_leave_haproxy_alive_and_the_check_in_force(tmp_path: Path) -> None:
    ours = ClientCA(1)
    good = ours.issue(tmp_path, "good")
    async with AsyncExitStack() as stack:
        haproxy = await stack.enter_async_context(start_haproxy(tmp_path, listeners=1))
        settings = settings_for(haproxy)
        target, (listener,) = make_target(settings), keys_of(settings)
        scope = target.scope_of(listener)
        copy = await target.install(make_bundle("www"), scope=scope, present=None)
        await target.verify_clients(listener, copy, make_policy(ours))
        await target.attach(listener, copy, instead_of="")
        worker = await haproxy.worker()
        for renewal in range(RENEWALS):
            await target.install(make_bundle("www", 1 + renewal % 2), scope=scope, present=copy)
            lists = [ours.list_revoked(days=7 + renewal // 3)] if renewal >= RENEWALS // 2 else []
            for _ in range(2):
                await target.verify_clients(listener, copy, make_policy(ours, crls=lists))
                await target.look(listener)
                seen = [await gets_in(listener.port, NAME, client) for client in (None, good, None, good)]
                assert seen == [False, True, False, True], f"renewal {renewal}"
        assert await haproxy.worker() == worker
