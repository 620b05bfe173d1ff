"""The node's command for outcomes in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hejin_node.cli_bar import progress_bar
from hejin_node.cli_ingest import print_report

if TYPE_CHECKING:
    from hejin_node.mapping import Encoding

labels_app = typer.Typer(no_args_is_help=True, help="Outcomes that banks reported. 标签。")

Home = Annotated[
    Path, typer.Option("--home", envvar="HEJIN_HOME", help="The node's folder.", file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SourceFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or Parquet.")]
CsvEncoding = Annotated[str, typer.Option(help="Of a CSV file: utf-8 or gb18030.")]


def _encoding(value: str) -> Encoding:
    if value not in ("utf-8", "gb18030"):
        raise typer.BadParameter("write utf-8 or gb18030")
    return cast("Encoding", value)


@labels_app.command("load")
def labels_load(
    home: Home,
    file: SourceFile,
    bank: Annotated[str, typer.Option(help="Member name of the bank whose outcomes they are.")],
    definition: Annotated[
        str, typer.Option(help="What counts as bad, with its version: overdue90-12m-v1.")
    ],
    period: Annotated[str, typer.Option(help="Which months the outcomes cover.")] = "",
    enterprise_column: Annotated[str, typer.Option(help="Column of the codes.")] = "enterprise",
    label_column: Annotated[str, typer.Option(help="Column of 1 (bad) and 0 (good).")] = "label",
    encoding: CsvEncoding = "utf-8",
    as_json: AsJson = False,
) -> None:
    """Load outcomes: one row per enterprise, 1 bad, 0 good."""
    from hejin_node.appending import open_to_append
    from hejin_node.labels import LabelFile, label_spec, load_labels

    layout = LabelFile(enterprise_column, label_column, _encoding(encoding))
    spec = label_spec(bank, definition)
    with open_to_append(home) as node, progress_bar(shown=not as_json) as progress:
        report = load_labels(
            node.warehouse,
            node.internal_log,
            file,
            spec,
            period=period,
            layout=layout,
            progress=progress,
        )
    print_report(report, as_json=as_json)
