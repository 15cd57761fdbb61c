"""`certorbit deployments`: how certificates get onto listeners, and what the handshakes showed."""

from typing import Annotated

import typer

from certorbit.cli import showing, showing_targets
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import URL, AsJSON, Config, EntryName
from certorbit.cli.remote import DEFAULT_URL, service_at
from certorbit.cli.targets import PANEL
from certorbit.model.operation import OperationState

deployments = typer.Typer(help="Deployments: what was put where, and how it was proven.", no_args_is_help=True)


@deployments.command("list")
def list_deployments(
    config: Annotated[str, typer.Option("--config", help="Those of one configuration; none: all")] = "",
    state: Annotated[OperationState | None, typer.Option(help="Those in this state")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, the newest first")] = 50,
    url: URL = DEFAULT_URL,
    as_json: AsJSON = False,
) -> None:
    """List deployments, the newest first."""
    with clear_errors():
        query: dict[str, object] = {"limit": limit}
        if config:
            query["config"] = config
        if state is not None:
            query["state"] = state.value
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
