"""Load balancers: listed, attached to, detached from. What is asked for is written down; a workflow does it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certorbit.deploying.locking import lock_attachments
from certorbit.deploying.starting import PRIORITY_INTERACTIVE, ensure_deployment
from certorbit.errors import BadInput, Broken, InUse, Refused
from certorbit.model.balancer import Listener, is_same_link
from certorbit.model.change import Change
from certorbit.model.change_states import change_of_attachment
from certorbit.model.deployment import Attachment, AttachmentID, Stage, Wanted
from certorbit.model.entry import ConfigID, Entry, EntryID
from certorbit.model.operation import OperationID
from certorbit.ports.store import UnitOfWork
from certorbit.services.certificates import check_not_built_in, get_entry
from certorbit.services.configurations import lock_configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """Let the listener serve the entry.

    listener: as its provider shows it now: its room is counted first.
    reaches: whether the caller may change a configuration: another one's default isn't displaced by who may not.
    """

    config: ConfigID
    entry: EntryID
    listener: Listener
    as_default: bool
    reaches: Callable[[ConfigID], bool]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request led to. attachment: whose end it waits for. operation: None: it is so already, or later."""

    attachment: AttachmentID
    operation: OperationID | None


def check_attachable(tx: UnitOfWork, config: ConfigID, entry_id: EntryID) -> None:
    """Raise what `attach` would, as far as the certificate is concerned: before a provider is asked."""
    entry = get_entry(tx, config, entry_id)
    check_not_built_in(entry.id)
    _check_servable(entry)


def attach(tx: UnitOfWork, command: Attach, *, by: str, now: datetime, new_id: Callable[[], str]) -> Asked:
    """Write down that the listener shall serve the entry, and start its deployment. Repeating it is harmless.

    Raises:
        NotFound: no such configuration or certificate. BadInput: it can't be served, or the listener is full.
        InUse: the default that it would displace is of a configuration that the caller may not change.
    """
    listener = command.listener
    lock_configuration(tx, command.config)
    entry = get_entry(tx, command.config, command.entry)
    check_not_built_in(entry.id)
    _check_servable(entry)
    rows = tx.attachments.lock_listener(listener.key)
    present = next((row for row in rows if row.entry_uid == entry.uid), None)
    is_default = command.as_default or listener.max_certificates == 0 or (present is not None and present.is_default)
    if present is not None and present.wanted is Wanted.ATTACHED and present.is_default == is_default:
        if present.stage is Stage.PROVEN and entry.current and present.version == entry.current.id:
            return Asked(present.id, None)
        return _start(tx, entry, present.id, now=now, new_id=new_id)
    _check_not_expired(entry, now=now)
    _check_room(listener, rows, entry, is_default=is_default)
    former = find_default(rows, besides=entry) if is_default else None
    changes = displace(tx, former, entry.config, reaches=command.reaches, by=by, now=now) if former else []
    wish = make_wish(listener, entry, present, is_default=is_default, promised=False, now=now, new_id=new_id)
    if former is not None and listener.max_certificates == 0:
        # The only place of a listener can't be shared: who had it is taken off.
        wish = replace(wish, replaces=former.entry_uid)
    put_wish(tx, wish, is_new=present is None)
    before = present if present and present.wanted is Wanted.ATTACHED else None
    asked = _start(tx, entry, wish.id, now=now, new_id=new_id)
    changes.append(change_of_attachment(before, wish))
    tx.configurations.record(entry.config, changes, by=by, now=now, operation=asked.operation or "")
    return asked


def make_wish(
    listener: Listener,
    entry: Entry,
    present: Attachment | None,
    *,
    is_default: bool,
    promised: bool,
    now: datetime,
    new_id: Callable[[], str],
) -> Attachment:
    """Return the wish that the listener serves the entry; nothing of it is done yet.

    present: what there is of the entry on the listener, wanted or not: what was proven there stays known, and what its
    clients are checked by stays wanted, for only a server group lifts that.
    """
    known = present or Attachment(
        id=AttachmentID(new_id()),
        listener=listener.key,
        provider=listener.provider,
        kind=listener.kind,
        config=entry.config,
        entry_id=entry.id,
        entry_uid=entry.uid,
        is_default=is_default,
        wanted=Wanted.ATTACHED,
        promised=promised,
        created_at=now,
        updated_at=now,
    )
    return replace(
        known,
        provider=listener.provider,
        kind=listener.kind,
        is_default=is_default,
        wanted=Wanted.ATTACHED,
        promised=promised,
        updated_at=now,
        stage=Stage.PENDING,
        replaces=None,
        proof=None,
        problem=None,
    )


def put_wish(tx: UnitOfWork, wish: Attachment, *, is_new: bool) -> None:
    """Write the wish down."""
    if is_new:
        tx.attachments.add(wish)
    else:
        tx.attachments.update(wish)


def find_default(rows: Sequence[Attachment], *, besides: Entry) -> Attachment | None:
    """Return the attachment of another entry that is the listener's default. rows: all of the listener's."""
    return next((row for row in rows if row.is_default and row.entry_uid != besides.uid), None)


def displace(
    tx: UnitOfWork, former: Attachment, config: ConfigID, *, reaches: Callable[[ConfigID], bool], by: str, now: datetime
) -> list[Change]:
    """Let a listener's default be it no longer, because one of the configuration takes its place.

    Returns: the change, for the configuration's history; none if it is another configuration's, which gets it at once.

    Raises:
        InUse: it is of a configuration that the caller may not change.
    """
    if not reaches(former.config):
        raise InUse(
            f"The default certificate of {former.listener} belongs to a configuration that your key may not change."
            " Attach yours beside it (default=false), or let a key for both configurations do this.",
            subject="listener",
        )
    after = replace(former, is_default=False, updated_at=now)
    tx.attachments.update(after)
    change = change_of_attachment(former, after)
    if former.config == config:
        return [change]
    lock_configuration(tx, former.config)
    tx.configurations.record(former.config, [change], by=by, now=now)
    return []


def detach(
    tx: UnitOfWork,
    config: ConfigID,
    certificate: str,
    listener: Listener,
    *,
    by: str,
    now: datetime,
    new_id: Callable[[], str],
) -> Asked | None:
    """Write down that the listener shall not serve the certificate, and start that. Repeating it is harmless.

    certificate: an entry's id, or the link of one of its copies.

    Returns: None if it isn't on the listener.

    Raises:
        NotFound: no such configuration. BadInput: the certificate is unknown. InUse: it is the listener's default.
    """
    lock_configuration(tx, config)
    rows = [row for row in tx.attachments.lock_listener(listener.key) if row.config == config]
    row = next((row for row in rows if _is_meant(tx, row, certificate)), None)
    if row is None:
        if tx.entries.find(config, EntryID(certificate)) is None and not _is_known_link(tx, config, certificate):
            raise BadInput(
                f"certificate-id: {certificate[:120]!r} is no certificate of configuration {config!r} and no link of"
                " one; GET load-balancers shows what the listener has.",
                subject="certificate-id",
            )
        return None
    if row.is_default:
        raise InUse(
            f"The certificate {row.entry_id!r} is the default of {listener.key}; a default can't be detached. Make"
            " another certificate its default first (default=true).",
            subject="certificate-id",
        )
    entry = tx.entries.get_by_uid(row.entry_uid)
    if entry is None:
        raise Broken(f"The attachment {row.id} has no entry.")
    if row.wanted is Wanted.ATTACHED:
        wish = replace(row, wanted=Wanted.DETACHED, promised=False, problem=None, updated_at=now)
        tx.attachments.update(wish)
    asked = _start(tx, entry, row.id, now=now, new_id=new_id)
    if row.wanted is Wanted.ATTACHED:
        changes = [change_of_attachment(row, None)]
        tx.configurations.record(config, changes, by=by, now=now, operation=asked.operation or "")
    return asked


def settle(tx: UnitOfWork, asked: Asked) -> None:
    """Return if what was asked for is so, or goes on: then that is written down, for the client is told 200.

    Raises:
        Refused: it failed for good and was taken back; the message has the reason.
    """
    row = tx.attachments.find(asked.attachment)
    if row is not None:
        row = lock_attachments(tx, [row.listener]).get(row.id)
    if row is not None and not row.promised:
        tx.attachments.update(replace(row, promised=True))
        return
    rollout = tx.rollouts.find(asked.operation, asked.attachment) if asked.operation else None
    if rollout is None or rollout.problem is None:
        return
    if rollout.to_version is None:
        is_taken_back = row is not None
    else:
        is_taken_back = row is None or (rollout.is_default and not row.is_default)
    if is_taken_back:
        raise Refused(rollout.problem.message, subject="listener")


def _start(
    tx: UnitOfWork, entry: Entry, attachment: AttachmentID, *, now: datetime, new_id: Callable[[], str]
) -> Asked:
    operation = ensure_deployment(tx, entry, priority=PRIORITY_INTERACTIVE, now=now, new_id=new_id)
    return Asked(attachment, operation.id if operation else None)


def _check_servable(entry: Entry) -> None:
    if entry.side.value != "server":
        raise BadInput(
            f"The certificate {entry.id!r} has side {entry.side}; load balancers serve certificates of side server.",
            subject="certificate-id",
        )


def _check_not_expired(entry: Entry, *, now: datetime) -> None:
    """Raise BadInput if no client would accept it. What is attached already may expire there: it is to be renewed."""
    if entry.current is not None and entry.current.facts.not_after <= now:
        raise BadInput(
            f"The certificate {entry.id!r} ended on {entry.current.facts.not_after:%Y-%m-%d}; clients would refuse it."
            " Renew it first (POST …/renew), or upload its successor. Nothing was changed.",
            subject="certificate-id",
        )


def _check_room(listener: Listener, rows: Sequence[Attachment], entry: Entry, *, is_default: bool) -> None:
    """Raise BadInput if the certificate, or the default that it takes the place of, has no place on the listener."""
    if listener.max_certificates == 0:
        return
    going = {row.handle for row in rows if row.wanted is Wanted.DETACHED}
    own = {row.handle for row in rows if row.entry_uid == entry.uid}
    held = {handle for handle in listener.certificates if handle != listener.default} - going - own
    coming = [
        row
        for row in rows
        if row.wanted is Wanted.ATTACHED
        and row.entry_uid != entry.uid
        and not row.is_default
        and row.handle not in held
        and not (row.handle and row.handle == listener.default)
    ]
    wanted = 1
    if is_default:
        wanted = 1 if find_default(rows, besides=entry) is not None else 0
    total = len(held) + len(coming) + wanted
    if total > listener.max_certificates:
        raise BadInput(
            f"The listener {listener.key} takes {listener.max_certificates} certificates beside its default and has"
            f" {len(held) + len(coming)}; detach one first. Nothing was changed.",
            subject="listener",
        )


def _is_meant(tx: UnitOfWork, row: Attachment, certificate: str) -> bool:
    if certificate == row.entry_id:
        return True
    return any(
        is_same_link(certificate, link=copy.link, handle=copy.handle, entry=copy.entry_id)
        for copy in tx.copies.list_of_entry(row.entry_uid)
        if copy.target == row.listener.target
    )


def _is_known_link(tx: UnitOfWork, config: ConfigID, certificate: str) -> bool:
    return any(
        is_same_link(certificate, link=copy.link, handle=copy.handle, entry=copy.entry_id)
        for copy in tx.copies.list(config)
    )
