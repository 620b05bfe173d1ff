"""Feature views: which SQL makes one row per enterprise, and each feature's public grid."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from hejin_models.errors import ViewError
from hejin_models.grids import (
    MAX_CELLS,
    CategoryGrid,
    Cells,
    Column,
    Grid,
    linear,
    log,
    signed_log,
)
from hejin_trust.text import Text

ColumnType = Literal["text", "number", "integer", "date"]
Category = Literal["production", "equipment", "trade", "logistics", "fulfilment"]

MAX_FEATURES = 100
MAX_TOTAL_CELLS = 20_000
MAX_FILE_BYTES = 1 << 18

MAX_DOTS = 200
"""In one line of a view file: the reader's memory grows with the square of a dotted key's parts."""

MAX_BOUND, MIN_BOUND = 1e100, 1e-100
"""A grid's bounds are 0 or of a size between: no step between cells overflows."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_VIEW_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A warehouse data set that a view reads: its category of data and its columns' types.

    Every data set also has the column `enterprise` (text), which is not listed.
    """

    name: str
    category: Category
    columns: Mapping[str, ColumnType]


@dataclass(frozen=True, slots=True)
class Feature:
    """One model input: a column of the view's SQL result, its names, unit and public grid."""

    name: str
    text: Text
    unit: Text
    grid: Grid


@dataclass(frozen=True, slots=True)
class FeatureView:
    """A feature view as its file declares it; `digest` (hex SHA-256 of the file) identifies it.

    `source` is DuckDB SQL over the data sets; its result has the column `enterprise` (each
    enterprise once) and one column per feature, by name. It may use the parameter $as_of.
    """

    name: str
    version: int
    text: Text
    source: str
    datasets: tuple[Dataset, ...]
    features: tuple[Feature, ...]
    digest: str

    @property
    def id(self) -> str:
        """The name that files and people use: `name-vVERSION`."""
        return f"{self.name}-v{self.version}"

    @property
    def uses_as_of(self) -> bool:
        """Whether the SQL takes the parameter $as_of."""
        return "$as_of" in self.source

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """int64[F + 1]: where each feature's cells start when all are laid out in a row."""
        return np.cumsum([0, *(feature.grid.cells for feature in self.features)], dtype=np.int64)

    @property
    def total_cells(self) -> int:
        """The number of cells of all features together."""
        return sum(feature.grid.cells for feature in self.features)

    def cells(self, columns: Mapping[str, Column]) -> Cells:
        """Return the cell of every enterprise in every feature, int32[n, F].

        columns  the SQL result by column name, all of one length; features not there
                 raise ViewError, values that fit no cell are missing
        """
        absent = [feature.name for feature in self.features if feature.name not in columns]
        if absent:
            names = ", ".join(absent)
            raise ViewError(
                f"the SQL of view {self.id} gives no column {names}: add it to `source`",
                f"特征视图 {self.id} 的 SQL 未给出列 {names}：请在 `source` 中补上",
            )
        found = [feature.grid.index_column(columns[feature.name]) for feature in self.features]
        return np.ascontiguousarray(np.stack(found, axis=1), dtype=np.int32)

    @classmethod
    def parse(cls, data: bytes) -> FeatureView:
        """Return the view that a TOML file's bytes declare; raises ViewError."""
        if len(data) > MAX_FILE_BYTES:
            raise ViewError(
                f"a view file may have {MAX_FILE_BYTES} bytes, this one has {len(data)}",
                f"视图文件最多 {MAX_FILE_BYTES} 字节，此文件为 {len(data)} 字节",
            )
        if any(line.count(b".") > MAX_DOTS for line in data.split(b"\n")):
            raise ViewError(
                f"a line of the view file has more than {MAX_DOTS} dots: break the line",
                f"视图文件有一行含 {MAX_DOTS} 个以上的点号：请换行书写",
            )
        try:
            document = tomllib.loads(data.decode("utf-8"))
        except RecursionError as reason:
            raise ViewError(
                "the view file is nested too deeply: write it with fewer brackets",
                "视图文件嵌套层数过多：请减少括号",
            ) from reason
        except ValueError as reason:  # not UTF-8, not TOML, or an integer of too many digits
            raise ViewError(
                f"the view file is not TOML in UTF-8: {reason}",
                f"视图文件不是 UTF-8 编码的 TOML：{reason}",
            ) from reason
        return _view(document, hashlib.sha256(data).hexdigest())

    @classmethod
    def load(cls, path: Path) -> FeatureView:
        """Return the view in a file; raises ViewError or OSError."""
        return cls.parse(path.read_bytes())


def shipped_views() -> dict[str, FeatureView]:
    """Return the views that come with Hejin, by id (`sba-loans-v1`)."""
    folder = resources.files("hejin_models") / "views"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".toml")),
        key=lambda file: file.name,
    )
    views = [FeatureView.parse(file.read_bytes()) for file in files]
    return {view.id: view for view in views}


def view_file(named: str, beside: Path = Path()) -> bytes:
    """Return the bytes of a view file: the path `named` in `beside`, else a shipped view's.

    raises   ViewError if there is neither; it lists the shipped views
    """
    path = beside / named
    try:
        if path.is_file():
            return path.read_bytes()
    except OSError as reason:
        raise ViewError(
            f"the view file {path} cannot be read ({reason.strerror}): check the path",
            f"无法读取视图文件 {path}（{reason.strerror}）：请检查路径",
        ) from reason
    shipped = sorted(shipped_views())
    if named in shipped:
        return (resources.files("hejin_models") / "views" / f"{named}.toml").read_bytes()
    raise ViewError(
        f"there is no view file {path}, nor a shipped view of that name:"
        f" shipped are {', '.join(shipped)}",
        f"没有视图文件 {path}，也没有该名称的随附视图；随附视图有 {'、'.join(shipped)}",
    )


class _Table:
    """A TOML table being read: typed getters that name the field in their complaint."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(where, "must be a table", "应为表")
        self._value: dict[str, object] = value
        self._where = where
        self._read: set[str] = set()

    def field(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def get(self, key: str) -> object:
        self._read.add(key)
        if key not in self._value:
            raise _wrong(self.field(key), "is missing", "缺失")
        return self._value[key]

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            raise _wrong(self.field(key), "must be a text that is not empty", "应为非空文本")
        return value

    def name(self, key: str, pattern: re.Pattern[str] = _NAME) -> str:
        value = self.text(key)
        if not pattern.fullmatch(value):
            raise _wrong(
                self.field(key),
                f"must match {pattern.pattern}",
                f"应符合 {pattern.pattern}",
            )
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(
                self.field(key),
                f"must be a whole number from {low} to {high}",
                f"应为 {low} 至 {high} 的整数",
            )
        return value

    def number(self, key: str) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(self.field(key), "must be a number", "应为数值")
        # Not true of NaN either; a whole number of any size compares, but may be no float.
        if not (value == 0 or MIN_BOUND <= abs(value) <= MAX_BOUND):
            raise _wrong(
                self.field(key),
                f"must be finite: 0, or of a size from {MIN_BOUND:g} to {MAX_BOUND:g}",
                f"应为有限数值：0，或绝对值在 {MIN_BOUND:g} 至 {MAX_BOUND:g} 之间",
            )
        return float(value)

    def both(self) -> Text:
        return Text(self.text("en"), self.text("zh"))

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _wrong(self.field(key), "must be a list of texts", "应为文本列表")
        return tuple(value)

    def tables(self) -> list[tuple[str, _Table]]:
        self._read.update(self._value)
        return [(key, _Table(value, self.field(key))) for key, value in self._value.items()]

    def close(self) -> None:
        unknown = sorted(set(self._value) - self._read)
        if unknown:
            raise _wrong(
                self.field(unknown[0]),
                "is not a field of a view: remove it or correct its spelling",
                "不是视图的字段：请删除或更正拼写",
            )


def _wrong(field: str, en: str, zh: str) -> ViewError:
    shown = field if len(field) <= 200 else f"{field[:200]}..."
    return ViewError(f"view field `{shown}` {en}", f"视图字段 `{shown}` {zh}")


def _view(document: object, digest: str) -> FeatureView:
    table = _Table(document, "")
    name = table.name("name", _VIEW_NAME)
    version = table.integer("version", 1, 9999)
    label = _Table(table.get("label"), "label")
    text = label.both()
    label.close()
    source = table.text("source")
    datasets = tuple(
        _dataset(key, dataset)
        for key, dataset in _Table(table.get("datasets"), "datasets").tables()
    )
    features = _features(table)
    table.close()
    if not datasets:
        raise _wrong("datasets", "must name at least one data set", "至少应有一个数据集")
    return FeatureView(name, version, text, source, datasets, features, digest)


def _features(table: _Table) -> tuple[Feature, ...]:
    listed = table.get("features")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_FEATURES:
        raise _wrong(
            "features",
            f"must list 1 to {MAX_FEATURES} features, as [[features]]",
            f"应以 [[features]] 列出 1 至 {MAX_FEATURES} 个特征",
        )
    features = tuple(_feature(_Table(item, f"features[{i}]")) for i, item in enumerate(listed))
    names = [feature.name for feature in features]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise _wrong("features", f"name {repeated[0]} twice", f"重复命名 {repeated[0]}")
    total = sum(feature.grid.cells for feature in features)
    if total > MAX_TOTAL_CELLS:
        raise _wrong(
            "features",
            f"have {total} cells together, at most {MAX_TOTAL_CELLS} are allowed",
            f"合计 {total} 个格子，最多允许 {MAX_TOTAL_CELLS} 个",
        )
    return features


def _dataset(name: str, table: _Table) -> Dataset:
    if not _NAME.fullmatch(name):
        raise _wrong(f"datasets.{name}", f"must match {_NAME.pattern}", f"应符合 {_NAME.pattern}")
    category = table.text("category")
    if category not in get_args(Category):
        choices = ", ".join(get_args(Category))
        raise _wrong(table.field("category"), f"must be one of {choices}", f"应为 {choices} 之一")
    columns = _Table(table.get("columns"), table.field("columns"))
    types: dict[str, ColumnType] = {}
    for column in cast("dict[str, object]", table.get("columns")):
        kind = columns.text(column)
        if not _NAME.fullmatch(column) or column == "enterprise":
            raise _wrong(
                columns.field(column),
                "must be a lower-case name other than `enterprise`, which is always there",
                "应为小写名称，且不得为始终存在的 `enterprise`",
            )
        if kind not in get_args(ColumnType):
            choices = ", ".join(get_args(ColumnType))
            raise _wrong(columns.field(column), f"must be one of {choices}", f"应为 {choices} 之一")
        types[column] = cast("ColumnType", kind)
    table.close()
    return Dataset(name, cast("Category", category), types)


def _feature(table: _Table) -> Feature:
    name = table.name("name")
    if name == "enterprise":
        raise _wrong(table.field("name"), "may not be `enterprise`", "不得为 `enterprise`")
    text = table.both()
    unit = _Table(table.get("unit"), table.field("unit"))
    unit_text = unit.both()
    unit.close()
    grid = _grid(_Table(table.get("grid"), table.field("grid")))
    table.close()
    return Feature(name, text, unit_text, grid)


def _grid(table: _Table) -> Grid:
    makers: dict[str, Callable[[], Grid]] = {
        "linear": lambda: linear(table.number("low"), table.number("high"), _cells(table)),
        "log": lambda: log(table.number("low"), table.number("high"), _cells(table)),
        "signed_log": lambda: signed_log(
            table.number("smallest"), table.number("largest"), _cells(table)
        ),
        "categories": lambda: CategoryGrid(table.texts("values")),
    }
    kind = table.text("kind")
    if kind not in makers:
        choices = ", ".join(makers)
        raise _wrong(table.field("kind"), f"must be one of {choices}", f"应为 {choices} 之一")
    try:
        grid = makers[kind]()
    except ValueError as reason:
        raise _wrong(
            table.field("kind"), f"cannot be built: {reason}", f"无法建立：{reason}"
        ) from reason
    table.close()
    return grid


def _cells(table: _Table) -> int:
    return table.integer("cells", 1, MAX_CELLS)
