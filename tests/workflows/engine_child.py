"""A worker that tells on stdout what it does, for tests that kill it. It stops when stdin is closed.

It runs both kinds of workflows, alike.

Argument: JSON with url, steps, in_flight, step_seconds, hang_at (the place of a step that never ends),
drain_seconds, heartbeat_seconds, ttl_seconds, only_prepare.
"""

import asyncio
import json
import os
import sys

from certorbit.clock import SystemChance, SystemClock
from certorbit.errors import CertorbitError
from certorbit.model.operation import OperationID
from certorbit.ports.store import JobKind
from certorbit.workflows.engine import Engine, Flow


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def on_broken(operation: OperationID, attempt: int, error_id: str) -> None:
    say(f"broken {operation} {attempt}")


async def work(options: dict[str, object]) -> None:
    clock = SystemClock()
    in_flight = int(str(options.get("in_flight", 4)))
    engine = Engine(
        database_url=str(options["url"]),
        clock=clock,
        chance=SystemChance(),
        max_in_flight=in_flight,
        deployments_in_flight=in_flight,
        on_broken=on_broken,
        poll_seconds=0.02,
        heartbeat_seconds=float(str(options.get("heartbeat_seconds", 0.2))),
        ttl_seconds=float(str(options.get("ttl_seconds", 1.0))),
    )
    engine.prepare()
    if options.get("only_prepare"):
        say("ready")
        return

    async def run(flow: Flow, operation: OperationID, attempt: int) -> None:
        for place in range(int(str(options.get("steps", 4)))):
            step = f"{operation} {attempt} step{place}"

            async def do(place: int = place, step: str = step) -> dict[str, object]:
                say(f"begin {step}")
                if place == options.get("hang_at"):
                    await asyncio.Event().wait()
                await clock.sleep(float(str(options.get("step_seconds", 0.0))))
                return {"outcome": "done"}

            await flow.step(f"step{place}", do)
            say(f"done {step}")
        say(f"end {operation} {attempt}")

    for kind in JobKind:
        engine.register(kind.value, run)
    try:
        await engine.launch()
    except CertorbitError as error:
        say(f"refused {error.message}")
        return
    say("ready")
    await asyncio.to_thread(sys.stdin.read)
    await engine.stop(drain_seconds=float(str(options.get("drain_seconds", 10.0))))
    say("stopped")


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
