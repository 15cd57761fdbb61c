"""Alembic's entry: runs the migrations through the connection and transaction of `storage.migrate`."""

from alembic import context

from certorbit.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():  # joins the transaction that is open already
    context.run_migrations()
