"""Publishes to a folder for ever, other certificates each time: publish_child.py DATABASE FOLDER. Says when it begins.

To be killed at any moment (test_readers.py).
"""

import asyncio
import sys

from certorbit.clock import SystemChance, SystemClock
from certorbit.ports.store import UnitOfWork
from certorbit.publish_settings import BucketSettings
from certorbit.storage import SQLStore, make_engine, migrate
from publishing.edge_buckets import EdgeBucket
from publishing.scene import Scene


async def main(database: str, folder: str) -> None:
    engine = make_engine(f"sqlite:///{database}")
    migrate(engine)
    scene = Scene(SQLStore(engine, clock=SystemClock(), chance=SystemChance()))
    await scene.fill()
    bucket = EdgeBucket(BucketSettings(name="main", url=f"file://{folder}"), lambda _: None)

    def change(tx: UnitOfWork) -> None:
        for number in range(6):
            scene.add(tx, f"e-{number}", "www.example.com")

    for number in range(6):
        await scene.put_site(f"site-{number}", ssl_certificate=f"e-{number}")
    while True:
        await scene.store.write(change)
        print("begins", file=sys.stderr, flush=True)  # noqa: T201 - the test reads it
        await scene.publish(bucket, grace_seconds=0)


asyncio.run(main(*sys.argv[1:]))
