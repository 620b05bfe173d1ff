"""The node's commands about data sets' schemas: list, show."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hejin_node.cli_options import AsJson
from hejin_trust.commands import group, says
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_models.schemas import Bound, Schema, SchemaColumn

schema_app = group(Text("What data sets hold.", "数据集的规范。"))

Home = Annotated[
    Path | None,
    typer.Option("--home", envvar="HEJIN_HOME", file_okay=False),
    Text(
        "The node's folder, for what its schemas/ adds; without, the shipped ones.",
        "节点的目录，含其 schemas/ 的扩展；不给出则只看自带规范。",
    ),
]


def _schemas(home: Path | None) -> dict[str, Schema]:
    from hejin_models.schemas import load_schemas

    return load_schemas(None if home is None else home / "schemas")


@schema_app.command("list")
@says("列出有规范的数据集。")
def schema_list(home: Home = None, as_json: AsJson = False) -> None:
    """List the data sets that have a schema."""
    from rich.table import Table

    from hejin_models.grades import GRADE_NAMES
    from hejin_node.consent_words import CATEGORIES

    found = _schemas(home)
    if as_json:
        listed = [
            {
                "dataset": one.dataset,
                "category": one.category,
                "grade": one.grade,
                "columns": len(one.columns),
            }
            for one in found.values()
        ]
        typer.echo(json.dumps({"schemas": listed}))
        return
    heads = (
        Text("data set", "数据集"),
        Text("name", "名称"),
        Text("category", "类别"),
        Text("columns", "列数"),
        Text("highest grade", "最高分级"),
    )
    table = Table(*map(str, heads), title=str(Text("Schemas", "数据规范")))
    for one in found.values():
        table.add_row(
            one.dataset,
            str(one.text),
            str(CATEGORIES[one.category]),
            str(len(one.columns)),
            str(GRADE_NAMES[one.grade]),
        )
    print_table(table)


@schema_app.command("show")
@says("显示数据集的各列：含义、单位、范围与分级。")
def schema_show(
    name: Annotated[str, typer.Argument(), Text("Data set: invoices.", "数据集，例如 invoices。")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show the columns of a data set: what they mean, their units, ranges and grades."""
    from rich.table import Table

    from hejin_models.errors import SchemaError
    from hejin_node.consent_words import CATEGORIES

    found = _schemas(home)
    if name not in found:
        raise SchemaError(
            f"there is no schema of a data set {name}: known are {', '.join(found)}",
            f"没有数据集 {name} 的规范；已知：{'、'.join(found)}",
        )
    schema = found[name]
    if as_json:
        typer.echo(json.dumps(_document(schema), ensure_ascii=False))
        return
    table = Table(title=f"{schema.dataset}: {schema.text} ({CATEGORIES[schema.category]})")
    table.add_column(str(Text("column", "列")), no_wrap=True)
    for head in (
        Text("meaning", "含义"),
        Text("type (* required)", "类型(* 必填)"),
        Text("values", "取值"),
        Text("grade", "分级"),
    ):
        table.add_column(str(head))
    for column in schema.columns.values():
        table.add_row(*_cells(column))
    print_table(table)
    if schema.time:
        typer.echo(
            Text(
                f"A row counts from the end of the month in {schema.time} on.",
                f"每行自 {schema.time} 所在月份月末起可用。",
            )
            if schema.period == "month"
            else Text(
                f"A row counts from the day in {schema.time} on.",
                f"每行自 {schema.time} 当日起可用。",
            )
        )


def _cells(column: SchemaColumn) -> tuple[str, ...]:
    from hejin_models.grades import GRADE_NAMES

    kind = str(_TYPE_NAMES[column.type]) + (" *" if column.required else "")
    values = ", ".join(column.allowed) or _range(column.minimum, column.maximum)
    unit = "" if column.unit is None else f" {column.unit}"
    grade = str(GRADE_NAMES[column.grade])
    if column.sensitive:
        grade += str(Text(", sensitive", "、敏感"))
    return (column.name, str(column.text), kind, values + unit, grade)


_TYPE_NAMES = {
    "text": Text("text", "文本"),
    "number": Text("number", "数值"),
    "integer": Text("whole number", "整数"),
    "date": Text("date", "日期"),
}


def _range(low: Bound | None, high: Bound | None) -> str:
    if low is None and high is None:
        return ""
    return f"{_shown(low)} .. {_shown(high)}"


def _shown(bound: Bound | None) -> str:
    if bound is None:
        return ""
    return bound.isoformat() if isinstance(bound, dt.date) else f"{bound:,.6g}"


def _document(schema: Schema) -> dict[str, object]:
    return {
        "dataset": schema.dataset,
        "category": schema.category,
        "label": schema.text.body(),
        "time": schema.time,
        "period": schema.period,
        "columns": [
            {
                "name": column.name,
                **column.text.body(),
                "type": column.type,
                "unit": None if column.unit is None else column.unit.body(),
                "required": column.required,
                "minimum": _plain(column.minimum),
                "maximum": _plain(column.maximum),
                "allowed": column.allowed,
                "grade": column.grade,
                "sensitive": column.sensitive,
                "known_on": column.known_on,
            }
            for column in schema.columns.values()
        ],
    }


def _plain(bound: Bound | None) -> int | float | str | None:
    return bound.isoformat() if isinstance(bound, dt.date) else bound
