"""`certorbit`: serve, worker, api-keys, version."""

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import ValidationError

import certorbit
from certorbit.cli.running import create_api_key, list_api_keys, run_server, run_worker
from certorbit.errors import CertorbitError
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
    with _clear_errors():
        run_server(Settings(), host=host, port=port, with_worker=not no_worker)


@app.command()
def worker() -> None:
    """Run workflows alone, beside `serve --no-worker` processes (PostgreSQL)."""
    with _clear_errors():
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
    with _clear_errors():
        print(create_api_key(Settings(), name=name, role=role, may_export_keys=export_keys))


@keys.command("list")
def list_keys() -> None:
    """List the API keys: id, prefix, role, right to export keys, name."""
    with _clear_errors():
        for key in list_api_keys(Settings()):
            state = "revoked" if key.revoked_at else "active"
            export = "exports-keys" if key.may_export_keys else "no-key-export"
            print(f"{key.id}  {key.prefix}…  {key.role:<9}  {export:<13}  {state:<7}  {key.name}")


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn refusals and wrong settings into one clear line on stderr and exit code 1."""
    try:
        yield
    except CertorbitError as error:
        _fail(error.message)
    except ValidationError as error:
        # Never the values: one of them may be a key.
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        _fail("the settings are wrong: " + "; ".join(_describe(item["loc"], item["msg"]) for item in wrong))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _fail(f"the settings file is no TOML: {error}")
    except FileNotFoundError as error:
        _fail(str(error))


def _describe(place: tuple[int | str, ...], message: str) -> str:
    """Return which setting is wrong and why. place: empty for a rule about several of them."""
    why = message.removeprefix("Value error, ")
    return f"CERTORBIT_{'__'.join(map(str, place)).upper()}: {why}" if place else why


def _fail(message: str) -> None:
    print(f"certorbit: {message}", file=sys.stderr)
    raise typer.Exit(1)
