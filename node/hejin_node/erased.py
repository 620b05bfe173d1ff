"""Which enterprises were erased: their rows are dropped wherever they come from."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, exists, select

from hejin_node.consent import pseudonym
from hejin_node.tables import authorisation, erasure


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
        gone = [code for code in pc.unique(codes).to_pylist() if code and self._is_gone(code)]
        if not gone:
            return table
        return table.filter(pc.invert(pc.is_in(codes, pa.array(gone, pa.string()))))

    def _is_gone(self, code: str) -> bool:
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
