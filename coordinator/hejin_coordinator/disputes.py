"""Pairs of nodes whose shares did not fit: both stay out until the regulator has looked."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Boolean, Column, Connection, Integer, String, Table, insert, select, update

from hejin_coordinator.errors import CoordinatorError
from hejin_coordinator.store import metadata

dispute_table = Table(
    "dispute",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", String(32), nullable=False),
    Column("round", Integer, nullable=False),
    Column("giver", String(63), nullable=False),
    Column("taker", String(63), nullable=False),
    Column("time", String(20), nullable=False),
    Column("settled", Boolean, nullable=False),
)


class UnknownDisputeError(CoordinatorError):
    """There is no such dispute here, or it is settled."""

    code = "dispute-unknown"


@dataclass(frozen=True, slots=True)
class Dispute:
    """A share of `giver` that `taker`, or the bank with its help, could not use.

    Who of the two is wrong cannot be proved: a receiver cannot show what it decrypted. The same
    node twice: its shares did not lead to the secret that it had committed to.
    """

    id: int
    run: str
    round: int
    giver: str
    taker: str
    time: str
    settled: bool

    def body(self) -> dict[str, object]:
        """Return the dispute for --json."""
        return asdict(self)


def add(connection: Connection, run: str, number: int, giver: str, taker: str, time: str) -> None:
    """Record a dispute."""
    connection.execute(
        insert(dispute_table).values(
            run=run, round=number, giver=giver, taker=taker, time=time, settled=False
        )
    )


def disputes(connection: Connection) -> list[Dispute]:
    """Return every dispute, oldest first."""
    rows = connection.execute(select(dispute_table).order_by(dispute_table.c.id))
    return [Dispute(**row._mapping) for row in rows]


def left_out(connection: Connection) -> frozenset[str]:
    """Return the nodes that no new roster takes: those of disputes that are not settled."""
    return frozenset(
        node
        for found in disputes(connection)
        if not found.settled
        for node in (found.giver, found.taker)
    )


def settle(connection: Connection, identity: int) -> None:
    """Let both nodes take part again, after the regulator has looked.

    raises   UnknownDisputeError if no open dispute has that number
    """
    done = connection.execute(
        update(dispute_table)
        .where(dispute_table.c.id == identity, dispute_table.c.settled.is_(False))
        .values(settled=True)
    )
    if done.rowcount != 1:
        raise UnknownDisputeError(
            f"no open dispute has the number {identity}: `hejin coordinator disputes` lists them",
            f"没有编号为 {identity} 的未了结争议：可用 `hejin coordinator disputes` 查看",
        )
