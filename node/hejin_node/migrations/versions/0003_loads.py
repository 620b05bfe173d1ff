"""Loads and their resumption; segments that name the rows of each bucket; erasures."""

from __future__ import annotations

from alembic import op
from sqlalchemy import inspect, text

from hejin_node import tables
from hejin_trust.database import StorageError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    database = op.get_bind()
    # A new database got the tables in 0001.
    if inspect(database).has_table("load"):
        return
    if database.execute(text("SELECT 1 FROM segment LIMIT 1")).first():
        raise StorageError(
            "The warehouse was written by a version from before the first release, whose segments"
            " cannot be read any more: begin with a new folder and ingest again.",
            "数据仓库由首个发行版之前的版本写入，其分段文件已无法读取：请使用新目录并重新导入。",
        )
    tables.segment.drop(database)
    tables.load.create(database)
    tables.segment.create(database)
    tables.erasure.create(database)
