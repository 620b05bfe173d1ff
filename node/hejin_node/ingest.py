"""Load a source file into the warehouse: good rows as data, the others into quarantine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from hejin_models.features import ColumnType
from hejin_node import duck
from hejin_node.errors import IngestError
from hejin_node.loading import Loading
from hejin_node.manifest import Counts
from hejin_node.mapping import SourceMapping
from hejin_node.rules import Checker
from hejin_node.source_files import open_file
from hejin_node.sources import Progress, silent
from hejin_node.warehouse import Warehouse
from hejin_trust.database import writing


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of a file.

    source       hex SHA-256 of its bytes
    already      the file was in the data set before; nothing was done
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
    warehouse: Warehouse, path: Path, mapping: SourceMapping, progress: Progress | None = None
) -> IngestReport:
    """Load a CSV or Parquet file, all or nothing; the same file again changes nothing.

    progress  called with (bytes read, bytes in all)
    raises    IngestError: malformed file, or no row obeys the rules; WarehouseError: no space.
              Memory is bounded whatever the file's size.
    """
    began = time.monotonic()
    opened = open_file(path, mapping.sources, mapping.layout)
    source = opened.digest
    with warehouse.loading("data", mapping.dataset, source, path.name, mapping.digest) as work:
        if work.already:
            return IngestReport(mapping.dataset, source, True, 0, {}, 0, time.monotonic() - began)
        _check_schema(warehouse, mapping)
        counts: Counter[str] = Counter()
        read = loaded = replaced = 0
        with duck.locked_down() as connection:
            checker = Checker(mapping, connection)
            if mapping.unique:
                for batch in warehouse.read("data", mapping.dataset, ["enterprise"]):
                    checker.know(batch.column("enterprise"))
            for block in opened.blocks(None, progress or silent):
                table = block.table
                checked = checker.check(table)
                good = checked.filter(pc.is_null(checked["_rule"]))
                taken = work.writer("data", mapping.dataset, mapping.schema).write(good)
                read += table.num_rows
                loaded += taken.num_rows
                replaced += pc.sum(taken["_odd"]).as_py() or 0
                counts.update(quarantine(work, mapping.dataset, table, checked))
        if not loaded:
            _refuse_all(path, counts)
        work.complete(Counts(read, loaded, dict(counts), replaced))
        with writing(warehouse.database) as database:
            work.publish(database)
    pa.default_memory_pool().release_unused()
    return IngestReport(
        mapping.dataset,
        source,
        False,
        loaded,
        work.counts.quarantined,
        replaced,
        time.monotonic() - began,
    )


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


def _refuse_all(path: Path, counts: Mapping[str, int]) -> None:
    rows, rules = sum(counts.values()), describe_rules(counts)
    raise IngestError(
        f"{path.name}: none of its {rows} rows obeys the mapping's rules ({rules}); correct the "
        "mapping or the file. Nothing was loaded.",
        f"{path.name}：{rows} 行均不符合映射文件的规则（{rules}），"
        "请更正映射文件或源文件。未载入任何数据。",
    )
