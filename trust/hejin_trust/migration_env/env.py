"""Alembic's environment for every role: run the migrations on the connection handed over."""

from alembic import context

# The caller's BEGIN IMMEDIATE transaction is already open: SQLite's DDL is part of it.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
