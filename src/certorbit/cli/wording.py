"""The service's messages in the words of the command line: where they name a request, the command is named instead.

The messages themselves stay as they are: programs read them, and they are the same for every client of the API.
"""

import re
from typing import Final
from urllib.parse import unquote

_CONFIG: Final = re.compile(r"/conf(?:igs)?/([^/?]+)")
# What the service says (a test finds each of them in it), and what a person at a terminal can do; CONFIG is replaced.
PHRASES: Final = (
    ("GET load-balancers", "`certorbit load-balancers list CONFIG`"),
    ("(DELETE …/load-balancers/{name}/certificates)", "(`certorbit detach`)"),
    ("(default=true)", "(`certorbit attach … --default`)"),
    ("(POST …/renew)", "(`certorbit renew`)"),
    ("GET /api/certorbit/v1/operations", "`certorbit operations list`"),
)
_LISTENER: Final = re.compile(r"\blistener=([^&,;]+)&listener-port=(\d+)")


def in_commands(message: str, *, address: str) -> str:
    """Return the message with commands in place of requests. address: what was asked; it names the configuration."""
    found = _CONFIG.search(address)
    config = unquote(found[1]) if found else "CONFIG"
    for said, meant in PHRASES:
        message = message.replace(said, meant.replace("CONFIG", config))
    return _LISTENER.sub(r"--listener \1 --port \2", message)
