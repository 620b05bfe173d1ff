"""What the mirror's database holds beside the members' logs."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, Table, Text

metadata = MetaData()

#: One row: no cosignature bears a time later than `until`, and none to come an earlier one.
stamp = Table(
    "stamp",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("until", Text, nullable=False),
)

#: How often a member was refused with which code; bounded, however often it asks.
#: note: the first note of the member that was refused so although its signature held, or "".
refusal = Table(
    "refusal",
    metadata,
    Column("member", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("first", Text, nullable=False),
    Column("newest", Text, nullable=False),
    Column("note", Text, nullable=False),
)

#: Authorisations that name the outcome, as members logged them; a revoked one is removed.
#: bank: one row a bank that the grant names, or "*".
outcome_grant = Table(
    "outcome_grant",
    metadata,
    Column("member", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("bank", Text, primary_key=True),
    Column("enterprise", Text, nullable=False),
    Column("valid_from", Text, nullable=False),
    Column("valid_to", Text, nullable=False),
    Index("ix_outcome_grant_bank", "member", "bank", "enterprise"),
)

#: Questions for outcomes that members logged: hash of the `labels.request` as a leaf, hash of what
#: its `labels.ask` must repeat, and whether that has come.
label_request = Table(
    "label_request",
    metadata,
    Column("member", Text, primary_key=True),
    Column("session", Text, primary_key=True),
    Column("leaf", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("asked", Boolean, nullable=False),
)
