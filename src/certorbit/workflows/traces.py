"""An exception as log fields that can't hold key material."""

import traceback
from typing import Final

from certorbit.errors import CertorbitError

LONGEST_MESSAGE: Final = 300
# Python's own words about names and types. Other messages may quote any value, a private key included.
_SAFE: Final = (CertorbitError, AttributeError, NameError, ImportError, NotImplementedError)


def describe(error: BaseException) -> dict[str, object]:
    """Return the exception's type, its message where that is known to be harmless, its frames and its causes."""
    causes: list[str] = []
    seen: BaseException | None = error.__cause__ or error.__context__
    while seen is not None and len(causes) < 10:
        causes.append(type(seen).__qualname__)
        seen = seen.__cause__ or seen.__context__
    return {
        "error": type(error).__qualname__,
        "message": str(error)[:LONGEST_MESSAGE] if isinstance(error, _SAFE) else "",
        "frames": [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)],
        "causes": causes,
    }
