"""`certorbit`: serve, worker, version; access.py, operator.py, targets.py and deployments.py have the other commands.

The service itself is imported only by the commands that are one: it takes two seconds, and the others need none of it.
"""

from typing import Annotated

import typer

import certorbit
from certorbit.cli.access import add_access_commands
from certorbit.cli.audit import add_audit_commands
from certorbit.cli.backup import add_backup_commands
from certorbit.cli.deployments import add_deployment_commands
from certorbit.cli.failing import clear_errors
from certorbit.cli.keyring import add_keyring_commands
from certorbit.cli.operations import add_operation_commands
from certorbit.cli.operator import add_operator_commands
from certorbit.cli.server_trust import TRUST, ServerTrust
from certorbit.cli.sessions import add_session_commands
from certorbit.cli.targets import add_target_commands
from certorbit.settings import Settings

app = typer.Typer(
    name="certorbit",
    help="Self-hosted certificate lifecycle service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
add_access_commands(app)
add_session_commands(app)
add_audit_commands(app)
add_operator_commands(app)
add_operation_commands(app)
add_target_commands(app)
add_deployment_commands(app)
add_keyring_commands(app)
add_backup_commands(app)


@app.callback()
def trust_service(
    ca_file: Annotated[
        str,
        typer.Option(
            "--ca-file", envvar="CERTORBIT_CA_FILE", help="PEM file with the CA of the service's HTTPS certificate"
        ),
    ] = "",
    fingerprint: Annotated[
        str,
        typer.Option(
            "--fingerprint",
            envvar="CERTORBIT_FINGERPRINT",
            help="sha256:… of the service's HTTPS certificate, as its start prints it; no CA is needed then",
        ),
    ] = "",
) -> None:
    """Self-hosted certificate lifecycle service.

    The options here are for commands that talk to a running service by https, and come before the command.
    """
    TRUST.set(ServerTrust(ca_file=ca_file, fingerprint=fingerprint))


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
