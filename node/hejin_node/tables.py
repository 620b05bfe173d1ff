"""The node's database tables: one metadata for all, and those of its data and authorisations."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, UniqueConstraint

metadata = MetaData()

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
    Column("source", String(64), nullable=False),  # SHA-256 of the file that was ingested
    Column("key_id", String(16), nullable=False),
    Column("time", String(20), nullable=False),
    # The same source twice is no new data, whichever of two processes comes first.
    UniqueConstraint("kind", "dataset", "source"),
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
