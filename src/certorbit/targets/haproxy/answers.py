"""Answers of HAProxy's runtime API: plain text without a status. What isn't known word for word is a refusal.

The words are those of HAProxy 2.4 to 3.2 (`src/ssl_ckch.c`, `src/ssl_crtlist.c`). Pure; `runtime.py` asks.
"""

import re
from dataclasses import dataclass

from certorbit.errors import CredentialsRefused, TargetRefused

_TRANSACTION = re.compile(r"^transaction (?:created|updated) for certificate (.+)!$", re.IGNORECASE | re.MULTILINE)
_OPTIONS = re.compile(r"\[([^\]]*)\]")
_ENTRY = re.compile(r"(?P<path>\S+?):(?P<line>\d+)(?: (?P<rest>.*))?")


@dataclass(frozen=True, slots=True)
class Inventory:
    """All certificates that HAProxy has in memory. transaction: the path of the open one, "" if there is none."""

    names: frozenset[str]
    transaction: str


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One entry of a crt-list in memory. line: what `del ssl crt-list` calls it by, not a line of the file.

    options: what stands in brackets behind it, without them.
    """

    path: str
    line: int
    options: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A certificate in memory. sha1: lower-case hex of its leaf, "" while the store is empty."""

    path: str
    is_used: bool
    sha1: str


def check_permission(answer: str, *, command: str, target: str) -> None:
    """Raise CredentialsRefused if the answer says that the socket has a lower level than the command needs.

    HAProxy up to 2.6 answers `show ssl cert` on a socket of level user with "Can't allocate memory!".
    """
    first = answer.strip().split("\n", 1)[0]
    if first == "Permission denied" or (command.startswith("show ssl ") and first == "Can't allocate memory!"):
        raise CredentialsRefused(
            f"Target {target}: HAProxy refuses `{command}`: the socket needs `level admin` in haproxy.cfg"
            " (`stats socket … level admin`).",
            subject=target,
        )
    if first.startswith("Unknown command"):
        raise TargetRefused(
            f"Target {target}: HAProxy doesn't know `{command}`; version 2.4 or newer is needed, and its own socket,"
            " not the master's.",
            subject=target,
        )


def read_inventory(answer: str) -> Inventory | None:
    """Return the certificates of `show ssl cert`, or None if the answer is something else."""
    names: set[str] = set()
    transaction, section = "", ""
    for line in answer.splitlines():
        if line.startswith("# "):
            section = line[2:]
        elif not line:
            continue
        elif section == "transaction" and line.startswith("*"):
            transaction = line[1:]
        elif section == "filename":
            names.add(line)
        else:
            return None
    return Inventory(frozenset(names), transaction)


def read_loaded(answer: str) -> dict[str, Loaded]:
    """Return the certificates of one or more answers of `show ssl cert <path>`, by path; unknown ones are left out."""
    found: dict[str, Loaded] = {}
    fields: dict[str, str] = {}
    for line in [*answer.splitlines(), "Filename: "]:
        name, separator, value = line.partition(": ")
        if not separator:
            continue
        if name == "Filename":
            if path := fields.get("Filename", ""):
                found[path] = Loaded(
                    path, fields.get("Status") == "Used", fields.get("SHA1 FingerPrint", "").strip().lower()
                )
            fields = {}
        fields.setdefault(name, value)
    return found


def read_entries(answer: str, *, crt_list: str) -> list[ListEntry] | None:
    """Return the entries of `show ssl crt-list -n <path>` in order, or None if the answer is something else."""
    lines = [line for line in answer.split("\n") if line]
    if not lines or lines[0] != f"# {crt_list}":
        return None
    entries = []
    for line in lines[1:]:
        match = _ENTRY.fullmatch(line)
        if match is None:
            return None
        options = _OPTIONS.match(match["rest"] or "")
        entries.append(ListEntry(match["path"], int(match["line"]), options[1] if options else ""))
    return entries


def read_transaction(answer: str) -> str:
    """Return the path of the certificate whose transaction `set ssl cert` has changed, "" if none."""
    match = _TRANSACTION.search(answer)
    return match[1] if match else ""


def is_success(answer: str) -> bool:
    """Return whether `commit ssl cert` or `add ssl crt-list` was carried out; warnings may stand before."""
    return [line for line in answer.splitlines() if line][-1:] == ["Success!"]
