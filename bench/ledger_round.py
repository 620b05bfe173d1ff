"""What one round costs: transactions synced by each member, messages to the mirror."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from sqlalchemy import Connection, Engine, event

from bench.figures import Figure
from bench.ledger_bare import SECTION
from bench.population import VIEW_FILE, one_node
from hejin_sandbox.memory import MemoryConsortium, fill, found_homes, open_consortium
from hejin_trust.members import Member
from hejin_trust.mirroring import LogUpdate

NODE = "node-01"
_ENTERPRISES, _EPSILON = 1500, 8.0


class Syncs:
    """Counts a database's transactions that changed something: SQLite syncs each of them once.

    (Write-ahead log, synchronous=FULL; moving the log into the file is not counted.)
    """

    def __init__(self, engine: Engine) -> None:
        """Count from now on."""
        self.count = 0
        self._changes: dict[int, int] = {}
        event.listen(engine, "commit", self._committed)

    def _committed(self, connection: Connection) -> None:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        changes = driver.total_changes
        self.count += changes != self._changes.get(id(driver), 0)
        self._changes[id(driver)] = changes


def measure(folder: Path) -> list[Figure]:
    """Return the counts of a round in the middle of a run of one node; medians."""
    found_homes(folder, {NODE: _ENTERPRISES}, VIEW_FILE, epsilon_cap=10.0)
    fill(folder, one_node(0, _ENTERPRISES))
    with open_consortium(folder, [NODE]) as consortium:
        counts = _count(consortium)
    return [Figure(SECTION, f"one round: {name}", count, unit) for name, unit, count in counts]


def _count(consortium: MemoryConsortium) -> list[tuple[str, str, float]]:
    """Return (what, unit, median) over a run's rounds but the first and the last."""
    mirror, messages = consortium.mirror, Counter[str]()
    inner = mirror.add

    def counted(member: Member, updates: Sequence[LogUpdate]) -> tuple[str, ...]:
        messages[member.id] += 1
        return inner(member, updates)

    mirror.add = counted  # type: ignore[method-assign]
    databases = {
        "node": consortium.nodes[NODE].database,
        "bank": consortium.bank.database,
        "mirror": mirror.engine,
    }
    syncs = {name: Syncs(engine) for name, engine in databases.items()}
    seen: list[list[int]] = []

    def look(*_: object) -> None:
        seen.append([*(found.count for found in syncs.values()), messages[NODE]])

    consortium.train(consortium.propose(_EPSILON), look)
    rounds = [
        [after - before for before, after in zip(*pair, strict=True)] for pair in pairwise(seen)
    ]
    *written, sent = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    return [
        *((f"synced at the {n}", "fsyncs", c) for n, c in zip(databases, written, strict=True)),
        ("the node's messages to the mirror", "round trips", sent),
    ]
