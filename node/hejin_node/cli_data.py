"""The node's data commands: labels, feature views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hejin_node.cli_ingest import print_report, progress_bar
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_node.mapping import Encoding

labels_app = typer.Typer(no_args_is_help=True, help="Outcomes that banks reported. 标签。")
view_app = typer.Typer(no_args_is_help=True, help="Feature views of this node. 特征视图。")

Home = Annotated[
    Path, typer.Option("--home", envvar="HEJIN_HOME", help="The node's folder.", file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SourceFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or Parquet.")]
CsvEncoding = Annotated[str, typer.Option(help="Of a CSV file: utf-8 or gb18030.")]


def _table(title: Text, heads: Sequence[Text], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*map(str, heads), title=str(title))
    for row in rows:
        table.add_row(*row)
    Console().print(table)


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


@view_app.command("install")
def view_install(
    home: Home,
    file: Annotated[str, typer.Argument(help="View file, or a shipped view: sba-loans-v1.")],
    as_json: AsJson = False,
) -> None:
    """Check a feature view and install it at this node."""
    from hejin_models.features import view_file
    from hejin_node.home import open_home
    from hejin_node.views import install_view

    data = view_file(file)
    with open_home(home) as node:
        view, passed = install_view(node.views_folder, data, node.schemas(), node.now().date())
    if as_json:
        said = {"id": view.id, "sha256": view.digest, "unmoved": passed.unmoved}
        typer.echo(json.dumps(said))
        return
    typer.echo(
        Text(
            f"installed {view.id} ({view.text.en}), {len(view.features)} features,"
            f" hash {view.digest}",
            f"已安装 {view.id}（{view.text.zh}），{len(view.features)} 个特征，哈希 {view.digest}",
        )
    )
    typer.echo(passed.text)


@view_app.command("list")
def view_list(home: Home, as_json: AsJson = False) -> None:
    """List the installed feature views."""
    from hejin_node.home import open_home
    from hejin_node.views import installed_views

    with open_home(home) as node:
        views = installed_views(node.views_folder)
    if as_json:
        typer.echo(
            json.dumps({"views": [{"id": view.id, "sha256": view.digest} for view in views]})
        )
        return
    _table(
        Text(f"{len(views)} feature views", f"特征视图 {len(views)} 个"),
        (
            Text("view", "视图"),
            Text("name", "名称"),
            Text("features", "特征"),
            Text("hash", "哈希"),
        ),
        [(view.id, str(view.text), str(len(view.features)), view.digest) for view in views],
    )
