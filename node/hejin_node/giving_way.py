"""Segments that give way to others: with fewer rows, or merged; in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from hejin_node import manifest
from hejin_node.compaction import Keep
from hejin_node.loading import SegmentFiles
from hejin_node.manifest import Segment
from hejin_node.segments import LOAD


@dataclass(frozen=True, slots=True)
class GivingWay:
    """Old segments, and the durable new ones that are to take their place.

    Whatever crash there is, files that the manifest does not name are removed by the next load.
    """

    files: SegmentFiles
    old: Sequence[Segment]
    new: Sequence[Segment]

    @property
    def rows_gone(self) -> int:
        """How many rows the new ones do not have."""
        return sum(part.rows for part in self.old) - sum(part.rows for part in self.new)

    def swap(self, connection: Connection) -> None:
        """Put the new segments in the place of the old ones, in the caller's transaction."""
        manifest.drop_segments(connection, [part.file for part in self.old])
        manifest.list_segments(connection, self.new, self.files.keys.id)

    def remove_old(self) -> None:
        """Remove the old files, after the transaction."""
        for part in self.old:
            self.files.remove(part.file)


def all_but(loads: Collection[int]) -> Keep:
    """Return what keeps the rows of all other loads."""
    going = pa.array(sorted(loads), pa.int64())
    return lambda rows: rows.filter(pc.invert(pc.is_in(rows[LOAD], going)))
