"""Cosigned checkpoints of the member's own logs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import MetaData

from hejin_trust.stored_log import log_tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Only what a database of 0001 has not: a new one got every table there.
    log_tables(logs := MetaData())
    logs.create_all(op.get_bind())
