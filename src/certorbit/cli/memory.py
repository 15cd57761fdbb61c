"""Keeps the memory of this process, where private keys are while in use, out of files and from other programs."""

import ctypes
import resource
import sys
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def forbid_memory_dumps() -> None:
    """Let no crash write a core dump, and (Linux) no program of the same user read this process's memory.

    Children that are other programs start with their own defaults again, but for the limit. What can't be forbidden
    is logged and no reason not to start.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        log.warning("memory.dumps_allowed", limit="core", error=type(error).__name__)
    if sys.platform != "linux":
        return
    # A limit of 0 doesn't hold for a kernel that hands core dumps to a program; this does (prctl(2), core(5)).
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("memory.dumps_allowed", limit="dumpable", error=ctypes.get_errno())
