"""What holds for every input of an entry point, and how many are tried.

`CERTORBIT_FUZZ=10000` tries so many for each entry point, other ones each time; else few, always the same.
"""

import base64
import contextlib
import gc
import os
import re
import resource
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from certorbit.errors import BadIssue, CertorbitError, CRLUnusable, Refused

EXAMPLES = int(os.environ.get("CERTORBIT_FUZZ", "0")) or 100
IS_LONG = "CERTORBIT_FUZZ" in os.environ
ROUNDS = 30 if IS_LONG else 2  # of the inputs that the memory is watched with
CPU_SECONDS = 1.0  # of one input; time on the processor, so that a busy machine doesn't matter
WINDOW = 16  # characters of a key's base64 that nobody writes by chance
# What the allocator and hypothesis keep; a leak of 1 KiB per input would be 10 MiB after 10,000.
MOST_GROWTH_BYTES = 8 * 1024 * 1024
ALLOWED = (Refused, BadIssue, CRLUnusable)


def bounded(*, examples: int = EXAMPLES) -> settings:
    """Return the settings of a fuzz test."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=not IS_LONG,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


class Secrets:
    """What must not be in any text: pieces of the base64 of keys, of their DER in hex, and whole API keys."""

    def __init__(self, ders: Sequence[bytes] = (), texts: Sequence[str] = ()) -> None:
        self._ders = ders
        self._texts = texts
        self._pieces = self._cut()

    def _cut(self) -> frozenset[str]:
        pieces: set[str] = set()
        for der in self._ders:
            # What keys of one kind have in common says nothing: the head with its OIDs.
            for text in (base64.b64encode(der).decode()[48:], der.hex()[80:]):
                pieces.update(text[start : start + WINDOW] for start in range(len(text) - WINDOW + 1))
        return frozenset(pieces)

    def find_in(self, text: str) -> str:
        """Return a piece that is in the text; "": none is. Line ends don't hide one."""
        for secret in self._texts:
            if secret in text:
                return secret
        for whole in {text, re.sub(r"\s|\\n|\\r", "", text)}:
            for start in range(len(whole) - WINDOW + 1):
                if whole[start : start + WINDOW] in self._pieces:
                    return whole[start : start + WINDOW]
        return ""


def hold(call: Callable[[], Any], *, secrets: Secrets) -> Any:
    """Run the call; it must end in time, and with a refusal if it fails. Returns: its result, or None.

    A refusal, with all that a log would show of it, has no piece of a secret in it.
    """
    result = None
    start = time.perf_counter()
    try:
        result = call()
    except ALLOWED as error:
        _check_refusal(error, secrets)
    if time.perf_counter() - start > CPU_SECONDS:  # that may be the machine's fault: once more, by its own time
        start = time.process_time()
        with contextlib.suppress(*ALLOWED):
            call()
        assert time.process_time() - start < CPU_SECONDS, "this input takes too long"
    return result


def _check_refusal(error: CertorbitError, secrets: Secrets) -> None:
    assert error.message
    assert error.message.isprintable() or "\n" in error.message
    shown = "".join(traceback.format_exception_only(error)) + error.message + error.subject + error.hint
    cause: BaseException | None = error.__cause__
    while cause is not None:
        shown += "".join(traceback.format_exception_only(cause))
        cause = cause.__cause__
    assert not secrets.find_in(shown), f"a piece of a key is shown: {shown}"


def resident_bytes() -> int:
    """Return how much memory the process has at this moment."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def check_steady(call: Callable[[Any], object], inputs: Sequence[Any]) -> None:
    """Give the same inputs again and again: the process must not grow by it."""

    def once() -> None:
        for value in inputs:
            with contextlib.suppress(*ALLOWED):
                call(value)

    once()
    gc.collect()
    before = resident_bytes()
    for _ in range(ROUNDS):
        once()
    gc.collect()
    assert resident_bytes() - before < MOST_GROWTH_BYTES
