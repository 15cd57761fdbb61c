"""`certorbit`: serve, worker, api-keys, version, and the operator's commands (operator.py, targets.py, deployments.py).

The service itself is imported only by the commands that are one: it takes two seconds, and the others need none of it.
"""

from typing import Annotated

import typer

import certorbit
from certorbit.cli.deployments import add_deployment_commands
from certorbit.cli.failing import clear_errors
from certorbit.cli.operator import add_operator_commands
from certorbit.cli.targets import add_target_commands
from certorbit.model.access import Role
from certorbit.settings import Settings

app = typer.Typer(
    name="certorbit",
    help="Self-hosted certificate lifecycle service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys: create and list them beside a running service.", no_args_is_help=True)
app.add_typer(keys, name="api-keys")
add_operator_commands(app)
add_target_commands(app)
add_deployment_commands(app)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one")] = 8080,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Run no workflows here; `certorbit worker` processes do")
    ] = False,
) -> None:
    """Serve the API; without --no-worker also run the workflows.

    Migrates the database, creates the keyring, the built-in CA and the first administrator's key when they are new.
    """
    with clear_errors():
        from certorbit.cli.running import run_server  # noqa: PLC0415 - see above

        run_server(Settings(), host=host, port=port, with_worker=not no_worker)


@app.command()
def worker() -> None:
    """Run workflows alone, beside `serve --no-worker` processes (PostgreSQL)."""
    with clear_errors():
        from certorbit.cli.running import run_worker  # noqa: PLC0415 - see above

        run_worker(Settings())


@app.command()
def version() -> None:
    """Print the version."""
    print(certorbit.__version__)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What the key is for")],
    role: Annotated[Role, typer.Option(help="What it may do")] = Role.READ_ONLY,
    export_keys: Annotated[bool, typer.Option("--export-keys", help="It may also read private keys")] = False,
) -> None:
    """Create an API key and print it; it can't be shown again."""
    with clear_errors():
        from certorbit.cli.running import create_api_key  # noqa: PLC0415 - see above

        print(create_api_key(Settings(), name=name, role=role, may_export_keys=export_keys))


@keys.command("list")
def list_keys() -> None:
    """List the API keys: id, prefix, role, right to export keys, name."""
    with clear_errors():
        from certorbit.cli.running import list_api_keys  # noqa: PLC0415 - see above

        for key in list_api_keys(Settings()):
            state = "revoked" if key.revoked_at else "active"
            export = "exports-keys" if key.may_export_keys else "no-key-export"
            print(f"{key.id}  {key.prefix}…  {key.role:<9}  {export:<13}  {state:<7}  {key.name}")
