"""One transaction's view of the store: the repositories, and the enqueue."""

import sqlite3
from collections.abc import Callable

import sqlalchemy as sa

from certorbit.errors import Broken
from certorbit.model.audit import Actor
from certorbit.ports.store import Job
from certorbit.storage.accounts import SQLAccounts
from certorbit.storage.api_keys import SQLAPIKeys
from certorbit.storage.attachments import SQLAttachments
from certorbit.storage.audit import SQLAuditTrail
from certorbit.storage.authorities import SQLAuthorities
from certorbit.storage.challenges import SQLChallenges
from certorbit.storage.configurations import SQLConfigurations
from certorbit.storage.copies import SQLCopies
from certorbit.storage.entries import SQLEntries
from certorbit.storage.identifier_failures import SQLIdentifierFailures
from certorbit.storage.key_encryption_keys import SQLKeyEncryptionKeys
from certorbit.storage.keyring_checks import SQLKeyringChecks
from certorbit.storage.limits import SQLLimitBuckets
from certorbit.storage.listeners import SQLListeners
from certorbit.storage.named_turns import SQLNamedTurns
from certorbit.storage.operations import SQLOperations
from certorbit.storage.orders import SQLOrderLedger
from certorbit.storage.quotas import SQLQuotas
from certorbit.storage.read_only_modes import SQLReadOnlyModes
from certorbit.storage.regions import SQLRegions
from certorbit.storage.revocations import SQLRevocations
from certorbit.storage.rollouts import SQLRollouts
from certorbit.storage.schedules import SQLSchedules
from certorbit.storage.sealed_secrets import SQLSealedSecrets
from certorbit.storage.sessions import SQLSessions
from certorbit.storage.shelves import SQLShelves
from certorbit.storage.sites import SQLSites
from certorbit.storage.transaction import Transaction
from certorbit.storage.upkeep import SQLUpkeepCounts

# Enqueues a job through the given connection, inside its transaction (`DBOSClient.enqueue_in_transaction`).
Enqueue = Callable[[sa.Connection, Job], None]


class SQLUnitOfWork:
    """Repositories are made when asked for: most transactions need one or two."""

    __slots__ = ("_enqueue", "_transaction")

    def __init__(self, transaction: Transaction, *, enqueue: Enqueue | None) -> None:
        self._transaction = transaction
        self._enqueue = enqueue

    def acting(self, actor: Actor) -> "SQLUnitOfWork":
        """Return the same transaction as the actor's doing."""
        return SQLUnitOfWork(self._transaction.acting(actor), enqueue=self._enqueue)

    @property
    def audit(self) -> SQLAuditTrail:
        return SQLAuditTrail(self._transaction)

    @property
    def configurations(self) -> SQLConfigurations:
        return SQLConfigurations(self._transaction)

    @property
    def entries(self) -> SQLEntries:
        return SQLEntries(self._transaction)

    @property
    def operations(self) -> SQLOperations:
        return SQLOperations(self._transaction)

    @property
    def orders(self) -> SQLOrderLedger:
        return SQLOrderLedger(self._transaction)

    @property
    def limits(self) -> SQLLimitBuckets:
        return SQLLimitBuckets(self._transaction)

    @property
    def failures(self) -> SQLIdentifierFailures:
        return SQLIdentifierFailures(self._transaction)

    @property
    def schedules(self) -> SQLSchedules:
        return SQLSchedules(self._transaction)

    @property
    def accounts(self) -> SQLAccounts:
        return SQLAccounts(self._transaction)

    @property
    def challenges(self) -> SQLChallenges:
        return SQLChallenges(self._transaction)

    @property
    def api_keys(self) -> SQLAPIKeys:
        return SQLAPIKeys(self._transaction)

    @property
    def read_only_modes(self) -> SQLReadOnlyModes:
        return SQLReadOnlyModes(self._transaction)

    @property
    def authorities(self) -> SQLAuthorities:
        return SQLAuthorities(self._transaction)

    @property
    def keyring_checks(self) -> SQLKeyringChecks:
        return SQLKeyringChecks(self._transaction)

    @property
    def key_encryption_keys(self) -> SQLKeyEncryptionKeys:
        return SQLKeyEncryptionKeys(self._transaction)

    @property
    def sealed_secrets(self) -> SQLSealedSecrets:
        return SQLSealedSecrets(self._transaction)

    @property
    def listeners(self) -> SQLListeners:
        return SQLListeners(self._transaction)

    @property
    def attachments(self) -> SQLAttachments:
        return SQLAttachments(self._transaction)

    @property
    def copies(self) -> SQLCopies:
        return SQLCopies(self._transaction)

    @property
    def revocations(self) -> SQLRevocations:
        return SQLRevocations(self._transaction)

    @property
    def rollouts(self) -> SQLRollouts:
        return SQLRollouts(self._transaction)

    @property
    def sites(self) -> SQLSites:
        return SQLSites(self._transaction)

    @property
    def regions(self) -> SQLRegions:
        return SQLRegions(self._transaction)

    @property
    def quotas(self) -> SQLQuotas:
        return SQLQuotas(self._transaction)

    @property
    def sessions(self) -> SQLSessions:
        return SQLSessions(self._transaction)

    @property
    def shelves(self) -> SQLShelves:
        return SQLShelves(self._transaction)

    @property
    def named_turns(self) -> SQLNamedTurns:
        return SQLNamedTurns(self._transaction)

    @property
    def upkeep(self) -> SQLUpkeepCounts:
        return SQLUpkeepCounts(self._transaction)

    def enqueue(self, job: Job) -> None:
        """Enqueue the job in this transaction.

        Raises:
            Broken: this store was not joined with an engine (`SQLStore.connect_enqueue`).
        """
        if self._enqueue is None:
            raise Broken(f"The job {job.workflow_id} can't be enqueued: the store has no workflow engine.")
        try:
            self._enqueue(self._transaction.connection, job)
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            raise self._transaction.translate(error) from error
