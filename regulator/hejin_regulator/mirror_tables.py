"""What the mirror's database holds beside the members' logs."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, Table, Text

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
