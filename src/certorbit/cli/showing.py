"""What the operator's commands show: for people by default, the API's own JSON for programs."""

import json
from collections.abc import Callable, Sequence
from typing import Any


def show(document: Any, *, as_json: bool, for_people: Callable[[Any], str]) -> None:
    """Print the answer."""
    print(json.dumps(document, indent=2) if as_json else for_people(document))


def show_started(document: Any) -> str:
    operation = plain(document["operation"])
    return f"Started: operation {operation}. How it goes: certorbit operations show {operation}"


def show_message(document: Any) -> str:
    return plain(document["message"])


def show_revoked(document: Any, *, why: str) -> str:
    """Return what was revoked and what replaces it. why: nothing does."""
    operation = document["operation"]
    rest = f"operation {plain(operation)} replaces it." if operation else f"nothing replaces it. {plain(why)}"
    return f"Revoked: version {plain(document['version'])}; {rest}"


def show_renewal(document: Any) -> str:
    """Return how a renewal stands, a line for each thing that is known."""
    lines = [
        ("automatic renewal", _whether(document)),
        *([("because", document["explanation"])] * bool(document["explanation"])),
        *([("revoked", "YES: its CA has revoked the current version")] * document["revoked"]),
        ("issuer", document["issuer"] or "the first one"),
        ("ends", instant(document["not_after"])),
        ("due", _due(document)),
    ]
    if ari := document["ari"]:
        lines.append(("CA's window", f"{instant(ari['start'])} to {instant(ari['end'])}" if ari["start"] else "none"))
        lines += [("CA explains", ari["explanation_url"])] * bool(ari["explanation_url"])
        lines += [("CA's problem", ari["problem"])] * bool(ari["problem"])
    if operation := document["operation"]:
        lines.append(("operation", f"{operation['id']} ({operation['state']}, attempt {operation['attempt']})"))
        if problem := operation["problem"]:
            lines.append(("problem", problem["message"]))
            lines += [("", f"{one['identifier']}: {one['detail']}") for one in problem["subproblems"]]
        lines += [("next attempt", instant(operation["next_attempt_at"]))] * bool(operation["next_attempt_at"])
    return "\n".join(f"{name + ':' if name else '':<19}{plain(value)}" for name, value in lines)


def _whether(document: Any) -> str:
    if document["automatic"]:
        return "on"
    return "paused" if document["paused"] and document["obstacle"] == "paused" else f"NO ({document['obstacle']})"


def _due(document: Any) -> str:
    if document["renew_at"]:
        return f"{instant(document['renew_at'])} ({document['reason']})"
    return "not decided" if document["automatic"] else "never"


def show_versions(document: Any) -> str:
    rows = [
        (
            "*" if item["is_current"] else "",
            item["id"],
            instant(item["created_at"]),
            instant(item["not_after"]),
            item["issuer"] or item["source"],
            item["key_algorithm"],
            "REVOKED" if item["revoked"] else "",
            _names(item["san"]),
        )
        for item in document["items"]
    ]
    return table(("", "VERSION", "MADE", "ENDS", "ISSUER", "KEY", "STATUS", "NAMES"), rows)


def show_forecast(document: Any) -> str:
    """Return the renewals to come, the sums by issuer and day, and what is held back."""
    rows = [
        (instant(item["expected_at"]), item["config"], item["entry"], item["issuer"], item["reason"], _names(names))
        for item in document["items"]
        for names in (item["identifiers"],)
    ]
    parts = [table(("WHEN", "CONFIG", "ID", "ISSUER", "WHY", "NAMES"), rows) if rows else "Nothing is due by then."]
    for issuer in document["issuers"]:
        days = ", ".join(f"{day['date']}: {day['count']}" for day in issuer["days"])
        parts.append(plain(f"{issuer['issuer']}: {issuer['total']} in all. {days}"))
    if held_back := document["held_back"]:
        lines = [
            f"  {item['config']}/{item['entry']} until {instant(item['expected_at'])}: {item['message']}"
            for item in held_back
        ]
        parts.append("\n".join(["Held back by limits:", *map(plain, lines)]))
    if unrenewed := document["unrenewed"]:
        lines = [
            f"  {item['config']}/{item['entry']} ends {instant(item['not_after'])}: {item['explanation']}"
            for item in unrenewed
        ]
        parts.append("\n".join(["Nothing renews by itself:", *map(plain, lines)]))
    if not document["is_complete"]:
        parts.append("There is more than is shown here.")
    return "\n\n".join(parts)


def plain(value: object) -> str:
    """Return the text without what a terminal would obey: parts of it come from CAs."""
    return "".join(character if character.isprintable() else "?" for character in str(value))


def instant(text: str | None) -> str:
    """Return an instant of the API to the minute."""
    return f"{text[:10]} {text[11:16]}Z" if text else "-"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return the rows below their heads, each column as wide as its widest cell."""
    cells = [[plain(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
