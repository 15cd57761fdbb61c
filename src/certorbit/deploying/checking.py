"""The check of a target, bounded, for the API and for `certorbit targets check --local`."""

import asyncio
from collections.abc import Sequence
from typing import Final

from certorbit.errors import Outside
from certorbit.ports.target import Finding, Grade, Target

CHECK_SECONDS: Final = 120.0


async def check_target(target: Target) -> Sequence[Finding]:
    """Return what the target's check found; what it could not find out is a finding too."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await target.check()
    except Outside as error:
        return (Finding(what="reach", grade=Grade.FAILED, message=error.message),)
    except TimeoutError:
        message = f"The check did not end within {CHECK_SECONDS:.0f} seconds."
        return (Finding(what="reach", grade=Grade.FAILED, message=message),)


def is_usable(findings: Sequence[Finding]) -> bool:
    """Return whether nothing failed; warnings are no failures."""
    return all(finding.grade is not Grade.FAILED for finding in findings)
