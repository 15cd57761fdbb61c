"""Locks by name that a transaction holds until it ends, for what has no row yet."""

import sqlalchemy as sa

from certorbit.storage.transaction import Transaction

_LOCK = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(sa.bindparam("lock_name", type_=sa.Text), 0)))


def hold(transaction: Transaction, name: str) -> None:
    """Wait for the lock and hold it until the transaction ends.

    Statements after this see what its last holder has committed. Two names with the same 64-bit hash only wait for
    each other. SQLite has no such locks and needs none: a writing transaction is alone there.
    """
    if transaction.connection.dialect.name == "postgresql":
        # A NUL can't be sent; it only makes the name of a lock here.
        transaction.execute(_LOCK, {"lock_name": name.replace("\x00", " ")})
