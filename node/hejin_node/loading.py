"""One source on its way into the warehouse: written in durable parts, visible all at once.

    1. write segments aside; at `keep` make them durable under their final names
    2. one transaction: list them as staged, with the place where the source is to be read on
    3. at the end one transaction, the caller's: everything staged is published

A crash before 2 leaves files that no manifest row names: the next load removes them. One before 3
leaves an open load, which the same source resumes; no reader sees anything of it.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, Engine

from hejin_node import manifest
from hejin_node.erased import Erased
from hejin_node.manifest import Counts, Load, Place, Segment
from hejin_node.segments import (
    BUCKET,
    LOAD,
    Columns,
    Keyring,
    Kind,
    SegmentReader,
    SegmentWriter,
    buckets_of,
    disk_errors,
)
from hejin_trust.canonical import time_text
from hejin_trust.clock import now
from hejin_trust.database import reading, writing
from hejin_trust.files import sync_folder

ERASED: Final = "enterprise.erased"
"""The rule that drops rows of an enterprise that was erased; they are kept nowhere."""


class SegmentFiles:
    """Where segments lie and how new ones are sealed."""

    def __init__(self, folder: Path, keys: Keyring) -> None:
        self.folder, self.keys = folder, keys

    def begin(self, kind: Kind, dataset: str, columns: Columns) -> NewSegment:
        """Begin a segment under a new random name; WarehouseError if the disk does not take it."""
        return NewSegment(self, kind, dataset, columns)

    def open(self, part: Segment, whole: Columns | None = None) -> SegmentReader:
        """Open a segment; FileNotFoundError if it is not there.

        whole   the data set's columns: those that the segment lacks are empty
        """
        opening = partial(self.keys.opening, part.kind, part.dataset, part.file)
        lacking = {name: kind for name, kind in (whole or {}).items() if name not in part.columns}
        return SegmentReader(self.path(part.file), part.dataset, opening, lacking)

    def path(self, file: str) -> Path:
        """Return where a segment lies."""
        return self.folder / file

    def size(self, file: str) -> int:
        """Return a segment's size, bytes; 0 if it cannot be looked at."""
        try:
            return self.path(file).stat().st_size
        except OSError:
            return 0

    def remove(self, file: str) -> None:
        """Remove a segment that no manifest row names."""
        self.path(file).unlink(missing_ok=True)

    def sync(self) -> None:
        """Make new names durable."""
        sync_folder(self.folder)


class NewSegment:
    """A segment that is being written aside."""

    def __init__(self, files: SegmentFiles, kind: Kind, dataset: str, columns: Columns) -> None:
        self._files, self._kind, self._dataset = files, kind, dataset
        self._columns = dict(columns)
        self.file = f"{secrets.token_hex(16)}.parquet"
        properties = files.keys.sealing(kind, dataset, self.file)
        with disk_errors():
            self._writer = SegmentWriter(
                files.path(f"{self.file}.part"), columns, properties, arranged=kind == "data"
            )

    @property
    def rows(self) -> int:
        """How many rows were written, without those that wait to be sorted."""
        return self._writer.rows

    def write(self, table: pa.Table) -> None:
        """Add rows, each with its internal columns."""
        self._writer.write(table)

    def flush(self) -> None:
        """Write what waits: what comes is not sorted together with it."""
        self._writer.flush()

    def finish(self) -> Segment | None:
        """Make the file durable under its final name; None (and no file) if it has no rows.

        The folder is to be synced after it. raises  WarehouseError: the disk is full
        """
        with disk_errors():
            digest = self._writer.finish()
            aside = self._files.path(f"{self.file}.part")
            if not self._writer.rows:
                aside.unlink()
                return None
            aside.rename(self._files.path(self.file))
        return Segment(
            self._kind,
            self._dataset,
            self.file,
            digest,
            self._writer.rows,
            self._columns,
            self._writer.buckets,
            time_text(now()),
        )

    def abandon(self) -> None:
        """Remove what was written."""
        self._writer.abandon()
        self._files.remove(self.file)


class RowWriter:
    """Where a load's rows go: one data set's segment, its rows stamped with bucket and load."""

    def __init__(self, segment: NewSegment, load: int, erased: Erased) -> None:
        self.segment, self._load, self._erased = segment, load, erased
        self.dropped = 0

    def write(self, table: pa.Table) -> pa.Table:
        """Add rows and return those that were taken: not the ones of erased enterprises.

        table  the data set's columns in any order, `enterprise` among them
        """
        kept = self._erased.spare(table)
        self.dropped += table.num_rows - kept.num_rows
        self.segment.write(
            kept.append_column(
                BUCKET, pa.array(buckets_of(kept.column("enterprise")))
            ).append_column(LOAD, pa.array(np.full(kept.num_rows, self._load)))
        )
        return kept


class Loading:
    """One source's way into a data set; made by `Warehouse.loading`, under its lock.

    place   where the source is to be read on, None at its beginning
    counts  of the part of the source before that place
    """

    def __init__(
        self,
        files: SegmentFiles,
        database: Engine,
        erased: Erased,
        *,
        kind: Kind,
        dataset: str,
        source: str,
        name: str,
        mapping: str,
        corrects: int | None,
    ) -> None:
        self._files, self._database, self._erased = files, database, erased
        self._what = (kind, dataset, source, name, mapping, corrects)
        self._writers: dict[tuple[Kind, str], RowWriter] = {}
        self._finished: list[Segment] = []
        self._dropped = 0
        self._load: Load | None = None
        self.counts = Counts()

    def __enter__(self) -> Self:
        """Resume an open load of the source; one with another mapping is given up first."""
        kind, dataset, source, _, mapping, _ = self._what
        with reading(self._database) as connection:
            found = manifest.find_load(connection, kind, dataset, source)
        if found is not None and found.state == "open" and found.mapping != mapping:
            self._forget(found.id)
            found = None
        if found is not None:
            self._load, self.counts = found, found.counts
            self._dropped = found.counts.quarantined.get(ERASED, 0)
        return self

    @property
    def already(self) -> bool:
        """Whether the source is in the data set, completely."""
        return self._load is not None and self._load.state == "complete"

    @property
    def place(self) -> Place | None:
        """Where the source is to be read on."""
        return None if self._load is None else self._load.place

    @property
    def load(self) -> int:
        """The load's id; it is begun if it was not. WarehouseError if it is complete."""
        if self._load is None:
            with writing(self._database) as connection:
                manifest.begin_load(connection, *self._what)
            with reading(self._database) as connection:
                self._load = manifest.find_load(connection, *self._what[:3])
        if self._load is None or self._load.state == "complete":
            raise manifest.already()
        return self._load.id

    def writer(self, kind: Kind, dataset: str, columns: Columns) -> RowWriter:
        """Return the writer of a data set, opened at first use since the last `keep`."""
        found = self._writers.get((kind, dataset))
        if found is None:
            load = self.load
            segment = self._files.begin(kind, dataset, columns)
            found = self._writers[kind, dataset] = RowWriter(segment, load, self._erased)
        return found

    def keep(self, place: Place, counts: Counts) -> None:
        """Make all rows so far durable, with the place where the source is to be read on.

        counts   of the whole source up to `place`, without the dropped rows
        raises   WarehouseError: the disk is full
        """
        self._finish(counts)
        load = self.load
        staged = [replace(part, open_load=load) for part in self._finished]
        with writing(self._database) as connection:
            manifest.list_segments(connection, staged, self._files.keys.id)
            manifest.advance_load(connection, load, place, self.counts)
            self._load = manifest.find_load(connection, *self._what[:3])
        self._finished.clear()

    def complete(self, counts: Counts | None = None) -> None:
        """Make the rest durable under its final names; `publish` comes next.

        counts   of the whole source, without the dropped rows; by default those of `keep`
        raises   WarehouseError: the disk is full
        """
        self._finish(counts or self.counts)

    def publish(self, connection: Connection) -> None:
        """Complete the load in the caller's transaction; with it all rows are the data's.

        raises   WarehouseError: this source is in the data set already
        """
        manifest.list_segments(connection, self._finished, self._files.keys.id)
        load = self.load if self._load else manifest.begin_load(connection, *self._what)
        manifest.complete_load(connection, load, self.counts)

    def drop(self) -> None:
        """Give the source up: what was kept of it goes as well."""
        if self._load is not None and self._load.state == "open":
            self._abandon_writers()
            self._forget(self._load.id)
            self._load, self.counts = None, Counts()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what the manifest does not name; what was kept stays for the next try."""
        self._abandon_writers()
        with reading(self._database) as connection:
            listed = {part.file for part in manifest.segments(connection, every=True)}
            found = manifest.find_load(connection, *self._what[:3])
        if found is not None and found.state == "open" and found.place is None:
            self._forget(found.id)
        for part in self._finished:
            if part.file not in listed:
                self._files.remove(part.file)

    def _finish(self, counts: Counts) -> None:
        for writer in self._writers.values():
            part = writer.segment.finish()
            self._dropped += writer.dropped
            if part is not None:
                self._finished.append(part)
        self._writers.clear()
        with disk_errors():
            self._files.sync()
        dropped = {ERASED: self._dropped} if self._dropped else {}
        self.counts = replace(counts, quarantined={**counts.quarantined, **dropped})

    def _abandon_writers(self) -> None:
        for writer in self._writers.values():
            writer.segment.abandon()
        self._writers.clear()

    def _forget(self, load: int) -> None:
        with writing(self._database) as connection:
            files = manifest.drop_load(connection, load)
        for file in files:
            self._files.remove(file)
