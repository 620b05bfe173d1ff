"""Questions for outcomes that the node asked of banks."""

from __future__ import annotations

from alembic import op

from hejin_node.label_sessions import session_table

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A new database got the table in 0001.
    session_table.create(op.get_bind(), checkfirst=True)
