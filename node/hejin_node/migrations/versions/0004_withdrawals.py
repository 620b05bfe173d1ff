"""Loads that were withdrawn."""

from __future__ import annotations

from alembic import op
from sqlalchemy import inspect

from hejin_node import tables

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    database = op.get_bind()
    # A new database got every table in 0001, one of before the data node in 0003.
    if not inspect(database).has_table("withdrawal"):
        tables.withdrawal.create(database)
