"""The certificate use-cases: each function is one transaction's work, run inside `Store.read` or `Store.write`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certorbit.deploying.client_policies import redeploy_bundle
from certorbit.deploying.starting import take_over
from certorbit.errors import (
    BadIdentifier,
    BadInput,
    BuiltIn,
    EntryExists,
    LostRace,
    NotFound,
)
from certorbit.model.ca_limits import FOR_SERVERS_ALONE
from certorbit.model.change import Change
from certorbit.model.change_states import change_of_entry
from certorbit.model.commands import ChangeEntry, Generate, Upload
from certorbit.model.entry import (
    PLACEHOLDER,
    ConfigID,
    Entry,
    EntryID,
    EntryUID,
    Side,
    Source,
)
from certorbit.model.identifiers import Identifier
from certorbit.model.operation import OperationID, OperationKind
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import UnitOfWork
from certorbit.services.configurations import lock_configuration
from certorbit.services.first_version import make_first_version
from certorbit.services.input_digest import digest_generate, digest_upload
from certorbit.services.links import check_not_own, hand_over, let_go
from certorbit.services.operations import cancel, start
from certorbit.tls_settings import TLSSettings

PRIORITY_INTERACTIVE = 10  # engine.md: renewals have 50, housekeeping 90; unset would beat them all


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a POST led to. operation: the issuance to wait for; None: the certificate is stored already."""

    operation: OperationID | None


def list_entries(tx: UnitOfWork, config: ConfigID) -> Sequence[Entry]:
    """Return the configuration's entries, `placeholder` first, then by id.

    Raises:
        NotFound: no such configuration.
    """
    check_configuration(tx, config)
    return tx.entries.list(config)


def get_entry(tx: UnitOfWork, config: ConfigID, entry_id: EntryID) -> Entry:
    """Return one entry.

    Raises:
        NotFound: no such configuration, or no such entry in it.
    """
    entry = tx.entries.find(config, entry_id)
    if entry is None:
        check_configuration(tx, config)
        raise NotFound(f"There is no certificate {entry_id!r} in configuration {config!r}.", subject=entry_id)
    return entry


def check_configuration(tx: UnitOfWork, config: ConfigID) -> None:
    """Raise NotFound unless the configuration exists."""
    if tx.configurations.find(config) is None:
        raise NotFound(f"There is no configuration {_show(config)}.", subject="config")


def upload(
    tx: UnitOfWork, command: Upload, *, by: str, now: datetime, new_id: Callable[[], str], keyring: Keyring
) -> Accepted:
    """Store uploaded material as a new entry.

    A repeat of the same input changes nothing (contract.md: clients resend a POST after 30 s).

    by: name of the caller's key, for the change history.

    Raises:
        NotFound: no such configuration. BuiltIn: the id is `placeholder`. EntryExists: the id has other input.
    """
    check_configuration(tx, command.config)
    digest = digest_upload(command)
    existing = tx.entries.find(command.config, command.id)
    if existing is not None:
        _check_same_input(existing, digest)
        return Accepted(operation=None)
    uid = EntryUID(new_id())
    material = command.material
    version = make_first_version(uid, material, Source.UPLOADED, now=now, new_id=new_id, keyring=keyring)
    entry = Entry(
        uid=uid,
        config=command.config,
        id=command.id,
        side=command.side,
        source=Source.UPLOADED,
        le_auto_renew=command.le_auto_renew,
        le_auto_replace=command.le_auto_replace,
        identifiers=material.facts.san,
        provider_links=command.provider_links,
        crl=command.crl,
        input_digest=digest,
        uploaded=now,
        current=version,
    )
    tx.entries.add(entry)
    if not command.side.is_ca_bundle:
        tx.schedules.look_at(uid, now)
    tx.configurations.record(command.config, [change_of_entry(None, entry)], by=by, now=now)
    return Accepted(operation=None)


def generate(
    tx: UnitOfWork,
    command: Generate,
    *,
    by: str,
    now: datetime,
    new_id: Callable[[], str],
    covers: Callable[[Identifier], bool],
    issuer: str = "",
) -> Accepted:
    """Record an entry, its operation and its workflow, all in this transaction.

    When it commits, the issuance goes on whatever crashes (docs/decisions/0005). A repeat of the same input attaches
    to the issuance that is under way, or finds it done; it starts none.

    by: name of the caller's key, for the change history. issuer: who is asked first; it is written down at once,
        because the settings may be others when the workflow begins (docs/decisions/0013).

    Raises:
        NotFound, BuiltIn, EntryExists: as for `upload`.
        BadIdentifier: a name that `covers` says no solver of the issuer can prove. BadInput: a CA side.
    """
    check_configuration(tx, command.config)
    digest = digest_generate(command)
    existing = tx.entries.find(command.config, command.id)
    if existing is not None:
        _check_same_input(existing, digest)
        unfinished = tx.operations.lock_unfinished(existing.uid)
        if unfinished is None and existing.current is None:
            # Its issuance failed between our two looks and took the entry with it: look again.
            raise LostRace(f"the entry {existing.id!r} went away")
        return Accepted(operation=unfinished.id if unfinished else None)
    _check_can_generate(command, covers=covers)
    entry = Entry(
        uid=EntryUID(new_id()),
        config=command.config,
        id=command.id,
        side=command.side,
        source=Source.GENERATED,
        le_auto_renew=command.le_auto_renew,
        le_auto_replace=command.le_auto_replace,
        identifiers=tuple(identifier.value for identifier in command.identifiers),
        provider_links=command.provider_links,
        crl=(),
        input_digest=digest,
        uploaded=now,
        current=None,
    )
    tx.entries.add(entry)
    operation = start(
        tx, entry, OperationKind.ISSUE, priority=PRIORITY_INTERACTIVE, issuer=issuer, now=now, new_id=new_id
    )
    tx.configurations.record(command.config, [change_of_entry(None, entry)], by=by, now=now, operation=operation.id)
    return Accepted(operation=operation.id)


def change(tx: UnitOfWork, command: ChangeEntry, *, by: str, now: datetime, new_id: Callable[[], str]) -> None:
    """Change an entry's flags; with `replace`, put it in another one's place, on load balancers too.

    A repeat that changes nothing is not counted as a change.

    by: name of the caller's key, for the change history.

    Raises:
        NotFound: no such configuration or entry. BuiltIn: the placeholder. BadInput: `replace` names no entry, or one
            whose place this one can't take.
    """
    lock_configuration(tx, command.config)
    entry = get_entry(tx, command.config, command.id)
    check_not_built_in(entry.id)
    old = _find_replaced(tx, command)
    changed = replace(entry, le_auto_renew=command.le_auto_renew, le_auto_replace=command.le_auto_replace)
    changes: list[Change] = []
    if changed != entry:
        tx.entries.update_flags(entry.uid, le_auto_renew=command.le_auto_renew, le_auto_replace=command.le_auto_replace)
        tx.schedules.look_at(entry.uid, now)
        changes.append(change_of_entry(entry, changed))
    if old is not None and old.id != entry.id:
        changes += hand_over(tx, old=old, new=entry)
        changes += take_over(tx, old, entry, now=now, new_id=new_id)
        redeploy_bundle(tx, entry, now=now, new_id=new_id)
    if changes:
        tx.configurations.record(command.config, changes, by=by, now=now)


def delete(
    tx: UnitOfWork, config: ConfigID, entry_id: EntryID, *, by: str, now: datetime, own_tls: TLSSettings
) -> None:
    """Delete an entry with its versions; an issuance under way for it is cancelled.

    Server groups that serve it fall back to `placeholder`.

    by: name of the caller's key, for the change history. own_tls: what the service itself uses.

    Raises:
        NotFound: no such configuration or entry. BuiltIn: the placeholder.
        InUse: the service itself uses it, load balancers hold it, or server groups check client certificates by it.
    """
    entry = get_entry(tx, config, entry_id)
    check_not_built_in(entry.id)
    check_not_own(entry, own_tls)
    unfinished = tx.operations.lock_unfinished(entry.uid)
    lock_configuration(tx, config)
    changes = let_go(tx, entry)
    if unfinished is not None:
        cancel(tx, unfinished, now=now)
    tx.entries.delete(entry.uid)
    tx.configurations.record(config, [*changes, change_of_entry(entry, None)], by=by, now=now)


def check_not_built_in(entry_id: EntryID) -> None:
    """Raise BuiltIn for the placeholder."""
    if entry_id == PLACEHOLDER:
        raise BuiltIn(
            f"The certificate {PLACEHOLDER!r} is built in; it can't be changed or deleted.", subject="entry_id"
        )


def check_issuer(side: Side, directory: str) -> None:
    """Raise BadInput if the CA is known to issue nothing that is of use for the side. directory: of the CA."""
    if side is Side.SERVER_TO_BACKEND_MTLS and directory in FOR_SERVERS_ALONE:
        raise BadInput(
            f"side: {side} needs a certificate for TLS clients, and the CA at {directory} issues for servers alone. Put"
            " the built-in CA or another private one first among the [[issuers]] of this configuration, or upload the"
            " certificate.",
            subject="side",
        )


def _find_replaced(tx: UnitOfWork, command: ChangeEntry) -> Entry | None:
    if command.replace is None:
        return None
    found = tx.entries.find(command.config, command.replace)
    if found is None:
        raise BadInput(
            f"replace_cert_id: there is no certificate {_show(command.replace)} in configuration"
            f" {command.config!r}; name the one whose place {command.id!r} takes.",
            subject="replace_cert_id",
        )
    return found


def _check_same_input(entry: Entry, digest: str) -> None:
    check_not_built_in(entry.id)
    if entry.input_digest != digest:
        raise EntryExists(
            f"There is a certificate {entry.id!r} in configuration {entry.config!r} already, made from other input."
            " Use another id, or delete it first.",
            subject="entry_id",
        )


def _check_can_generate(command: Generate, *, covers: Callable[[Identifier], bool]) -> None:
    if command.side.is_ca_bundle:
        raise BadInput(f"side: a {command.side} bundle can't be generated; upload its CA certificates.", subject="side")
    bare = [identifier for identifier in command.identifiers if not covers(identifier)]
    wildcards = [identifier.value for identifier in bare if identifier.is_wildcard]
    if wildcards:
        raise BadIdentifier(
            f"domains: {_list(wildcards)} needs a DNS-01 solver, and none is configured for it. Add a [[solvers]] table"
            " for its zone (docs/dns-01.md), name the hosts one by one, or upload the certificate.",
            subject="domains",
        )
    if bare:
        raise BadIdentifier(
            f"domains: no solver is configured for {_list([identifier.value for identifier in bare])}. Add a"
            " [[solvers]] table that covers it (docs/dns-01.md).",
            subject="domains",
        )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _show(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
