"""Revoking a certificate at its CA, and what takes its place (RFC 8555 §7.6).

Not one transaction: the CA is asked between two, and the audit trail says so before it is. Who dies in the middle, or
whose client repeats the request, loses nothing: the CA takes a second revocation as done, and the replacement is
started once.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from certorbit.clock import Clock
from certorbit.errors import BadInput, CertorbitError, IssuerRefused, RateLimited, Unreachable
from certorbit.model.audit import Action, AuditEvent
from certorbit.model.crl import KEY_COMPROMISE, Verdict, VerdictState
from certorbit.model.entry import ConfigID, Entry, EntryID, Source, Version, VersionID
from certorbit.model.operation import Operation, OperationID, OperationKind, OperationState
from certorbit.model.revocation import RevocationReason
from certorbit.ports.issuer import Issuer
from certorbit.ports.store import Store, UnitOfWork
from certorbit.services.operations import cancel
from certorbit.services.permitting import ConfigIssuers, find_next_version
from certorbit.services.renewals import (
    check_renewable,
    find_schedule,
    record_started,
    start_next_attempt,
    start_operation,
)
from certorbit.services.versions import get_versions, list_versions

log = structlog.get_logger(__name__)

LONGEST_SECONDS = 25.0  # clients time out at 30 (contract.md); a repeat is harmless


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What is to be revoked and why. version: None for the current one."""

    config: ConfigID
    entry: EntryID
    version: VersionID | None
    reason: RevocationReason


@dataclass(frozen=True, slots=True)
class Revoked:
    """version: which one was revoked. operation: what gives the entry its next version; None: nothing does."""

    version: VersionID
    operation: OperationID | None


async def revoke(
    command: Revocation,
    *,
    store: Store,
    issuers: Sequence[Issuer],
    clock: Clock,
    new_id: Callable[[], str],
    limit_seconds: float = LONGEST_SECONDS,
) -> Revoked:
    """Revoke a version at the CA that issued it; start a replacement if the entry renews automatically.

    A replacement is started only for the version in use, and for another one if its key is compromised and the one in
    use has the same key. It is started even if an operator paused the renewal: nobody wants to serve a revoked
    certificate. After a compromise of the key the replacement has a new key whatever the settings say.

    limit_seconds: how long the CA is waited for.

    Raises:
        NotFound: no such entry or version. BuiltIn: the placeholder.
        BadInput: it is uploaded, not yet issued, its issuer is not configured any more, or the CA refused.
        Unreachable: the CA did not answer. RateLimited: it is to be asked later.
    """
    version, issuer = await store.write(lambda tx: _begin(tx, command, issuers, now=clock.now()))
    try:
        await _ask_issuer(issuer, version, reason=command.reason, limit_seconds=limit_seconds)
    except CertorbitError as error:
        problem = error.message
        await store.write(
            lambda tx: _record(tx, Action.REVOCATION_FAILED, command, version, now=clock.now(), problem=problem)
        )
        raise
    log.info(
        "certificate.revoked",
        config=command.config,
        entry=command.entry,
        version=version.id,
        issuer=issuer.name,
        serial=version.facts.serial,
        reason=command.reason.name,
    )
    operation = await store.write(lambda tx: _finish(tx, command, version, clock=clock, new_id=new_id))
    return Revoked(version.id, operation.id if operation else None)


def replace_revoked(
    tx: UnitOfWork,
    entry: Entry,
    *,
    verdict: Verdict,
    is_news: bool,
    issuers: ConfigIssuers,
    now: datetime,
    new_id: Callable[[], str],
) -> Operation | None:
    """Start what takes the place of a current version that its CA has revoked; None: nothing does.

    A generated certificate is renewed with a new key, an uploaded one replaced, both only where that happens by itself
    (`find_next`); a paused renewal is no obstacle, as for `revoke`. May be called at every look: what is under way
    goes on, but for a renewal that may keep a compromised key.

    Args:
        is_news: it was not known to be revoked before: an operation that waits for its next attempt starts it now.
        issuers: of the configuration.
    """
    schedule = find_schedule(tx, entry.uid)
    following = find_next_version(entry, schedule, issuers)
    kind = following.kind
    if kind is None:
        return None
    unfinished = tx.operations.lock_unfinished(entry.uid)
    if unfinished is not None and unfinished.kind is OperationKind.RENEW and verdict.reason == KEY_COMPROMISE:
        cancel(tx, unfinished, now=now)
        unfinished = None
    if unfinished is None:
        tx.failures.forget(entry.identifiers)
        new_kind = OperationKind.REKEY if kind is OperationKind.RENEW else kind
        asked = schedule.issuer if kind is OperationKind.RENEW else following.issuers[0]
        started = start_operation(tx, entry, new_kind, issuer=asked, now=now, new_id=new_id)
    elif is_news and unfinished.state is OperationState.WAITING:
        started = start_next_attempt(tx, unfinished, issuer="", now=now)
    else:
        return unfinished
    record_started(tx, Action.REPLACEMENT_STARTED, started, now=now, why={"revocation_reason": verdict.reason})
    return started


def _begin(tx: UnitOfWork, command: Revocation, issuers: Sequence[Issuer], *, now: datetime) -> tuple[Version, Issuer]:
    """Return what is to be revoked and who is asked, written down before anybody is."""
    version = _find_version(tx, command)
    issuer = next((issuer for issuer in issuers if issuer.name == version.issuer_name), None)
    if issuer is None:
        raise BadInput(
            f"The issuer {version.issuer_name!r}, which made this version, is not configured any more; configure it"
            " again, or revoke the certificate at the CA by its own means.",
            subject="issuer",
        )
    _record(tx, Action.REVOCATION_ASKED, command, version, now=now)
    return version, issuer


def _find_version(tx: UnitOfWork, command: Revocation) -> Version:
    version: Version | None
    if command.version is None:
        entry, _ = list_versions(tx, command.config, command.entry)
        version = entry.current
    else:
        entry, (version,) = get_versions(tx, command.config, command.entry, command.version)
    check_renewable(entry)
    if version is None:
        raise BadInput(f"The certificate {command.entry!r} is not issued yet; delete it instead.", subject="entry_id")
    if version.source is not Source.GENERATED:
        raise BadInput(
            "The version was uploaded, so only whoever ordered it can have it revoked: at its CA.", subject="version"
        )
    return version


async def _ask_issuer(issuer: Issuer, version: Version, *, reason: RevocationReason, limit_seconds: float) -> None:
    try:
        async with asyncio.timeout(limit_seconds):
            await issuer.revoke(version.chain_pem, reason=reason.value)
    except TimeoutError as error:
        raise Unreachable(
            f"The CA {issuer.name} has not answered within {limit_seconds:g} seconds; it may have revoked the"
            f" certificate all the same. Try again, and name the version {version.id}.",
            subject=issuer.name,
            phase="read",
        ) from error
    except RateLimited:
        raise
    except IssuerRefused as refused:
        raise BadInput(refused.message, subject="reason") from refused


def _finish(
    tx: UnitOfWork, command: Revocation, version: Version, *, clock: Clock, new_id: Callable[[], str]
) -> Operation | None:
    operation = _start_replacement(tx, version, reason=command.reason, clock=clock, new_id=new_id)
    _note_verdict(tx, command, version, now=clock.now())
    started = operation.id if operation else ""
    _record(tx, Action.CERTIFICATE_REVOKED, command, version, now=clock.now(), operation=started)
    return operation


def _note_verdict(tx: UnitOfWork, command: Revocation, version: Version, *, now: datetime) -> None:
    """Write down that the version is revoked, by the CA's own word; lists will say so later.

    Also of one that is not the current one any more, which no look comes to: nobody may go back to it unaware.
    """
    told = Verdict(
        state=VerdictState.REVOKED,
        reason=command.reason.word,
        revoked_at=now,
        checked_at=now,
        sources=(f"the answer of {version.issuer_name}",),
    )
    tx.revocations.put_verdict(version.id, told, look_at=now)


def _record(
    tx: UnitOfWork,
    action: Action,
    command: Revocation,
    version: Version,
    *,
    now: datetime,
    operation: str = "",
    problem: str = "",
) -> None:
    details = {
        "version": version.id,
        "serial": version.facts.serial,
        "issuer": version.issuer_name,
        "reason": command.reason.name,
    }
    event = AuditEvent(
        action=action,
        config=command.config,
        objects=(command.entry,),
        operation=operation,
        details=details | ({"problem": problem} if problem else {}),
    )
    tx.audit.add(event, now=now)


def _start_replacement(
    tx: UnitOfWork, revoked: Version, *, reason: RevocationReason, clock: Clock, new_id: Callable[[], str]
) -> Operation | None:
    entry = tx.entries.get_by_uid(revoked.entry_uid)
    if entry is None or not _needs_replacement(entry, revoked, reason=reason):
        return None
    now = clock.now()
    kind = OperationKind.REKEY if reason is RevocationReason.KEY_COMPROMISE else OperationKind.RENEW
    unfinished = tx.operations.lock_unfinished(entry.uid)
    if unfinished is not None and kind is OperationKind.REKEY and unfinished.kind is not OperationKind.REKEY:
        cancel(tx, unfinished, now=now)  # it may be about to reuse the key
        unfinished = None
    if unfinished is None:
        tx.failures.forget(entry.identifiers)
        return start_operation(tx, entry, kind, issuer=find_schedule(tx, entry.uid).issuer, now=now, new_id=new_id)
    if unfinished.state is OperationState.WAITING:
        return start_next_attempt(tx, unfinished, issuer="", now=now)
    return unfinished


def _needs_replacement(entry: Entry, revoked: Version, *, reason: RevocationReason) -> bool:
    current = entry.current
    if current is None or current.source is not Source.GENERATED or not entry.le_auto_renew:
        return False
    shares_key = current.facts.public_key_sha256 == revoked.facts.public_key_sha256
    return current.id == revoked.id or (shares_key and reason is RevocationReason.KEY_COMPROMISE)
