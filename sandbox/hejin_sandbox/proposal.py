"""Propose a feature view from a table. This looks at the data, so it is not private: it says so."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hejin_sandbox.errors import TableError
from hejin_trust.text import Text

#: What every proposed view says of itself.
NOT_PRIVATE = Text(
    "This view was proposed from the table itself: its grids depend on the data and are NOT "
    "covered by the privacy guarantee. Write a view from public knowledge before real use.",
    "本特征视图由数据表自动生成:其网格取自数据本身,不受隐私保证保护。正式使用前请依据公开知识编写视图。",
)

DATASET = "records"

_CELLS = 60
_MOST_CATEGORIES = 30
_MOST_FEATURES = 100


@dataclass(frozen=True, slots=True)
class ProposedColumn:
    """A feature of a proposed view: the table's column, the view's name for it, type and grid."""

    source: str
    name: str
    kind: str
    grid: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed view as TOML, the columns it reads, and those it leaves out with the reason."""

    toml: str
    columns: tuple[ProposedColumn, ...]
    left_out: tuple[tuple[str, Text], ...]


def propose_view(table: pa.Table, *, exclude: Collection[str]) -> Proposal:
    """Return a view with one feature per usable column of `table` that is not in `exclude`.

    raises   TableError where no column is usable
    """
    columns: list[ProposedColumn] = []
    left_out: list[tuple[str, Text]] = []
    for source in table.column_names:
        if source in exclude:
            continue
        found = _kind_and_grid(table.column(source).combine_chunks())
        if isinstance(found, Text):
            left_out.append((source, found))
        elif len(columns) < _MOST_FEATURES:
            kind, grid = found
            name = _name(source, {column.name for column in columns})
            columns.append(ProposedColumn(source, name, kind, grid))
        else:
            left_out.append((source, Text("a view has at most 100", "视图最多 100 个特征")))
    if not columns:
        raise TableError(
            "no column of the table can be a feature: all are constant, empty or identifiers.",
            "数据表没有可用作特征的列:均为常量、空列或标识列。",
        )
    return Proposal(_toml(columns), tuple(columns), tuple(left_out))


def _kind_and_grid(column: pa.Array) -> tuple[str, str] | Text:
    """Return the type and grid of a column, or why it cannot be a feature."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = pc.cast(column, kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        return _categories(pc.cast(column, pa.string()))
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        days = pc.cast(pc.cast(column, pa.date32()), pa.int32())
        return _numeric(np.asarray(pc.cast(days, pa.float64()), dtype=np.float64), "date")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = np.asarray(pc.cast(column, pa.float64(), safe=False), dtype=np.float64)
        return _numeric(values, "integer" if pa.types.is_integer(kind) else "number")
    return Text(f"type {kind} is not supported", f"不支持类型 {kind}")


def _categories(column: pa.Array) -> tuple[str, str] | Text:
    trimmed = pc.utf8_trim_whitespace(column)
    counts = pc.value_counts(pc.filter(trimmed, pc.fill_null(pc.not_equal(trimmed, ""), False)))
    values = counts.field("values").to_pylist()
    times = np.asarray(counts.field("counts"), dtype=np.int64)
    if len(values) == 0:
        return _EMPTY
    if len(values) == 1 and times[0] == len(column):
        return _CONSTANT
    if len(values) > _MOST_CATEGORIES and len(values) > len(column) / 2:
        return _IDENTIFIER
    most = np.argsort(-times, kind="stable")[:_MOST_CATEGORIES]
    chosen = sorted(values[i] for i in most)
    return "text", f'kind = "categories", values = {json.dumps(chosen, ensure_ascii=False)}'


def _numeric(values: npt.NDArray[np.float64], kind: str) -> tuple[str, str] | Text:
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return _EMPTY
    distinct = np.unique(finite)
    if len(distinct) == 1 and len(finite) == len(values):
        return _CONSTANT
    if kind == "integer" and len(distinct) == len(values) > _CELLS and _counts_up(values):
        return _IDENTIFIER
    if np.array_equal(distinct, np.rint(distinct)) and distinct[-1] - distinct[0] <= 100:
        low, high = distinct[0], distinct[-1] + 1
        return kind, _linear(low, high, max(1, int(high - low)))
    return kind, _wide(finite)


def _counts_up(values: npt.NDArray[np.float64]) -> bool:
    """Whether different whole numbers are a running number: in order, or with few gaps."""
    in_order = bool((np.diff(values) > 0).all())
    return in_order or float(np.ptp(values)) <= 2 * len(values)


def _wide(finite: npt.NDArray[np.float64]) -> str:
    """Return a grid for many values: log where they span over two decades, else linear."""
    low, high = (float(x) for x in np.quantile(finite, (0.005, 0.995)))
    if low == high:  # nearly all alike: still separate the few that differ
        low, high = float(finite.min()), float(finite.max())
    sizes = np.abs(finite[finite != 0])
    small, large = (float(x) for x in np.quantile(sizes, (0.01, 0.999)))
    if large <= 100 * small:
        return _linear(_down(low), _up(high), _CELLS)
    if finite.min() >= 0:
        return f'kind = "log", low = {_down(small)!r}, high = {_up(large)!r}, cells = {_CELLS}'
    return (
        f'kind = "signed_log", smallest = {_down(small)!r}, largest = {_up(large)!r},'
        f" cells = {_CELLS // 2}"
    )


def _linear(low: float, high: float, cells: int) -> str:
    return f'kind = "linear", low = {float(low)!r}, high = {float(high)!r}, cells = {cells}'


def _down(value: float) -> float:
    """Round down to two significant digits."""
    step = 10.0 ** (np.floor(np.log10(abs(value))) - 1) if value else 1.0
    return float(f"{np.floor(value / step) * step:.6g}")


def _up(value: float) -> float:
    """Round up to two significant digits."""
    return -_down(-value)


def _name(source: str, taken: Collection[str]) -> str:
    """Return a lower-case ASCII name for a column that no other feature has."""
    plain = re.sub(r"[^a-z0-9]+", "_", source.lower()).strip("_")[:50]
    wanted = plain if plain and plain[0].isalpha() else f"column_{plain}".rstrip("_")
    if wanted == "enterprise":
        wanted = "enterprise_column"
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _toml(columns: list[ProposedColumn]) -> str:
    selected = ", ".join(
        f"date_diff('day', DATE '1970-01-01', \"{c.name}\") AS \"{c.name}\""
        if c.kind == "date"
        else f'"{c.name}"'
        for c in columns
    )
    source = f"SELECT enterprise, {selected} FROM {DATASET}"  # noqa: S608 - names from _name()
    lines = [
        f"# {NOT_PRIVATE.en}",
        f"# {NOT_PRIVATE.zh}",
        'name = "proposed"',
        "version = 1",
        f"source = {_quoted(source)}",
        "",
        "[label]",
        'en = "Proposed from the table (not private)"',
        'zh = "由数据表自动生成(不保护隐私)"',
        "",
        f"[datasets.{DATASET}]",
        'category = "trade"',
        "",
        f"[datasets.{DATASET}.columns]",
        *(f'{c.name} = "{c.kind}"' for c in columns),
    ]
    for c in columns:
        unit = Text("days since 1970", "1970年以来天数") if c.kind == "date" else Text("-", "-")
        lines += [
            "",
            "[[features]]",
            f"name = {_quoted(c.name)}",
            f"en = {_quoted(c.source)}",
            f"zh = {_quoted(c.source)}",
            f"unit = {{ en = {_quoted(unit.en)}, zh = {_quoted(unit.zh)} }}",
            f"grid = {{ {c.grid} }}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    """Return a TOML basic string; its escapes are a superset of JSON's (TOML 1.0, String)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_EMPTY = Text("no values", "无取值")
_CONSTANT = Text("the same value in every row", "所有行取值相同")
_IDENTIFIER = Text(
    "a different value in nearly every row: an identifier", "几乎每行取值不同:标识列"
)
