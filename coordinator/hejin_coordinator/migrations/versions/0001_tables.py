"""The coordinator's first tables."""

from __future__ import annotations

from alembic import op
from sqlalchemy import MetaData

from hejin_coordinator import disputes, label_sessions, outcomes, parts, roster, store
from hejin_trust.stored_log import log_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    log_tables(logs := MetaData())
    logs.create_all(op.get_bind())
    # Each module defines its own tables in the one metadata; importing it is what adds them.
    tables = (
        disputes.dispute_table,
        label_sessions.session_table,
        outcomes.book_table,
        parts.part_table,
        roster.roster_table,
    )
    assert all(table.metadata is store.metadata for table in tables)
    store.metadata.create_all(op.get_bind())
