"""The bank's record of plans, answers, runs, rounds and what it accepted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    insert,
    select,
    update,
)

from hejin_coordinator.errors import UnknownPlanError
from hejin_models.plan import Plan
from hejin_trust import canonical

# A failed plan may be started again; a dropped one is over, with whatever round was open.
# A paused one goes on by itself when enough nodes are back.
PlanState = Literal["offered", "started", "running", "paused", "done", "failed", "dropped"]

metadata = MetaData()

plan_table = Table(
    "plan",
    metadata,
    Column("plan", String(64), primary_key=True),
    Column("created", String(20), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("view", LargeBinary, nullable=False),
    Column("state", String(8), nullable=False),
    Column("automatic", Boolean, nullable=False),  # start when every node has answered
    Column("run", String(32), unique=True),
    Column("error", String, nullable=False),
)

answer_table = Table(
    "answer",
    metadata,
    Column("plan", String(64), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("approved", Boolean, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

round_table = Table(
    "round",
    metadata,
    Column("run", String(32), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("sum", Integer, nullable=False),
    Column("query", LargeBinary, nullable=False),
    Column("state", LargeBinary, nullable=False),
    # Once the survivors are fixed: the bank's signed set, and the sum of their vectors.
    Column("asked", LargeBinary),
    Column("masked", LargeBinary),
    Column("survivors", Integer),
    # Once it is opened; or why it never will be.
    Column("votes", LargeBinary),
    Column("result", LargeBinary),
    Column("total", LargeBinary),
    Column("burned", String, nullable=False),
)

accept_table = Table(
    "accept",
    metadata,
    Column("run", String(32), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("header", LargeBinary, nullable=False),
    Column("ciphertexts", LargeBinary, nullable=False),  # its encrypted shares, packed
    Column("receipt", LargeBinary, nullable=False),
    UniqueConstraint("run", "round", "node"),
)


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A proposed plan; `view` is the feature view's file, `error` why a run stopped."""

    digest: str
    plan: Plan
    envelope: bytes
    view: bytes
    state: PlanState
    automatic: bool
    run: str | None
    error: str


@dataclass(frozen=True, slots=True)
class Round:
    """One round, as far as it has come.

    asked      signed survivor set, masked: their vectors' sum (int64, little-endian) and
               survivors: their number, once they are fixed
    votes      packed votes, result: signed, total: int64, little-endian, once it is opened
    burned     why it will never be opened, "" if it was or may be
    """

    run: str
    round: int
    sum: int
    query: bytes
    state: bytes
    asked: bytes | None = None
    masked: bytes | None = None
    survivors: int | None = None
    votes: bytes | None = None
    result: bytes | None = None
    total: bytes | None = None
    burned: str = ""


@dataclass(frozen=True, slots=True)
class Accept:
    """What was accepted of one node in one round: its signed header and encrypted shares."""

    node: str
    header: bytes
    ciphertexts: bytes


def insert_plan(
    connection: Connection,
    digest: str,
    created: str,
    envelope: bytes,
    body: bytes,
    view: bytes,
    automatic: bool,
) -> None:
    """Store a new plan that nodes may see from now on."""
    connection.execute(
        insert(plan_table).values(
            plan=digest,
            created=created,
            envelope=envelope,
            body=body,
            view=view,
            state="offered",
            automatic=automatic,
            error="",
        )
    )


def plans(connection: Connection, *states: PlanState) -> list[StoredPlan]:
    """Return every plan, or those in one of `states`, oldest first."""
    query = select(plan_table).order_by(plan_table.c.created, plan_table.c.plan)
    if states:
        query = query.where(plan_table.c.state.in_(states))
    return [_plan(row) for row in connection.execute(query)]


def documents(connection: Connection) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield each plan's hash, signed envelope and feature view, oldest first, streamed."""
    query = (
        select(plan_table.c.plan, plan_table.c.envelope, plan_table.c.view)
        .order_by(plan_table.c.created, plan_table.c.plan)
        .execution_options(yield_per=10)
    )
    for row in connection.execute(query):
        yield row.plan, row.envelope, row.view


def find_plan(connection: Connection, digest: str) -> StoredPlan:
    """Return the plan whose hash starts with `digest` (8 digits or more); UnknownPlanError."""
    rows = connection.execute(
        select(plan_table).where(plan_table.c.plan.startswith(digest, autoescape=True)).limit(2)
    ).all()
    if len(rows) != 1 or len(digest) < 8:
        raise UnknownPlanError(
            "no single plan has that hash: `hejin coordinator plans` lists them",
            "没有唯一对应该哈希的计划：可用 `hejin coordinator plans` 查看",
        )
    return _plan(rows[0])


def state_of(connection: Connection, run: str) -> PlanState | None:
    """Return the state of the plan that a run carries out; None if there is no such run."""
    state: PlanState | None = connection.scalar(
        select(plan_table.c.state).where(plan_table.c.run == run)
    )
    return state


def views(connection: Connection) -> list[bytes]:
    """Return the files of all feature views that plans were ever made with, each once."""
    return list(connection.scalars(select(plan_table.c.view).distinct()))


def set_state(connection: Connection, digest: str, state: PlanState, error: str = "") -> None:
    """Move a plan on; `error` says why it failed."""
    connection.execute(
        update(plan_table).where(plan_table.c.plan == digest).values(state=state, error=error)
    )


def set_run(connection: Connection, digest: str, run: str) -> None:
    """Give a plan its one run."""
    connection.execute(
        update(plan_table).where(plan_table.c.plan == digest).values(run=run, state="running")
    )


def store_answer(
    connection: Connection, digest: str, node: str, approved: bool, document: bytes
) -> None:
    """Keep a node's first answer to a plan; later ones change nothing."""
    known = connection.scalar(
        select(answer_table.c.node).where(
            answer_table.c.plan == digest, answer_table.c.node == node
        )
    )
    if known is None:
        connection.execute(
            insert(answer_table).values(
                plan=digest, node=node, approved=approved, document=document
            )
        )


def answers(connection: Connection, digest: str) -> dict[str, bool]:
    """Return node -> whether it approved, for the nodes that answered."""
    rows = connection.execute(
        select(answer_table.c.node, answer_table.c.approved).where(answer_table.c.plan == digest)
    )
    return {row.node: row.approved for row in rows}


def rounds(connection: Connection, run: str) -> list[Round]:
    """Return a run's rounds in order."""
    rows = connection.execute(
        select(round_table).where(round_table.c.run == run).order_by(round_table.c.round)
    )
    return [Round(**row._mapping) for row in rows]


def find_round(connection: Connection, run: str, number: int) -> Round | None:
    """Return one round, if it was ever opened."""
    row = connection.execute(
        select(round_table).where(round_table.c.run == run, round_table.c.round == number)
    ).first()
    return None if row is None else Round(**row._mapping)


def open_rounds(connection: Connection) -> set[tuple[str, int]]:
    """Return (run, round) of the rounds that are neither opened nor burned."""
    rows = connection.execute(
        select(round_table.c.run, round_table.c.round).where(
            round_table.c.result.is_(None), round_table.c.burned == ""
        )
    )
    return {(row.run, row.round) for row in rows}


def open_round(
    connection: Connection, run: str, number: int, sum_index: int, query: bytes, state: bytes
) -> None:
    """Store a query before it is sent: a repeat sends the same bytes."""
    connection.execute(
        insert(round_table).values(
            run=run, round=number, sum=sum_index, query=query, state=state, burned=""
        )
    )


def fix_survivors(
    connection: Connection, run: str, number: int, asked: bytes, masked: bytes, survivors: int
) -> None:
    """Store whose sum is to be opened; the round accepts nothing more."""
    _update_round(connection, run, number, asked=asked, masked=masked, survivors=survivors)


def close_round(
    connection: Connection, run: str, number: int, votes: bytes, result: bytes, total: bytes
) -> None:
    """Store an opened total."""
    _update_round(connection, run, number, votes=votes, result=result, total=total, masked=None)


def burn_round(connection: Connection, run: str, number: int, reason: str) -> None:
    """Give a round up for good."""
    _update_round(connection, run, number, burned=reason, masked=None)


def _update_round(connection: Connection, run: str, number: int, **values: object) -> None:
    connection.execute(
        update(round_table)
        .where(round_table.c.run == run, round_table.c.round == number)
        .values(**values)
    )


def insert_accept(
    connection: Connection,
    run: str,
    number: int,
    node: str,
    header: bytes,
    ciphertexts: bytes,
    receipt: bytes,
) -> None:
    """Keep what was accepted of a node, and the receipt that says so."""
    connection.execute(
        insert(accept_table).values(
            run=run,
            round=number,
            node=node,
            header=header,
            ciphertexts=ciphertexts,
            receipt=receipt,
        )
    )


def accepts(connection: Connection, run: str, number: int) -> list[Accept]:
    """Return what was accepted in a round, sorted by node."""
    rows = connection.execute(
        select(accept_table.c.node, accept_table.c.header, accept_table.c.ciphertexts)
        .where(accept_table.c.run == run, accept_table.c.round == number)
        .order_by(accept_table.c.node)
    )
    return [Accept(row.node, row.header, row.ciphertexts) for row in rows]


def find_receipt(connection: Connection, run: str, number: int, node: str) -> bytes | None:
    """Return the receipt for one accepted release, if there is one."""
    receipt: bytes | None = connection.scalar(
        select(accept_table.c.receipt).where(
            accept_table.c.run == run, accept_table.c.round == number, accept_table.c.node == node
        )
    )
    return receipt


@lru_cache(maxsize=1000)
def _parsed(body: bytes) -> Plan:
    """Plans never change, and the worker looks at those that wait several times a second."""
    return Plan.parse(canonical.decode(body))


def _plan(row: Row[Any]) -> StoredPlan:
    return StoredPlan(
        digest=row.plan,
        plan=_parsed(row.body),
        envelope=row.envelope,
        view=row.view,
        state=row.state,
        automatic=row.automatic,
        run=row.run,
        error=row.error,
    )
