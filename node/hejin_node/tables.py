"""The node's database tables: one metadata for all, and those of its data and authorisations."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

load = Table(
    "load",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(10), nullable=False),  # data or labels
    Column("dataset", String(200), nullable=False),
    Column("source", String(64), nullable=False),  # SHA-256 of the source's content
    Column("name", String(200), nullable=False),  # file name or sql:TABLE; never a path or URL
    Column("mapping", String(64), nullable=False),  # SHA-256 of the mapping file, or ""
    Column("state", String(10), nullable=False),  # open or complete
    Column("place", String, nullable=False),  # JSON: where a killed load goes on, or null
    Column("rows_read", Integer, nullable=False),
    Column("loaded", Integer, nullable=False),
    Column("quarantined", String, nullable=False),  # JSON: rule -> rows
    Column("replaced", Integer, nullable=False),
    Column("corrects", Integer, ForeignKey("load.id")),
    Column("began", String(20), nullable=False),
    Column("completed", String(20)),
    # The same source twice is no new data, whichever of two processes comes first.
    UniqueConstraint("kind", "dataset", "source"),
    # Rows name their load: no id may come twice, even if a load was given up.
    sqlite_autoincrement=True,
)

segment = Table(
    "segment",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(10), nullable=False),  # data, quarantine or labels
    Column("dataset", String(200), nullable=False),
    Column("file", String(64), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False),  # of the encrypted file
    Column("rows", Integer, nullable=False),
    Column("columns", String, nullable=False),  # JSON: column name -> type, in order
    Column("buckets", String, nullable=False),  # JSON: rows in each of the 256 buckets
    Column("key_id", String(16), nullable=False),
    Column("time", String(20), nullable=False),
    # The load that is still writing; NULL once published, and only then a reader sees it.
    Column("open_load", Integer, ForeignKey("load.id")),
    Index("ix_segment_dataset", "kind", "dataset"),
)

erasure = Table(
    "erasure",
    metadata,
    # Index of the `erase` entry in the internal log.
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("pseudonym", String(32), nullable=False, index=True),
    # 1 once no segment has rows of it; 0 after a recovery, until the rows went again.
    Column("applied", Integer, nullable=False),
)

withdrawal = Table(
    "withdrawal",
    metadata,
    # Index of the `withdraw` entry in the internal log; the corrections of a load go with it.
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("load", Integer, primary_key=True, autoincrement=False),
    Column("time", String(20), nullable=False),
    # As the table `load` had them, which has the load no more: its source may come again.
    Column("kind", String(10), nullable=False),
    Column("dataset", String(200), nullable=False),
    Column("source", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("mapping", String(64), nullable=False),
    Column("rows_read", Integer, nullable=False),
    Column("loaded", Integer, nullable=False),
    Column("quarantined", String, nullable=False),
    Column("replaced", Integer, nullable=False),
    Column("corrects", Integer),
    Column("began", String(20), nullable=False),
    Column("completed", String(20), nullable=False),
    # 1 once no segment has rows of it; 0 after a recovery, until the rows went again.
    Column("applied", Integer, nullable=False),
)

backup = Table(
    "backup",
    metadata,
    Column("place", String, primary_key=True),  # the folder
    Column("time", String(20), nullable=False),  # when it was made last
)

authorisation = Table(
    "authorisation",
    metadata,
    # Index of the `authorisation.grant` entry in the internal log.
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("code", String(64), nullable=False, index=True),
    Column("pseudonym", String(32), nullable=False),
    Column("document", String(64), nullable=False),
    Column("grade", String(1), nullable=False),
    # JSON lists of texts, sorted.
    Column("purposes", String, nullable=False),
    Column("banks", String, nullable=False),
    Column("categories", String, nullable=False),
    Column("features", String, nullable=False),
    Column("valid_from", String(20), nullable=False),
    Column("valid_to", String(20), nullable=False),
    # Index of the `authorisation.revoke` entry; NULL while the grant stands.
    Column("revoked_seq", Integer),
    Column("revoked_at", String(20)),
    Index("ix_authorisation_validity", "valid_from", "valid_to"),
)
