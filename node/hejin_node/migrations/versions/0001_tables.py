"""The node's first tables."""

from __future__ import annotations

from alembic import op
from sqlalchemy import MetaData

from hejin_node import (
    account,
    inbox,
    label_sessions,
    masking,
    quality_store,
    signed,
    tables,
    usage,
)
from hejin_trust.stored_log import log_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    log_tables(logs := MetaData())
    logs.create_all(op.get_bind())
    # Each module defines its own tables in the one metadata; importing it is what adds them.
    defined = (
        account.reservation,
        inbox.offer,
        label_sessions.session_table,
        masking.run_table,
        quality_store.quality_table,
        signed.signature_table,
        usage.run_use,
    )
    assert all(table.metadata is tables.metadata for table in defined)
    tables.metadata.create_all(op.get_bind())
