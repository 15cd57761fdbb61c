"""Damages valid things: DER element by element, bytes, PEM, text, JSON documents.

Each strategy draws one string of bytes, the tape, and every decision is read from it: hypothesis makes one choice
instead of fifty, and still shrinks what it finds, for a tape that has run out reads as zeros.
"""

import base64
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from fuzz.der_tree import Node, copy, parse

T = TypeVar("T")
_tapes = st.binary(min_size=12, max_size=80)
_TAGS = [1, 2, 3, 4, 5, 6, 9, 0x0A, 0x0C, 0x12, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1A, 0x1B, 0x1C, 0x1E, 0x30, 0x31]
_TAGS += [*range(0x80, 0x8A), *range(0xA0, 0xAA), 0x00, 0x1F, 0x3F, 0xBF, 0xFF]
CONTENTS = [
    b"",
    b"\x00",
    b"\x01",
    b"\x80",
    b"\xff",
    b"\xff" * 21,
    b"\x7f" + b"\xff" * 40,
    b"\x00" * 300,
    b"a\x00b.example",
    b"*.",
    b".",
    b"..example",
    b"a" * 64 + b".example",
    b"xn--",
    b"xn--zzzzzz.example",
    "bücher.example".encode(),
    "\u202egro.elpmaxe".encode(),
    "\u05d0\u0661.example".encode(),
    b"\xed\xa0\x80",  # a surrogate, in UTF-8
    b"\xf8\x88\x80\x80\x80",
    b"\xd8\x00\xdc\x00",  # in UTF-16
    b"http://[::1",
    b"http://user:secret@169.254.169.254/\r\nX: y",
    b"\x7f\x00\x00\x01",
    b"\x7f\x00\x00\x01\xff\xff\xff\xff",
    b"\x00" * 10 + b"\xff\xff\x7f\x00\x00\x01",
    b"\x0a\x00\x00",
    b"991231235959Z",
    b"00000000000000Z",
    b"20500230000000Z",
    b"20261124120000+0100",
    b"20261124120000.5Z",
    b"\x2a" + b"\x86" * 60 + b"\x01",  # an OID with an arc of 420 bits
    b"\x80\x01",
    b"\x55\x1d\x11",
    b"\x55\x04\x03",
]
ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    float("inf"),
    2**63,
    -(2**64),
    10**400,
    "",
    " ",
    "\0",
    "\u202e",
    "\ud800",
    "x" * 70_000,
    "../../etc/passwd",
    "' OR 1=1 --",
    "{{7*7}}",
    "http://169.254.169.254/",
    "co_" + "A" * 43,
    "2026-11-24T12:00:00Z",
    "9999-12-31T23:59:59+14:00",
    "0000-00-00",
    [],
    [[]],
    [None],
    {},
    {"": {}},
    {"id": {"$ref": "#"}},
    ["x"] * 2_000,
]
ODD_TEXTS = [value for value in ODD_VALUES if isinstance(value, str) and len(value) < 1000]


class Tape:
    """Decisions, read from bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        taken = self._content[self._position : self._position + size]
        self._position += size
        return taken.ljust(size, b"\0")

    def number(self, below: int) -> int:
        return int.from_bytes(self.take(1 if below <= 0x100 else 3), "big") % below

    def pick(self, items: Sequence[T]) -> T:
        return items[self.number(len(items))]

    def is_one_in(self, number: int) -> bool:
        return self.number(number) == number - 1


def damaged_der(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Give one of the samples with one to three of its elements changed; seldom with single bytes changed."""
    trees = [parse(sample) for sample in samples]

    def damage(content: bytes) -> bytes:
        tape = Tape(content)
        root = copy(tape.pick(trees))
        for _ in range(1 + tape.number(3)):
            tape.pick(_CHANGES)(tape, tape.pick(list(root.walk())), trees)
        der = root.encode()
        return damage_bytes(tape, der) if tape.is_one_in(10) else der

    return _tapes.map(damage)


def damaged_bytes(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Give one of the samples with some bytes changed, cut out, put in or doubled."""

    def damage(content: bytes) -> bytes:
        tape = Tape(content)
        return damage_bytes(tape, tape.pick(samples))

    return _tapes.map(damage)


def damaged_text(samples: Sequence[str], fragments: Sequence[str] = ()) -> st.SearchStrategy[str]:
    """Give one of the samples with some characters changed, cut out, put in or doubled."""

    def damage(content: bytes) -> str:
        tape = Tape(content)
        return damage_text(tape, tape.pick(samples), fragments)

    return _tapes.map(damage)


def damaged_json(samples: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Give one of the documents with one to three values changed, left out, renamed or wrapped."""

    def damage(content: bytes) -> Any:
        tape = Tape(content)
        document = tape.pick(samples)
        for _ in range(1 + tape.number(3)):
            document = damage_value(tape, document)
        return document

    return _tapes.map(damage)


def damage_bytes(tape: Tape, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(1 + tape.number(4)):
        start, length = tape.number(len(changed) + 1), tape.pick([0, 1, 1, 1, 2, 7, 40])
        put_in = [tape.take(1), tape.take(1), tape.take(3), tape.pick(CONTENTS), bytes(changed[start : start + 40])]
        changed[start : start + length] = tape.pick(put_in)
    return bytes(changed)


def damage_text(tape: Tape, text: str, fragments: Sequence[str] = ()) -> str:
    for _ in range(1 + tape.number(4)):
        start, length = tape.number(len(text) + 1), tape.pick([0, 1, 1, 2, 7, 40, 400])
        odd = [chr(tape.number(0x80)), chr(tape.number(0x110000)), text[start : start + 80], *ODD_TEXTS, *fragments]
        text = text[:start] + tape.pick(odd) + text[start + length :]
    return text


def damage_value(tape: Tape, value: Any) -> Any:
    if isinstance(value, dict) and value and not tape.is_one_in(8):
        name = tape.pick(sorted(value))
        rest = {key: inner for key, inner in value.items() if key != name}
        match tape.number(6):
            case 0:
                return rest
            case 1:
                return {**rest, tape.pick(ODD_TEXTS): value[name]}
            case _:
                return {**value, name: damage_value(tape, value[name])}
    if isinstance(value, list) and value and not tape.is_one_in(4):
        place = tape.number(len(value))
        return [*value[:place], damage_value(tape, value[place]), *value[place + 1 :]]
    if isinstance(value, str) and value and tape.is_one_in(2):
        return damage_text(tape, value)
    return tape.pick([*ODD_VALUES, [value] * 3, {"x": value}, int.from_bytes(tape.take(8), "big", signed=True)])


def pem_of(label: str) -> Callable[[bytes], str]:
    """Return what writes DER as well-formed PEM."""

    def write(der: bytes) -> str:
        body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
        return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"

    return write


def read_pem(text: str) -> bytes:
    """Return the DER of the first block."""
    lines = text.splitlines()
    return base64.b64decode("".join(lines[1 : next(n for n, line in enumerate(lines) if "-END " in line)]))


def _change_tag(tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    node.tag = tape.pick(_TAGS)


def _change_content(tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    node.children = None
    node.content = tape.pick(CONTENTS) if tape.is_one_in(2) else damage_bytes(tape, node.content)


def _change_size(tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    node.children = None
    node.content = node.content * tape.pick([2, 3, 40]) + b"\x01" * tape.number(3)


def _drop(_tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    node.raw = b""


def _double(tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    node.raw = node.encode() * tape.pick([2, 3, 50])


def _lie(tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    node.lie = tape.pick([-300, -1, 1, 2, 127, 2**16, 2**31, 2**63 - 300])


def _write_long(tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    node.long_by = tape.pick([1, 3, 8, 100])


def _leave_open(_tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    encoded = node.encode()
    node.raw = encoded[:1] + b"\x80" + encoded[2:] + b"\x00\x00"


def _nest(tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    tag, raw = tape.pick([0x30, 0x31, 0xA0, 0xA4, 0x24]), node.encode()
    for _ in range(tape.pick([1, 2, 200])):
        raw = Node(tag, raw).encode()
    node.raw = raw


def _graft(tape: Tape, node: Node, trees: Sequence[Node]) -> None:
    node.raw = tape.pick(list(tape.pick(trees).walk())).encode()


def _swap(tape: Tape, node: Node, _trees: Sequence[Node]) -> None:
    siblings = node.parent.children if node.parent is not None else None
    if siblings:
        place, other = siblings.index(node), tape.number(len(siblings))
        siblings[place], siblings[other] = siblings[other], siblings[place]


_CHANGES = [
    _change_tag,
    _change_content,
    _change_content,
    _change_content,
    _change_size,
    _drop,
    _double,
    _lie,
    _write_long,
    _leave_open,
    _nest,
    _graft,
    _swap,
]
