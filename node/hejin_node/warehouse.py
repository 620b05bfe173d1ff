"""The data owner's warehouse: append-only, encrypted Parquet segments under one manifest."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Engine, func, insert, select
from sqlalchemy.exc import IntegrityError

from hejin_models.features import Dataset
from hejin_node import duck
from hejin_node.errors import QueryError, WarehouseError, WrongKeyError
from hejin_node.segments import (
    KEY_BYTES,
    Columns,
    Keyring,
    Kind,
    SegmentWriter,
    arrow_schema,
    disk_errors,
    read_segment,
    sync_folder,
)
from hejin_node.tables import segment as segment_table
from hejin_trust.canonical import time_text
from hejin_trust.clock import now
from hejin_trust.database import reading, writing
from hejin_trust.keys import read_private, write_private


def create_key(path: Path) -> bytes:
    """Make a new warehouse key file (0600, 32 random bytes) and return the key."""
    key = secrets.token_bytes(KEY_BYTES)
    write_private(path, key)
    return key


def read_key(path: Path) -> bytes:
    """Return the warehouse key in a file; KeyFileError or WrongKeyError if it is none."""
    key = read_private(path)
    if len(key) != KEY_BYTES:
        raise WrongKeyError(
            f"The key file {path} has {len(key)} bytes, a warehouse key has {KEY_BYTES}: "
            "restore it from its backup.",
            f"密钥文件 {path} 为 {len(key)} 字节，仓库密钥应为 {KEY_BYTES} 字节：请从备份恢复。",
        )
    return key


@dataclass(frozen=True, slots=True)
class Segment:
    """One published file: what is in it and how to know it again. Hashes are lower hex."""

    kind: Kind
    dataset: str
    file: str
    sha256: str
    rows: int
    columns: Columns
    source: str
    time: str


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A data set of the warehouse: its columns, its size, and what quarantine holds of it."""

    name: str
    columns: Columns
    segments: int
    rows: int
    quarantined: int


class Warehouse:
    """Encrypted segments in `folder`, listed in the table `segment` of the node's database.

    folder     holds nothing else; made if absent
    key        32 bytes, see `segments.Keyring`
    database   the node's database
    memory_mb  what a query may hold, MB
    raises     WrongKeyError if segments were written under another key
    """

    def __init__(
        self,
        folder: Path,
        key: bytes,
        database: Engine,
        memory_mb: int = duck.DEFAULT_MEMORY_MB,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._keys = Keyring(key)
        self._database = database
        self._memory_mb = memory_mb
        with reading(database) as connection:
            ids = set(connection.scalars(select(segment_table.c.key_id).distinct()))
        if ids - {self._keys.id}:
            raise WrongKeyError(
                "The warehouse was written with another key: restore the right key file "
                "from its backup. Nothing can be read without it.",
                "数据仓库由另一把密钥加密：请从备份恢复正确的密钥文件，否则无法读取。",
            )

    @property
    def database(self) -> Engine:
        """The database that holds the manifest."""
        return self._database

    def datasets(self) -> tuple[DatasetInfo, ...]:
        """Return the data sets that have rows or quarantined rows, by name."""
        found: dict[str, list[Segment]] = {}
        for part in self.segments():
            if part.kind != "labels":
                found.setdefault(part.dataset, []).append(part)
        return tuple(_describe(name, parts) for name, parts in sorted(found.items()))

    def columns(self, kind: Kind, dataset: str) -> Columns | None:
        """Return a data set's columns (`enterprise` included), or None if it has no segment."""
        parts = self.segments(kind, dataset)
        return parts[0].columns if parts else None

    def rows(self, kind: Kind, dataset: str) -> int:
        """Return how many rows a data set has."""
        query = select(func.coalesce(func.sum(segment_table.c.rows), 0)).where(
            segment_table.c.kind == kind, segment_table.c.dataset == dataset
        )
        with reading(self._database) as connection:
            return int(connection.execute(query).scalar_one())

    def segments(self, kind: Kind | None = None, dataset: str | None = None) -> tuple[Segment, ...]:
        """Return the published segments, oldest first."""
        query = select(segment_table).order_by(segment_table.c.id)
        if kind is not None:
            query = query.where(segment_table.c.kind == kind)
        if dataset is not None:
            query = query.where(segment_table.c.dataset == dataset)
        with reading(self._database) as connection:
            return tuple(
                Segment(
                    cast("Kind", row.kind),
                    row.dataset,
                    row.file,
                    row.sha256,
                    row.rows,
                    json.loads(row.columns),
                    row.source,
                    row.time,
                )
                for row in connection.execute(query)
            )

    def holds(self, kind: Kind, dataset: str, source: str) -> bool:
        """Tell whether a source file (hex SHA-256 of its bytes) is already in a data set."""
        return any(part.source == source for part in self.segments(kind, dataset))

    @contextmanager
    def loading(self, source: str) -> Iterator[Loading]:
        """Write segments from one source; those not published at the end are removed.

        source  hex SHA-256 of the source's bytes. One load at a time: another one waits.
        """
        with self._lock():
            self._sweep()
            with Loading(self, source) as work:
                yield work

    def append(
        self, dataset: str, columns: Columns, batches: Iterable[pa.RecordBatch], source: str
    ) -> int:
        """Add rows to a data set, all or none, and return how many."""
        with self.loading(source) as work:
            writer = work.writer("data", dataset, columns)
            for batch in batches:
                writer.write(pa.Table.from_batches([batch]))
            work.complete()
            with writing(self._database) as connection:
                return sum(part.rows for part in work.publish(connection))

    def read(
        self, kind: Kind, dataset: str, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield a data set's rows, one segment after the other, at most ROW_GROUP at a time."""
        for part in self.segments(kind, dataset):
            yield from self._batches(part, columns)

    def query(
        self,
        sql: str,
        datasets: Sequence[Dataset],
        as_of: date | None = None,
        enterprises: Collection[str] | None = None,
    ) -> pa.Table:
        """Run a feature view's SQL over data sets and return its result.

        datasets     each is a table with `enterprise` and its declared columns; one that is not
                     in the warehouse is an empty table
        as_of        value of the SQL's parameter $as_of
        enterprises  codes whose rows the SQL may see; None for all
        raises       QueryError (the SQL, or a data set without a declared column), SegmentError
        """
        shown = None if enterprises is None else pa.array(list(enterprises), pa.string())
        sources = {item.name: self._stream(item, shown) for item in datasets}
        given: dict[str, object] = {} if as_of is None else {"as_of": as_of}
        try:
            with duck.locked_down(self._memory_mb) as connection:
                return duck.select(connection, sql, sources, given)
        finally:
            pa.default_memory_pool().release_unused()

    def sweep(self) -> None:
        """Remove what a killed load left behind; not now if another process is loading."""
        with suppress(BlockingIOError), self._lock(fcntl.LOCK_NB):
            self._sweep()

    def _stream(self, item: Dataset, shown: pa.Array | None) -> duck.Rewindable:
        wanted: Columns = {"enterprise": "text", **item.columns}
        parts = self.segments("data", item.name)
        for part in parts:
            _check_columns(item.name, wanted, part.columns)
        schema = arrow_schema(wanted)

        def batches() -> Iterator[pa.RecordBatch]:
            for part in parts:
                for batch in self._batches(part, list(wanted)):
                    # Whole numbers beyond 2^53 are rounded: no value may end a bank's question.
                    rows = batch.select(schema.names).cast(schema, safe=False)
                    if shown is not None:
                        rows = rows.filter(pc.is_in(rows.column("enterprise"), shown))
                    yield rows

        return duck.Rewindable(schema, batches)

    def _batches(self, part: Segment, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        properties = self._keys.opening(part.kind, part.dataset, part.file)
        return read_segment(self._folder / part.file, part.dataset, properties, columns)

    def _sweep(self) -> None:
        """Remove files that no manifest row names: a load was killed. Called under the lock."""
        known = {part.file for part in self.segments()}
        for file in self._folder.iterdir():
            if ".parquet" in file.suffixes and file.name not in known:
                file.unlink()

    @contextmanager
    def _lock(self, flags: int = 0) -> Iterator[None]:
        handle = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | flags)
            yield
        finally:
            os.close(handle)


class Loading:
    """The segments being written from one source, published together or not at all."""

    def __init__(self, warehouse: Warehouse, source: str) -> None:
        self._warehouse = warehouse
        self._source = source
        self._writers: dict[tuple[Kind, str], tuple[str, Columns, SegmentWriter]] = {}
        self._complete: list[Segment] = []

    def __enter__(self) -> Loading:
        """Begin."""
        return self

    def writer(self, kind: Kind, dataset: str, columns: Columns) -> SegmentWriter:
        """Return the writer of this source's segment of a data set, opened at first use."""
        found = self._writers.get((kind, dataset))
        if found is None:
            file = f"{secrets.token_hex(16)}.parquet"
            properties = self._warehouse._keys.sealing(kind, dataset, file)
            with disk_errors():
                writer = SegmentWriter(self._aside(file), columns, properties)
            found = self._writers[kind, dataset] = (file, dict(columns), writer)
        return found[2]

    def complete(self) -> None:
        """Make all written files durable under their final names; the manifest comes next.

        A crash between the two leaves files that nobody reads; the next load removes them.
        raises   WarehouseError: the disk is full
        """
        with disk_errors():
            for (kind, dataset), (file, columns, writer) in self._writers.items():
                digest = writer.finish()
                if writer.rows:
                    self._aside(file).rename(self._warehouse._folder / file)
                    self._complete.append(
                        Segment(
                            kind,
                            dataset,
                            file,
                            digest,
                            writer.rows,
                            columns,
                            self._source,
                            time_text(now()),
                        )
                    )
            sync_folder(self._warehouse._folder)

    def publish(self, connection: Connection) -> tuple[Segment, ...]:
        """List the completed segments in the caller's transaction; with it they are the data's.

        raises   WarehouseError: this source is in a data set already
        """
        for part in self._complete:
            self._list(connection, part)
        return tuple(self._complete)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what the manifest does not name."""
        known = {part.file for part in self._warehouse.segments()}
        for file, _, writer in self._writers.values():
            writer.abandon()
            if file not in known:
                (self._warehouse._folder / file).unlink(missing_ok=True)

    def _aside(self, file: str) -> Path:
        return self._warehouse._folder / f"{file}.part"

    def _list(self, connection: Connection, part: Segment) -> None:
        try:
            connection.execute(
                insert(segment_table).values(
                    kind=part.kind,
                    dataset=part.dataset,
                    file=part.file,
                    sha256=part.sha256,
                    rows=part.rows,
                    columns=json.dumps(dict(part.columns)),
                    source=part.source,
                    key_id=self._warehouse._keys.id,
                    time=part.time,
                )
            )
        except IntegrityError:
            raise WarehouseError(
                "This file is in the data set already: nothing was added twice.",
                "该文件已在数据集中：未重复添加。",
            ) from None


def _describe(name: str, parts: Sequence[Segment]) -> DatasetInfo:
    data = [part for part in parts if part.kind == "data"]
    return DatasetInfo(
        name,
        data[0].columns if data else {},
        len(data),
        sum(part.rows for part in data),
        sum(part.rows for part in parts if part.kind == "quarantine"),
    )


def _check_columns(dataset: str, wanted: Columns, present: Columns) -> None:
    for name, kind in wanted.items():
        held = present.get(name)
        if held != kind and (held, kind) != ("integer", "number"):
            have = "is not there" if held is None else f"is of type {held}"
            hat = "不存在" if held is None else f"类型为 {held}"
            raise QueryError(
                f"The view needs column {name} ({kind}) of data set {dataset}, which {have}: "
                "load the data with a mapping that fits the view.",
                f"视图需要数据集 {dataset} 的列 {name}（{kind}），但该列{hat}："
                "请用与视图相符的映射文件载入数据。",
            )
