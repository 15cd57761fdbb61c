"""Commands for the keyring: `status` talks to a running service; `rotate` and `rewrap` work on the database."""

import json
import sys
from typing import Annotated, Any

import typer

from certorbit.cli import showing
from certorbit.cli.failing import clear_errors
from certorbit.cli.memory import forbid_memory_dumps
from certorbit.cli.operator import URL, AsJSON, AsJSONHere
from certorbit.cli.remote import DEFAULT_URL, service_at
from certorbit.settings import Settings

keyring = typer.Typer(help="Key-encryption keys: what they seal, and a new one.", no_args_is_help=True)


@keyring.command("status")
def status(url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Show the key-encryption keys, what each one seals, and how far a rotation is."""
    with clear_errors():
        showing.show(service_at(url).call("GET", "keyring"), as_json=as_json, for_people=_show_keyring)


@keyring.command("rotate")
def rotate(
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Move all secrets now, or leave that to the workers")
    ] = True,
    as_json: AsJSONHere = False,
) -> None:
    """Make a new key-encryption key by the provider of the settings, and move all secrets to it.

    Works on the database beside running processes, which learn the new key by themselves. Killed on the way it goes
    on with `rewrap`, or in a worker.
    """
    _run(new_key=True, rewrap=wait, as_json=as_json)


@keyring.command("rewrap")
def rewrap(as_json: AsJSONHere = False) -> None:
    """Move secrets that older keys still seal to the newest key; what a rotation left undone."""
    _run(new_key=False, rewrap=True, as_json=as_json)


def add_keyring_commands(app: typer.Typer) -> None:
    app.add_typer(keyring, name="keyring")


def _run(*, new_key: bool, rewrap: bool, as_json: bool) -> None:
    with clear_errors():
        import uvloop  # noqa: PLC0415 - these need the service, the other commands don't

        from certorbit.app.local_audit import acting_as_command  # noqa: PLC0415 - as above
        from certorbit.observe.logs import set_up_logs  # noqa: PLC0415 - as above

        forbid_memory_dumps()
        settings = Settings()
        set_up_logs(level=settings.log_level, style=settings.log_format)
        with acting_as_command(f"keyring {'rotate' if new_key else 'rewrap'}"):
            uvloop.run(_work(settings, new_key=new_key, rewrap=rewrap, as_json=as_json))


async def _work(settings: Settings, *, new_key: bool, rewrap: bool, as_json: bool) -> None:
    """Do it and tell people of each part when it is done; programs get one document at the end."""
    from certorbit.app.database import name_database  # noqa: PLC0415 - as above
    from certorbit.app.key_rotation import open_rewrapping  # noqa: PLC0415 - as above

    tell = _keep_quiet if as_json else print
    database = name_database(settings)
    document: dict[str, object] = {"database": database}
    async with open_rewrapping(settings) as rewrapping:
        if new_key:
            key = await rewrapping.keeper.rotate()
            document["key"] = {"id": key.id, "provider": key.provider, "wrapping_key": key.wrapping_key}
            tell(f"New key-encryption key {key.id}, wrapped by {key.provider} ({key.wrapping_key}), of {database}.")
        if rewrap:
            done = await rewrapping.run(report=_report)
            retired = await rewrapping.retire()
            document |= {"moved": done, "sealing_key": rewrapping.keeper.keyring.key_id, "retired": list(retired)}
            tell(f"{done} secrets of {database} moved to {rewrapping.keeper.keyring.key_id}.")
            if retired:
                tell(f"Retired: {', '.join(retired)}.")
    if as_json:
        print(json.dumps(document, indent=2))


def _keep_quiet(_text: str) -> None:
    """Say nothing."""


def _report(done: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} secrets", end="", file=sys.stderr, flush=True)


def _show_keyring(document: Any) -> str:
    rows = [
        (
            "*" if key["seals"] else "",
            key["id"],
            key["provider"],
            showing.plain(key["wrapping_key"]),
            showing.instant(key["created_at"]),
            showing.instant(key["retired_at"]) if key["retired_at"] else "",
            str(key["secrets"]),
        )
        for key in document["keys"]
    ]
    rows += [("", key, "unknown", "", "", "", str(count)) for key, count in document["unknown"].items()]
    rest = f"{document['to_rewrap']} of {document['secrets']} secrets are to be moved to the newest key."
    heads = ("", "KEY", "PROVIDER", "WRAPPED BY", "MADE", "RETIRED", "SECRETS")
    return f"{showing.table(heads, rows)}\n{rest}"
