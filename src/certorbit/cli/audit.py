"""`certorbit audit`: what was done, by whom; and whether the record of it is whole."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from certorbit.cli import showing
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import URL, AsJSON, AsJSONHere
from certorbit.cli.remote import DEFAULT_URL, Remote, service_at
from certorbit.errors import BadInput, Refused
from certorbit.model.audit import NO_HASH, ChainBreak, ChainCheck, ChainPoint
from certorbit.settings import Settings

audit = typer.Typer(help="The audit trail: shown, exported, checked.", no_args_is_help=True)
_POINT = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


@audit.command("list")
def list_records(  # noqa: PLR0913 - one option for each filter
    *,
    config: Annotated[str, typer.Option(help="Only of this configuration")] = "",
    who: Annotated[str, typer.Option(help="Only by this API key (id or name), `certorbit`, or user")] = "",
    action: Annotated[str, typer.Option(help="Only this action, for example key.exported")] = "",
    object_id: Annotated[str, typer.Option("--object", help="Only about this certificate, server group, key")] = "",
    since: Annotated[str, typer.Option("--from", help="Only from this instant on, as 2026-11-24T12:00:00Z")] = "",
    until: Annotated[str, typer.Option("--to", help="Only before this instant")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, the newest first")] = 50,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """List records, the newest first."""
    with clear_errors():
        filters = {
            "config": config, "who": who, "action": action, "object": object_id, "from": since, "to": until
        }  # fmt: skip
        query: dict[str, object] = {"limit": limit, **{name: value for name, value in filters.items() if value}}
        document = service_at(url).call("GET", "audit", query=query)
        showing.show(document, as_json=as_json, for_people=_show_records)


@audit.command("export")
def export(
    after: Annotated[int, typer.Option(min=0, help="Only records with a higher number")] = 0,
    url: URL = DEFAULT_URL,
) -> None:
    """Write the chain to standard output as JSON lines, its order being that of the numbers."""
    with clear_errors():
        service, last = service_at(url), b"{}"
        end = service.call("GET", "audit", "head")["head"]["number"]
        for line in service.lines("audit", "export", query={"after": after}):
            sys.stdout.buffer.write(line)
            last = line
        sys.stdout.buffer.flush()
        number = next(_read_documents([last])).get("number", after)
        if number < end:
            raise Refused(f"The export is cut off behind record {number} of {end}; run it again.")


@audit.command("head")
def head(url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Print number and hash of the newest record, to be noted elsewhere: `verify --expect` takes it."""
    with clear_errors():
        showing.show(service_at(url).call("GET", "audit", "head"), as_json=as_json, for_people=_show_head)


@audit.command("verify")
def verify(
    *,
    expect: Annotated[
        list[str] | None, typer.Option(help="NUMBER:HASH that `audit head` printed earlier; repeat it for several")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="On the settings' database itself, without a service")] = False,
    file: Annotated[Path | None, typer.Option(help="An export, instead of a service")] = None,
    url: URL = DEFAULT_URL,
    as_json: AsJSONHere = False,
) -> None:
    """Walk the whole chain; exit code 1, and where it breaks, if it does not hold.

    Somebody who may change the database can make the whole chain anew: only --expect shows that.
    """
    with clear_errors():
        pins = [_read_point(text) for text in expect or ()]
        if local and file is not None:
            raise BadInput("--local and --file exclude each other.")
        if local:
            where, (start, end, wrong) = _name_database(), _verify_local(pins)
        elif file is not None:
            where, (start, end, wrong) = str(file), _verify_file(file, pins)
        else:
            where, (start, end, wrong) = url, _verify_service(service_at(url), pins)
        if as_json:
            print(json.dumps(_as_document(where, start, end, wrong), indent=2))
        if wrong is not None:
            raise Refused(f"The audit trail of {where} does not hold ({wrong.kind}): {wrong.message}")
        if not as_json:
            count = end.number - start.number
            print(f"The audit trail of {where} holds: {count} records after {start.number}. Its head is {end}")


def add_audit_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(audit, name="audit")


def _as_document(where: str, start: ChainPoint, end: ChainPoint, wrong: ChainBreak | None) -> dict[str, object]:
    return {
        "of": where,
        "holds": wrong is None,
        "after": start.number,
        "records": end.number - start.number,
        "head": {"number": end.number, "hash": end.hash},
        "break": None if wrong is None else {"kind": wrong.kind, "number": wrong.number, "message": wrong.message},
    }


def _name_database() -> str:
    from certorbit.app.database import name_database  # noqa: PLC0415 - the other commands don't need the service

    return name_database(Settings())


def _verify_local(pins: list[ChainPoint]) -> tuple[ChainPoint, ChainPoint, ChainBreak | None]:
    import uvloop  # noqa: PLC0415 - the other commands don't need the service

    from certorbit.app.local_audit import verify_database  # noqa: PLC0415 - as above
    from certorbit.observe.logs import set_up_logs  # noqa: PLC0415 - as above

    settings = Settings()
    set_up_logs(level=settings.log_level, style=settings.log_format)
    state, wrong = uvloop.run(verify_database(settings, pins=pins))
    return state.anchor, state.head, wrong


def _verify_service(service: Remote, pins: list[ChainPoint]) -> tuple[ChainPoint, ChainPoint, ChainBreak | None]:
    ends = service.call("GET", "audit", "head")
    start, end = (ChainPoint(ends[name]["number"], ends[name]["hash"]) for name in ("anchor", "head"))
    lines = service.lines("audit", "export", query={"after": start.number})
    return start, end, _check(_read_documents(lines), ChainCheck(start, pins=[*pins, end]), end)


def _verify_file(file: Path, pins: list[ChainPoint]) -> tuple[ChainPoint, ChainPoint, ChainBreak | None]:
    """Check an export: it begins where it begins, and what is before its first record is not known."""
    try:
        with file.open("rb") as lines:
            documents = _read_documents(lines)
            first = next(documents, None)
            if first is None:
                raise BadInput(f"{file} is empty.")
            number, previous = first.get("number"), first.get("previous")
            if not isinstance(number, int) or not isinstance(previous, str):
                raise BadInput(f"{file} is no export of an audit trail.")
            check = ChainCheck(ChainPoint(number - 1, previous if number > 1 else NO_HASH), pins=pins)
            wrong = check.read(first) or _check(documents, check, None)
            return check.start, check.point, wrong
    except OSError as error:
        raise BadInput(f"{file} can't be read: {error.strerror}.") from error


def _check(documents: Iterable[dict[str, Any]], check: ChainCheck, end: ChainPoint | None) -> ChainBreak | None:
    for document in documents:
        if wrong := check.read(document):
            return wrong
    return check.end(end)


def _read_documents(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            document = json.loads(line)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise BadInput("A line is no JSON object, so this is no export of an audit trail.")
        yield document


def _read_point(text: str) -> ChainPoint:
    found = _POINT.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"--expect: {text[:80]!r} is not NUMBER:HASH as `certorbit audit head` prints it.")
    return ChainPoint(int(found[1]), found[2])


def _show_records(document: Any) -> str:
    rows = [
        (
            "-" if item["number"] is None else item["number"],
            f"{item['at'][:10]} {item['at'][11:19]}Z",
            f"{item['who']['name'] or '?'}",
            item["address"] or "-",
            item["action"],
            item["config"] or "-",
            ", ".join(item["objects"][:3]) + (", …" if len(item["objects"]) > 3 else ""),
            item["request"]["id"] or item["operation"] or "-",
        )
        for item in document["items"]
    ]
    head = ("NUMBER", "WHEN", "WHO", "FROM", "WHAT", "CONFIG", "OBJECTS", "REQUEST OR OPERATION")
    return f"{showing.table(head, rows)}\n{len(rows)} of {document['total']} records."


def _show_head(document: Any) -> str:
    return f"{document['head']['number']}:{showing.plain(document['head']['hash'])}"
