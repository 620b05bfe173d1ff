"""Enterprises' keys, what they signed, and which authorisations each run and sum used."""

from __future__ import annotations

from alembic import op

from hejin_node import signed, usage

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A new database has the tables of every module that 0001 knew of.
    for table in (
        signed.enterprise_key,
        signed.signature_table,
        signed.record_table,
        usage.run_use,
        usage.sum_use,
    ):
        table.create(op.get_bind(), checkfirst=True)
