"""The bank's commands about its borrowers' outcomes: import, list."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from hejin_coordinator.cli_options import AsJson, Home
from hejin_coordinator.home import open_home
from hejin_trust.commands import group, says
from hejin_trust.listing import print_table
from hejin_trust.text import Text

outcomes_app = group(Text("Outcomes of the bank's borrowers.", "借款企业违约结果。"))


@outcomes_app.command("import")
@says(
    "制作一个时段的结果册，取代此前的一册；各行全部采用，否则全部不用。\n\n"
    "`label` 为 1（违约）或 0（正常）；`days_overdue` 为口径窗口内贷款的最长逾期天数。"
)
def import_file(
    home: Home,
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False),
        Text(
            "CSV: enterprise, and label or days_overdue.",
            "CSV：enterprise 列，以及 label 或 days_overdue 列。",
        ),
    ],
    definition: Annotated[
        str,
        typer.Option(),
        Text(
            "What counts as bad: overdue90-12m-v1, or one of definitions/.",
            "违约口径：overdue90-12m-v1，或 definitions/ 中的一种。",
        ),
    ],
    period: Annotated[
        str,
        typer.Option(),
        Text("Which months the outcomes cover: 2025.", "结果所涵盖的时段，例如 2025。"),
    ] = "",
    encoding: Annotated[
        Literal["utf-8", "gb18030"], typer.Option(), Text("Of the CSV file.", "CSV 文件的编码。")
    ] = "utf-8",
    as_json: AsJson = False,
) -> None:
    """Make the book of outcomes of a period, in place of the one before; all rows or none.

    `label` is 1 (bad) or 0 (good); `days_overdue` is the most that a loan was overdue within the
    definition's window.
    """
    from hejin_coordinator.outcomes import definition_of, import_outcomes

    with open_home(home) as bank:
        found, _ = definition_of(bank, definition)
        made = import_outcomes(bank, file, found, period, encoding)
    if as_json:
        typer.echo(json.dumps({**asdict(made.book), "bad": made.bad, "already": made.already}))
        return
    if made.already:
        typer.echo(Text("this file is the book already", "该文件已是现有标签，未作更改"))
        return
    book = made.book
    typer.echo(
        Text(
            f"{book.outcomes} outcomes, {made.bad} of them bad: {found.text.en}",
            f"{book.outcomes} 条标签，其中违约 {made.bad} 条：{found.text.zh}",
        )
    )


@outcomes_app.command("list")
@says("列出结果册；其内容不在任何地方显示。")
def list_books(home: Home, as_json: AsJson = False) -> None:
    """List the books of outcomes; what is in them is shown nowhere."""
    from hejin_coordinator.outcomes import books
    from hejin_trust.database import reading

    with open_home(home) as bank:
        with reading(bank.database) as connection:
            listed = books(connection)
        declared = bank.settings.outcomes_declared
    if as_json:
        typer.echo(json.dumps({"books": [asdict(book) for book in listed], "declared": declared}))
        return
    headings = (
        Text("definition", "定义"),
        Text("period", "期间"),
        Text("outcomes", "标签数"),
        Text("nodes see", "节点所见"),
        Text("imported", "导入时间"),
    )
    table = Table(*map(str, headings))
    for book in listed:
        table.add_row(
            book.definition, book.period, str(book.outcomes), str(declared), book.imported
        )
    print_table(table)
