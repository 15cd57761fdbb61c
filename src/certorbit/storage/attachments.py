"""Attachments: what listeners are to serve, and what was seen there last."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from certorbit.errors import LostRace
from certorbit.model.balancer import ListenerKey
from certorbit.model.client_policy import mark_from_json, mark_to_json
from certorbit.model.deployment import (
    Attachment,
    AttachmentID,
    Stage,
    Wanted,
    proof_from_json,
    proof_to_json,
)
from certorbit.model.entry import ConfigID, EntryUID
from certorbit.model.operation import problem_from_json, problem_to_json
from certorbit.model.standing import AttachmentGroup
from certorbit.storage.advisory_locks import hold
from certorbit.storage.listener_keys import can_exist, columns_of, is_listener, key_from, parameters_of, values_of
from certorbit.storage.tables import entries
from certorbit.storage.tables_deployment import LISTENER_KEY, attachments
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_INSERT = sa.insert(attachments)
_BY_ID = attachments.c.id == sa.bindparam("attachment")
_FIND = sa.select(attachments).where(_BY_ID)
_DELETE = sa.delete(attachments).where(_BY_ID)
_LIST = sa.select(attachments).order_by(*columns_of(attachments), attachments.c.entry_id, attachments.c.id)
_LIST_SOME = _LIST.where(attachments.c.id.in_(sa.bindparam("ids", expanding=True)))
_LIST_OF_ENTRY = _LIST.where(attachments.c.entry_uid == sa.bindparam("uid"))
_LIST_OF_TARGET = _LIST.where(attachments.c.target == sa.bindparam("named"))
_LIST_OF_CONFIG = _LIST.where(attachments.c.config == sa.bindparam("wanted_config"))
_LIST_OF_LISTENER = _LIST.where(*is_listener(attachments))
# The rows, too: who changes one without the listener's lock is waited for. `key_share`: see storage/operations.py.
_LOCK_LISTENER = _LIST_OF_LISTENER.with_for_update(key_share=True)
_IS_CURRENT = entries.c.current_version == attachments.c.version
_IS_AS_WANTED = sa.and_(
    attachments.c.wanted == Wanted.ATTACHED.value, attachments.c.stage == Stage.PROVEN.value, _IS_CURRENT
)
_GROUP = (attachments.c.target, attachments.c.stage)
_COUNT_GROUPS = (
    sa.select(*_GROUP, sa.case((_IS_AS_WANTED, 1), else_=0).label("is_as_wanted"), sa.func.count().label("number"))
    .select_from(attachments.outerjoin(entries, entries.c.uid == attachments.c.entry_uid))
    .group_by(*_GROUP, sa.literal_column("is_as_wanted"))  # by its name: PostgreSQL takes equal placeholders for two
)
_FIXED = {"id", *LISTENER_KEY, "config", "entry_id", "entry_uid"}
_CHANGEABLE = [column.name for column in attachments.c if column.name not in _FIXED]
_UPDATE = sa.update(attachments).where(_BY_ID).values({name: sa.bindparam(f"new_{name}") for name in _CHANGEABLE})


class SQLAttachments:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, attachment: Attachment) -> None:
        """Insert it.

        Raises:
            LostRace: the listener has one of that entry, or another default; or the entry was deleted meanwhile.
        """
        self._transaction.execute(_INSERT, _values(attachment))

    def update(self, attachment: Attachment) -> None:
        """Write it.

        Raises:
            LostRace: it was deleted meanwhile, or the listener has another default.
        """
        values = _values(attachment)
        changes = {"attachment": attachment.id, **{f"new_{name}": values[name] for name in _CHANGEABLE}}
        if self._transaction.execute(_UPDATE, changes).rowcount != 1:
            raise LostRace(f"The attachment {attachment.id!r} was deleted meanwhile.", subject=str(attachment.listener))

    def delete(self, attachment: AttachmentID) -> None:
        self._transaction.execute(_DELETE, {"attachment": attachment})

    def find(self, attachment: AttachmentID) -> Attachment | None:
        found = self._list(_FIND, "attachment", attachment)
        return found[0] if found else None

    def list_some(self, attachments: Collection[AttachmentID]) -> Sequence[Attachment]:
        ids = [attachment for attachment in attachments if is_storable(attachment)]
        return [_attachment(row) for row in self._transaction.execute(_LIST_SOME, {"ids": ids})] if ids else []

    def lock_listener(self, listener: ListenerKey) -> Sequence[Attachment]:
        if not can_exist(listener):
            return []
        hold(self._transaction, f"listener {listener}")
        rows = self._transaction.execute(_LOCK_LISTENER, parameters_of(listener))
        return [_attachment(row) for row in rows]

    def list_of_listener(self, listener: ListenerKey) -> Sequence[Attachment]:
        if not can_exist(listener):
            return []
        return [_attachment(row) for row in self._transaction.execute(_LIST_OF_LISTENER, parameters_of(listener))]

    def list_of_entry(self, entry: EntryUID) -> Sequence[Attachment]:
        return self._list(_LIST_OF_ENTRY, "uid", entry)

    def list_of_target(self, target: str) -> Sequence[Attachment]:
        return self._list(_LIST_OF_TARGET, "named", target)

    def list(self, config: ConfigID | None = None) -> Sequence[Attachment]:
        if config is not None:
            return self._list(_LIST_OF_CONFIG, "wanted_config", config)
        return [_attachment(row) for row in self._transaction.execute(_LIST)]

    def count_groups(self) -> Mapping[AttachmentGroup, int]:
        return {
            AttachmentGroup(row.target, Stage(row.stage), bool(row.is_as_wanted)): row.number
            for row in self._transaction.execute(_COUNT_GROUPS)
        }

    def _list(self, statement: sa.Select[Any], parameter: str, value: str) -> Sequence[Attachment]:
        if not is_storable(value):
            return []
        return [_attachment(row) for row in self._transaction.execute(statement, {parameter: value})]


def _values(attachment: Attachment) -> Mapping[str, Any]:
    return {
        "id": attachment.id,
        **values_of(attachment.listener),
        "provider": attachment.provider,
        "kind": attachment.kind,
        "config": attachment.config,
        "entry_id": attachment.entry_id,
        "entry_uid": attachment.entry_uid,
        "needed_entry": attachment.entry_uid if attachment.wanted is Wanted.ATTACHED else None,
        "is_default": attachment.is_default,
        "wanted": attachment.wanted.value,
        "promised": attachment.promised,
        "created_at": attachment.created_at,
        "updated_at": attachment.updated_at,
        "stage": attachment.stage.value,
        "replaces": attachment.replaces,
        "version": attachment.version,
        "handle": attachment.handle,
        "proof": proof_to_json(attachment.proof) if attachment.proof else None,
        "problem": problem_to_json(attachment.problem) if attachment.problem else None,
        "client_policy": mark_to_json(attachment.client_policy),
    }


def _attachment(row: sa.Row[Any]) -> Attachment:
    return Attachment(
        id=row.id,
        listener=key_from(row),
        provider=row.provider,
        kind=row.kind,
        config=row.config,
        entry_id=row.entry_id,
        entry_uid=row.entry_uid,
        is_default=row.is_default,
        wanted=Wanted(row.wanted),
        promised=row.promised,
        created_at=row.created_at,
        updated_at=row.updated_at,
        stage=Stage(row.stage),
        replaces=row.replaces,
        version=row.version,
        handle=row.handle,
        proof=proof_from_json(row.proof) if row.proof is not None else None,
        problem=problem_from_json(row.problem) if row.problem is not None else None,
        client_policy=mark_from_json(row.client_policy),
    )
