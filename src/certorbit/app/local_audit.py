"""Joins the audit trail with commands that work on the settings' database itself."""

import asyncio
import getpass
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from certorbit.app.database import open_store
from certorbit.app.ground import CHANCE, CLOCK
from certorbit.model.audit import Action, Actor, ActorKind, AuditEvent, ChainBreak, ChainPoint, ChainState
from certorbit.ports.audit import acting_as
from certorbit.services import audit
from certorbit.settings import Settings
from certorbit.storage import SQLStore, make_engine


@contextmanager
def acting_as_command(command: str) -> Iterator[None]:
    """Let what is written in the block be the doing of whoever runs the command: the machine's user.

    command: its words, without arguments.
    """
    with acting_as(Actor(ActorKind.COMMAND, _user(), route=f"certorbit {command}")):
        yield


def record_backup(settings: Settings, *, with_keyring: bool) -> None:
    """Write the record of a backup, before it is made: it is in the backup itself then."""
    event = AuditEvent(action=Action.BACKUP_MADE, details={"keyring": with_keyring})
    with acting_as_command("backup"):
        asyncio.run(_record(settings, event))


def record_restore(settings: Settings, *, made_at: str) -> None:
    """Write into the restored database when its backup was made."""
    event = AuditEvent(action=Action.BACKUP_RESTORED, details={"made_at": made_at})
    with acting_as_command("restore"):
        asyncio.run(_record(settings, event))


async def _record(settings: Settings, event: AuditEvent) -> None:
    """Write and seal a record. A database that is older than the audit trail is left as it is."""
    engine = make_engine(settings.url)
    store = SQLStore(engine, clock=CLOCK, chance=CHANCE)
    try:
        if not sa.inspect(engine).has_table("audit_records"):
            return
        await store.write(lambda tx: tx.audit.add(event, now=CLOCK.now()))
        await audit.seal_waiting(store)
    finally:
        await store.close()


async def verify_database(settings: Settings, *, pins: Sequence[ChainPoint]) -> tuple[ChainState, ChainBreak | None]:
    """Check the chain of the settings' database (`services.audit.verify`)."""
    async with open_store(settings) as store:
        return await audit.verify(store, pins=pins)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"uid {os.getuid()}"
