"""`certorbit operations`: what runs, what waits and why, in the CA's own words."""

from typing import Annotated

import typer

from certorbit.cli import showing, showing_operations
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import PANEL, URL, AsJSON, HowMany, OfConfig, OfState, OperationName, ask_for
from certorbit.cli.remote import DEFAULT_URL, service_at

operations = typer.Typer(help="Operations: what runs, what waits, and why.", no_args_is_help=True)


@operations.command("list")
def list_operations(
    *,
    config: OfConfig = "",
    certificate: Annotated[str, typer.Option("--certificate", help="Those of the certificate with this id")] = "",
    state: OfState = None,
    limit: HowMany = 50,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """List issuances, renewals and deployments, the newest first."""
    with clear_errors():
        query = ask_for(limit=limit, config=config, state=state, entry=certificate)
        document = service_at(url).call("GET", "operations", query=query)
        showing.show(document, as_json=as_json, for_people=showing_operations.show_operations)


@operations.command("show")
def show_operation(operation: OperationName, url: URL = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """Show one operation: its attempt, its problem, when the next attempt is, and its steps."""
    with clear_errors():
        document = service_at(url).call("GET", "operations", operation)
        showing.show(document, as_json=as_json, for_people=showing_operations.show_operation)


def add_operation_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(operations, name="operations", rich_help_panel=PANEL)
