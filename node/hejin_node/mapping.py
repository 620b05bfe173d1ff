"""Mapping files: how a source's columns become a data set's.

A data set with a schema (`hejin node schema list`) has its columns, types and rules from there; the
mapping tells only what is particular to the source:

    dataset   = "invoices"      # name in the warehouse
    encoding  = "gb18030"       # CSV only: "utf-8" (the default; a BOM is allowed) or "gb18030"
    delimiter = ","             # CSV only, the default
    sheet     = "2025"          # Excel only; may be left out where the workbook has one sheet
    missing   = ["", "NULL"]    # texts that mean "no value"; the default is [""]
    absent    = ["tax"]         # optional columns of the schema that this source does not have
    unique    = false           # true: at most one row per enterprise

    [enterprise]
    column = "企业代号"          # the default is "enterprise"
    check  = "uscc"             # the default: GB 32100 check digit; "text": any text

    [columns.net]               # a column of the schema; not listed: the source's is named alike
    source = "金额"              # name in the source; left out where both are the same

    [columns.date]
    formats = ["%Y-%m-%d", "%Y/%m/%d"]      # of a date; the default is the first

    [columns.status]
    translate = { "有效发票" = "valid", "作废发票" = "void" }     # of a text
    strip = true                # spaces around a text do not count; the default

    [columns.direction]
    constant = "out"            # not read from the source; texts only

    [sql]                       # the source is a database, not a file
    table = "erp.invoices"      # or: query = "SELECT ..." with name = "sales"
    key   = "id"                # rows are only ever added behind it: integers or texts, unique

A data set without a schema lists all its columns and states in each what a schema would: `type`
(text, number, integer or date), `required`, `minimum`, `maximum`, `allowed`. Where there is a
schema, a mapping may repeat these, but not say otherwise.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, Literal, cast, get_args

from hejin_models.features import ColumnType, check_column, column_type
from hejin_models.schemas import Bound, Schema, SchemaColumn, bounds, shipped_schemas
from hejin_models.toml_table import Table, read_toml
from hejin_node.errors import MappingError
from hejin_node.sources import Layout, Query
from hejin_trust.text import Text

Encoding = Literal["utf-8", "gb18030"]
CodeCheck = Literal["uscc", "text"]

MAX_COLUMNS: Final = 200
_WHAT: Final = Text("mapping", "映射")
_LONGEST_NAME: Final = 150
#: A date's spelling: what strptime and strftime both understand.
_PATTERN: Final = re.compile(r"(?:[^%\x00-\x1f]|%-?[YymdbBHIMSfp])+")


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """One column of the data set: where it comes from and which values it takes.

    source     name in the source; None for a constant, or for a column that it does not have
    translate  text in the source -> text stored; others are kept as they are
    allowed    texts that may be stored; empty for any
    formats    strptime patterns of a date, tried in order
    constant   the text of every row; None with no source: no value
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

    sql     the question to a database; None where the source is a file
    digest  hex SHA-256 of the mapping file, "" where there is none
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
    sql: Query | None = None
    digest: str = field(default="", compare=False)

    @property
    def schema(self) -> dict[str, ColumnType]:
        """The data set's columns and types, `enterprise` first."""
        return {"enterprise": "text", **{column.name: column.type for column in self.columns}}

    @property
    def sources(self) -> tuple[str, ...]:
        """The source's columns that are read, each once."""
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
    def parse(cls, data: bytes, schemas: Mapping[str, Schema] | None = None) -> SourceMapping:
        """Return the mapping that a TOML file's bytes declare.

        schemas  of the data sets that have one; None for the shipped ones
        raises   MappingError
        """
        table = read_toml(data, _WHAT, MappingError)
        known = shipped_schemas() if schemas is None else schemas
        return _mapping(table, known, hashlib.sha256(data).hexdigest())

    @classmethod
    def load(cls, path: Path, schemas: Mapping[str, Schema] | None = None) -> SourceMapping:
        """Return the mapping in a file; raises MappingError."""
        try:
            data = path.read_bytes()
        except OSError as reason:
            raise MappingError(
                f"The mapping file {path} cannot be read ({reason.strerror}): check the path.",
                f"无法读取映射文件 {path}（{reason.strerror}）：请检查路径。",
            ) from reason
        return cls.parse(data, schemas)


@cache
def shipped_mappings() -> Mapping[str, bytes]:
    """Return the mapping files that come with Hejin, by name without `.toml`."""
    folder = resources.files("hejin_node") / "mappings"
    files = sorted((one.name, one) for one in folder.iterdir() if one.name.endswith(".toml"))
    return {name.removesuffix(".toml"): one.read_bytes() for name, one in files}


def find_mapping(name: str, schemas: Mapping[str, Schema] | None = None) -> SourceMapping:
    """Return the mapping in a file, or the shipped one of that name; raises MappingError."""
    data = shipped_mappings().get(name)
    return (
        SourceMapping.load(Path(name), schemas)
        if data is None
        else SourceMapping.parse(data, schemas)
    )


def _mapping(table: Table, schemas: Mapping[str, Schema], digest: str) -> SourceMapping:
    dataset = table.name("dataset")
    enterprise, check = "enterprise", "uscc"
    if "enterprise" in table:
        key = table.table("enterprise")
        enterprise = key.text("column") if "column" in key else enterprise
        check = key.choice("check", get_args(CodeCheck)) if "check" in key else check
        key.close()
    schema = schemas.get(dataset)
    if schema is not None:
        listed = dict(table.table("columns").tables()) if "columns" in table else {}
        columns = _by_schema(table, listed, schema)
    else:
        own = table.table("columns")
        for _, one in own.tables():
            if "type" not in one:
                known = sorted(schemas)
                raise one.wrong(
                    "type",
                    f"is missing, and `dataset` names no schema; there are {', '.join(known)}: "
                    "correct the name, or give every column its type",
                    f"缺失，且 `dataset` 所指的数据集没有规范；现有 {'、'.join(known)}："
                    "请更正名称，或为每一列写明类型",
                )
        columns = tuple(_own_column(check_column(own, name), one) for name, one in own.tables())
    if not 1 <= len(columns) <= MAX_COLUMNS:
        raise table.wrong(
            "columns", f"must have 1 to {MAX_COLUMNS} columns", f"应有 1 至 {MAX_COLUMNS} 列"
        )
    encoding = table.choice("encoding", get_args(Encoding)) if "encoding" in table else "utf-8"
    found = SourceMapping(
        dataset=dataset,
        enterprise=enterprise,
        columns=columns,
        encoding=cast("Encoding", encoding),
        delimiter=_delimiter(table),
        sheet=table.text("sheet") if "sheet" in table else None,
        missing=_some(table, "missing") if "missing" in table else ("",),
        unique=table.flag("unique", default=False),
        check=cast("CodeCheck", check),
        sql=_query(table.table("sql")) if "sql" in table else None,
        digest=digest,
    )
    table.close()
    return found


def _delimiter(table: Table) -> str:
    value = table.get("delimiter") if "delimiter" in table else ","
    if not isinstance(value, str) or len(value) != 1 or not value.isascii() or value in '"\r\n\0':
        raise table.wrong("delimiter", "must be one ASCII character", "应为单个 ASCII 字符")
    return value


def _select(table: Table) -> str:
    """Return the one statement that a database is sent; a second one could be anything.

    A semicolon inside a text is refused as well: what ends a text differs between databases.
    """
    sql = table.text("query")
    if ";" in sql:
        raise table.wrong("query", "must be one SELECT without `;`", "应为一条不含 `;` 的 SELECT")
    return sql


def _query(table: Table) -> Query:
    if ("table" in table) == ("query" in table):
        raise table.wrong("", "must have `table` or `query`", "应有 `table` 或 `query` 之一")
    if "table" in table:
        name, query = table.text("table"), Query(table.text("table"), table=table.text("table"))
    else:
        name = table.text("name")
        query = Query(name, query=_select(table))
    if len(name) > _LONGEST_NAME:
        raise table.wrong("", "has too long a name", "名称过长")
    if "key" in table:
        query = Query(query.name, query.table, query.query, table.text("key"))
    table.close()
    return query


def _by_schema(table: Table, listed: Mapping[str, Table], schema: Schema) -> tuple[ColumnRule, ...]:
    """Return a rule for each column of a schema, in its order."""
    absent = table.texts("absent") if "absent" in table else ()
    for name in (*listed, *absent):
        if name not in schema.columns:
            where = f"columns.{name}" if name in listed else "absent"
            raise table.wrong(
                where,
                f"names no column of data set {schema.dataset} ({', '.join(schema.columns)}): "
                "correct it, or extend the schema",
                f"不是数据集 {schema.dataset} 的列（{'、'.join(schema.columns)}）："
                "请更正，或扩展数据规范",
            )
    for name in absent:
        if name in listed or schema.columns[name].required:
            raise table.wrong(
                "absent",
                f"cannot hold {name}, which is required or mapped as well",
                f"不可包含 {name}：该列为必填或已另有映射",
            )
    nothing = table.within({}, "columns")
    return tuple(
        ColumnRule(name, None, column.type)
        if name in absent
        else _of_schema(column, listed.get(name, nothing))
        for name, column in schema.columns.items()
    )


def _of_schema(column: SchemaColumn, table: Table) -> ColumnRule:
    """Return a schema's column as the mapping finds it in the source."""
    kind = column_type(table, "type") if "type" in table else column.type
    low, high = bounds(table, kind)
    said = {
        "type": kind,
        "required": table.flag("required", default=column.required),
        "minimum": column.minimum if low is None else low,
        "maximum": column.maximum if high is None else high,
        "allowed": _some(table, "allowed") if "allowed" in table else column.allowed,
    }
    for name, value in said.items():
        if value != getattr(column, name):
            raise table.wrong(
                name,
                "differs from the data set's schema: leave it out",
                "与数据集的规范不同：请删除此字段",
            )
    constant = _constant(table, column.type)
    if constant is not None and column.allowed and constant not in column.allowed:
        raise table.wrong(
            "constant",
            f"must be one of {', '.join(column.allowed)}",
            f"应为 {'、'.join(column.allowed)} 之一",
        )
    return _rule(
        table,
        column.name,
        column.type,
        constant,
        required=column.required,
        minimum=column.minimum,
        maximum=column.maximum,
        allowed=column.allowed,
    )


def _own_column(name: str, table: Table) -> ColumnRule:
    """Return a column that has no schema: the mapping states everything."""
    kind = column_type(table, "type")
    minimum, maximum = bounds(table, kind)
    if "allowed" in table and kind != "text":
        raise table.wrong("allowed", "is for columns of type text", "只用于 text 类型的列")
    return _rule(
        table,
        name,
        kind,
        _constant(table, kind),
        required=table.flag("required", default=False),
        minimum=minimum,
        maximum=maximum,
        allowed=_some(table, "allowed") if "allowed" in table else (),
    )


def _rule(
    table: Table,
    name: str,
    kind: ColumnType,
    constant: str | None,
    *,
    required: bool,
    minimum: Bound | None,
    maximum: Bound | None,
    allowed: tuple[str, ...],
) -> ColumnRule:
    """Return a column with what the mapping alone can know of it."""
    for key, kinds in (("translate", "text"), ("formats", "date")):
        if key in table and kind != kinds:
            raise table.wrong(key, f"is for columns of type {kinds}", f"只用于 {kinds} 类型的列")
    source = None
    if constant is None:
        source = table.text("source") if "source" in table else name
    rule = ColumnRule(
        name=name,
        source=source,
        type=kind,
        required=required,
        minimum=minimum,
        maximum=maximum,
        allowed=allowed,
        translate=_translation(table),
        strip=table.flag("strip", default=True),
        formats=_formats(table),
        constant=constant,
    )
    table.close()
    return rule


def _constant(table: Table, kind: ColumnType) -> str | None:
    if "constant" not in table:
        return None
    if kind != "text" or any(
        key in table for key in ("source", "translate", "strip", "formats", "required", "allowed")
    ):
        raise table.wrong(
            "constant", "goes with columns of type text, alone", "只能单独用于 text 类型的列"
        )
    return table.text("constant")


def _formats(table: Table) -> tuple[str, ...]:
    if "formats" not in table:
        return ("%Y-%m-%d",)
    found = _some(table, "formats")
    for pattern in found:
        if not _PATTERN.fullmatch(pattern):
            raise table.wrong(
                "formats",
                "may hold %Y %y %m %d %b %B %H %I %M %S %f %p, and text between",
                "只能含 %Y %y %m %d %b %B %H %I %M %S %f %p 及其间的文字",
            )
    return found


def _translation(table: Table) -> Mapping[str, str] | None:
    if "translate" not in table:
        return None
    found = table.table("translate").whole()
    if not all(isinstance(value, str) for value in found.values()):
        raise table.wrong("translate", "must give texts for texts", "应为文本到文本的对应")
    return cast("dict[str, str]", found)


def _some(table: Table, key: str) -> tuple[str, ...]:
    found = table.texts(key)
    if not found:
        raise table.wrong(key, "must be a list of texts", "应为文本列表")
    return found
