"""Results of quality checks."""

from __future__ import annotations

from alembic import op

from hejin_node.quality_store import quality_table

revision = "0006"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A new database got the table in 0001.
    quality_table.create(op.get_bind(), checkfirst=True)
