"""The providers of dns-lexicon (https://dns-lexicon.readthedocs.io), each behind its create and delete of one record.

Lexicon is synchronous and knows no time limit, so each call has a thread of its own that is left behind when it takes
too long. Some providers read a whole record set and write it back: calls of one writer therefore run one after the
other, and docs/dns-01.md says that only one process may write there.

The provider is loaded from lexicon's private package: its public `Client` guesses the zone from the public suffix
list, which it downloads first, and guesses wrong for zones of the house. We know the zone. pyproject.toml therefore
bounds the version.
"""

import asyncio
import importlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import ModuleType
from typing import Any, Final
from urllib.parse import quote, quote_plus

from certorbit.clock import Chance, Clock
from certorbit.errors import BadInput
from certorbit.net.tries import Passing
from certorbit.solver_settings import LexiconSolverSettings
from certorbit.solvers.dns.tries import call_again, failure

KIND: Final = "lexicon"
MOST_SHOWN: Final = 300  # characters of a provider's own words
_HINT: Final = "Check the solver's options and the rights of its token; `lexicon <provider> --help` lists the options."


class LexiconWriter:
    """Writes with one provider of lexicon.

    Raises:
        BadInput: dns-lexicon isn't installed, or has no such provider, or lacks what the provider needs.
    """

    def __init__(self, settings: LexiconSolverSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._module = _load(settings.provider)
        self._turn = asyncio.Lock()

    @property
    def kind(self) -> str:
        return KIND

    async def add_txt(self, name: str, value: str, *, zone: str) -> str:
        await self._call(partial(_create, name=name, value=value), name=name, zone=zone)
        return ""

    async def wait_applied(self, reference: str) -> None:
        """Return at once: lexicon knows nothing of it."""

    async def remove_txt(self, name: str, value: str, *, zone: str) -> None:
        await self._call(partial(_delete, name=name, value=value), name=name, zone=zone)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _call(self, work: Callable[[Any], None], *, name: str, zone: str) -> None:
        call = partial(self._call_once, work, zone=zone)
        await call_again(call, kind=KIND, name=name, clock=self._clock, chance=self._chance)

    async def _call_once(self, work: Callable[[Any], None], *, zone: str) -> None:
        async with self._turn:
            try:
                async with asyncio.timeout(self._settings.timeout_seconds):
                    await asyncio.wrap_future(_in_thread(partial(self._run, work, zone=zone)))
            except TimeoutError as error:
                reason = f"{self._settings.provider} took more than {self._settings.timeout_seconds:g} seconds"
                raise failure(KIND, reason, zone=zone, hint=_HINT) from error

    def _run(self, work: Callable[[Any], None], *, zone: str) -> None:
        """Do the work with a provider that is signed in. Runs in a thread."""
        from lexicon.config import ConfigResolver  # noqa: PLC0415 - an extra; `_load` has told if it is missing

        options = {option: secret.get_secret_value() for option, secret in self._settings.options.items()}
        settings = {
            "provider_name": self._settings.provider,
            "domain": zone,
            "ttl": self._settings.ttl,
            self._settings.provider: options,
        }
        try:
            provider = self._module.Provider(ConfigResolver().with_dict(settings))  # type: ignore[no-untyped-call]
            provider.authenticate()
            try:
                work(provider)
            finally:
                provider.cleanup()
        except Exception as error:  # providers raise whatever comes to them
            reason = f"{self._settings.provider} says {type(error).__name__}: {self._without_secrets(str(error))}"
            raise Passing(failure(KIND, reason, zone=zone, hint=_HINT)) from error

    def _without_secrets(self, text: str) -> str:
        """Return a provider's words without our options: some put their token into a URL, and that into an error."""
        for secret in self._settings.options.values():
            plain = secret.get_secret_value()
            for form in {plain, quote(plain), quote(plain, safe=""), quote_plus(plain)} - {""}:
                text = text.replace(form, "<hidden>")
        shown = "".join(character if character.isprintable() else " " for character in text[:MOST_SHOWN])
        return shown.rstrip(" .")


def _load(provider: str) -> ModuleType:
    try:
        discovery = importlib.import_module("lexicon._private.discovery")
    except ImportError as error:
        raise BadInput(
            "solvers: type lexicon needs dns-lexicon, which is not installed: pip install 'certorbit[lexicon]'.",
            subject="solvers",
        ) from error
    installed: dict[str, bool] = discovery.find_providers()
    if provider not in installed:
        raise BadInput(
            f"solvers: lexicon has no provider {provider!r}; `lexicon --help` lists them.", subject="solvers"
        )
    if not installed[provider]:
        raise BadInput(
            f"solvers: lexicon's provider {provider!r} needs more: pip install 'dns-lexicon[{provider}]'.",
            subject="solvers",
        )
    module: ModuleType = discovery.load_provider_module(provider)
    return module


def _create(provider: Any, *, name: str, value: str) -> None:
    if provider.create_record("TXT", name, value):
        return
    if not provider.list_records("TXT", name, value):  # False is also said of a record that is there already
        raise RuntimeError("the record was not created")


def _delete(provider: Any, *, name: str, value: str) -> None:
    provider.delete_record(None, "TXT", name, value)


def _in_thread(work: Callable[[], None]) -> "Future[None]":
    """Start the work in a thread that doesn't keep the process alive."""
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            work()
        except Passing as passing:
            done.set_exception(passing)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="lexicon", daemon=True).start()
    return done
