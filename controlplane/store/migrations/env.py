"""Runs the revisions on the connection that `database.migrate` hands over. Alembic executes this file; nothing imports it."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from controlplane.store.tables import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
