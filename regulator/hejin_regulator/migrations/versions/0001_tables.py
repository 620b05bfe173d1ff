"""The mirror's first tables."""

from __future__ import annotations

from alembic import op
from sqlalchemy import MetaData

from hejin_regulator import mirror_tables
from hejin_trust.stored_log import log_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    log_tables(logs := MetaData())
    logs.create_all(op.get_bind())
    mirror_tables.metadata.create_all(op.get_bind())
