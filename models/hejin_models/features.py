"""Feature views: which SQL makes one row per enterprise, and each feature's public grid."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from hejin_models.errors import ViewError
from hejin_models.grades import GRADES, Grade
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
from hejin_models.toml_table import NAME, Table, read_toml
from hejin_trust.text import Text

ColumnType = Literal["text", "number", "integer", "date"]
Category = Literal["production", "equipment", "trade", "logistics", "fulfilment"]

MAX_FEATURES = 100
MAX_TOTAL_CELLS = 20_000
_WHAT = Text("view", "视图")
_VIEW_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A warehouse data set that a view reads: its category of data and its columns' types.

    Every data set also has the column `enterprise` (text), which is not listed.
    `grades` says how sensitive columns are, where the view's publisher states it.
    """

    name: str
    category: Category
    columns: Mapping[str, ColumnType]
    grades: Mapping[str, Grade] = field(default_factory=dict)


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
        return _view(read_toml(data, _WHAT, ViewError), hashlib.sha256(data).hexdigest())

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
        f"没有视图文件 {path}，也没有该名称的自带视图；自带视图有 {'、'.join(shipped)}",
    )


def _view(table: Table, digest: str) -> FeatureView:
    name = table.name("name", _VIEW_NAME)
    version = table.integer("version", 1, 9999)
    label = table.table("label")
    text = label.both()
    label.close()
    source = table.shown("source")
    datasets = tuple(_dataset(key, dataset) for key, dataset in table.table("datasets").tables())
    features = _features(table)
    table.close()
    if not datasets:
        raise table.wrong("datasets", "must name at least one data set", "至少应有一个数据集")
    return FeatureView(name, version, text, source, datasets, features, digest)


def _features(table: Table) -> tuple[Feature, ...]:
    listed = table.listed("features")
    if not 1 <= len(listed) <= MAX_FEATURES:
        raise table.wrong(
            "features",
            f"must list 1 to {MAX_FEATURES} features, as [[features]]",
            f"应以 [[features]] 列出 1 至 {MAX_FEATURES} 个特征",
        )
    features = tuple(map(_feature, listed))
    names = [feature.name for feature in features]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise table.wrong("features", f"name {repeated[0]} twice", f"重复命名 {repeated[0]}")
    total = sum(feature.grid.cells for feature in features)
    if total > MAX_TOTAL_CELLS:
        raise table.wrong(
            "features",
            f"have {total} cells together, at most {MAX_TOTAL_CELLS} are allowed",
            f"合计 {total} 个格子，最多允许 {MAX_TOTAL_CELLS} 个",
        )
    return features


def _dataset(name: str, table: Table) -> Dataset:
    if not NAME.fullmatch(name):
        raise table.wrong("", f"must match {NAME.pattern}", f"应符合 {NAME.pattern}")
    category = table.choice("category", get_args(Category))
    listed = table.table("columns")
    types = {check_column(listed, key): column_type(listed, key) for key in listed}
    grades = {}
    if "grades" in table:
        graded = table.table("grades")
        grades = {key: cast("Grade", graded.choice(key, GRADES)) for key in types if key in graded}
        graded.close()
    table.close()
    return Dataset(name, cast("Category", category), types, grades)


def check_column(columns: Table, name: str) -> str:
    """Return a column's name if a data set may have it."""
    if not NAME.fullmatch(name) or name == "enterprise":
        raise columns.wrong(
            name,
            "must be a lower-case name other than `enterprise`, which is always there",
            "应为小写名称，且不得为始终存在的 `enterprise`",
        )
    return name


def column_type(table: Table, key: str) -> ColumnType:
    """Return the column type in a field."""
    return cast("ColumnType", table.choice(key, get_args(ColumnType)))


def _feature(table: Table) -> Feature:
    name = table.name("name")
    if name == "enterprise":
        raise table.wrong("name", "may not be `enterprise`", "不得为 `enterprise`")
    text = table.both()
    unit = table.table("unit")
    unit_text = unit.both()
    unit.close()
    grid = _grid(table.table("grid"))
    table.close()
    return Feature(name, text, unit_text, grid)


def _grid(table: Table) -> Grid:
    makers: dict[str, Callable[[], Grid]] = {
        "linear": lambda: linear(table.number("low"), table.number("high"), _cells(table)),
        "log": lambda: log(table.number("low"), table.number("high"), _cells(table)),
        "signed_log": lambda: signed_log(
            table.number("smallest"), table.number("largest"), _cells(table)
        ),
        "categories": lambda: CategoryGrid(table.texts("values")),
    }
    kind = table.choice("kind", tuple(makers))
    try:
        grid = makers[kind]()
    except ValueError as reason:
        raise table.wrong("kind", f"cannot be built: {reason}", f"无法建立：{reason}") from reason
    table.close()
    return grid


def _cells(table: Table) -> int:
    return table.integer("cells", 1, MAX_CELLS)
