"""A member's own log: it builds entries and signs checkpoints, within the caller's transaction."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select

from hejin_trust import canonical
from hejin_trust.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from hejin_trust.clock import Clock, now
from hejin_trust.entries import SALT_BYTES, Body, Entry, build
from hejin_trust.errors import HejinError
from hejin_trust.keys import SigningKey
from hejin_trust.merkle import Frontier
from hejin_trust.stored_log import TABLES, Last, StoredLog

#: A clock may be set back this far (NTP corrections); the entry then takes the last one's time.
CLOCK_TOLERANCE = timedelta(seconds=120)

_CHECKPOINT = TABLES.checkpoint


class ClockError(HejinError):
    """The clock stands well before the last entry of the log, or at no time it can bear."""

    code = "clock-went-back"


class Log(StoredLog):
    """One log that this member keeps; see `StoredLog` for transactions.

    Every method works on the caller's connection: what it appends is kept or rolled back
    together with the rest of the caller's transaction. Appending needs a `writing` transaction.
    """

    def __init__(self, origin: str, by: str, key: SigningKey, clock: Clock = now) -> None:
        """Open the log `origin` that member `by` keeps and signs with `key`."""
        super().__init__(origin)
        self.by = by
        self._key = key
        self._clock = clock

    @property
    def public_key(self) -> bytes:
        """The Ed25519 key that checkpoints are verified with, 32 bytes."""
        return self._key.public

    def append(self, connection: Connection, entry_type: str, body: Body) -> Entry:
        """Add one entry and return it; raises EntryError or ClockError."""
        return self.append_many(connection, [(entry_type, body)])[0]

    def append_many(
        self, connection: Connection, bodies: Iterable[tuple[str, Body]]
    ) -> list[Entry]:
        """Add (type, body) entries in order; raises EntryError or ClockError, then adds none."""
        last = self.last(connection)
        seq, time = 0 if last is None else last.seq + 1, self._time(last)
        entries = [
            build(entry_type, number, time, self.by, body, secrets.token_bytes(SALT_BYTES))
            for number, (entry_type, body) in enumerate(bodies, seq)
        ]
        self._store(connection, entries, last)
        return entries

    def _time(self, last: Last | None) -> datetime:
        """Return the next entry's time, never before the last one's; raises ClockError."""
        time = self._clock()
        if not canonical.EARLIEST <= time < canonical.LATEST:
            raise ClockError(
                f"The clock says {canonical.time_text(time)}, no time of a ledger: set the clock"
                " right.",
                f"系统时间 {canonical.time_text(time)} 不能记入账本：请校准时钟。",
            )
        if last is None:
            return time
        before = canonical.time_from(last.time)
        if before - time > CLOCK_TOLERANCE:
            raise ClockError(
                f"The clock says {canonical.time_text(time)}, but the last ledger entry is of "
                f"{last.time}: set the clock right.",
                f"系统时间 {canonical.time_text(time)} 早于账本最后一条 {last.time}：请校准时钟。",
            )
        return max(before, time)

    def note(self, connection: Connection, size: int) -> str:
        """Return the signed note of the first `size` entries, not stored; always the same one.

        raises   LogError where the log has fewer entries
        """
        if not 0 <= size <= self.size(connection):
            raise self._damaged(f"entry {size - 1} is missing", f"缺少条目 {size - 1}")
        return sign_checkpoint(self.origin, size, self.root(connection, size), self._key)

    def checkpoint(self, connection: Connection, size: int | None = None) -> str:
        """Return the signed note of the first `size` entries, as first made and stored.

        size     default: the log as it is now
        raises   LogError where the log has fewer entries
        """
        size = self.size(connection) if size is None else size
        stored: str | None = connection.execute(
            select(_CHECKPOINT.c.note).where(
                _CHECKPOINT.c.origin == self.origin, _CHECKPOINT.c.size == size
            )
        ).scalar_one_or_none()
        if stored is not None:
            return stored
        note = self.note(connection, size)
        connection.execute(insert(_CHECKPOINT).values(origin=self.origin, size=size, note=note))
        return note

    def verify(self, connection: Connection) -> None:
        """Rebuild the tree from the leaves and compare all that is stored; raises LogError.

        To be called at start: all that `rebuilt` checks, and every stored checkpoint signed by
        our key over the tree of its size.
        """
        notes = self._notes(connection)
        size = 0
        self._check_note(notes.get(0), Frontier())
        for tree in self.rebuilt(connection, self.by):
            size = tree.size
            self._check_note(notes.get(size), tree)
        if max(notes, default=0) > size:
            raise self._damaged("its end was cut off", "末尾被截断")

    def _notes(self, connection: Connection) -> dict[int, str]:
        rows = connection.execute(
            select(_CHECKPOINT.c.size, _CHECKPOINT.c.note).where(
                _CHECKPOINT.c.origin == self.origin
            )
        )
        return {row.size: row.note for row in rows}

    def _check_note(self, note: str | None, frontier: Frontier) -> None:
        if note is None:
            return
        stored = open_checkpoint(note, self.origin, self.public_key)
        if stored != Checkpoint(self.origin, frontier.size, frontier.root()):
            raise self._damaged(
                f"checkpoint {frontier.size} does not fit the entries",
                f"检查点 {frontier.size} 与条目不符",
            )
