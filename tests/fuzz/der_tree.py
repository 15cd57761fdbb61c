"""DER as a tree that can be damaged in one place while all lengths around it stay right, which bytes alone can't."""

from collections.abc import Iterator
from dataclasses import dataclass, field

_CONSTRUCTED = 0x20
_OCTET_STRING = 0x04
_DEEPEST = 60


@dataclass(eq=False)
class Node:
    """An element. wraps: an OCTET STRING whose content is DER again, as in extensions. raw: written instead of all.

    long_by: surplus bytes of its length field (not DER, but BER). lie: added to the length that it claims.
    """

    tag: int
    content: bytes = b""
    children: list["Node"] | None = None
    raw: bytes | None = None
    long_by: int = 0
    lie: int = 0
    parent: "Node | None" = field(default=None, repr=False)

    def encode(self) -> bytes:
        if self.raw is not None:
            return self.raw
        content = self.content if self.children is None else b"".join(child.encode() for child in self.children)
        return bytes([self.tag]) + _write_length(max(0, len(content) + self.lie), self.long_by) + content

    def walk(self) -> Iterator["Node"]:
        """Yield this one and all below it."""
        yield self
        for child in self.children or ():
            yield from child.walk()


def parse(der: bytes) -> Node:
    """Return the tree of well-formed DER."""
    nodes = _parse_all(der, depth=0)
    assert nodes is not None
    assert len(nodes) == 1
    return nodes[0]


def copy(node: Node) -> Node:
    """Return the same tree again, undamaged."""
    children = None if node.children is None else [copy(child) for child in node.children]
    made = Node(node.tag, node.content, children)
    for child in children or ():
        child.parent = made
    return made


def _parse_all(data: bytes, *, depth: int) -> list[Node] | None:
    """Return the elements that the bytes consist of; None: they are something else."""
    nodes, position = [], 0
    while position < len(data):
        found = _read_header(data, position)
        if found is None:
            return None
        tag, start, end = found
        position = end
        content = data[start:end]
        children = None
        if depth < _DEEPEST and (tag & _CONSTRUCTED or (tag == _OCTET_STRING and len(content) > 1)):
            children = _parse_all(content, depth=depth + 1)
        node = Node(tag, content, children)
        for child in children or ():
            child.parent = node
        nodes.append(node)
    return nodes


def _read_header(data: bytes, position: int) -> tuple[int, int, int] | None:
    """Return tag, start and end of the content of the element at the position."""
    if position + 2 > len(data) or data[position] & 0x1F == 0x1F:
        return None
    length, start = data[position + 1], position + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(data[start : start + size], "big"), start + size
        if not size:
            return None
    return (data[position], start, start + length) if start + length <= len(data) else None


def _write_length(length: int, long_by: int) -> bytes:
    if length < 0x80 and not long_by:
        return bytes([length])
    size = (length.bit_length() + 7) // 8 + long_by
    return bytes([0x80 | size]) + length.to_bytes(size, "big")
