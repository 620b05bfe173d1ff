"""Mapping files: how a source file's columns become a data set's, and which rules they obey.

dataset   = "invoices"        # name in the warehouse
encoding  = "gb18030"         # CSV only: "utf-8" (the default; a BOM is allowed) or "gb18030"
delimiter = ","               # CSV only, the default
missing   = ["", "NULL"]      # texts that mean "no value"; the default is [""]
unique    = false             # true: at most one row per enterprise

[enterprise]
column = "企业代号"
check  = "uscc"               # the default: GB 32100 check digit; "text": any text

[columns.net]                 # name in the data set
source   = "金额"             # name in the file; left out where both are the same
type     = "number"           # text, number, integer or date
required = true               # the default is false
minimum  = -1e9               # numbers, integers, and dates as "YYYY-MM-DD"
maximum  = 1e9
strip    = true               # texts: spaces around a value do not count; the default

[columns.date]
type    = "date"
formats = ["%Y-%m-%d", "%Y/%m/%d"]      # the default is the first

[columns.status]
type    = "text"
allowed = ["valid", "void"]
translate = { "有效发票" = "valid", "作废发票" = "void" }

[columns.direction]
type     = "text"
constant = "out"              # not read from the file
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Literal, NoReturn, cast, get_args

from hejin_models.features import ColumnType
from hejin_node.errors import MappingError
from hejin_node.sources import Layout

Encoding = Literal["utf-8", "gb18030"]
CodeCheck = Literal["uscc", "text"]
Bound = int | float | date

MAX_COLUMNS: Final = 200
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FIELDS: Final = frozenset(
    ("dataset", "encoding", "delimiter", "missing", "unique", "enterprise", "columns")
)
_COLUMN_FIELDS: Final = frozenset(
    (
        "source",
        "type",
        "required",
        "minimum",
        "maximum",
        "allowed",
        "translate",
        "strip",
        "formats",
        "constant",
    )
)


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """One column of the data set: where it comes from and which values it takes.

    source     name in the file; None for a constant
    translate  text in the file -> text stored; others are kept as they are
    allowed    texts that may be stored; empty for any
    formats    strptime patterns of a date, tried in order
    """

    name: str
    source: str | None
    type: ColumnType
    required: bool = False
    minimum: Bound | None = None
    maximum: Bound | None = None
    allowed: tuple[str, ...] = ()
    translate: Mapping[str, str] | None = None
    strip: bool = True
    formats: tuple[str, ...] = ("%Y-%m-%d",)
    constant: str | None = None


@dataclass(frozen=True, slots=True)
class SourceMapping:
    """A whole mapping file. Every data set has the column `enterprise` first.

    digest  hex SHA-256 of the file, "" where there is none
    """

    dataset: str
    enterprise: str
    columns: tuple[ColumnRule, ...]
    encoding: Encoding = "utf-8"
    delimiter: str = ","
    sheet: str | None = None
    missing: tuple[str, ...] = ("",)
    unique: bool = False
    check: CodeCheck = "uscc"
    digest: str = dataclasses.field(default="", compare=False)

    @property
    def schema(self) -> dict[str, ColumnType]:
        """The data set's columns and types, `enterprise` first."""
        return {"enterprise": "text", **{column.name: column.type for column in self.columns}}

    @property
    def sources(self) -> tuple[str, ...]:
        """The file's columns that are read, each once."""
        named = [column.source for column in self.columns if column.source is not None]
        return tuple(dict.fromkeys([self.enterprise, *named]))

    @property
    def layout(self) -> Layout:
        """How the source is written."""
        return Layout(
            self.encoding,
            self.delimiter,
            self.sheet,
            {
                one.source: one.formats[0]
                for one in self.columns
                if one.type == "date" and one.source is not None
            },
        )

    @classmethod
    def parse(cls, data: bytes) -> SourceMapping:
        """Return the mapping that a TOML file's bytes declare; raises MappingError."""
        try:
            document = tomllib.loads(data.decode("utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as reason:
            raise MappingError(
                f"The mapping file is not TOML in UTF-8: {reason}.",
                f"映射文件不是 UTF-8 编码的 TOML：{reason}。",
            ) from reason
        return dataclasses.replace(_mapping(document), digest=hashlib.sha256(data).hexdigest())

    @classmethod
    def load(cls, path: Path) -> SourceMapping:
        """Return the mapping in a file; raises MappingError."""
        try:
            return cls.parse(path.read_bytes())
        except OSError as reason:
            raise MappingError(
                f"The mapping file {path} cannot be read ({reason.strerror}): check the path.",
                f"无法读取映射文件 {path}（{reason.strerror}）：请检查路径。",
            ) from reason


def _wrong(field: str, en: str, zh: str) -> NoReturn:
    raise MappingError(f"Mapping field `{field}` {en}.", f"映射字段 `{field}` {zh}。")


def _mapping(document: dict[str, object]) -> SourceMapping:
    _known(document, _FIELDS, "")
    key = _table(document.get("enterprise"), "enterprise")
    _known(key, frozenset(("column", "check")), "enterprise.")
    listed = _table(document.get("columns"), "columns")
    if not 1 <= len(listed) <= MAX_COLUMNS:
        _wrong("columns", f"must have 1 to {MAX_COLUMNS} columns", f"应有 1 至 {MAX_COLUMNS} 列")
    delimiter = _text(document, "delimiter", "", ",")
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        _wrong("delimiter", "must be one ASCII character", "应为单个 ASCII 字符")
    return SourceMapping(
        dataset=_name(_text(document, "dataset", ""), "dataset"),
        enterprise=_text(key, "column", "enterprise."),
        columns=tuple(
            _column(name, _table(value, f"columns.{name}")) for name, value in listed.items()
        ),
        encoding=cast(
            "Encoding", _choice(document, "encoding", "", get_args(Encoding), default="utf-8")
        ),
        delimiter=delimiter,
        missing=_texts(document, "missing", "") if "missing" in document else ("",),
        unique=_flag(document, "unique", "", default=False),
        check=cast(
            "CodeCheck", _choice(key, "check", "enterprise.", get_args(CodeCheck), default="uscc")
        ),
    )


def _column(name: str, table: dict[str, object]) -> ColumnRule:
    where = f"columns.{name}."
    _known(table, _COLUMN_FIELDS, where)
    if _name(name, f"columns.{name}") == "enterprise":
        _wrong(
            f"columns.{name}", "is always there: declare it as [enterprise]", "请写为 [enterprise]"
        )
    kind = cast("ColumnType", _choice(table, "type", where, get_args(ColumnType)))
    for field, kinds in (("allowed", "text"), ("translate", "text"), ("formats", "date")):
        if field in table and kind != kinds:
            _wrong(where + field, f"is for columns of type {kinds}", f"只用于 {kinds} 类型的列")
    constant = None
    if "constant" in table:
        if kind != "text" or set(table) != {"type", "constant"}:
            _wrong(where + "constant", 'goes with type = "text" alone', '只能与 type = "text" 同用')
        constant = _text(table, "constant", where)
    minimum, maximum = _bound(table, "minimum", where, kind), _bound(table, "maximum", where, kind)
    if minimum is not None and maximum is not None and minimum > maximum:  # type: ignore[operator]
        _wrong(where + "minimum", "is above `maximum`", "大于 `maximum`")
    return ColumnRule(
        name=name,
        source=None if constant is not None else _text(table, "source", where, name),
        type=kind,
        required=_flag(table, "required", where, default=False),
        minimum=minimum,
        maximum=maximum,
        allowed=_texts(table, "allowed", where) if "allowed" in table else (),
        translate=_translation(table, where),
        strip=_flag(table, "strip", where, default=True),
        formats=_texts(table, "formats", where) if "formats" in table else ("%Y-%m-%d",),
        constant=constant,
    )


def _translation(table: dict[str, object], where: str) -> Mapping[str, str] | None:
    if "translate" not in table:
        return None
    found = _table(table["translate"], where + "translate")
    if not all(isinstance(value, str) for value in found.values()):
        _wrong(where + "translate", "must give texts for texts", "应为文本到文本的对应")
    return cast("dict[str, str]", found)


def _bound(table: dict[str, object], field: str, where: str, kind: ColumnType) -> Bound | None:
    if field not in table:
        return None
    value = table[field]
    if kind == "date":
        if isinstance(value, str):
            try:
                return date.fromisoformat(value)
            except ValueError:
                pass
        elif type(value) is date:
            return value
        _wrong(where + field, 'must be a date as "YYYY-MM-DD"', '应为 "YYYY-MM-DD" 形式的日期')
    if kind == "text" or isinstance(value, bool) or not isinstance(value, (int, float)):
        _wrong(
            where + field,
            "must be a number, for a number or date column",
            "应为数值（数值或日期列）",
        )
    if not math.isfinite(value):
        _wrong(where + field, "must be finite", "应为有限数值")
    return value


def _known(table: Mapping[str, object], fields: frozenset[str], where: str) -> None:
    unknown = sorted(table.keys() - fields)
    if unknown:
        _wrong(where + unknown[0], "is not known: correct or remove it", "未知：请更正或删除")


def _table(value: object, field: str) -> dict[str, object]:
    if not isinstance(value, dict):
        _wrong(field, "must be a table", "应为表")
    return value


def _text(table: Mapping[str, object], field: str, where: str, default: str | None = None) -> str:
    value = table.get(field, default)
    if not isinstance(value, str) or not value:
        _wrong(where + field, "must be a text that is not empty", "应为非空文本")
    return value


def _texts(table: Mapping[str, object], field: str, where: str) -> tuple[str, ...]:
    value = table[field]
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        _wrong(where + field, "must be a list of texts", "应为文本列表")
    return tuple(value)


def _flag(table: Mapping[str, object], field: str, where: str, *, default: bool) -> bool:
    value = table.get(field, default)
    if not isinstance(value, bool):
        _wrong(where + field, "must be true or false", "应为 true 或 false")
    return value


def _choice(
    table: Mapping[str, object],
    field: str,
    where: str,
    choices: tuple[str, ...],
    default: str | None = None,
) -> str:
    value = table.get(field, default)
    if value not in choices:
        listed = ", ".join(choices)
        _wrong(where + field, f"must be one of {listed}", f"应为 {listed} 之一")
    return value


def _name(value: str, field: str) -> str:
    if not _NAME.fullmatch(value):
        _wrong(field, f"must match {_NAME.pattern}", f"应符合 {_NAME.pattern}")
    return value
