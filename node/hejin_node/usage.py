"""Which authorisations each run and each sum rested on: what explains every use later.

Who had no label is as confidential as the labels: what is kept is sealed with the snapshot key.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from sqlalchemy import Column, Connection, Integer, LargeBinary, String, Table, insert, select

from hejin_node.tables import authorisation, metadata
from hejin_trust.at_rest import decrypted, encrypted

Fate = Literal["used", "unlabelled", "without-row", "view-failed"]
"""What became of an authorised enterprise when a run's rows were taken."""

_FATES: Final[tuple[Fate, ...]] = get_args(Fate)

run_use = Table(
    "run_use",
    metadata,
    Column("run", String(32), primary_key=True),
    Column("taken", String(20), nullable=False),  # moment at which authorisations had to stand
    Column("sealed", LargeBinary, nullable=False),  # grant -> fate
)

sum_use = Table(
    "sum_use",
    metadata,
    # Index of the `reserve` entry in the release log; of released sums only.
    Column("reservation", Integer, primary_key=True, autoincrement=False),
    Column("released", String(20), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # grants of the run that were left out
)


@dataclass(frozen=True, slots=True, eq=False)
class RunUse:
    """The authorisations that covered a run when its rows were taken, and what became of each.

    taken  when, RFC 3339
    seqs   int64[n]: the grants, ascending
    kinds  int64[n]: index of the fate of each
    """

    taken: str
    seqs: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]

    def fate(self, grant: int) -> Fate | None:
        """Return what became of a grant's enterprise; None where it did not cover the run."""
        place = int(np.searchsorted(self.seqs, grant))
        if place == len(self.seqs) or self.seqs[place] != grant:
            return None
        return _FATES[int(self.kinds[place])]

    @property
    def used(self) -> npt.NDArray[np.int64]:
        """The grants whose enterprises are in the run's rows, ascending."""
        found: npt.NDArray[np.int64] = self.seqs[self.kinds == _FATES.index("used")]
        return found


@dataclass(frozen=True, slots=True)
class SumUse:
    """When a sum was released, and whose grants of its run it left out again."""

    released: str
    left_out: frozenset[int]


def note_run(
    connection: Connection, key: bytes, run: str, taken: str, fates: Mapping[int, Fate]
) -> None:
    """Keep what a run's rows were taken under, in the transaction that logs them.

    key   the node's snapshot key
    taken RFC 3339: when the authorisations were looked at
    """
    seqs = np.fromiter(sorted(fates), np.int64, len(fates))
    kinds = np.fromiter((_FATES.index(fates[int(seq)]) for seq in seqs), np.int64, len(fates))
    sealed = _seal(key, f"run {run}", seqs=seqs, kinds=kinds)
    connection.execute(insert(run_use).values(run=run, taken=taken, sealed=sealed))


def find_run(connection: Connection, key: bytes, run: str) -> RunUse | None:
    """Return what `note_run` kept; None where it was lost with an older database.

    raises   NotOpenedError
    """
    row = connection.execute(select(run_use).where(run_use.c.run == run)).first()
    if row is None:
        return None
    stored = _open(key, f"run {run}", row.sealed)
    return RunUse(row.taken, stored["seqs"], stored["kinds"])


def left_out(
    connection: Connection, key: bytes, run: str, contributing: Collection[str]
) -> tuple[int, ...] | None:
    """Return the grants of a run's rows whose enterprises are no longer in it.

    contributing  codes of the rows that enter its sums now, of both parts
    """
    use = find_run(connection, key, run)
    if use is None:
        return None
    if len(use.used) == len(contributing):
        return ()
    used, codes = frozenset(use.used.tolist()), frozenset(contributing)
    rows = connection.execute(select(authorisation.c.seq, authorisation.c.code))
    return tuple(seq for seq, code in rows if seq in used and code not in codes)


def note_sum(
    connection: Connection, key: bytes, reservation: int, released: str, grants: Iterable[int]
) -> None:
    """Keep whom a sum left out, in the transaction that releases it."""
    sealed = _seal(key, f"sum {reservation}", seqs=np.array(sorted(grants), np.int64))
    connection.execute(
        insert(sum_use).values(reservation=reservation, released=released, sealed=sealed)
    )


def find_sum(connection: Connection, key: bytes, reservation: int) -> SumUse | None:
    """Return what `note_sum` kept; None where nothing was released, or it was lost.

    raises   NotOpenedError
    """
    row = connection.execute(select(sum_use).where(sum_use.c.reservation == reservation)).first()
    if row is None:
        return None
    stored = _open(key, f"sum {reservation}", row.sealed)
    return SumUse(row.released, frozenset(stored["seqs"].tolist()))


def _seal(
    key: bytes, what: str, **arrays: np.ndarray[tuple[int], np.dtype[np.signedinteger]]
) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return encrypted(key, buffer.getvalue(), what.encode())


def _open(key: bytes, what: str, sealed: bytes) -> dict[str, npt.NDArray[np.int64]]:
    data = decrypted(key, sealed, what.encode())
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return dict(stored)
