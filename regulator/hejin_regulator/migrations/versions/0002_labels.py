"""What the mirror knows of authorisations that name the outcome, and of questions for outcomes."""

from __future__ import annotations

from alembic import op

from hejin_regulator import mirror_tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Only what a database of 0001 has not: a new one got every table there. None of the grants
    # that such a database holds can name the outcome: that word is newer.
    mirror_tables.metadata.create_all(op.get_bind())
