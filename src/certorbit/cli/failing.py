"""How a command ends that can't do its work: one clear line on stderr and exit code 1."""

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from pydantic import ValidationError

from certorbit.errors import CertorbitError


@contextmanager
def clear_errors() -> Iterator[None]:
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


def _fail(message: str) -> NoReturn:
    print(f"certorbit: {message}", file=sys.stderr)
    raise typer.Exit(1)
