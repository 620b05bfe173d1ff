"""A door to the real mirror that a test can close, slow down or let lie; and what it cosigned."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from node_world import World

from hejin_node.home import NodeHome
from hejin_trust.canonical import time_from
from hejin_trust.channels import PeerUnreachable
from hejin_trust.database import reading
from hejin_trust.entries import Entry, parse
from hejin_trust.home import MemberHome
from hejin_trust.mirroring import LogStanding, LogUpdate, Mirror

Lines = tuple[str, ...]
Bend = Callable[[Sequence[LogUpdate], Lines], Lines]


def straight(_: Sequence[LogUpdate], lines: Lines) -> Lines:
    """What the mirror said."""
    return lines


@dataclass
class BentMirror:
    """A member's door, with whatever may happen on the way to it.

    down    nothing arrives
    deaf    so many answers to `add` are lost after the mirror has stored and cosigned
    bend    what becomes of its cosignatures
    before  happens before each `add` arrives; after: when it was stored
    added   every message that arrived
    """

    door: Mirror
    down: bool = False
    deaf: int = 0
    bend: Bend = straight
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    added: list[tuple[LogUpdate, ...]] = field(default_factory=list)
    tried: int = 0

    def standing(self) -> tuple[LogStanding, ...]:
        self._reach()
        return self.door.standing()

    def add(self, updates: Sequence[LogUpdate]) -> Lines:
        self.tried += 1
        self.before()
        self._reach()
        lines = self.door.add(updates)
        self.added.append(tuple(updates))
        self.after()
        if self.deaf:
            self.deaf -= 1
            raise _silence()
        return self.bend(updates, lines)

    def entries(self, origin: str, start: int) -> tuple[bytes, ...]:
        self._reach()
        return self.door.entries(origin, start)

    def charter_serial(self) -> int:
        return self.door.charter_serial()

    def charter(self) -> bytes:
        self._reach()
        return self.door.charter()

    def _reach(self) -> None:
        if self.down:
            raise _silence()


def _silence() -> PeerUnreachable:
    return PeerUnreachable("the regulator does not answer", "监管方没有应答")


def release_log(home: MemberHome) -> list[Entry]:
    """Return the entries of a member's release log."""
    with reading(home.database) as connection:
        return [parse(raw) for raw in home.release_log.entries(connection)]


def internal_log(home: MemberHome) -> list[Entry]:
    """Return the entries of a member's internal log."""
    with reading(home.database) as connection:
        return [parse(raw) for raw in home.internal_log.entries(connection)]


def is_level(world: World, home: MemberHome) -> bool:
    """Return whether the mirror holds exactly this member's logs."""
    with reading(home.database) as connection:
        own = {
            LogStanding(log.origin, log.size(connection), log.root(connection))
            for log in (home.release_log, home.internal_log)
        }
    return set(world.mirror.door(home.member_id).standing()) == own


def check_order(world: World, home: NodeHome) -> None:
    """Fail unless every release stands on a cosignature that was there before it, and in time.

    The rule of V3 and V4, from the mirror's own records: some cosigned size lies between the
    reservation (or its newest renewal) and the release, and the first that covers it bears a time
    within 120 s of that entry's.
    """
    log = home.release_log
    with reading(world.mirror.engine) as connection:
        cosigned = [(c.size, time_from(c.time)) for c in log.cosigned(connection)]
    stands: dict[int, Entry] = {}
    for entry in release_log(home):
        if entry.type == "reserve":
            stands[entry.seq] = entry
        elif entry.type == "renew":
            stands[int(str(entry.body["reservation"]))] = entry
        elif entry.type == "release":
            base = stands[int(str(entry.body["reservation"]))]
            size, at = next((size, at) for size, at in cosigned if size > base.seq)
            assert size <= entry.seq, "released before it was cosigned"
            assert abs(at - time_from(base.time)) <= timedelta(seconds=120)


def copy_database(home: Path, to: Path) -> Path:
    """Copy the database of a node that is closed, as a backup does; return the copy."""
    assert not (home / "node.db-wal").exists(), "the node is open"
    shutil.copy(home / "node.db", to)
    return to


def copy_open_database(home: NodeHome, to: Path) -> None:
    """Copy the database of a node that works on, as a backup of a running node does."""
    opened = closing(sqlite3.connect(home.path / "node.db"))
    with opened as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def lose_database(home: Path) -> None:
    """Take a closed node's database away, and its segments, which nothing else names."""
    for path in home.glob("node.db*"):
        path.unlink()
    (home / "warehouse").rename(home / "warehouse.before")


def put_database(copy: Path, home: Path) -> None:
    """Put a backup back in place of a closed node's database."""
    for path in home.glob("node.db*"):
        path.unlink()
    shutil.copy(copy, home / "node.db")
