"""Loads and lineage, quality, signed authorisations and their use, questions for outcomes."""

from __future__ import annotations

from alembic import op
from sqlalchemy import inspect, text

from hejin_node import label_sessions, quality_store, signed, tables, usage
from hejin_trust.database import StorageError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    database = op.get_bind()
    # A new database got every table in 0001.
    if inspect(database).has_table("load"):
        return
    if database.execute(text("SELECT 1 FROM segment LIMIT 1")).first():
        raise StorageError(
            "The warehouse was written by a version from before the first release, whose segments"
            " cannot be read any more: begin with a new folder and ingest again.",
            "数据仓库由首个发行版之前的版本写入，其分段文件已无法读取：请使用新目录并重新导入。",
        )
    tables.segment.drop(database)
    # Importing these modules is what adds their tables to the one metadata.
    defined = (
        label_sessions.session_table,
        quality_store.quality_table,
        signed.signature_table,
        usage.run_use,
    )
    assert all(table.metadata is tables.metadata for table in defined)
    tables.metadata.create_all(database)
