"""The threat model names tests and files that exist, and no threat stands there without its test."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
THREATS = re.findall(r"^\| threat \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, flags=re.MULTILINE)
ROWS = [row for table in THREATS for row in table.splitlines()]


@cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_are_threats_of_every_kind_of_actor() -> None:
    assert len(THREATS) >= 7
    assert len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_threat_says_what_stops_it_and_which_test_shows_it(row: str) -> None:
    _, threat, stop, shown, _ = row.split("|")
    assert threat.strip()
    assert stop.strip()
    assert re.fullmatch(r"`tests/[\w/]+\.py::\w+`(, `tests/[\w/]+\.py::\w+`)*", shown.strip())


@pytest.mark.parametrize(("file", "name"), TESTS, ids=lambda part: part)
def test_every_named_test_exists(file: str, name: str) -> None:
    assert name.startswith("test_")
    assert (ROOT / file).is_file(), f"there is no {file}"
    assert name in functions_of(file)


def test_every_named_file_exists() -> None:
    named = set(re.findall(r"`((?:src|tests)/[\w./]+)`", TEXT))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
