"""Nodes' questions for outcomes: each is answered once, and a node's not too often a day."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Column, Connection, String, Table, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from hejin_coordinator.errors import LabelsTooOftenError, SessionUsedError
from hejin_coordinator.store import metadata
from hejin_privacy.label_messages import LabelQuestion
from hejin_trust.canonical import time_text
from hejin_trust.entries import Entry

_DAY: Final = timedelta(hours=24)

session_table = Table(
    "label_session",
    metadata,
    Column("session", String(32), primary_key=True),
    Column("node", String(63), nullable=False),
    Column("definition", String(64), nullable=False),
    Column("period", String(64), nullable=False),
    Column("time", String(20), nullable=False),
    # SHA-256 of the signed answer; NULL where none was made.
    Column("transcript", String(64)),
)


def begin(
    connection: Connection, question: LabelQuestion, node: str, at: datetime, a_day: int
) -> None:
    """Record that a session is being answered, before anything is computed for it.

    a_day    how many a node is answered in 24 hours
    raises   SessionUsedError, LabelsTooOftenError
    """
    sessions = session_table.c
    used = select(sessions.session).where(sessions.session == question.session)
    if connection.scalar(used) is not None:
        raise SessionUsedError(
            "the session was asked before: begin a new one", "该会话此前已被询问：请开始新的会话"
        )
    since = time_text(at - _DAY)
    asked = connection.scalar(
        select(func.count()).where(sessions.node == node, sessions.time > since)
    )
    if (asked or 0) >= a_day:
        raise LabelsTooOftenError(
            f"this node has asked {asked} times in 24 hours, {a_day} times are answered: ask again"
            " later",
            f"该节点 24 小时内已询问 {asked} 次，至多应答 {a_day} 次：请稍后再试",
        )
    connection.execute(
        insert(session_table).values(
            session=question.session,
            node=node,
            definition=question.definition,
            period=question.period,
            time=time_text(at),
        )
    )


def restore(connection: Connection, entry: Entry) -> None:
    """Record a session again whose `labels.answer` entry a recovery has put back."""
    body = entry.body
    told = {name: body[name] for name in ("session", "node", "definition", "period", "transcript")}
    values = {**told, "time": entry.time}
    # A backup taken over an answer has its session, and not what came of it.
    again = insert_or(session_table).values(values)
    connection.execute(again.on_conflict_do_update(set_=values))


def end(connection: Connection, session: str, transcript: str) -> None:
    """Record the transcript of a session that was answered."""
    connection.execute(
        update(session_table)
        .where(session_table.c.session == session)
        .values(transcript=transcript)
    )
