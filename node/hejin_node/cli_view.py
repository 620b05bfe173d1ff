"""The node's commands about feature views: install, list, offered, fetch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hejin_node.cli_options import AsJson, Home
from hejin_trust.commands import group, says
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_models.features import FeatureView
    from hejin_models.grids import Grid
    from hejin_models.schemas import Schema

view_app = group(Text("Feature views of this node.", "本节点的特征视图。"))


@view_app.command("install")
@says("以随机数据检验特征视图，并安装到本节点。")
def view_install(
    home: Home,
    file: Annotated[
        str,
        typer.Argument(),
        Text(
            "View file, or a shipped view: sba-loans-v1.",
            "视图文件，或自带视图，例如 sba-loans-v1。",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Check a feature view on random rows, and install it at this node."""
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
@says("列出已安装的特征视图。")
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


@view_app.command("offered")
@says("列出待答复计划的视图，以及哪些已安装。")
def view_offered(home: Home, as_json: AsJson = False) -> None:
    """List the views of the plans that wait for an answer, and which are installed."""
    from hejin_node import inbox
    from hejin_node.home import open_home
    from hejin_node.views import installed_views
    from hejin_trust.database import reading

    with open_home(home) as node:
        installed = {view.digest for view in installed_views(node.views_folder)}
        with reading(node.database) as connection:
            waiting = [one for one in inbox.offers(connection) if one.answer == "offered"]
    rows = [
        {
            "plan": one.digest,
            "bank": one.plan.bank,
            "view": f"{one.plan.view.name}-v{one.plan.view.version}",
            "sha256": one.plan.view.sha256,
            "installed": one.plan.view.sha256 in installed,
        }
        for one in waiting
    ]
    if as_json:
        typer.echo(json.dumps({"offered": rows}))
        return
    yes, no = Text("yes", "是"), Text("no: fetch it", "否：请获取")
    _table(
        Text(f"{len(rows)} plans wait for an answer", f"待答复计划 {len(rows)} 个"),
        (
            Text("plan", "计划"),
            Text("bank", "银行"),
            Text("view", "视图"),
            Text("hash", "哈希"),
            Text("installed", "已安装"),
        ),
        [
            (
                one.digest[:16],
                one.plan.bank,
                f"{one.plan.view.name}-v{one.plan.view.version}",
                one.plan.view.sha256[:16],
                str(yes if one.plan.view.sha256 in installed else no),
            )
            for one in waiting
        ],
    )


@view_app.command("fetch")
@says("从银行取得计划的视图，并显示其读取和输出的内容。不会安装。")
def view_fetch(
    home: Home,
    plan: Annotated[
        str,
        typer.Argument(),
        Text("Plan hash, or its first 8 digits or more.", "计划哈希，或其开头的至少 8 位。"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False),
        Text("Write the view's file here.", "视图文件的存放位置。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Get a plan's view from its bank, and show what it reads and gives. Nothing is installed."""
    from hejin_models.features import FeatureView
    from hejin_models.grades import GRADE_NAMES
    from hejin_models.schemas import view_grade
    from hejin_node import inbox
    from hejin_node.errors import QueryError
    from hejin_node.home import open_home
    from hejin_node.view_check import check_view
    from hejin_node.view_fetch import fetch_view
    from hejin_trust.database import reading
    from hejin_trust.files import replace_file

    with open_home(home) as node:
        with reading(node.database) as connection:
            offer = inbox.find_offer(connection, plan)
        data = fetch_view(node, offer)
        schemas, today = node.schemas(), node.now().date()
    view = FeatureView.parse(data)
    if out is not None:
        replace_file(out, data)
    if not as_json:
        _describe(view, schemas)
    try:
        passed = check_view(view, schemas, today)
    except QueryError as reason:
        if as_json:
            typer.echo(json.dumps(_document(view, schemas, {"refused": reason.code})))
        raise
    if as_json:
        found = {"rows": passed.rows, "unmoved": passed.unmoved}
        typer.echo(json.dumps(_document(view, schemas, found), ensure_ascii=False))
        return
    grade = GRADE_NAMES[view_grade(view, schemas)]
    typer.echo(Text(f"highest grade: {grade.en}", f"最高分级：{grade.zh}"))
    typer.echo(passed.text)


def _describe(view: FeatureView, schemas: Mapping[str, Schema]) -> None:
    from hejin_models.grades import GRADE_NAMES
    from hejin_models.schemas import column_grade

    typer.echo(f"{view.id}  {view.text}  {view.digest}")
    _table(
        Text("reads", "读取"),
        (
            Text("data set", "数据集"),
            Text("category", "类别"),
            Text("column", "列"),
            Text("type", "类型"),
            Text("grade", "分级"),
        ),
        [
            (
                dataset.name,
                dataset.category,
                name,
                kind,
                str(GRADE_NAMES[column_grade(dataset, name, schemas)]),
            )
            for dataset in view.datasets
            for name, kind in dataset.columns.items()
        ],
    )
    _table(
        Text(f"gives {len(view.features)} features", f"给出 {len(view.features)} 个特征"),
        (
            Text("feature", "特征"),
            Text("meaning", "含义"),
            Text("unit", "单位"),
            Text("public grid", "公开网格"),
        ),
        [
            (feature.name, str(feature.text), str(feature.unit), str(_grid(feature.grid)))
            for feature in view.features
        ],
    )
    typer.echo(view.source)


def _grid(grid: Grid) -> Text:
    from hejin_models.grids import CategoryGrid

    if isinstance(grid, CategoryGrid):
        return Text(", ".join(grid.values), "、".join(grid.values))
    span = f"{grid.kind} {grid.edges[0]:,.6g} .. {grid.edges[-1]:,.6g}"
    return Text(f"{span}, {grid.cells} cells", f"{span}，{grid.cells} 格")


def _document(
    view: FeatureView, schemas: Mapping[str, Schema], found: Mapping[str, object]
) -> dict[str, object]:
    from hejin_models.schemas import column_grade, view_grade

    return {
        "id": view.id,
        "sha256": view.digest,
        "grade": view_grade(view, schemas),
        "columns": [
            {
                "dataset": dataset.name,
                "category": dataset.category,
                "column": name,
                "type": kind,
                "grade": column_grade(dataset, name, schemas),
            }
            for dataset in view.datasets
            for name, kind in dataset.columns.items()
        ],
        "features": [
            {"name": one.name, **one.text.body(), "grid": _grid(one.grid).en}
            for one in view.features
        ],
        "source": view.source,
        "self_check": found,
    }


def _table(title: Text, heads: Sequence[Text], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(*map(str, heads), title=str(title))
    for row in rows:
        table.add_row(*row)
    print_table(table)
