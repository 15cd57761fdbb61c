"""What the commands for operations show to people."""

from collections.abc import Mapping, Sequence
from typing import Any

from certorbit.cli.showing import instant, plain, table

_LONGEST_PROBLEM = 100  # characters, in a list


def show_operations(document: Any) -> str:
    """Return a row for each operation, with the beginning of what stands in its way."""
    rows = [
        (
            item["id"],
            instant(item["created_at"]),
            item["kind"],
            item["config"],
            item["entry"],
            item["issuer"] or "-",
            item["state"],
            item["attempt"],
            instant(item["next_attempt_at"]),
            _shorten(item["problem"]["message"]) if item["problem"] else "-",
        )
        for item in document["items"]
    ]
    if not rows:
        return "There are no operations."
    heads = (
        *("ID", "STARTED", "KIND", "CONFIG", "CERTIFICATE", "ISSUER", "STATE", "ATTEMPT", "NEXT ATTEMPT", "PROBLEM"),
    )
    text = table(heads, rows)
    more = document["total"] - len(rows)
    return f"{text}\n{more} older ones are not shown." if more > 0 else text


def show_operation(document: Any) -> str:
    """Return all that is known of one operation: its state, its problem in the CA's words, its steps."""
    lines = [
        ("operation", document["id"]),
        ("kind", document["kind"]),
        ("certificate", f"{document['config']}/{document['entry']}"),
        ("names", ", ".join(document["identifiers"]) or "-"),
        ("issuer", document["issuer"] or "-"),
        ("state", f"{document['state']}, attempt {document['attempt']}"),
        ("started", instant(document["created_at"])),
        ("ended" if document["finished_at"] else "changed", instant(document["finished_at"] or document["updated_at"])),
    ]
    lines += [("next attempt", instant(document["next_attempt_at"]))] * bool(document["next_attempt_at"])
    if problem := document["problem"]:
        lines += _problem(problem)
    text = "\n".join(f"{name + ':' if name else '':<14}{plain(value)}" for name, value in lines)
    steps = document.get("steps") or []
    return f"{text}\n\n{_steps(steps)}" if steps else text


def _problem(problem: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [("problem", problem["message"])]
    if problem["detail"] and problem["detail"] not in problem["message"]:
        lines.append(("CA's words", problem["detail"]))
    return lines + [("", f"{one['identifier']}: {one['detail']}") for one in problem["subproblems"]]


def _steps(steps: Sequence[Mapping[str, Any]]) -> str:
    rows = [(one["attempt"], one["name"], _second(one["started_at"]), _outcome(one["outcome"] or {})) for one in steps]
    return table(("ATTEMPT", "STEP", "BEGAN", "OUTCOME"), rows)


def _outcome(outcome: Mapping[str, Any]) -> str:
    """Return what a step led to: the word for it first, then what else it says in a word."""
    problem = outcome.get("problem")
    said = [str(outcome.get("outcome", "-"))]
    if isinstance(problem, dict):
        said.append(str(problem["message"]))
    return ", ".join(said + [f"{name} {value}" for name, value in outcome.items() if _is_word(name, value)])


def _is_word(name: str, value: object) -> bool:
    return name != "outcome" and isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _second(text: str | None) -> str:
    return f"{text[:10]} {text[11:19]}Z" if text else "-"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_PROBLEM else f"{text[: _LONGEST_PROBLEM - 1]}…"
