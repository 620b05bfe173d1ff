"""What happened to each node in each round: the bank's record behind its run report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Integer, String, Table, delete, insert, select

from hejin_coordinator.store import metadata

PHASES = ("keys", "masked", "survivors", "shares")
"""Set-up (round 0), answers to the query, votes, and shares after drop-outs."""

ANSWERED, SILENT, NOT_NEEDED = "answered", "silent", "not-needed"

part_table = Table(
    "part",
    metadata,
    Column("run", String(32), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("phase", String(9), primary_key=True),
    Column("node", String(63), primary_key=True),
    # answered, silent, not-needed, or the code of what was refused, by the node or of the node
    Column("outcome", String(64), nullable=False),
    Column("time", String(20), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Part:
    """How one node fared in one phase of one round, at its last try."""

    round: int
    phase: str
    node: str
    outcome: str
    time: str


def note(
    connection: Connection,
    run: str,
    number: int,
    phase: str,
    outcomes: Mapping[str, str],
    time: str,
) -> None:
    """Keep the outcome of a phase for each node; a later try replaces an earlier one."""
    if not outcomes:
        return
    connection.execute(
        delete(part_table).where(
            part_table.c.run == run,
            part_table.c.round == number,
            part_table.c.phase == phase,
            part_table.c.node.in_(list(outcomes)),
        )
    )
    connection.execute(
        insert(part_table),
        [
            {
                "run": run,
                "round": number,
                "phase": phase,
                "node": node,
                "outcome": outcome,
                "time": time,
            }
            for node, outcome in outcomes.items()
        ],
    )


def parts(connection: Connection, run: str) -> list[Part]:
    """Return a run's record in order of round, phase and node."""
    rows = connection.execute(
        select(part_table).where(part_table.c.run == run).order_by(part_table.c.round)
    )
    found = [Part(row.round, row.phase, row.node, row.outcome, row.time) for row in rows]
    return sorted(found, key=lambda part: (part.round, PHASES.index(part.phase), part.node))
