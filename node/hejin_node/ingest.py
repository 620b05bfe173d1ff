"""Load a source into the warehouse: good rows as data, the others into quarantine."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, cast

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import URL

from hejin_node import duck
from hejin_node.errors import IngestError, MappingError, SourceGoneError
from hejin_node.giving_way import GivingWay, all_but
from hejin_node.loading import Loading
from hejin_node.manifest import Counts, Load
from hejin_node.mapping import SourceMapping
from hejin_node.pipeline import Behind, ahead
from hejin_node.quarantine import (
    LOAD_COLUMN,
    ROW_COLUMN,
    Corrections,
    count_rules,
    describe_rules,
    find_load,
    quarantine,
)
from hejin_node.rules import Checker
from hejin_node.segments import CHUNK, LOAD
from hejin_node.source_files import open_file
from hejin_node.source_sql import open_query
from hejin_node.sources import Block, Layout, Place, Progress, Query, Source, rows_before, silent
from hejin_node.warehouse import Warehouse
from hejin_trust.database import writing

#: How quarantine writes dates that came as such.
_WRITTEN: Final = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of a source.

    source       its digest: of a file, the hex SHA-256 of its bytes
    already      it was in the data set before, or has nothing new; nothing was done
    loaded       rows that are in the data set now
    quarantined  rows by the rule they broke (`net.range`); kept, encrypted, outside of it
    replaced     values in loaded rows that were NaN or infinite and are missing now
    seconds      wall-clock time
    """

    dataset: str
    source: str
    already: bool
    loaded: int
    quarantined: Mapping[str, int]
    replaced: int
    seconds: float


def ingest(
    warehouse: Warehouse,
    path: Path,
    mapping: SourceMapping,
    progress: Progress = silent,
) -> IngestReport:
    """Load a CSV, Parquet or Excel file; see `ingest_source`."""
    source = open_file(path, mapping.sources, mapping.layout)
    return ingest_source(warehouse, source, mapping, progress)


def ingest_database(
    warehouse: Warehouse, url: URL, mapping: SourceMapping, progress: Progress = silent
) -> IngestReport:
    """Load what the mapping's `[sql]` asks a database for; see `ingest_source`.

    With a key, what was added behind the last load's end. Without, everything, if it is not what
    the last load found; the rows of that one give way then.
    """
    if mapping.sql is None:
        raise MappingError(
            "The mapping has no [sql] table: it is for files.",
            "映射文件没有 [sql] 表：它用于文件。",
        )
    began = time.monotonic()
    last = _last(warehouse, mapping)
    place = cast("Place", last.place) if last is not None and last.place else {}
    if last is not None:
        _check_key(place, last, mapping.sql)
    source = open_query(url, mapping.sql, mapping.sources, mapping.layout.formats, place.get("key"))
    # What the last load found gave way to a later one: if that was withdrawn, it is there no more.
    gone = last is not None and any(
        one.name == last.name and one.id > last.id for one in warehouse.withdrawn(last.dataset)
    )
    same = source.content is not None and source.content == place.get("content") and not gone
    if source.rows == 0 or same:
        seconds = time.monotonic() - began
        return IngestReport(mapping.dataset, source.digest, True, 0, {}, 0, seconds)
    behind = None if last is None else last.id
    if last is None or source.content is None:
        return ingest_source(warehouse, source, mapping, progress, behind=behind)
    # What was found before the last load may come again, and is no old source then.
    following = replace(source, digest=_hash(f"{source.digest} after {last.source}"))
    corrections = [one.id for one in warehouse.loads(mapping.dataset) if one.corrects == last.id]
    return ingest_source(
        warehouse,
        following,
        mapping,
        progress,
        replaces=frozenset((last.id, *corrections)),
        behind=behind,
    )


def ingest_corrected(
    warehouse: Warehouse,
    path: Path,
    mapping: SourceMapping,
    load: int,
    progress: Progress = silent,
) -> IngestReport:
    """Load rows of a load's quarantine that were corrected, from the CSV file of `export`.

    Those that obey the rules now leave quarantine, in the transaction that makes them visible;
    the others stay there as they are.
    raises   IngestError, as for `ingest_source`; rows that are not in that quarantine
    """
    corrected = replace(
        mapping,
        columns=tuple(
            replace(one, formats=(*one.formats, *_WRITTEN)) if one.type == "date" else one
            for one in mapping.columns
        ),
    )
    columns = [LOAD_COLUMN, ROW_COLUMN, *mapping.sources]
    source = Corrections(open_file(path, columns, Layout(formats=mapping.layout.formats)))
    return ingest_source(warehouse, source, corrected, progress, corrects=load)


def ingest_source(
    warehouse: Warehouse,
    source: Source,
    mapping: SourceMapping,
    progress: Progress = silent,
    *,
    replaces: frozenset[int] = frozenset(),
    corrects: int | None = None,
    behind: int | None = None,
) -> IngestReport:
    """Load a source, all or nothing; the same content again changes nothing.

    An attempt that was killed, or whose source failed half-way, goes on where it was: nothing
    of it is visible before its end. Memory is bounded whatever the source's size.

    progress  called with (done, in all), in another thread; with (0, 0) while another load runs
    replaces  loads whose rows give way, in quarantine too
    corrects  the load whose quarantine the source's rows come from
    behind    of a database: the load that this one goes on from
    raises    IngestError: malformed source, or no row obeys the rules; nothing was kept.
              SourceGoneError, WarehouseError (no space): what was made durable is kept
    """
    began = time.monotonic()
    dataset = mapping.dataset
    with warehouse.loading(
        "data",
        dataset,
        source.digest,
        source.name,
        mapping.digest,
        corrects,
        alive=partial(progress, 0, 0),
    ) as work:
        if work.already:
            seconds = time.monotonic() - began
            return IngestReport(dataset, source.digest, True, 0, {}, 0, seconds)
        if corrects is not None:
            find_load(warehouse, dataset, corrects)
        if mapping.sql is not None:
            _check_behind(warehouse, mapping, behind)
        _check_schema(warehouse, mapping)
        course = _Course(warehouse, work, mapping, replaces, corrects)
        try:
            _run(course, source, mapping, progress)
            if not work.counts.loaded:
                _refuse_all(source.name, work.counts.quarantined)
        except SourceGoneError:
            raise
        except IngestError:
            work.drop()
            raise
        leaving = course.leaving()
        with writing(warehouse.database) as database:
            for part in leaving:
                part.swap(database)
            work.publish(database)
        for part in leaving:
            part.remove_old()
    pa.default_memory_pool().release_unused()
    return IngestReport(
        dataset,
        source.digest,
        False,
        work.counts.loaded,
        work.counts.quarantined,
        work.counts.replaced,
        time.monotonic() - began,
    )


def _run(course: _Course, source: Source, mapping: SourceMapping, progress: Progress) -> None:
    """Bring the whole source into durable segments; it is still invisible then."""
    with duck.locked_down() as connection, Behind() as behind:
        checker = Checker(mapping, connection, rows_before(course.place))
        if mapping.unique:
            for codes in course.known():
                checker.know(codes)
        with ahead(source.blocks(course.place, progress)) as blocks:
            try:
                for block in blocks:
                    behind.run(partial(course.take, block, checker.check(block.table)))
            except SourceGoneError:
                behind.run(course.keep)
                behind.wait()
                raise
        behind.run(course.keep)
        behind.wait()


class _Course:
    """A source on its way: what of it was taken, and up to where. Works in one thread.

    place  where the source is to be read on, None at its beginning
    """

    def __init__(
        self,
        warehouse: Warehouse,
        work: Loading,
        mapping: SourceMapping,
        replaces: frozenset[int],
        corrects: int | None,
    ) -> None:
        self._warehouse, self._work, self._mapping = warehouse, work, mapping
        self._replaces, self._corrects = replaces, corrects
        self._rules = _hash(repr(mapping))
        if work.place is not None and not self._can_go_on():
            work.drop()
        self.place = cast("Place | None", work.place)
        self._read = self._kept = rows_before(self.place)
        self._loaded, self._replaced = work.counts.loaded, work.counts.replaced
        self._bad = Counter(work.counts.quarantined)
        self._corrected: list[pa.Array] = []
        self._waiting = (
            pa.array([], pa.int64()) if corrects is None else self._rows_in_quarantine(corrects)
        )

    def known(self) -> Iterator[pa.Array]:
        """Yield the enterprises that the data set has, without rows that give way."""
        going = pa.array(sorted(self._replaces), pa.int64())
        for batch in self._warehouse.read("data", self._mapping.dataset, ["enterprise", LOAD]):
            stays = pc.invert(pc.is_in(batch.column(LOAD), going))
            yield batch.filter(stays).column("enterprise")

    def take(self, block: Block, checked: pa.Table) -> None:
        """Write a block's rows, the good ones and the others; durable now and then."""
        dataset = self._mapping.dataset
        rules = checked["_rule"]
        good = checked if rules.null_count == len(rules) else checked.filter(pc.is_null(rules))
        taken = self._work.writer("data", dataset, self._mapping.schema).write(good)
        if self._corrects is None:
            self._bad.update(quarantine(self._work, dataset, block.table, checked))
        else:
            corrected = pc.is_in(checked["_row"], taken["_row"].combine_chunks())
            self._corrected.append(self._numbers(block.table).filter(corrected.combine_chunks()))
            self._bad.update(count_rules(rules))
        self._loaded += taken.num_rows
        self._replaced += pc.sum(taken["_odd"]).as_py() or 0
        self.place = block.place
        self._read = rows_before(block.place)
        if self._read - self._kept >= CHUNK:
            self.keep()

    def keep(self) -> None:
        """Make what was taken durable, with the place after it."""
        if self.place is not None:
            counts = Counts(self._read, self._loaded, dict(self._bad), self._replaced)
            self._work.keep({**self.place, "rules": self._rules}, counts)
            self._kept = self._read

    def leaving(self) -> list[GivingWay]:
        """Write anew what holds rows that give way, or leave quarantine; not visible yet."""
        dataset = self._mapping.dataset
        if self._corrects is not None:
            corrected = pa.chunked_array(self._corrected, pa.int64())
            load = self._corrects

            def stays(rows: pa.Table) -> pa.Table:
                here = pc.equal(rows[LOAD], load)
                return rows.filter(pc.invert(pc.and_(here, pc.is_in(rows["row"], corrected))))

            return [self._warehouse.without("quarantine", dataset, {load}, stays)]
        if not self._replaces:
            return []
        return [
            self._warehouse.without(kind, dataset, self._replaces, all_but(self._replaces))
            for kind in ("data", "quarantine")
        ]

    def _can_go_on(self) -> bool:
        """Tell whether an attempt can be resumed: not under other rules.

        Which enterprises it has seen, or which rows it has corrected, is in no place.
        """
        same = self._work.place is not None and self._work.place.get("rules") == self._rules
        return same and not self._mapping.unique and self._corrects is None

    def _rows_in_quarantine(self, load: int) -> pa.ChunkedArray:
        rows = self._warehouse.rows_of_load("quarantine", self._mapping.dataset, load)
        return pa.chunked_array([one["row"].combine_chunks() for one in rows], pa.int64())

    def _numbers(self, table: pa.Table) -> pa.Array:
        """Return the rows' numbers in the load that they correct; IngestError if one has none."""
        try:
            numbers = pc.cast(table[ROW_COLUMN], pa.int64()).combine_chunks()
            loads = pc.cast(table[LOAD_COLUMN], pa.int64())
        except pa.ArrowInvalid:
            numbers = loads = pa.array([], pa.int64())
        if (
            len(numbers) != table.num_rows
            or not pc.all(pc.fill_null(pc.equal(loads, self._corrects), False), min_count=0).as_py()
            or not pc.all(pc.is_in(numbers, self._waiting), min_count=0).as_py()
            or pc.count_distinct(numbers).as_py() != len(numbers)
            or pc.any(pc.is_in(numbers, pa.chunked_array(self._corrected, pa.int64()))).as_py()
        ):
            raise IngestError(
                f"A row's {LOAD_COLUMN} and {ROW_COLUMN} name none that is in quarantine of load "
                f"{self._corrects}, or one twice: keep both as `hejin node data quarantine` wrote "
                "them. Nothing was loaded.",
                f"有行的 {LOAD_COLUMN}、{ROW_COLUMN} 不在第 {self._corrects} 次导入的隔离区中，"
                "或出现两次：请保持 `hejin node data quarantine` 写出的值。未载入任何数据。",
            )
        return numbers


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _last(warehouse: Warehouse, mapping: SourceMapping) -> Load | None:
    """Return the newest complete load of what the mapping asks a database for."""
    assert mapping.sql is not None, "the caller has looked"
    for one in reversed(warehouse.loads(mapping.dataset)):
        told = (one.name, one.state, one.corrects)
        if told == (f"sql:{mapping.sql.name}", "complete", None):
            return one
    return None


def _check_key(place: Place, last: Load, query: Query) -> None:
    """Refuse to ask by another key: rows would come twice, or never."""
    if place.get("by") != query.key or ("content" in place) != (query.key is None):
        raise IngestError(
            f"Load {last.id} of {last.name} was asked for by another key, or with none, or is no "
            "database's: give the mapping its `key` back, or withdraw the loads of that name, the "
            "newest one first (`hejin node data withdraw`). Nothing was loaded.",
            f"{last.name} 的第 {last.id} 次导入所用键列不同，或未设键，或并非来自数据库："
            "请在映射文件中恢复原来的 `key`，或从最新一次起依次撤回该名称的导入"
            "（`hejin node data withdraw`）。未载入任何数据。",
        )


def _check_behind(warehouse: Warehouse, mapping: SourceMapping, behind: int | None) -> None:
    """Refuse to go on from a load that was withdrawn, or followed, while this one waited."""
    last = _last(warehouse, mapping)
    if (None if last is None else last.id) != behind:
        raise IngestError(
            "The load that this one goes on from was withdrawn, or another one came, while it "
            "waited: run the same command again. Nothing was loaded.",
            "等待期间，本次导入所接续的导入已被撤回或已有新的导入：请重新执行同一命令。"
            "未载入任何数据。",
        )


def _check_schema(warehouse: Warehouse, mapping: SourceMapping) -> None:
    """Refuse a mapping that takes a column away or gives it another type; it may add some."""
    present = warehouse.columns("data", mapping.dataset) or {}
    if all(mapping.schema.get(name) == kind for name, kind in present.items()):
        return
    have = ", ".join(f"{name} {kind}" for name, kind in present.items())
    raise IngestError(
        f"Data set {mapping.dataset} has columns that the mapping does not give so ({have}): "
        "correct the mapping, or choose another data set name. Nothing was loaded.",
        f"映射文件未按数据集 {mapping.dataset} 的现有列给出（{have}）："
        "请更正映射文件或换用其他数据集名称。未载入任何数据。",
    )


def _refuse_all(name: str, counts: Mapping[str, int]) -> None:
    rows, rules = sum(counts.values()), describe_rules(counts)
    raise IngestError(
        f"{name}: none of its {rows} rows obeys the mapping's rules ({rules}); correct the "
        "mapping or the file. Nothing was loaded.",
        f"{name}：{rows} 行均不符合映射文件的规则（{rules}），"
        "请更正映射文件或源文件。未载入任何数据。",
    )
