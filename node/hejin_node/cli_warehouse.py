"""The node's commands about what its warehouse holds: list, show, compact, erase."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hejin_trust.text import Text

data_app = typer.Typer(no_args_is_help=True, help="The warehouse's data sets. 数据仓库。")

Home = Annotated[
    Path, typer.Option("--home", envvar="HEJIN_HOME", help="The node's folder.", file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@data_app.command("list")
def data_list(home: Home, as_json: AsJson = False) -> None:
    """List the data sets: rows, rows in quarantine, files, and loads that were interrupted."""
    from rich.console import Console
    from rich.table import Table

    from hejin_node.home import open_home

    with open_home(home) as node:
        found = node.warehouse.datasets()
        loads = node.warehouse.loads()
    waiting = {item.name: 0 for item in found}
    for load in loads:
        if load.state == "open":
            waiting[load.dataset] = waiting.get(load.dataset, 0) + 1
    known = {item.name: item for item in found}
    rows = [
        {
            "dataset": name,
            "rows": known[name].rows if name in known else 0,
            "quarantined": known[name].quarantined if name in known else 0,
            "segments": known[name].segments if name in known else 0,
            "interrupted": waiting[name],
        }
        for name in sorted(waiting)
    ]
    if as_json:
        typer.echo(json.dumps({"datasets": rows}, ensure_ascii=False))
        return
    table = Table(
        *(
            str(head)
            for head in (
                Text("data set", "数据集"),
                Text("rows", "行数"),
                Text("in quarantine", "隔离行数"),
                Text("segments", "分段文件"),
                Text("interrupted loads", "中断的导入"),
            )
        )
    )
    for row in rows:
        name, *counts = row.values()
        table.add_row(str(name), *(f"{count:,}" for count in counts))
    Console().print(table)


@data_app.command("show")
def data_show(
    home: Home,
    dataset: Annotated[str, typer.Argument(help="Name of the data set.")],
    as_json: AsJson = False,
) -> None:
    """Show a data set's columns and every source that it comes from."""
    from rich.console import Console
    from rich.table import Table

    from hejin_node.errors import WarehouseError
    from hejin_node.home import open_home

    with open_home(home) as node:
        columns = node.warehouse.columns("data", dataset) or {}
        loads = node.warehouse.loads(dataset)
    if not loads:
        raise WarehouseError(
            f"There is no data set {dataset}: see `hejin node data list`.",
            f"没有数据集 {dataset}：请查看 `hejin node data list`。",
        )
    if as_json:
        facts = {"columns": dict(columns), "loads": [asdict(load) for load in loads]}
        typer.echo(json.dumps({"dataset": dataset, **facts}, ensure_ascii=False))
        return
    typer.echo(", ".join(f"{name} {kind}" for name, kind in columns.items()))
    table = Table(
        *(
            str(head)
            for head in (
                Text("load", "导入"),
                Text("source", "来源"),
                Text("content hash", "内容哈希"),
                Text("rows loaded", "载入行数"),
                Text("in quarantine", "隔离行数"),
                Text("completed", "完成时间"),
            )
        )
    )
    for load in loads:
        table.add_row(
            str(load.id),
            load.name,
            load.source[:12],
            f"{load.counts.loaded:,}",
            f"{sum(load.counts.quarantined.values()):,}",
            load.completed or str(Text("interrupted: load it again", "已中断：请再次导入")),
        )
    Console().print(table)


@data_app.command("compact")
def data_compact(
    home: Home,
    dataset: Annotated[str | None, typer.Argument(help="Default: all data sets.")] = None,
    as_json: AsJson = False,
) -> None:
    """Merge small segments into few large ones. Long series of small loads do so by themselves."""
    from hejin_node.home import open_home

    with open_home(home) as node:
        done = node.warehouse.compact(dataset)
    said = Text(
        f"{done.before} segments merged into {done.after}",
        f"已将 {done.before} 个分段文件合并为 {done.after} 个",
    )
    typer.echo(json.dumps(asdict(done)) if as_json else said)


@data_app.command("erase")
def data_erase(
    home: Home,
    code: Annotated[str, typer.Argument(help="The enterprise's code, as it stands in the data.")],
    reason: Annotated[str, typer.Option(help="Why, in a few words; it is logged.")],
    as_json: AsJson = False,
) -> None:
    """Remove an enterprise's rows of every kind and end its authorisations. Not to be undone."""
    from hejin_node.appending import open_to_append
    from hejin_node.erasing import erase

    with open_to_append(home) as node:
        done = erase(node, code, reason)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(
        Text("It was erased before; nothing was left.", "此前已删除，无剩余数据。")
        if done.seq is None
        else Text(
            f"erased: {done.rows} rows in {done.segments} segments and {done.runs} open runs; "
            f"{len(done.revoked)} authorisations ended; entry {done.seq} of the internal log",
            f"已删除：{done.segments} 个分段文件及 {done.runs} 次进行中的运行，共 {done.rows} 行；"
            f"终止授权 {len(done.revoked)} 份；内部日志第 {done.seq} 条",
        )
    )
