"""Load a source into the warehouse: good rows as data, the others into quarantine."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import URL

from hejin_models.features import ColumnType
from hejin_node import duck
from hejin_node.errors import IngestError, MappingError, SourceGoneError
from hejin_node.loading import Loading
from hejin_node.manifest import Counts, Load
from hejin_node.mapping import SourceMapping
from hejin_node.pipeline import Behind, ahead
from hejin_node.rules import Checker
from hejin_node.segments import CHUNK
from hejin_node.source_files import open_file
from hejin_node.source_sql import open_query
from hejin_node.sources import Block, Place, Progress, Source, rows_before, silent
from hejin_node.warehouse import Warehouse
from hejin_trust.database import writing


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
    return ingest_source(
        warehouse, open_file(path, mapping.sources, mapping.layout), mapping, progress
    )


def ingest_database(
    warehouse: Warehouse, url: URL, mapping: SourceMapping, progress: Progress = silent
) -> IngestReport:
    """Load what the mapping's `[sql]` asks a database for; see `ingest_source`.

    With a key, what was added behind the last load's end; without, everything, in the place of
    what the last load had, if it is not the same.
    """
    if mapping.sql is None:
        raise MappingError(
            "The mapping has no [sql] table: it is one of files.",
            "映射文件没有 [sql] 表：它用于文件。",
        )
    last = _last_load(warehouse, mapping.dataset, f"sql:{mapping.sql.name}")
    after = None if last is None or last.place is None else last.place.get("key")
    if not isinstance(after, int | str):
        after = None
    began = time.monotonic()
    source = open_query(url, mapping.sql, mapping.sources, mapping.layout.formats, after)
    if source.rows == 0:
        seconds = time.monotonic() - began
        return IngestReport(mapping.dataset, source.digest, True, 0, {}, 0, seconds)
    return ingest_source(warehouse, source, mapping, progress)


def ingest_source(
    warehouse: Warehouse, source: Source, mapping: SourceMapping, progress: Progress = silent
) -> IngestReport:
    """Load a source, all or nothing; the same content again changes nothing.

    An attempt that was killed, or whose source failed half-way, goes on where it was: nothing
    of it is visible before its end. Memory is bounded whatever the source's size.

    progress  called with (done, in all), in another thread
    raises    IngestError: malformed source, or no row obeys the rules; nothing was kept.
              SourceGoneError, WarehouseError (no space): what was made durable is kept
    """
    began = time.monotonic()
    dataset = mapping.dataset
    with warehouse.loading("data", dataset, source.digest, source.name, mapping.digest) as work:
        if work.already:
            seconds = time.monotonic() - began
            return IngestReport(dataset, source.digest, True, 0, {}, 0, seconds)
        _check_schema(warehouse, mapping)
        try:
            counts = _load(warehouse, work, source, mapping, progress)
            if not counts.loaded:
                _refuse_all(source.name, counts.quarantined)
        except SourceGoneError:
            raise
        except IngestError:
            work.drop()
            raise
        with writing(warehouse.database) as database:
            work.publish(database)
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


def _load(
    warehouse: Warehouse,
    work: Loading,
    source: Source,
    mapping: SourceMapping,
    progress: Progress,
) -> Counts:
    """Bring the whole source into durable segments; it is still invisible then."""
    place = _resumed(work, mapping)
    course = _Course(work, mapping, place)
    with duck.locked_down() as connection, Behind() as behind:
        checker = Checker(mapping, connection, rows_before(place))
        if mapping.unique:
            for batch in warehouse.read("data", mapping.dataset, ["enterprise"]):
                checker.know(batch.column("enterprise"))
        with ahead(source.blocks(place, progress)) as blocks:
            try:
                for block in blocks:
                    behind.run(partial(course.take, block, checker.check(block.table)))
            except SourceGoneError:
                behind.run(course.keep)
                behind.wait()
                raise
        behind.run(course.keep)
        behind.wait()
    return work.counts


def _resumed(work: Loading, mapping: SourceMapping) -> Place | None:
    """Return where the source is to be read on: not where it was read under other rules."""
    place = cast("Place | None", work.place)
    if place is None:
        return None
    # Which enterprises an attempt has seen already is in no place.
    if mapping.unique or place.get("rules") != _rules_digest(mapping):
        work.drop()
        return None
    return place


class _Course:
    """A source on its way: what of it was taken, and up to where. Works in one thread."""

    def __init__(self, work: Loading, mapping: SourceMapping, place: Place | None) -> None:
        self._work = work
        self._mapping = mapping
        self._rules = _rules_digest(mapping)
        self._place = place
        self._read = rows_before(place)
        self._loaded, self._replaced = work.counts.loaded, work.counts.replaced
        self._bad = Counter(work.counts.quarantined)
        self._kept = self._read

    def take(self, block: Block, checked: pa.Table) -> None:
        """Write a block's rows, the good ones and the others; durable now and then."""
        dataset = self._mapping.dataset
        good = checked.filter(pc.is_null(checked["_rule"]))
        taken = self._work.writer("data", dataset, self._mapping.schema).write(good)
        self._bad.update(quarantine(self._work, dataset, block.table, checked))
        self._loaded += taken.num_rows
        self._replaced += pc.sum(taken["_odd"]).as_py() or 0
        self._place = block.place
        self._read = rows_before(block.place)
        if self._read - self._kept >= CHUNK:
            self.keep()

    def keep(self) -> None:
        """Make what was taken durable, with the place after it."""
        if self._place is not None:
            counts = Counts(self._read, self._loaded, dict(self._bad), self._replaced)
            self._work.keep({**self._place, "rules": self._rules}, counts)
            self._kept = self._read


def _rules_digest(mapping: SourceMapping) -> str:
    """Return what tells one set of rules from another: schemas change without the mapping."""
    return hashlib.sha256(repr(mapping).encode("utf-8")).hexdigest()


def _last_load(warehouse: Warehouse, dataset: str, name: str) -> Load | None:
    found = [
        one for one in warehouse.loads(dataset) if one.name == name and one.state == "complete"
    ]
    return found[-1] if found else None


def quarantine(work: Loading, dataset: str, table: pa.Table, checked: pa.Table) -> dict[str, int]:
    """Keep the rows that broke a rule as they came, encrypted, and count by rule what was kept.

    table    rows as they came from the file, as texts or in Parquet's types
    checked  the same rows in the same order, with `_row` and `_rule`
    """
    bad = pc.is_valid(checked["_rule"])
    if not pc.any(bad).as_py():
        return {}
    rules = checked.filter(bad)
    rows = {
        f"source.{name}": pc.cast(column, pa.string())
        for name, column in zip(table.column_names, table.filter(bad).columns, strict=True)
    }
    columns: dict[str, ColumnType] = {"row": "integer", "rule": "text", "enterprise": "text"}
    columns.update(dict.fromkeys(rows, "text"))
    kept = work.writer("quarantine", dataset, columns).write(
        pa.table(
            {
                "row": rules["_row"],
                "rule": rules["_rule"],
                "enterprise": rules["enterprise"],
                **rows,
            }
        )
    )
    return {item["values"]: item["counts"] for item in pc.value_counts(kept["rule"]).to_pylist()}


def describe_rules(counts: Mapping[str, int]) -> str:
    """Return counts by rule in one line, most frequent first: `net.range 12, date.type 3`."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{rule} {count}" for rule, count in ordered)


def _check_schema(warehouse: Warehouse, mapping: SourceMapping) -> None:
    present = warehouse.columns("data", mapping.dataset)
    if present is None or dict(present) == mapping.schema:
        return
    have = ", ".join(f"{name} {kind}" for name, kind in present.items())
    raise IngestError(
        f"Data set {mapping.dataset} has other columns than the mapping gives ({have}): correct "
        "the mapping, or choose another data set name. Nothing was loaded.",
        f"数据集 {mapping.dataset} 的列与映射文件不同（{have}）："
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
