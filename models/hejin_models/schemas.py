"""Schemas of data sets: what each column means, its unit, range and sensitivity, as TOML files.

Shipped files declare the five categories of industrial data. An operator's file declares a data
set of its own, or extends one by columns:

    extends = "invoices"            # or: dataset = "...", category = "...", time = "...", [label]

    [columns.kind]
    en = "Kind of invoice"
    zh = "发票种类"
    type = "text"                   # text, number, integer or date
    allowed = ["special", "general"]
    grade = "general"               # general 一般, important 重要, core 核心

    [grades]                        # an extension may grade columns that are there higher
    counterparty = "core"

Other fields of a column: `unit` (en, zh), `required`, `minimum`, `maximum`, `sensitive` (敏感) and
`known_on`, a date column: the value is not known before that day. A row is known from the day in
the data set's column `time`, or from the end of that day's month where `period = "month"`.
`[[quality]]` and `[gate]` are the quality rules'; they are kept as they stand.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, Literal, cast, get_args

from hejin_models.errors import SchemaError, ViewError
from hejin_models.features import (
    Category,
    ColumnType,
    Dataset,
    FeatureView,
    check_column,
    column_type,
)
from hejin_models.grades import GRADES, Grade, highest
from hejin_models.toml_table import Table, read_toml
from hejin_trust.text import Text

Bound = int | float | dt.date
Period = Literal["day", "month"]

MAX_COLUMNS: Final = 200
_WHAT: Final = Text("schema", "数据规范")
_NO_DATE: Final = ("must name a column of type date", "应为 date 类型的列名")


@dataclass(frozen=True, slots=True)
class SchemaColumn:
    """One column of a data set.

    unit              of a number; None where it has none
    minimum, maximum  the range that values may take, both ends included; None where open
    allowed           the texts that it may hold; empty for any
    grade, sensitive  how much harm its disclosure may do, and whether it is sensitive (敏感)
    known_on          the date column with the day from which its value is known; "" where it is
                      known with the row
    """

    name: str
    text: Text
    type: ColumnType
    grade: Grade
    unit: Text | None = None
    required: bool = False
    minimum: Bound | None = None
    maximum: Bound | None = None
    allowed: tuple[str, ...] = ()
    sensitive: bool = False
    known_on: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """A data set as its schema declares it; `enterprise` (text) is always there and not listed.

    time     the date column from which on a row is known; "" where rows have no time
    period   "month": a row tells of the whole month of `time`, and is known at its end
    quality  the `[[quality]]` rules as they stand, the shipped ones first
    gate     the `[gate]` table as it stands
    """

    dataset: str
    category: Category
    text: Text
    columns: Mapping[str, SchemaColumn]
    time: str = ""
    period: Period = "day"
    quality: tuple[Mapping[str, object], ...] = ()
    gate: Mapping[str, object] | None = None

    @property
    def grade(self) -> Grade:
        """The highest grade of its columns."""
        return highest(column.grade for column in self.columns.values())


@dataclass(frozen=True, slots=True)
class _Extension:
    """What an operator's file adds to a data set; `where` is the file, for errors."""

    where: str
    extends: str
    columns: Mapping[str, SchemaColumn]
    grades: Mapping[str, Grade]
    quality: tuple[Mapping[str, object], ...]
    gate: Mapping[str, object] | None


def shipped_schemas() -> dict[str, Schema]:
    """Return the schemas that come with Hejin, by data set."""
    return dict(_shipped())


def load_schemas(folder: Path | None) -> dict[str, Schema]:
    """Return the shipped schemas with an operator's extensions and own data sets, by data set.

    folder   its *.toml files are read, in the order of their names; it need not exist
    raises   SchemaError, which names file and field
    """
    found = shipped_schemas()
    extensions = []
    for path in sorted(folder.glob("*.toml")) if folder is not None else ():
        part = _named(path)
        if isinstance(part, _Extension):
            extensions.append(part)
        elif part.dataset in found:
            raise SchemaError(
                f"{path.name}: the data set {part.dataset} is declared already: write"
                f' extends = "{part.dataset}" and the new columns alone',
                f"{path.name}：数据集 {part.dataset} 已有规范："
                f'请改写为 extends = "{part.dataset}" 并只列出新增列',
            )
        else:
            found[part.dataset] = part
    for extension in extensions:
        if extension.extends not in found:
            raise SchemaError(
                f"{extension.where}: there is no data set {extension.extends} to extend:"
                f" known are {', '.join(sorted(found))}",
                f"{extension.where}：没有可扩展的数据集 {extension.extends}；"
                f"已知：{'、'.join(sorted(found))}",
            )
        found[extension.extends] = _extended(found[extension.extends], extension)
    return found


def column_grade(dataset: Dataset, column: str, schemas: Mapping[str, Schema]) -> Grade:
    """Return how sensitive a view's column is: as view and schema say, the higher; else core."""
    schema = schemas.get(dataset.name)
    stated = [dataset.grades[column]] if column in dataset.grades else []
    if schema is not None and column in schema.columns:
        stated.append(schema.columns[column].grade)
    return highest(stated) if stated else "core"


def view_grade(view: FeatureView, schemas: Mapping[str, Schema]) -> Grade:
    """Return the highest grade of the columns that a view reads."""
    return highest(
        column_grade(dataset, column, schemas)
        for dataset in view.datasets
        for column in dataset.columns
    )


def check_declared(view: FeatureView, schemas: Mapping[str, Schema]) -> None:
    """Raise ViewError where a view's data sets are not what their schemas say.

    Authorisations name categories: a view that calls invoices `logistics` would get around them.
    """
    for dataset in view.datasets:
        schema = schemas.get(dataset.name)
        if schema is None:
            continue
        if dataset.category != schema.category:
            raise ViewError(
                f"view field `datasets.{dataset.name}.category` says {dataset.category}, and the"
                f" schema says {schema.category}: correct it",
                f"视图字段 `datasets.{dataset.name}.category` 为 {dataset.category}，"
                f"而数据规范为 {schema.category}：请更正",
            )
        for name, kind in dataset.columns.items():
            right = schema.columns[name].type if name in schema.columns else kind
            if kind != right and (kind, right) != ("number", "integer"):
                raise ViewError(
                    f"view field `datasets.{dataset.name}.columns.{name}` says {kind}, and the"
                    f" schema says {right}: correct it",
                    f"视图字段 `datasets.{dataset.name}.columns.{name}` 为 {kind}，"
                    f"而数据规范为 {right}：请更正",
                )


def parse_schema(data: bytes) -> Schema:
    """Return the data set that a TOML file's bytes declare; raises SchemaError."""
    return _whole(read_toml(data, _WHAT, SchemaError))


@cache
def _shipped() -> dict[str, Schema]:
    folder = resources.files("hejin_models") / "schemas"
    files = (file for file in folder.iterdir() if file.name.endswith(".toml"))
    found = [parse_schema(file.read_bytes()) for file in files]
    order = get_args(Category)
    found.sort(key=lambda schema: (order.index(schema.category), schema.dataset))
    return {schema.dataset: schema for schema in found}


def _named(path: Path) -> Schema | _Extension:
    """Return what an operator's file says; its errors begin with the file's name."""
    try:
        table = read_toml(path.read_bytes(), _WHAT, SchemaError)
        return _extension(table, path.name) if "extends" in table else _whole(table)
    except OSError as reason:
        raise SchemaError(
            f"the schema file {path.name} cannot be read ({reason.strerror}): check its rights",
            f"无法读取数据规范文件 {path.name}（{reason.strerror}）：请检查权限",
        ) from reason
    except SchemaError as reason:
        raise SchemaError(
            f"{path.name}: {reason.text.en}", f"{path.name}：{reason.text.zh}"
        ) from reason


def _whole(table: Table) -> Schema:
    dataset = table.name("dataset")
    category = cast("Category", table.choice("category", get_args(Category)))
    label = table.table("label")
    text = label.both()
    label.close()
    columns = _columns(table.table("columns"))
    time = table.name("time") if "time" in table else ""
    if time and (time not in columns or columns[time].type != "date"):
        raise table.wrong("time", "must name a column of type date", "应为 date 类型的列名")
    if time and not columns[time].required:
        raise table.wrong("time", "must name a required column", "应为必填列")
    period = table.choice("period", get_args(Period)) if "period" in table else "day"
    if period == "month" and not time:
        raise table.wrong("period", "goes with `time`", "须与 `time` 同用")
    quality, gate = _for_quality(table)
    table.close()
    for name in _undated(columns, columns):
        raise table.wrong(f"columns.{name}.known_on", *_NO_DATE)
    return Schema(dataset, category, text, columns, time, cast("Period", period), quality, gate)


def _extension(table: Table, where: str) -> _Extension:
    extends = table.name("extends")
    columns = _columns(table.table("columns")) if "columns" in table else {}
    grades: dict[str, Grade] = {}
    if "grades" in table:
        graded = table.table("grades")
        grades = {name: cast("Grade", graded.choice(name, GRADES)) for name in graded}
    quality, gate = _for_quality(table)
    table.close()
    return _Extension(where, extends, columns, grades, quality, gate)


def _for_quality(
    table: Table,
) -> tuple[tuple[Mapping[str, object], ...], Mapping[str, object] | None]:
    quality = tuple(rule.whole() for rule in table.listed("quality")) if "quality" in table else ()
    return quality, table.table("gate").whole() if "gate" in table else None


def _columns(table: Table) -> dict[str, SchemaColumn]:
    columns = {name: _column(check_column(table, name), column) for name, column in table.tables()}
    if not 1 <= len(columns) <= MAX_COLUMNS:
        raise table.wrong(
            "", f"must have 1 to {MAX_COLUMNS} columns", f"应有 1 至 {MAX_COLUMNS} 列"
        )
    return columns


def _column(name: str, table: Table) -> SchemaColumn:
    kind = column_type(table, "type")
    _check_fields(table, kind)
    unit = None
    if "unit" in table:
        stated = table.table("unit")
        unit = stated.both()
        stated.close()
    minimum, maximum = bounds(table, kind)
    allowed = table.texts("allowed") if "allowed" in table else ()
    if "allowed" in table and (not allowed or len(set(allowed)) != len(allowed)):
        raise table.wrong("allowed", "must list texts, each once", "应列出互不相同的文本")
    column = SchemaColumn(
        name=name,
        text=table.both(),
        type=kind,
        grade=cast("Grade", table.choice("grade", GRADES)),
        unit=unit,
        required=table.flag("required", default=False),
        minimum=minimum,
        maximum=maximum,
        allowed=allowed,
        sensitive=table.flag("sensitive", default=False),
        known_on=table.name("known_on") if "known_on" in table else "",
    )
    table.close()
    return column


def _check_fields(table: Table, kind: ColumnType) -> None:
    """Refuse what contradicts a column's type."""
    if "allowed" in table and kind != "text":
        raise table.wrong("allowed", "is for columns of type text", "只用于 text 类型的列")
    if "unit" in table and kind not in ("number", "integer"):
        raise table.wrong("unit", "is for numbers", "只用于数值列")


def bounds(table: Table, kind: ColumnType) -> tuple[Bound | None, Bound | None]:
    """Return a column's `minimum` and `maximum`, each None where it is open."""
    low, high = _bound(table, "minimum", kind), _bound(table, "maximum", kind)
    if low is not None and high is not None and low > high:  # type: ignore[operator]
        raise table.wrong("minimum", "is above `maximum`", "大于 `maximum`")
    return low, high


def _bound(table: Table, key: str, kind: ColumnType) -> Bound | None:
    if key not in table:
        return None
    if kind == "text":
        raise table.wrong(key, "is for numbers and dates", "只用于数值列和日期列")
    if kind == "date":
        return table.date(key)
    value = table.number(key)
    if kind != "integer":
        return value
    if not value.is_integer():
        raise table.wrong(key, "must be a whole number", "应为整数")
    return int(value)


def _undated(columns: Mapping[str, SchemaColumn], known: Mapping[str, SchemaColumn]) -> list[str]:
    """Return the columns whose `known_on` names no date column among `known`."""
    dates = {name for name, column in known.items() if column.type == "date"}
    return [name for name, one in columns.items() if one.known_on and one.known_on not in dates]


def _extended(schema: Schema, extension: _Extension) -> Schema:
    """Return a schema with an extension's columns, higher grades and quality rules."""
    columns = dict(schema.columns)
    for name, column in extension.columns.items():
        if name in columns:
            raise _refused(
                extension,
                f"columns.{name}",
                f"is a column of {schema.dataset} already: choose another name",
                f"已是 {schema.dataset} 的列：请另选名称",
            )
        columns[name] = column
    for name in _undated(extension.columns, columns):
        raise _refused(extension, f"columns.{name}.known_on", *_NO_DATE)
    for name, grade in extension.grades.items():
        if name not in columns:
            raise _refused(
                extension,
                f"grades.{name}",
                f"is not a column of {schema.dataset}: correct its spelling",
                f"不是 {schema.dataset} 的列：请更正拼写",
            )
        if GRADES.index(grade) < GRADES.index(columns[name].grade):
            raise _refused(
                extension,
                f"grades.{name}",
                f"is below the schema's {columns[name].grade}: a grade can be raised only",
                f"低于规范的分级 {columns[name].grade}：分级只能调高",
            )
        columns[name] = replace(columns[name], grade=grade)
    gate = {**(schema.gate or {}), **(extension.gate or {})} or None
    return replace(
        schema, columns=columns, quality=(*schema.quality, *extension.quality), gate=gate
    )


def _refused(extension: _Extension, field: str, en: str, zh: str) -> SchemaError:
    return SchemaError(
        f"{extension.where}: schema field `{field}` {en}",
        f"{extension.where}：数据规范字段 `{field}` {zh}",
    )
