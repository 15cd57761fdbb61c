"""The texts of include files for nginx; the main one is also our record of what the listener holds.

Lines that begin with `#=` are the record, in pieces, for nginx takes no line longer than its buffer of 4,096 bytes,
comments included. The rest is what nginx reads:

- `map`, for the `http` block: from the name that the client asks for to a PEM file with certificate and key. Plain
  names are looked up in a hash; wildcards are regular expressions, because nginx's own would cover several labels, and
  so are names that don't fit into nginx's hash buckets (`map_hash_bucket_size`, 64 bytes by default).
- directives for a `server` block, where the listener takes one certificate.
"""

import json
import re
from collections.abc import Callable
from typing import Final

from certorbit.target_settings.nginx import NginxListener
from certorbit.targets.holdings import ClientCheck, Holdings, read_holdings, write_holdings
from certorbit.targets.nginx.clients import client_lines, guess_check

_RECORD: Final = "#= "
_PIECE: Final = 1000  # characters of the record in a line
_LONGEST_HASHED: Final = 40  # characters; a bucket of 64 bytes has room for 46
_SPECIAL: Final = frozenset({"default", "hostnames", "include", "volatile"})  # words of nginx's own in a map
_HEAD: Final = "# Written by Certorbit. What is changed here by hand is lost with the next change."
FileOf = Callable[[str], str]


def render_include(table: NginxListener, holdings: Holdings, *, file_of: FileOf, nowhere: str, clients: str) -> str:
    """Return the include file's text.

    file_of: the PEM file of an attached copy. nowhere: a path where no file is, for names without a certificate.
    clients: the file that says what clients are checked by.
    """
    record = json.dumps(write_holdings(holdings), separators=(",", ":"))
    lines = [
        _HEAD,
        *(_RECORD + record[start : start + _PIECE] for start in range(0, len(record), _PIECE)),
    ]
    default = file_of(holdings.default) if holdings.default else table.fallback or nowhere
    if not table.sni:
        served = [f'ssl_certificate "{default}";', f'ssl_certificate_key "{default}";']
        checked = [f'include "{clients}";'] if holdings.clients is not None else []
        return "\n".join([*lines, *served, *checked, ""])
    names = [line for path in holdings.attached for line in name_lines(holdings, path, file_of=file_of)]
    body = [default_line(default), *sorted(names, key=_order)]
    return "\n".join([*lines, f"map $ssl_server_name ${table.variable} {{", *body, "}", ""])


def render_clients(check: ClientCheck | None, *, home: str) -> str:
    """Return the text for `server` blocks that says what clients are checked by. home: the listener's folder."""
    return "\n".join([_HEAD, *(client_lines(check, home=home) or ["# No client certificates are asked for."]), ""])


def parse_clients(text: str, *, home: str) -> ClientCheck | None:
    """Return what `render_clients` wrote.

    Raises:
        ValueError: it didn't write this.
    """
    check = guess_check(text)
    if text != render_clients(check, home=home):
        raise ValueError("what its clients are checked by is not what Certorbit writes")
    return check


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
