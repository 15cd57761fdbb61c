"""`certorbit api-keys`, on the machine itself, and `certorbit maintenance`, of a running service.

What works on the database is imported only when it is needed: it takes a second, and `--help` needs none of it.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from certorbit.cli import showing
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import URL, AsJSON, AsJSONHere
from certorbit.cli.remote import DEFAULT_URL, service_at
from certorbit.errors import BadInput
from certorbit.model.access import APIKey, KeyTerms, Role
from certorbit.model.entry import ConfigID
from certorbit.settings import Settings

keys = typer.Typer(
    help="API keys, in the settings' database itself: make, list, change, rotate, revoke them.", no_args_is_help=True
)


class Switch(StrEnum):
    ON = "on"
    OFF = "off"
    STATUS = "status"


def read_role(text: str) -> Role:
    """Return the role; `read-only`, the older name of `viewer`, is one."""
    try:
        return Role(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(Role)}") from None


KeyName = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `api-keys list` shows it")]
RoleName = Annotated[Role, typer.Option(parser=read_role, metavar="ROLE", help=", ".join(Role))]
Configs = Annotated[
    list[str] | None, typer.Option("--config", help="Only for this configuration; repeat it for several")
]
Addresses = Annotated[
    list[str] | None, typer.Option("--allow-address", help="Only from this network (CIDR); repeat it for several")
]
Ends = Annotated[str, typer.Option("--expires", help="The end: a date as 2027-01-31, an instant, or `never`")]


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What the key is for")],
    role: RoleName = Role.VIEWER,
    export_keys: Annotated[bool, typer.Option("--export-keys", help="It may also read private keys")] = False,
    config: Configs = None,
    allow_address: Addresses = None,
    expires: Ends = "never",
    as_json: AsJSONHere = False,
) -> None:
    """Create an API key and print it; it can't be shown again."""
    with clear_errors():
        from certorbit.cli.local_keys import create_api_key  # noqa: PLC0415 - see above

        terms = KeyTerms(
            name=name,
            role=role,
            may_export_keys=export_keys,
            configurations=tuple(map(ConfigID, config or ())),
            allowed_addresses=tuple(allow_address or ()),
            expires_at=read_end(expires),
        )
        key, secret = create_api_key(Settings(), terms)
        document = {"id": key.id, "name": key.name, "role": key.role.value, "key": secret}
        showing.show(document, as_json=as_json, for_people=lambda shown: str(shown["key"]))


@keys.command("list")
def list_keys() -> None:
    """List the API keys: what they may do, until when, and when and from where they were used last."""
    with clear_errors():
        from certorbit.cli.local_keys import list_api_keys  # noqa: PLC0415 - see above

        head = ("ID", "PREFIX", "ROLE", "EXPORT", "FOR", "FROM", "STATE", "LAST USED", "NAME")
        print(showing.table(head, [_row(key) for key in list_api_keys(Settings())]))


@keys.command("change")
def change_key(  # noqa: PLR0913 - one option for each thing that can change
    key: KeyName,
    *,
    name: Annotated[str, typer.Option(help="Another name")] = "",
    role: Annotated[Role | None, typer.Option(parser=read_role, metavar="ROLE", help=", ".join(Role))] = None,
    export_keys: Annotated[bool | None, typer.Option("--export-keys/--no-export-keys", help="Private keys")] = None,
    config: Configs = None,
    all_configs: Annotated[bool, typer.Option("--all-configs", help="For all configurations again")] = False,
    allow_address: Addresses = None,
    any_address: Annotated[bool, typer.Option("--any-address", help="From any address again")] = False,
    expires: Ends = "",
) -> None:
    """Change an API key; what isn't named stays, and so does its secret."""
    with clear_errors():
        change: dict[str, Any] = {}
        if name:
            change["name"] = name
        if role is not None:
            change["role"] = role
        if export_keys is not None:
            change["may_export_keys"] = export_keys
        if config or all_configs:
            change["configurations"] = tuple(map(ConfigID, config or ()))
        if allow_address or any_address:
            change["allowed_addresses"] = tuple(allow_address or ())
        if expires:
            change["expires_at"] = read_end(expires)
        from certorbit.cli.local_keys import change_api_key  # noqa: PLC0415 - see above

        changed = change_api_key(Settings(), key, lambda terms: replace(terms, **change))
        print(f"Changed: {showing.plain(changed.name)}. The service follows within two seconds.")


@keys.command("rotate")
def rotate_key(
    key: KeyName,
    overlap_hours: Annotated[float, typer.Option(min=0, max=720, help="How long the old secret works on")] = 24.0,
) -> None:
    """Give an API key a new secret and print it; it can't be shown again."""
    with clear_errors():
        from certorbit.cli.local_keys import rotate_api_key  # noqa: PLC0415 - see above

        print(rotate_api_key(Settings(), key, overlap=timedelta(hours=overlap_hours)))


@keys.command("revoke")
def revoke_key(key: KeyName) -> None:
    """Revoke an API key for good; its record stays."""
    with clear_errors():
        from certorbit.cli.local_keys import revoke_api_key  # noqa: PLC0415 - see above

        revoke_api_key(Settings(), key)
        print("Revoked. The service follows within two seconds.")


def maintenance(
    switch: Annotated[Switch, typer.Argument(help="on, off, or status")] = Switch.STATUS,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Switch the maintenance mode, in which every write is refused, or show it."""
    with clear_errors():
        if switch is Switch.STATUS:
            document = service_at(url).call("GET", "maintenance")
        else:
            document = service_at(url).call("POST", "maintenance", body={"on": switch is Switch.ON})
        showing.show(document, as_json=as_json, for_people=_show_maintenance)


def add_access_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys, name="api-keys")
    app.command(rich_help_panel="Commands for a running service (key: CERTORBIT_API_KEY)")(maintenance)


def read_end(text: str) -> datetime | None:
    """Return the instant; the end of the day for a date alone (UTC), None for `never`. Raises BadInput."""
    if text == "never":
        return None
    try:
        end = datetime.fromisoformat(text)
        if len(text) <= len("2027-01-31"):
            end += timedelta(days=1)
    except (ValueError, OverflowError):
        raise BadInput(
            f"--expires: {text[:80]!r} is no date; write 2027-01-31, 2027-01-31T12:00:00Z or never."
        ) from None
    return end if end.tzinfo else end.replace(tzinfo=UTC)


def _row(key: APIKey) -> tuple[object, ...]:
    if key.revoked_at is not None:
        state = "revoked"
    elif key.expires_at is not None:
        state = f"ends {key.expires_at:%Y-%m-%d %H:%M}Z"
    else:
        state = "active"
    used = f"{key.last_used_at:%Y-%m-%d %H:%M}Z from {key.last_used_from or '?'}" if key.last_used_at else "never"
    return (
        key.id,
        f"{key.prefix}…",
        key.role.value,
        "exports-keys" if key.may_export_keys else "no-key-export",
        ", ".join(key.configurations) or "all",
        ", ".join(key.allowed_addresses) or "anywhere",
        state,
        used,
        key.name,
    )


def _show_maintenance(document: Any) -> str:
    state = "on: every write is refused" if document["on"] else "off"
    forced = " The setting CERTORBIT_MAINTENANCE keeps it on." if document["is_forced"] else ""
    since = f", since {showing.instant(document['since'])} by {document['by']!r}" if document["since"] else ""
    return showing.plain(f"Maintenance is {state}{since}.{forced}")
