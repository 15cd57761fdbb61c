"""The table of DNS providers. A new one is a module here, a line in the table, and a class in solver_settings.py."""

from collections.abc import Callable
from typing import Final

from certorbit.clock import Chance, Clock
from certorbit.ports.dns import DNSZoneWriter
from certorbit.solver_settings import DNSSolverSettings
from certorbit.solvers.dns.lexicon import LexiconWriter
from certorbit.solvers.dns.rfc2136 import RFC2136Writer
from certorbit.solvers.dns.route53 import Route53Writer
from certorbit.solvers.dns.webhook import WebhookWriter

WRITERS: Final[dict[str, Callable[..., DNSZoneWriter]]] = {
    "rfc2136": RFC2136Writer,
    "route53": Route53Writer,
    "lexicon": LexiconWriter,
    "webhook": WebhookWriter,
}


def make_writer(kind: str, settings: DNSSolverSettings, *, clock: Clock, chance: Chance) -> DNSZoneWriter:
    """Return the writer of a `[[solvers]]` table; kind: its `type`.

    Raises:
        BadInput: an optional package is missing; the message says what to install.
    """
    return WRITERS[kind](settings, clock=clock, chance=chance)
