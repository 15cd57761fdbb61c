"""A process that dies between the commit of a change and the sealing of its record: `audit_child.py URL`."""

import asyncio
import os
import signal
import sys

from certorbit.clock import SystemChance, SystemClock
from certorbit.model.audit import Action, AuditEvent
from certorbit.storage import SQLStore, make_engine


async def main(url: str) -> None:
    clock = SystemClock()
    store = SQLStore(make_engine(url), clock=clock, chance=SystemChance())
    event = AuditEvent(action=Action.CONFIGURATION_PUBLISHED, config="prod", objects=("prod",))
    await store.write(lambda tx: tx.audit.add(event, now=clock.now()))
    sys.stdout.write("committed\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(main(sys.argv[1]))
