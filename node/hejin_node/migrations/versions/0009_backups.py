"""Where backups were made."""

from __future__ import annotations

from alembic import op

from hejin_node import tables

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A new database got the table in 0001.
    tables.backup.create(op.get_bind(), checkfirst=True)
