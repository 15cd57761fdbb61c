"""nginx's configuration as `nginx -T` shows it, read into directives, with what is included in its place.

Strict: what isn't understood is a ValueError, because who asks wants to know that something is missing nowhere.
Grammar: nginx, src/core/ngx_conf_file.c.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from posixpath import dirname
from typing import Final

from certorbit.targets.commands import Outcome

_HEADING: Final = re.compile(r"^# configuration file (/.*):\n", re.MULTILINE)
_TOKEN: Final = re.compile(
    r"""\s+ | \#[^\n]*
    | (?P<mark>[;{}])
    | "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>(?:[^'\\]|\\.)*)'
    | (?P<word>(?![\#"'])(?:\$\{|\\.|[^\s;{\\])+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"""\\(["'\\ ])""")
_LUA: Final = "_by_lua_block"  # the end of directives whose block is a program; OpenResty's
_DEEPEST: Final = 50  # files that include each other


@dataclass(frozen=True, slots=True)
class Directive:
    """words: its name and what follows. block: None where it ends with a semicolon. file, line: where it stands."""

    words: tuple[str, ...]
    block: "tuple[Directive, ...] | None"
    file: str
    line: int

    @property
    def name(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def read_dump(outcome: Outcome) -> tuple[Directive, ...]:
    """Return the main file's directives. outcome: of `nginx -T`.

    Where a file is included stand `include <its path>` and then its directives, once for each file of a pattern.

    Raises:
        ValueError: it isn't a whole dump, or has what this doesn't understand.
    """
    if outcome.is_cut:
        raise ValueError("it is too long")
    _, *parts = _HEADING.split(outcome.output)
    names, texts = parts[::2], parts[1::2]
    if not names:
        raise ValueError("nothing is shown")
    if len(set(names)) < len(names):
        raise ValueError("a file is shown twice")
    files = {name: _read_file(name, text) for name, text in zip(names, texts, strict=True)}
    return tuple(_expand(files[names[0]], files, home=dirname(names[0]), depth=0))


def _read_file(file: str, text: str) -> tuple[Directive, ...]:
    """Return the directives of one file, nothing expanded."""
    opened: list[tuple[tuple[str, ...], int, list[Directive]]] = []
    block: list[Directive] = []
    words: list[str] = []
    position, line = 0, 1
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ValueError(f"{file}:{line} can't be understood")
        end, mark = token.end(), token["mark"]
        if mark == "{" and words and words[0].endswith(_LUA):
            end, mark = _find_end(text, end, where=f"{file}:{line}"), ";"
        if mark == "{":
            opened.append((tuple(words), line, block))
            block, words = [], []
        elif mark == "}":
            if not opened or words:
                raise ValueError(f"{file}:{line} has a }} too many, or a semicolon too few")
            head, began, outer = opened.pop()
            outer.append(Directive(head, tuple(block), file, began))
            block = outer
        elif mark == ";":
            block.append(Directive(tuple(words), None, file, line))
            words = []
        elif token.lastgroup is not None:
            words.append(_ESCAPED.sub(r"\1", token[token.lastgroup]))
        line += text.count("\n", position, end)
        position = end
    if opened or words:
        raise ValueError(f"{file} ends too early")
    return tuple(block)


def _find_end(text: str, start: int, *, where: str) -> int:
    """Return where a program's block ends. A brace in its texts is counted; then the file's don't match any more."""
    depth = 1
    for brace in re.finditer("[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start + brace.end()
    raise ValueError(f"{where} begins a block that doesn't end")


def _expand(
    directives: Sequence[Directive], files: Mapping[str, tuple[Directive, ...]], *, home: str, depth: int
) -> Iterator[Directive]:
    if depth > _DEEPEST:
        raise ValueError("files include each other without end")
    for directive in directives:
        if directive.block is not None:
            yield replace(directive, block=tuple(_expand(directive.block, files, home=home, depth=depth)))
        elif directive.name == "include":
            for file in _find_files(directive, files, home=home):
                yield replace(directive, words=("include", file))
                yield from _expand(files[file], files, home=home, depth=depth + 1)
        else:
            yield directive


def _find_files(include: Directive, files: Mapping[str, object], *, home: str) -> list[str]:
    pattern = " ".join(include.words[1:])
    if not pattern.startswith("/"):
        pattern = f"{home}/{pattern}"
    if not any(character in pattern for character in "*?["):
        if pattern not in files:
            raise ValueError(f"{include.place} includes {pattern}, which is not shown")
        return [pattern]
    return sorted(file for file in files if _matches(file, pattern))


def _matches(file: str, pattern: str) -> bool:
    """Return whether glob(7) finds the file: no wildcard stands for a slash or a leading dot."""
    pairs = list(zip(file.split("/"), pattern.split("/"), strict=False))
    return file.count("/") == pattern.count("/") and all(
        fnmatchcase(name, part) and (part.startswith(".") or not name.startswith(".")) for name, part in pairs
    )
