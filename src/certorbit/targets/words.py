"""Somebody else's words, made fit for a message of ours."""

import re
from typing import Final

_MOST_SHOWN: Final = 400  # characters
_LONG_BASE64: Final = re.compile(r"[A-Za-z0-9+/=]{40,}")  # could be a piece of a key


def show_words(text: str) -> str:
    """Return somebody else's words fit for a message: printable, short, without what could be part of a key."""
    if "PRIVATE KEY" in text:
        return "(not shown: it holds a private key)"
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * _MOST_SHOWN])
    return _LONG_BASE64.sub("…", " ".join(printable.split()))[:_MOST_SHOWN]
