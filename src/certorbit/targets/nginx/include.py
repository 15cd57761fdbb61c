"""The text of an include file for nginx, which is also our record of what the listener holds.

Lines that begin with `#=` are the record, in pieces, for nginx takes no line longer than its buffer of 4,096 bytes,
comments included. The rest is what nginx reads:

- `map`, for the `http` block: from the name that the client asks for to a PEM file with certificate and key. Plain
  names are looked up in a hash; wildcards are regular expressions, because nginx's own would cover several labels, and
  so are names that don't fit into nginx's hash buckets (`map_hash_bucket_size`, 64 bytes by default).
- two directives for a `server` block, where the listener takes one certificate.
"""

import json
import re
from collections.abc import Callable
from typing import Final

from certorbit.target_settings.nginx import NginxListener
from certorbit.targets.holdings import Holdings, read_holdings, write_holdings

_RECORD: Final = "#= "
_PIECE: Final = 1000  # characters of the record in a line
_LONGEST_HASHED: Final = 40  # characters; a bucket of 64 bytes has room for 46
_SPECIAL: Final = frozenset({"default", "hostnames", "include", "volatile"})  # words of nginx's own in a map
FileOf = Callable[[str], str]


def render_include(table: NginxListener, holdings: Holdings, *, file_of: FileOf, nowhere: str) -> str:
    """Return the include file's text.

    file_of: the PEM file of an attached copy. nowhere: a path where no file is, for names without a certificate.
    """
    record = json.dumps(write_holdings(holdings), separators=(",", ":"))
    lines = [
        "# Written by Certorbit. What is changed here by hand is lost with the next change.",
        *(_RECORD + record[start : start + _PIECE] for start in range(0, len(record), _PIECE)),
    ]
    default = file_of(holdings.default) if holdings.default else table.fallback or nowhere
    if not table.sni:
        return "\n".join([*lines, f'ssl_certificate "{default}";', f'ssl_certificate_key "{default}";', ""])
    names = [line for path in holdings.attached for line in name_lines(holdings, path, file_of=file_of)]
    body = [default_line(default), *sorted(names, key=_order)]
    return "\n".join([*lines, f"map $ssl_server_name ${table.variable} {{", *body, "}", ""])


def default_line(file: str) -> str:
    return f'    default "{file}";'


def name_lines(holdings: Holdings, path: str, *, file_of: FileOf) -> list[str]:
    """Return the lines of the names that the copy serves; another one may serve some of the names it has."""
    mine = [name for name, owner in holdings.owner_of_names().items() if owner == path]
    return [f'    "{_pattern(name)}" "{file_of(path)}";' for name in mine]


def parse_include(text: str) -> Holdings:
    """Return what the record says.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    pieces = [line.removeprefix(_RECORD) for line in text.splitlines() if line.startswith(_RECORD)]
    return read_holdings("".join(pieces))


def nginx_part(text: str) -> str:
    """Return the text without comments: all that nginx acts on."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def _pattern(name: str) -> str:
    if name.startswith("*."):
        return rf"~*^[^.]+\.{re.escape(name[2:])}$"
    if len(name) > _LONGEST_HASHED:
        return f"~*^{re.escape(name)}$"
    return f"\\{name}" if name in _SPECIAL else name


def _order(line: str) -> tuple[int, str]:
    """nginx takes plain names first, then the first regular expression that matches: whole names before wildcards."""
    return (2 if line.startswith('    "~*^[^.]+') else 1 if line.startswith('    "~') else 0, line)
