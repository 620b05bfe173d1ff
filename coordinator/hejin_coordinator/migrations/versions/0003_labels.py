"""The bank's outcomes, and the sessions in which nodes asked for them."""

from __future__ import annotations

from alembic import op

from hejin_coordinator import label_sessions, outcomes

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A new database got them in 0001.
    for table in (outcomes.book_table, label_sessions.session_table):
        table.create(op.get_bind(), checkfirst=True)
