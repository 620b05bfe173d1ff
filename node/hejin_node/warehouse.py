"""The data owner's warehouse: append-only, encrypted Parquet segments under one manifest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from sqlalchemy import Engine

from hejin_models.features import Dataset
from hejin_node import duck, manifest, withdrawn
from hejin_node.compaction import MANY, Compacted, Keep, mergeable, rewrite
from hejin_node.erased import Erased, in_force
from hejin_node.errors import (
    ViewFailedError,
    WarehouseError,
    WithdrawalWaitsError,
    WrongKeyError,
)
from hejin_node.giving_way import GivingWay, all_but
from hejin_node.loading import Loading, SegmentFiles
from hejin_node.manifest import Counts, Load, Segment
from hejin_node.partitions import MOST_ROWS, Partition, Source, partitions
from hejin_node.segments import (
    BUCKETS,
    LOAD,
    Columns,
    Keyring,
    Kind,
    SegmentReader,
    bucket_of,
    missing,
)
from hejin_node.sources import Progress, Tally, silent
from hejin_node.verifying import Damage, check_all
from hejin_node.writer_lock import Work, holding, holding_if_free
from hejin_trust.database import reading, writing
from hejin_trust.errors import HejinError

_log = structlog.get_logger(__name__)


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

    folder         holds nothing else; made if absent
    key            32 bytes, see `segments.Keyring`
    database       the node's database
    pseudonym_key  tells erased enterprises from others
    memory_mb      what DuckDB may hold in a query, MB
    partition_rows see `partitions.MOST_ROWS`
    raises         WrongKeyError if segments were written under another key
    """

    def __init__(
        self,
        folder: Path,
        key: bytes,
        database: Engine,
        pseudonym_key: bytes,
        memory_mb: int = duck.DEFAULT_MEMORY_MB,
        partition_rows: int = MOST_ROWS,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._files = SegmentFiles(folder, Keyring(key))
        self._database = database
        self._pseudonym_key = pseudonym_key
        self._memory_mb = memory_mb
        self._partition_rows = partition_rows
        with reading(database) as connection:
            ids = manifest.key_ids(connection)
        if ids - {self._files.keys.id}:
            raise WrongKeyError(
                "The warehouse was written with another key: restore the right key file "
                "from its backup. Nothing can be read without it.",
                "数据仓库由另一把密钥加密：请从备份恢复正确的密钥文件，否则无法读取。",
            )

    @property
    def database(self) -> Engine:
        """The database that holds the manifest."""
        return self._database

    @property
    def files(self) -> SegmentFiles:
        """Where its segments lie, and their keys."""
        return self._files

    def datasets(self) -> tuple[DatasetInfo, ...]:
        """Return the data sets that have rows or quarantined rows, by name."""
        found: dict[str, list[Segment]] = {}
        for part in self.segments():
            if part.kind != "labels":
                found.setdefault(part.dataset, []).append(part)
        return tuple(_describe(name, parts) for name, parts in sorted(found.items()))

    def columns(self, kind: Kind, dataset: str) -> Columns | None:
        """Return a data set's columns (`enterprise` included), or None if it has no segment."""
        return manifest.columns_of(self.segments(kind, dataset)) or None

    def rows(self, kind: Kind, dataset: str) -> int:
        """Return how many rows a data set has."""
        with reading(self._database) as connection:
            return manifest.row_count(connection, kind, dataset)

    def segments(self, kind: Kind | None = None, dataset: str | None = None) -> tuple[Segment, ...]:
        """Return the published segments, oldest first."""
        with reading(self._database) as connection:
            return manifest.segments(connection, kind, dataset)

    def loads(self, dataset: str | None = None) -> tuple[Load, ...]:
        """Return the sources that were loaded, or are being loaded, oldest first."""
        with reading(self._database) as connection:
            return manifest.loads(connection, dataset)

    def withdrawn(self, dataset: str | None = None) -> tuple[Load, ...]:
        """Return the loads that were withdrawn, oldest first."""
        with reading(self._database) as connection:
            return withdrawn.loads(connection, dataset)

    @contextmanager
    def loading(
        self,
        kind: Kind,
        dataset: str,
        source: str,
        name: str = "",
        mapping: str = "",
        corrects: int | None = None,
        alive: Callable[[], object] = lambda: None,
    ) -> Iterator[Loading]:
        """Write what comes from one source; see `Loading`. One load at a time: another one waits.

        kind      data or labels
        source    hex SHA-256 of the source's content; one that was interrupted is resumed
        name      file name, or sql:TABLE; never a path or a URL
        mapping   hex SHA-256 of the mapping file
        corrects  the load whose quarantined rows come again
        alive     called again and again while it waits; what it raises ends the waiting
        """
        with self._lock("load", alive):
            self._sweep()
            with reading(self._database) as connection:
                erased = Erased(self._pseudonym_key, in_force(connection))
            with Loading(
                self._files,
                self._database,
                erased,
                kind=kind,
                dataset=dataset,
                source=source,
                name=name,
                mapping=mapping,
                corrects=corrects,
            ) as work:
                yield work
            self._merge_when_many()

    def append(
        self, dataset: str, columns: Columns, batches: Iterable[pa.RecordBatch], source: str
    ) -> int:
        """Add rows to a data set, all or none, and return how many."""
        loaded = 0
        with self.loading("data", dataset, source) as work:
            writer = work.writer("data", dataset, columns)
            for batch in batches:
                loaded += writer.write(pa.Table.from_batches([batch])).num_rows
            work.complete(Counts(read=loaded, loaded=loaded))
            with writing(self._database) as connection:
                work.publish(connection)
        return loaded

    def read(
        self, kind: Kind, dataset: str, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield a data set's rows, at most BATCH at a time.

        Those of one enterprise stay in their order; segments go from the oldest on.
        columns   also `_bucket` and `_load`, if named; by default all but these
        """
        with self._opened(kind, dataset) as parts:
            whole = manifest.columns_of([part for part, _ in parts]) if kind == "data" else None
            for part, reader in parts:
                names = list(whole or part.columns) if columns is None else list(columns)
                yield from (batch.select(names) for batch in reader.batches(names))

    def rows_by_load(
        self, kind: Kind, dataset: str, enterprise: str | None = None
    ) -> dict[int, int]:
        """Return how many rows a data set has from each load, all or one enterprise's."""
        low, high = 0, BUCKETS
        if enterprise is not None:
            low = bucket_of(enterprise)
            high = low + 1
        found: Counter[int] = Counter()
        with self._opened(kind, dataset) as parts:
            for _, reader in parts:
                for batch in reader.bucket_range(["enterprise", LOAD], low, high):
                    rows = pa.Table.from_batches([batch])
                    if enterprise is not None:
                        rows = rows.filter(pc.equal(rows["enterprise"], enterprise))
                    for one in pc.value_counts(rows[LOAD]).to_pylist():
                        found[one["values"]] += one["counts"]
        return dict(found)

    def rows_of_load(self, kind: Kind, dataset: str, load: int) -> Iterator[pa.Table]:
        """Yield the published rows of one load with all columns of their segment."""
        with self._opened(kind, dataset) as parts:
            for part, reader in parts:
                for batch in reader.batches([*part.columns, LOAD]):
                    rows = batch.filter(pc.equal(batch.column(LOAD), load))
                    if rows.num_rows:
                        yield pa.Table.from_batches([rows]).select(list(part.columns))

    def without(
        self,
        kind: Kind,
        dataset: str,
        loads: Collection[int],
        keep: Keep,
        told: Callable[[int], None] = lambda _: None,
    ) -> GivingWay:
        """Write the segments that hold rows of some loads anew, without rows that give way.

        For whoever holds the lock by `loading`; nothing changes before `GivingWay.swap`.
        keep     returns the rows that stay, of all loads
        told     called with the number of rows that were looked at since the last call
        raises   SegmentError, WarehouseError
        """
        wanted = pa.array(sorted(loads), pa.int64())
        old: list[Segment] = []
        new: list[Segment] = []
        for part in self.segments(kind, dataset):
            with self._open(part) as reader:
                if any(
                    pc.any(pc.is_in(batch.column(LOAD), wanted)).as_py()
                    for batch in reader.batches([LOAD])
                ):
                    old.append(part)
                    new += rewrite(self._files, [(part, reader)], keep)
            told(part.rows)
        return GivingWay(self._files, old, new)

    def query(
        self,
        sql: str,
        datasets: Sequence[Dataset],
        as_of: date | None = None,
        enterprises: Collection[str] | None = None,
        seconds: float = math.inf,
    ) -> pa.Table:
        """Run a feature view's SQL over data sets and return its result.

        It runs over one partition of whole enterprises after the other, and the results follow
        each other: of SQL that looks across enterprises they would depend on the partitions.

        datasets     each is a table with `enterprise` and its declared columns; one that is not
                     in the warehouse is an empty table
        as_of        value of the SQL's parameter $as_of
        enterprises  codes whose rows the SQL may see; None for all
        seconds      how long all of it may take
        raises       QueryError (the SQL, or a data set without a declared column), SegmentError;
                     ViewFailedError where the rows are what it fails on, or takes too long over
        """
        given: dict[str, object] = {} if as_of is None else {"as_of": as_of}

        def run(connection: duckdb.DuckDBPyConnection) -> pa.Table:
            with closing(self.partitions(datasets, enterprises)) as parts:
                return pa.concat_tables(
                    [duck.select(connection, sql, part.tables, given) for part in parts]
                )

        late = ViewFailedError(
            f"The SQL did not end within {seconds:g} s over the node's rows and was given up: read"
            " the view's `source`, which may hang on a condition in the data.",
            f"SQL 在本节点数据上运行 {seconds:g} 秒仍未结束，已放弃：请阅读视图的 `source`，"
            "它可能在某种数据条件下不会结束。",
        )
        try:
            return duck.in_time(seconds, late, run, self._memory_mb)
        finally:
            pa.default_memory_pool().release_unused()

    def partitions(
        self, datasets: Sequence[Dataset], enterprises: Collection[str] | None = None
    ) -> Generator[Partition]:
        """Yield the rows of data sets, each partition those of whole enterprises; see `query`."""
        with ExitStack() as open_files:
            sources: dict[str, Source] = {}
            for item in datasets:
                wanted: Columns = {"enterprise": "text", **item.columns}
                parts = open_files.enter_context(self._opened("data", item.name))
                if parts:
                    manifest.check_columns(
                        item.name, wanted, manifest.columns_of([part for part, _ in parts])
                    )
                sources[item.name] = Source(wanted, parts)
            yield from partitions(sources, enterprises, self._partition_rows)

    def compact(self, dataset: str | None = None, progress: Progress = silent) -> Compacted:
        """Merge the segments that are not full, of one data set or of all; waits for a load.

        progress called with (rows merged, rows in all)
        raises   SegmentError, WarehouseError: the segments stay as they are
        """
        with self._lock("compact"):
            self._sweep()
            groups = mergeable(self.segments(dataset=dataset))
            told = Tally(progress, sum(part.rows for group in groups for part in group))
            merged = [self._merge(group, told) for group in groups]
        return Compacted(sum(map(len, groups)), sum(merged))

    def give_up(self, load: int) -> None:
        """Forget an interrupted load and what it kept; waits for one that is running.

        raises   WarehouseError: there is no such load, or it is complete
        """
        with self._lock("give-up"):
            if not any(one.id == load and one.state == "open" for one in self.loads()):
                raise WarehouseError(
                    f"There is no interrupted load {load}: see `hejin node data show`.",
                    f"没有编号为 {load} 的中断导入：请查看 `hejin node data show`。",
                )
            with writing(self._database) as connection:
                files = manifest.drop_load(connection, load)
            for file in files:
                self._files.remove(file)

    @contextmanager
    def without_enterprises(
        self,
        gone: Callable[[str | None], bool],
        bucket: int | None = None,
        progress: Progress = silent,
    ) -> Iterator[GivingWay]:
        """Write every segment anew that has rows of some enterprises, open loads' as well.

        gone     tells of a code whether its rows are to go
        bucket   the one bucket where they can be; None: anywhere
        progress called with (rows looked at, rows in all)
        raises   SegmentError, WarehouseError: the segments stay as they are

        The new ones count from the caller's transaction that calls `GivingWay.swap`; then the old
        files are removed. Loads wait meanwhile.
        """
        with self._lock("erase"):
            self._sweep()
            with reading(self._database) as connection:
                parts = manifest.segments(connection, every=True)
            old: list[Segment] = []
            new: list[Segment] = []
            told = Tally(progress, sum(part.rows for part in parts))
            try:
                for part in parts:
                    written = None
                    if bucket is None or part.buckets[bucket]:
                        written = self._rewrite_without(part, gone, bucket)
                    told(part.rows)
                    if written is not None:
                        old.append(part)
                        new += written
                yield GivingWay(self._files, old, new)
            finally:
                # Whatever of old and new the manifest does not name.
                self._sweep()
                self._files.sync()

    @contextmanager
    def without_loads(
        self,
        dataset: str,
        choose: Callable[[Sequence[Load]], Sequence[Load]],
        progress: Progress = silent,
    ) -> Iterator[tuple[Sequence[Load], GivingWay]]:
        """Write every segment of a data set anew that has rows of some loads, quarantine as well.

        choose   returns which of the data set's loads, in complete ones, are to go; it may refuse
        progress called with (rows looked at, rows in all)
        raises   SegmentError, WarehouseError: the segments stay as they are

        The new ones count from the caller's transaction that calls `GivingWay.swap`; then the old
        files are removed. Loads wait meanwhile.
        """
        with self._lock("withdraw"):
            self._sweep()
            going = choose(self.loads(dataset))
            numbers = [one.id for one in going]
            kinds: list[Kind] = [*dict.fromkeys(one.kind for one in going), "quarantine"]
            told = Tally(progress, sum(self.rows(kind, dataset) for kind in kinds))
            try:
                parts = [
                    self.without(kind, dataset, numbers, all_but(numbers), told) for kind in kinds
                ]
                old = [part for one in parts for part in one.old]
                yield (
                    going,
                    GivingWay(self._files, old, [part for one in parts for part in one.new]),
                )
            finally:
                # Whatever of old and new the manifest does not name.
                self._sweep()
                self._files.sync()

    @contextmanager
    def still(self, work: Work) -> Iterator[tuple[Segment, ...]]:
        """Let nobody write meanwhile; yields every listed segment, those of open loads as well."""
        with self._lock(work):
            self._sweep()
            with reading(self._database) as connection:
                parts = manifest.segments(connection, every=True)
            yield parts

    def verify(self, progress: Progress = silent) -> tuple[Damage, ...]:
        """Decrypt and count every segment, and compare its bytes with what was written.

        returns   what is missing or damaged; a segment that gives way meanwhile is not
        """
        with reading(self._database) as connection:
            parts = manifest.segments(connection, every=True)
        return check_all(self._files, parts, self._is_listed, progress)

    def _is_listed(self, file: str) -> bool:
        with reading(self._database) as connection:
            return any(part.file == file for part in manifest.segments(connection, every=True))

    def sweep(self) -> None:
        """Remove what a killed load left behind; not now if another process is loading."""
        with holding_if_free(self._lock_file, "sweep") as free:
            if free:
                self._sweep()

    def _rewrite_without(
        self, part: Segment, gone: Callable[[str | None], bool], bucket: int | None
    ) -> list[Segment] | None:
        """Return what takes a segment's place, None if it has no row of these enterprises."""
        low, high = (0, BUCKETS) if bucket is None else (bucket, bucket + 1)
        with self._open(part) as reader:
            codes: set[str | None] = set()
            for batch in reader.bucket_range(["enterprise"], low, high):
                codes.update(pc.unique(batch.column("enterprise")).to_pylist())
            named = pa.array([code for code in codes if gone(code)], pa.string())
            if not len(named):
                return None
            return rewrite(
                self._files,
                [(part, reader)],
                lambda rows: rows.filter(pc.invert(pc.is_in(rows["enterprise"], named))),
            )

    def _merge_when_many(self) -> None:
        """Merge what a long series of small loads left; a failure is no failure of the load."""
        try:
            for group in mergeable(self.segments()):
                if len(group) >= MANY:
                    self._merge(group)
        except HejinError as reason:
            _log.warning("not-compacted", code=reason.code)

    def _merge(self, group: Sequence[Segment], told: Callable[[int], None] = lambda _: None) -> int:
        """Put new segments in the place of a group's; return how many. Called under the lock."""
        with ExitStack() as open_files:
            parts = [(part, open_files.enter_context(self._open(part))) for part in group]
            new = rewrite(self._files, parts, told=told)
        merged = GivingWay(self._files, group, new)
        with writing(self._database) as connection:
            merged.swap(connection)
        merged.remove_old()
        return len(new)

    @contextmanager
    def _opened(self, kind: Kind, dataset: str) -> Iterator[list[tuple[Segment, SegmentReader]]]:
        """Open all segments of a data set as it is now.

        Compaction may remove a file between listing and opening it: then the list is a new one.
        raises   SegmentError; WithdrawalWaitsError: it has rows of a withdrawn load
        """
        self._check_withdrawn(dataset)
        with ExitStack() as open_files:
            parts = self.segments(kind, dataset)
            found: list[tuple[Segment, SegmentReader]] = []
            while len(found) < len(parts):
                part = parts[len(found)]
                # What quarantine holds has the columns of its source.
                whole = manifest.columns_of(parts) if kind == "data" else None
                try:
                    found.append((part, open_files.enter_context(self._files.open(part, whole))))
                except FileNotFoundError:
                    listed = self.segments(kind, dataset)
                    if part.file in {one.file for one in listed}:
                        raise missing(part.file, dataset) from None
                    open_files.close()
                    parts, found = listed, []
            yield found

    def _check_withdrawn(self, dataset: str) -> None:
        with reading(self._database) as connection:
            waiting = withdrawn.pending(connection, dataset)
        if waiting:
            raise WithdrawalWaitsError(
                f"{len(waiting)} loads of {dataset} were withdrawn and came back with a backup, "
                "and their rows could not be removed yet: nothing is read from it. Free some "
                "space, restore what `hejin node data verify` names, and start the node again.",
                f"{dataset} 有 {len(waiting)} 次已撤回的导入随备份恢复，其数据尚未能清除："
                "不读取该数据集。请释放磁盘空间，恢复 `hejin node data verify` 所列分段文件，"
                "并重新启动节点。",
            )

    def _open(self, part: Segment) -> SegmentReader:
        """Open a segment that nobody can remove meanwhile; SegmentError if it is not there."""
        try:
            return self._files.open(part)
        except FileNotFoundError:
            raise missing(part.file, part.dataset) from None

    def _sweep(self) -> None:
        """Remove what a killed load left and cannot go on from. Called under the lock."""
        with reading(self._database) as connection:
            known = {part.file for part in manifest.segments(connection, every=True)}
            idle = manifest.nothing_kept(connection)
        if idle:
            with writing(self._database) as connection:
                for load in idle:
                    manifest.drop_load(connection, load)
        for file in self._files.folder.iterdir():
            if ".parquet" in file.suffixes and file.name not in known:
                file.unlink()

    def _lock(
        self, work: Work, alive: Callable[[], object] = lambda: None
    ) -> AbstractContextManager[None]:
        return holding(self._lock_file, work, alive)

    @property
    def _lock_file(self) -> Path:
        return self._files.folder / ".lock"


def _describe(name: str, parts: Sequence[Segment]) -> DatasetInfo:
    data = [part for part in parts if part.kind == "data"]
    return DatasetInfo(
        name,
        manifest.columns_of(data),
        len(data),
        sum(part.rows for part in data),
        sum(part.rows for part in parts if part.kind == "quarantine"),
    )
