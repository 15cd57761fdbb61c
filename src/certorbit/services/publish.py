"""Publishing as transactions: whose turn it is, and what the configuration is at one instant. Nothing is sent here."""

from collections.abc import Sequence
from datetime import datetime

from certorbit.errors import Publishing
from certorbit.model.audit import Action, AuditEvent
from certorbit.model.edge_bundle import EdgeSnapshot, named_by
from certorbit.model.entry import ConfigID
from certorbit.ports.store import UnitOfWork
from certorbit.services.configurations import get_configuration
from certorbit.services.sites import list_sites


def turn_of(config: ConfigID) -> str:
    """Return the name of the turn to publish a configuration."""
    return f"publish:{config}"


def begin(
    tx: UnitOfWork, config: ConfigID, *, holder: str, now: datetime, until: datetime, buckets: Sequence[str] = ()
) -> None:
    """Take the configuration's turn to be published. Nobody who changes the configuration waits for it.

    It is in the audit trail from here on: what follows takes sealed keys to the buckets.

    holder: unique for this publish. until: when the turn ends by itself, for a holder that died. buckets: their names.

    Raises:
        NotFound: no such configuration. Publishing: somebody else's turn.
    """
    get_configuration(tx, config)
    if not tx.named_turns.take(turn_of(config), holder, now=now, until=until):
        raise Publishing(f"A publish of configuration {config!r} runs; try again in a few seconds.", subject="config")
    details = {"buckets": list(buckets)}
    event = AuditEvent(action=Action.CONFIGURATION_PUBLISHED, config=config, objects=(config,), details=details)
    tx.audit.add(event, now=now)


def take_snapshot(tx: UnitOfWork, config: ConfigID) -> EdgeSnapshot:
    """Return the configuration as it is at this instant. Only reads: one transaction of `Store.read` is one snapshot.

    Call it after `begin` has committed: so of two publishes, the later one never has the older snapshot.

    Raises:
        NotFound: no such configuration.
    """
    configuration = get_configuration(tx, config)
    sites = list_sites(tx, config)
    named = named_by(sites)
    entries = sorted((entry for entry in tx.entries.list(config) if entry.id in named), key=lambda entry: entry.id)
    return EdgeSnapshot(configuration, sites, entries)


def end(tx: UnitOfWork, config: ConfigID, *, holder: str) -> None:
    """Give the turn back. Harmless if it has ended."""
    tx.named_turns.give_back(turn_of(config), holder)
