"""What the commands for targets, load balancers and deployments show to people."""

from collections.abc import Mapping, Sequence
from typing import Any

from certorbit.cli.showing import instant, plain, table

_MARKS = {"ok": "ok", "warning": "warning", "failed": "FAILED"}
_MOST_HANDSHAKES = 5  # of one proof


def show_targets(document: Any) -> str:
    """Return a row for each target, with what the last look at it found."""
    rows = [
        (
            item["name"],
            item["type"],
            item["provider"],
            _names(item["configurations"], "all"),
            "-" if item["listeners"] is None else item["listeners"],
            "never" if item["unseen_since"] and not item["seen_at"] else instant(item["seen_at"]),
            item["problem"]["message"] if item["problem"] else "-",
        )
        for item in document["items"]
    ]
    if not rows:
        return (
            "The service has no targets: there was no [[targets]] table in its settings when it read them, at its"
            " start. If there is one now, restart it."
        )
    return table(("NAME", "TYPE", "PROVIDER", "CONFIGURATIONS", "LISTENERS", "SEEN", "PROBLEM"), rows)


def show_unseen_targets(document: Any, *, config: str) -> str:
    """Return a line for each target that takes the configuration's certificates and was not seen; "" without any."""
    lines = [
        f"{item['name']}: not seen since {instant(item['unseen_since'])}: {item['problem']['message']}"
        for item in document["items"]
        if item["unseen_since"] and (not item["configurations"] or config in item["configurations"])
    ]
    return "".join(f"\n{plain(line)}" for line in lines)


def show_checks(document: Any) -> str:
    """Return a block for each target: its name, then a line for each finding, the mark first."""
    blocks = []
    for item in document["items"]:
        rows = [(f"  {_MARKS[found['grade']]}", found["what"], found["message"]) for found in item["findings"]]
        blocks.append("\n".join([plain(item["target"]), *_indent(rows)]))
    return "\n".join(blocks)


def show_load_balancers(document: Any) -> str:
    """Return a row for each listener. Certificates are named by the last part of their links, the default marked *."""
    if not document["items"]:
        return "No load balancers are known. `certorbit targets list` shows the targets, `targets check` what is wrong."
    heads = ("LOAD BALANCER", "PROVIDER", "REGION", "KIND", "LISTENER", "PORT", "ROOM", "CERTIFICATES (* DEFAULT)")
    rows = [
        (
            item["name"],
            item["provider"],
            item["region"] or "-",
            item["load_balancer_type"],
            item["listener_name"],
            item["listener_port"],
            item["max_certificates"],
            _names([_mark_default(link, item["default_certificate"]) for link in item["certificates"]], "-"),
        )
        for item in document["items"]
    ]
    return table(heads, rows)


def show_attachments(document: Any) -> str:
    """Return a row for each listener that has the certificate, or shall have it, with what stands in the way."""
    attachments = document["attachments"]
    if not attachments:
        return "The certificate is attached nowhere."
    rows = [
        (
            _place(item["listener"]),
            _wish(is_wanted=item["wanted"] == "attached", is_default=item["is_default"]),
            item["stage"],
            item["version"] or "-",
            _proof(item["proof"]),
        )
        for item in attachments
    ]
    text = table(("LISTENER", "WANTED", "STAGE", "VERSION", "PROOF"), rows)
    return "\n".join([text, *_explain(attachments)])


def show_deployments(document: Any) -> str:
    rows = [
        (
            item["id"],
            instant(item["created_at"]),
            item["config"],
            item["entry"],
            item["state"],
            item["attempt"],
            _tally(item["listeners"]),
            instant(item["next_attempt_at"]),
        )
        for item in document["items"]
    ]
    if not rows:
        return "There are no deployments."
    text = table(("ID", "STARTED", "CONFIG", "CERTIFICATE", "STATE", "ATTEMPT", "LISTENERS", "NEXT ATTEMPT"), rows)
    more = document["total"] - len(rows)
    return f"{text}\n{more} older ones are not shown." if more > 0 else text


def show_deployment(document: Any) -> str:
    """Return all that is known of one deployment: its state, then its listeners, then their problems."""
    lines = [
        ("deployment", document["id"]),
        ("certificate", f"{document['config']}/{document['entry']}"),
        ("state", f"{document['state']}, attempt {document['attempt']}"),
        ("started", instant(document["created_at"])),
        ("ended" if document["finished_at"] else "changed", instant(document["finished_at"] or document["updated_at"])),
    ]
    lines += [("next attempt", instant(document["next_attempt_at"]))] * bool(document["next_attempt_at"])
    if problem := document["problem"]:
        lines.append(("problem", problem["message"]))
    text = "\n".join(f"{name + ':':<14}{plain(value)}" for name, value in lines)
    listeners = document["listeners"]
    if not listeners:
        return text
    rows = [
        (
            _place(item["listener"]),
            _wish(is_wanted=item["to_version"] is not None, is_default=item["is_default"]),
            item["stage"],
            item["from_version"] or "-",
            item["to_version"] or "-",
            _proof(item["proof"]),
        )
        for item in listeners
    ]
    heads = ("LISTENER", "WANTED", "STAGE", "FROM VERSION", "TO VERSION", "PROOF")
    return "\n".join([text, "", table(heads, rows), *_explain(listeners)])


def show_deployments_of(document: Any) -> str:
    return "\n\n".join([show_attachments(document), show_deployments(document)])


def show_deploy(document: Any) -> str:
    operation = document["operation"]
    if operation is None:
        return "Nothing was started: the certificate is attached nowhere, or not issued yet."
    return f"Started: deployment {plain(operation)}."


def show_published(document: Any) -> str:
    """Return what each bucket has now, and what is missing in the bundle."""
    rows = [(one["name"], one["url"], one["objects"], one["written"], one["removed"]) for one in document["buckets"]]
    text = table(("BUCKET", "URL", "OBJECTS", "NEW", "REMOVED"), rows)
    if unavailable := document["unavailable"]:
        text += "\n" + plain(f"Not in it, for they are still being issued: {', '.join(unavailable)}.")
    return text


def _explain(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the problems, who is out of sight, and the handshakes that failed, below the name of their listener."""
    lines: list[str] = []
    for item in items:
        problem, proof = item["problem"], item["proof"]
        told = [f"  {problem['message']}"] if problem else []
        if since := item.get("unseen_since"):  # of an attachment: a deployment's part tells of its own time
            told.append(f"  not seen since {instant(since)}: {item['unseen_problem']['message']}")
        if proof and not proof["is_served"]:
            told += [f"  {_handshake(one)}" for one in proof["handshakes"][:_MOST_HANDSHAKES]]
            left = len(proof["handshakes"]) - _MOST_HANDSHAKES
            told += [f"  and {left} more (--json shows them)"] if left > 0 else []
        if told:
            lines += ["", f"{_place(item['listener'])}:", *told]
    return [plain(line) for line in lines]


def _handshake(one: Mapping[str, Any]) -> str:
    host = f"[{one['address']}]" if ":" in one["address"] else one["address"]
    asked = one["server_name"] or "no name"
    return f"{host}:{one['port']}, asked for {asked}: {one['error'] or 'served ' + one['fingerprint'][:16]}"


def _place(listener: Mapping[str, Any]) -> str:
    """Return a listener's name as the service's own messages have it (model.balancer.ListenerKey)."""
    target = listener["target"] + (f"/{listener['region']}" if listener["region"] else "")
    return f"{target}/{listener['load_balancer']}/{listener['listener']}:{listener['port']}"


def _wish(*, is_wanted: bool, is_default: bool) -> str:
    """Return what a listener shall do with a certificate."""
    if not is_wanted:
        return "off"
    return "default" if is_default else "attached"


def _proof(proof: Mapping[str, Any] | None) -> str:
    if proof is None:
        return "-"
    return f"{'served' if proof['is_served'] else 'NOT SERVED'} {instant(proof['at'])}"


def _tally(listeners: Sequence[Mapping[str, Any]]) -> str:
    """Return how many listeners are in which stage, most of them first."""
    stages = [item["stage"] for item in listeners]
    counts = sorted({(-stages.count(stage), stage) for stage in stages})
    return ", ".join(f"{-count} {stage}" for count, stage in counts) or "-"


def _mark_default(link: str, default: str) -> str:
    return ("*" if link == default else "") + (link.rsplit("/", 1)[-1] or link)


def _names(names: Sequence[str], none: str) -> str:
    return ", ".join(names) or none


def _indent(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows in columns, without heads."""
    widths = [max((len(plain(row[place])) for row in rows), default=0) for place in range(2)]
    return ["  ".join([plain(row[0]).ljust(widths[0]), plain(row[1]).ljust(widths[1]), plain(row[2])]) for row in rows]
