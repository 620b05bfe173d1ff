"""Rows that broke a rule: kept as they came, counted, written out for correction."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from hejin_models.features import ColumnType
from hejin_node.errors import IngestError
from hejin_node.loading import Loading
from hejin_node.manifest import Load
from hejin_node.segments import LOAD
from hejin_node.sources import Block, Place, Progress, Source
from hejin_node.warehouse import Warehouse
from hejin_trust.files import replace_stream

#: Columns in front of the source's own where quarantined rows are written out.
LOAD_COLUMN: Final = "_load"
ROW_COLUMN: Final = "_row"
RULE_COLUMN: Final = "_rule"
_SOURCE: Final = "source."
#: Spreadsheets take a CSV file without it for GBK.
_BOM: Final = b"\xef\xbb\xbf"
#: Spreadsheets run what begins so as a formula, and a formula can send the other cells away.
_STARTS: Final = "=+\\-@\t＝＋－＠"
_FORMULA: Final = re.compile(f"['{_STARTS}]")
_NUMBER: Final = re.compile(r"[+-]?[0-9][0-9.,]*([eE][+-]?[0-9]+)?")


def quarantine(work: Loading, dataset: str, table: pa.Table, checked: pa.Table) -> dict[str, int]:
    """Keep the rows that broke a rule as they came, encrypted, and count by rule what was kept.

    table    rows as they came from the source, as texts or in Parquet's types
    checked  the same rows in the same order, with `_row` and `_rule`
    """
    bad = pc.is_valid(checked["_rule"])
    if not pc.any(bad).as_py():
        return {}
    rules = checked.filter(bad)
    rows = {
        f"{_SOURCE}{name}": pc.cast(column, pa.string())
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
    return count_rules(kept["rule"])


def count_rules(rules: pa.ChunkedArray) -> dict[str, int]:
    """Count rows by the rule that they broke; those that broke none are not counted."""
    found = pc.value_counts(rules.drop_null()).to_pylist()
    return {item["values"]: item["counts"] for item in found}


def describe_rules(counts: Mapping[str, int]) -> str:
    """Return counts by rule in one line, most frequent first: `net.range 12, date.type 3`."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{rule} {count}" for rule, count in ordered)


def held_back(warehouse: Warehouse, dataset: str) -> dict[int, Counter[str]]:
    """Return how many rows are in quarantine now: load -> rule -> rows."""
    found: dict[int, Counter[str]] = {}
    for batch in warehouse.read("quarantine", dataset, ["rule", LOAD]):
        rows = pa.table({"load": batch.column(LOAD), "rule": batch.column("rule")})
        for item in rows.group_by(["load", "rule"]).aggregate([([], "count_all")]).to_pylist():
            found.setdefault(item["load"], Counter())[item["rule"]] += item["count_all"]
    return dict(sorted(found.items()))


def export(warehouse: Warehouse, dataset: str, load: int | None, path: Path) -> tuple[int, int]:
    """Write a load's quarantined rows as CSV, UTF-8 and mode 0600; return the load, how many.

    load    None where only one load has rows there
    raises  IngestError: there are none, or of several loads, or the file is there; FileError
    """
    if path.exists():
        raise IngestError(
            f"{path} is there already, and may hold corrections: name a new file.",
            f"{path} 已存在，其中可能有更正内容：请另取文件名。",
        )
    loads = held_back(warehouse, dataset)
    if load is None and len(loads) > 1:
        listed = ", ".join(map(str, loads))
        raise IngestError(
            f"Quarantine of {dataset} holds rows of {len(loads)} loads ({listed}): choose one "
            "with --load.",
            f"数据集 {dataset} 的隔离区有 {len(loads)} 次导入的行（{listed}）：请用 --load 指定。",
        )
    chosen = next(iter(loads), None) if load is None else load
    if chosen not in loads:
        raise IngestError(
            f"Quarantine of {dataset} holds no rows of this load: see "
            f"`hejin node data quarantine {dataset}`.",
            f"数据集 {dataset} 的隔离区没有该次导入的行：参见 "
            f"`hejin node data quarantine {dataset}`。",
        )
    replace_stream(path, _lines(warehouse, dataset, chosen), mode=0o600)
    return chosen, loads[chosen].total()


@dataclass(frozen=True, slots=True)
class Corrections:
    """A file of `export`, whose guarded cells are read as they were."""

    file: Source

    @property
    def name(self) -> str:
        """The file's name."""
        return self.file.name

    @property
    def digest(self) -> str:
        """The file's digest."""
        return self.file.digest

    def blocks(self, place: Place | None, progress: Progress) -> Generator[Block]:
        """Yield the rows after `place`; see `sources.Source`."""
        with closing(self.file.blocks(place, progress)) as blocks:
            for block in blocks:
                rows = block.table
                for i, field in enumerate(rows.schema):
                    if pa.types.is_string(field.type):
                        rows = rows.set_column(i, field, _unguarded(rows.column(i)))
                yield Block(rows, block.place)


def _unguarded(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(cells, f"^'(['{_STARTS}])", r"\1")


def find_load(warehouse: Warehouse, dataset: str, load: int) -> Load:
    """Return a complete load of a data set; IngestError if there is none of that number."""
    for one in warehouse.loads(dataset):
        if (one.id, one.kind, one.state) == (load, "data", "complete"):
            return one
    raise IngestError(
        f"Load {load} is none of data set {dataset}: see `hejin node data show {dataset}`.",
        f"数据集 {dataset} 没有第 {load} 次导入：参见 `hejin node data show {dataset}`。",
    )


def _lines(warehouse: Warehouse, dataset: str, load: int) -> Iterator[bytes]:
    yield _BOM
    header: list[str] = []
    for rows in warehouse.rows_of_load("quarantine", dataset, load):
        names = [name for name in rows.column_names if name.startswith(_SOURCE)]
        if not header:
            header = [name.removeprefix(_SOURCE) for name in names]
            yield _csv([[LOAD_COLUMN, ROW_COLUMN, RULE_COLUMN, *header]])
        cells = rows.select(["row", "rule", *names]).to_pydict().values()
        yield _csv([[load, *map(_written, row)] for row in zip(*cells, strict=True)])


def _written(cell: object) -> object:
    """Return a cell as it is written out.

    Values from databases and workbooks may have line breaks, which a CSV source may not. What a
    spreadsheet would take for a formula gets an apostrophe, which `Corrections` takes off again.
    """
    if not isinstance(cell, str):
        return cell
    line = " ".join(cell.splitlines())
    guarded = _FORMULA.match(line) and not _NUMBER.fullmatch(line)
    return f"'{line}" if guarded else line


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode("utf-8", "replace")
