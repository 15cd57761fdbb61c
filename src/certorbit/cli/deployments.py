"""`certorbit deployments`: how certificates get onto listeners, and what the handshakes showed."""

from typing import Annotated

import typer

from certorbit.cli import showing, showing_targets
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import URL, AsJSON, Config, EntryName, HowMany, OfConfig, OfState, ask_for
from certorbit.cli.remote import DEFAULT_URL, service_at
from certorbit.cli.targets import PANEL

deployments = typer.Typer(help="Deployments: what was put where, and how it was proven.", no_args_is_help=True)


@deployments.command("list")
def list_deployments(
    config: OfConfig = "",
    state: OfState = None,
    limit: HowMany = 50,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """List deployments, the newest first."""
    with clear_errors():
        query = ask_for(limit=limit, config=config, state=state)
        document = service_at(url).call("GET", "deployments", query=query)
        showing.show(document, as_json=as_json, for_people=showing_targets.show_deployments)


@deployments.command("show")
def show_deployment(
    deployment: Annotated[str, typer.Argument(metavar="ID", help="The deployment's id")],
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """Show one deployment with each listener's stage, proof and problem."""
    with clear_errors():
        document = service_at(url).call("GET", "deployments", deployment)
        showing.show(document, as_json=as_json, for_people=showing_targets.show_deployment)


@deployments.command("of")
def show_deployments_of(
    config: Config, certificate: EntryName, url: URL = DEFAULT_URL, as_json: AsJSON = False
) -> None:
    """Show where a certificate is attached, and its deployments, the newest first."""
    with clear_errors():
        document = service_at(url).call("GET", "configs", config, "certificates", certificate, "deployments")
        showing.show(document, as_json=as_json, for_people=showing_targets.show_deployments_of)


def add_deployment_commands(app: typer.Typer) -> None:
    """Add the commands beside those of targets."""
    app.add_typer(deployments, name="deployments", rich_help_panel=PANEL)
