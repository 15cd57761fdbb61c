"""The fake CA of the ACME client's tests in a thread of its own, for services in other processes."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fakes.fake_ca import FakeCA

UNDECIDED = 10**9  # polls: the CA never comes to a decision


@contextmanager
def running_fake_ca() -> Iterator[FakeCA]:
    """A fake CA for the length of a `with`. It may be scripted from here: its loop only reads what is set."""
    ca = FakeCA()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(ca.__aenter__())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield ca
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.run_until_complete(ca.__aexit__(None, None, None))
        loop.close()
