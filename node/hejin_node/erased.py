"""Which enterprises were erased: their rows are dropped wherever they come from."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, exists, func, insert, select, update

from hejin_node.consent import pseudonym
from hejin_node.tables import authorisation, erasure
from hejin_trust.entries import Entry


class Erased:
    """The enterprises that are erased at one moment.

    key         the node's pseudonym key
    pseudonyms  see `in_force`
    """

    def __init__(self, key: bytes, pseudonyms: frozenset[str]) -> None:
        self._key, self._pseudonyms = key, pseudonyms
        self._known: dict[str, bool] = {}

    def spare(self, table: pa.Table) -> pa.Table:
        """Return the rows whose `enterprise` is not erased."""
        if not self._pseudonyms:
            return table
        codes = table.column("enterprise")
        gone = [code for code in pc.unique(codes).to_pylist() if self.names(code)]
        if not gone:
            return table
        return table.filter(pc.invert(pc.is_in(codes, pa.array(gone, pa.string()))))

    def names(self, code: str | None) -> bool:
        """Tell whether an enterprise is erased."""
        if not code or not self._pseudonyms:
            return False
        if code not in self._known:
            self._known[code] = pseudonym(self._key, code) in self._pseudonyms
        return self._known[code]


def in_force(connection: Connection) -> frozenset[str]:
    """Return the pseudonyms of erased enterprises that gave no newer authorisation since."""
    newer = exists().where(
        authorisation.c.pseudonym == erasure.c.pseudonym, authorisation.c.seq > erasure.c.seq
    )
    latest = select(erasure.c.pseudonym).where(~newer)
    return frozenset(connection.scalars(latest))


def since(connection: Connection, size: int) -> frozenset[str]:
    """Return the enterprises that were erased since the internal log had `size` entries.

    Whatever they granted since: that is for what is read after it.
    """
    return frozenset(connection.scalars(select(erasure.c.pseudonym).where(erasure.c.seq >= size)))


def pending(connection: Connection) -> frozenset[str]:
    """Return the erased enterprises whose rows came back with a backup and are to go again."""
    return frozenset(connection.scalars(select(erasure.c.pseudonym).where(erasure.c.applied == 0)))


def newest(connection: Connection) -> int:
    """Return the number of the newest `erase` entry, -1 if there is none."""
    return int(connection.execute(select(func.coalesce(func.max(erasure.c.seq), -1))).scalar_one())


def record(connection: Connection, entry: Entry, *, applied: bool) -> None:
    """Take note of an `erase` entry, in the transaction that logs it or puts it back."""
    connection.execute(
        insert(erasure).values(
            seq=entry.seq, pseudonym=entry.body["enterprise"], applied=int(applied)
        )
    )


def mark_applied(connection: Connection) -> None:
    """Take note that no segment has rows of erased enterprises any more."""
    connection.execute(update(erasure).values(applied=1))
