"""How a command ends that can't do its work: one clear line on stderr and exit code 1."""

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from certorbit.cli.wrong_settings import describe_settings, describe_variable, name_file
from certorbit.errors import CertorbitError


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn refusals and wrong settings into one clear line on stderr and exit code 1."""
    try:
        yield
    except CertorbitError as error:
        _fail(error.message)
    except ValidationError as error:
        _fail(f"the settings are wrong: {describe_settings(error)}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _fail(f"the settings file {name_file()} is no TOML: {error}")
    except SettingsError as error:
        _fail(f"the settings are wrong: {describe_variable(error)}")
    except FileNotFoundError as error:
        _fail(str(error))
    except PermissionError as error:
        if error.filename != name_file():
            raise
        _fail(f"the settings file {name_file()} can't be read: {error.strerror}. Run this as the service's user.")


def _fail(message: str) -> NoReturn:
    print(f"certorbit: {message}", file=sys.stderr)
    raise typer.Exit(1)
