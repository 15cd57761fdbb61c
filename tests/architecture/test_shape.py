"""Small rooms: sizes, one table per kind, words that must not come in."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "certorbit"
FILES = sorted(SOURCE.rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
BROAD_EXCEPT_ALLOWED = {
    "workflows/engine.py",  # a bug in a workflow must become a recorded failure
    "workflows/periodic.py",  # a bug at one turn must not end the renewals for good
    "storage/group_commit.py",  # what a function raised in the writer's thread is handed to its caller
    "targets/envoy/target.py",  # a bug at one turn must not end the pushes to proxies for good
    "api/errors.py",  # a bug in a request must become a 500 with a reference
}
BAD_STEMS = {"utils", "helpers", "common", "misc", "base", "manager"}


def test_there_is_source_to_look_at() -> None:
    assert len(FILES) > 50


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_module_fits_in_the_head(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    assert file.stem not in BAD_STEMS
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what is here"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_broad_excepts_stand_only_where_bugs_are_recorded(file: Path) -> None:
    if str(file.relative_to(SOURCE)) in BROAD_EXCEPT_ALLOWED:
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ExceptHandler):
            names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"Exception"}
            swallows = not any(isinstance(n, ast.Raise) for n in ast.walk(node))
            assert not (names & {"Exception", "BaseException"} and swallows), f"line {node.lineno}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_log_events_are_constants(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        ):
            assert node.args, f"line {node.lineno}: no event"
            assert isinstance(node.args[0], ast.Constant), f"line {node.lineno}: the event is not a constant"
            assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", str(node.args[0].value)), f"line {node.lineno}"


# Whoever seals, exports or uses a private key opens it; nobody else has a reason to.
MAY_REVEAL = re.compile(
    r"(keys|pki|acme|internal_ca|targets)/.*|net/server_tls\.py|deploying/shelf\.py|model/material\.py|services/(export|first_version)\.py"
    r"|workflows/attempt\.py|api/certificate_answers\.py"
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_keys_are_revealed_only_where_they_are_sealed_exported_or_used(file: Path) -> None:
    assert ".reveal()" not in file.read_text() or MAY_REVEAL.fullmatch(str(file.relative_to(SOURCE)))


def test_the_error_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    from certorbit import errors

    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", (errors.__doc__ or "").split("A subclass")[0]))
    defined = {name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, Exception)}
    assert defined <= drawn, defined - drawn
