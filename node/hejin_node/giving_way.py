"""Rows that give way to newer ones, in the transaction that makes these visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from hejin_node import manifest
from hejin_node.loading import SegmentFiles
from hejin_node.manifest import Segment


@dataclass(frozen=True, slots=True)
class GivingWay:
    """Segments that were written anew without some rows; see `Warehouse.without`.

    Whatever crash there is, files that the manifest does not name are removed by the next load.
    """

    files: SegmentFiles
    old: Sequence[Segment]
    new: Sequence[Segment]

    def swap(self, connection: Connection) -> None:
        """Put the new segments in the place of the old ones, in the caller's transaction."""
        manifest.drop_segments(connection, [part.file for part in self.old])
        manifest.list_segments(connection, self.new, self.files.keys.id)

    def remove_old(self) -> None:
        """Remove the old files, after the transaction."""
        for part in self.old:
            self.files.remove(part.file)
