"""The node's commands about its warehouse: what is in it, what leaves it, is it whole, backups."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hejin_node.cli_bar import progress_bar
from hejin_node.cli_confirm import Yes, confirm
from hejin_node.cli_options import AsJson, Home
from hejin_trust.commands import group, says
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hejin_node.backup import Restored
    from hejin_node.home import NodeHome
    from hejin_node.manifest import Load

data_app = group(Text("The warehouse's data sets.", "数据仓库中的数据集。"))


def need_dataset(node: NodeHome, dataset: str) -> Sequence[Load]:
    """Return a data set's loads, withdrawn ones as well, oldest first; WarehouseError if none."""
    from hejin_node.errors import WarehouseError

    there, gone = node.warehouse.loads(dataset), node.warehouse.withdrawn(dataset)
    loads = sorted((*there, *gone), key=lambda load: load.id)
    if not loads:
        raise WarehouseError(
            f"There is no data set {dataset}: see `hejin node data list`.",
            f"没有数据集 {dataset}：请查看 `hejin node data list`。",
        )
    return loads


@data_app.command("list")
@says("列出数据集：行数、隔离行数、文件，以及中断的导入。")
def data_list(home: Home, as_json: AsJson = False) -> None:
    """List the data sets: rows, rows in quarantine, files, and loads that were interrupted."""
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
    print_table(table)


@data_app.command("show")
@says("显示一个数据集的各列及其全部来源。")
def data_show(
    home: Home,
    dataset: Annotated[str, typer.Argument(), Text("Name of the data set.", "数据集名称。")],
    as_json: AsJson = False,
) -> None:
    """Show a data set's columns and every source that it comes from."""
    from rich.table import Table

    from hejin_node.home import open_home

    with open_home(home) as node:
        columns = node.warehouse.columns("data", dataset) or {}
        loads = need_dataset(node, dataset)
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
            _ended(load),
        )
    print_table(table)


def _ended(load: Load) -> str:
    if load.withdrawn:
        return str(Text(f"withdrawn {load.withdrawn}", f"已撤回 {load.withdrawn}"))
    return load.completed or str(Text("interrupted: load it again", "已中断：请再次导入"))


@data_app.command("give-up")
@says("放弃来源已不再提供的中断导入，并清除其已保留的内容。")
def data_give_up(
    home: Home,
    load: Annotated[
        int, typer.Argument(), Text("Number of an interrupted load.", "中断的导入的编号。")
    ],
    as_json: AsJson = False,
) -> None:
    """Forget an interrupted load whose source will not come again, and what it kept."""
    from hejin_node.home import open_home

    with open_home(home) as node:
        node.warehouse.give_up(load)
    said = Text(f"load {load} given up", f"已放弃第 {load} 号导入")
    typer.echo(json.dumps({"load": load}) if as_json else said)


@data_app.command("compact")
@says("将小分段合并为少数大分段。连续多次的小导入会自动合并。")
def data_compact(
    home: Home,
    dataset: Annotated[
        str | None, typer.Argument(), Text("Default: all data sets.", "数据集；默认全部。")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Merge small segments into few large ones. Long series of small loads do so by themselves."""
    from hejin_node.home import open_home

    with (
        open_home(home) as node,
        progress_bar(shown=not as_json, rows=True, doing=Text("merging", "合并中")) as progress,
    ):
        done = node.warehouse.compact(dataset, progress)
    said = Text(
        f"{done.before} segments merged into {done.after}",
        f"已将 {done.before} 个分段文件合并为 {done.after} 个",
    )
    typer.echo(json.dumps(asdict(done)) if as_json else said)


@data_app.command("withdraw")
@says("删除一次导入及其更正的全部数据行。其来源可再次导入。")
def data_withdraw(
    home: Home,
    dataset: Annotated[str, typer.Argument(), Text("Name of the data set.", "数据集名称。")],
    load: Annotated[
        int, typer.Argument(), Text("Number of a completed load.", "已完成的导入的编号。")
    ],
    reason: Annotated[
        str, typer.Option(), Text("Why, in a few words; it is logged.", "简述原因；会记入账本。")
    ],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove all rows of a load and of its corrections. Its source may be ingested again."""
    from hejin_node.appending import open_to_append
    from hejin_node.withdrawing import chosen, was_withdrawn, withdraw

    with open_to_append(home) as node:
        if not was_withdrawn(node, dataset, load):
            going = chosen(node.warehouse.loads(dataset), dataset, load)
            confirm(_withdrawal_of(going), yes=yes)
        with progress_bar(
            shown=not as_json, rows=True, doing=Text("withdrawing", "撤回中")
        ) as progress:
            done = withdraw(node, dataset, load, reason, progress)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    if done.seq is None:
        typer.echo(Text("It was withdrawn before; nothing was left.", "此前已撤回，无剩余数据。"))
        return
    typer.echo(
        Text(
            f"withdrawn: {done.rows} rows in {done.segments} segments, of loads "
            f"{', '.join(map(str, done.loads))}; entry {done.seq} of the internal log",
            f"已从 {done.segments} 个分段文件中撤回 {done.rows} 行，"
            f"涉及导入 {'、'.join(map(str, done.loads))}；内部日志第 {done.seq} 条",
        )
    )
    if done.runs:
        typer.echo(
            Text(
                f"{len(done.runs)} open runs took their rows before and keep them: tell the bank, "
                f"which can end them ({', '.join(done.runs)}).",
                f"有 {len(done.runs)} 次进行中的运行此前已取用这些数据，并将继续使用：请告知银行，"
                f"由其决定是否终止（{'、'.join(done.runs)}）。",
            )
        )
    typer.echo(
        Text(
            "No plan over the data set is approved before `hejin node quality check` has looked "
            "at what is left.",
            "在 `hejin node quality check` 检查剩余数据之前，不批准使用该数据集的计划。",
        )
    )


def _withdrawal_of(going: Sequence[Load]) -> Text:
    """Return the question that is asked first; `going` as `withdrawing.chosen` returns it."""
    load, *corrections = going
    en = f" and {len(corrections)} corrections of it" if corrections else ""
    zh = f"及其 {len(corrections)} 次更正" if corrections else ""
    return Text(
        f"Withdraw load {load.id} of {load.dataset} ({load.name}, {load.counts.loaded:,} rows "
        f"loaded, {load.completed}){en}?",
        f"撤回 {load.dataset} 的第 {load.id} 次导入（{load.name}，载入 {load.counts.loaded:,} 行，"
        f"{load.completed}）{zh}？",
    )


@data_app.command("erase")
@says("删除一家企业的各类数据行并终止其授权。不可撤销。")
def data_erase(
    home: Home,
    code: Annotated[
        str,
        typer.Argument(),
        Text(
            "The enterprise's code, as it stands in the data.", "企业代码，须与数据中的写法一致。"
        ),
    ],
    reason: Annotated[
        str, typer.Option(), Text("Why, in a few words; it is logged.", "简述原因；会记入账本。")
    ],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove an enterprise's rows of every kind and end its authorisations. Not to be undone."""
    from hejin_node.appending import open_to_append
    from hejin_node.backup import known_backups
    from hejin_node.erasing import erase

    confirm(
        Text(
            f"Erase every row of {code.strip()} and end its authorisations? Not to be undone.",
            f"删除 {code.strip()} 的全部数据并终止其授权？此操作不可撤销。",
        ),
        yes=yes,
    )
    with (
        open_to_append(home) as node,
        progress_bar(shown=not as_json, rows=True, doing=Text("erasing", "删除中")) as progress,
    ):
        done = erase(node, code, reason, progress)
        backups = known_backups(node)
    if as_json:
        typer.echo(json.dumps({**asdict(done), "backups": [place for place, _ in backups]}))
        return
    typer.echo(
        Text("It was erased before; nothing was left.", "此前已删除，无剩余数据。")
        if done.seq is None
        else Text(
            f"erased: {done.rows} rows in {done.segments} segments, rows of {done.runs} open runs; "
            f"{len(done.revoked)} authorisations ended; entry {done.seq} of the internal log",
            f"已从 {done.segments} 个分段文件中删除 {done.rows} 行，"
            f"涉及进行中的运行 {done.runs} 次；终止授权 {len(done.revoked)} 份；"
            f"内部日志第 {done.seq} 条",
        )
    )
    if done.seq is not None and not (done.rows or done.revoked or done.runs):
        typer.echo(
            Text(
                "Nothing here was of that code: check its spelling. Rows of it that come later "
                "are dropped.",
                "此处没有该代码的任何数据：请核对代码。此后到来的该代码的行将被丢弃。",
            )
        )
    for place, time in backups:
        typer.echo(
            Text(
                f"The backup {place} ({time}) may still have its rows: "
                "make it again (`hejin node data backup`), or destroy it.",
                f"备份 {place}（{time}）可能仍含其数据："
                "请重新备份（`hejin node data backup`）或销毁。",
            )
        )
    typer.echo(
        Text(
            "Copies that this node did not make it cannot reach.",
            "非本节点生成的副本无法处理。",
        )
    )


@data_app.command("verify")
@says("解密并清点每个分段。退出码 1：有缺失或损坏，会逐一列出。")
def data_verify(home: Home, as_json: AsJson = False) -> None:
    """Decrypt and count every segment. Exit 1: some are missing or damaged; they are named."""
    from hejin_node.home import open_home

    with (
        open_home(home) as node,
        progress_bar(shown=not as_json, doing=Text("verifying", "校验中")) as progress,
    ):
        segments = len(node.warehouse.segments())
        found = node.warehouse.verify(progress)
    if as_json:
        rows = [
            {"dataset": one.dataset, "kind": one.kind, "file": one.file, "rows": one.rows}
            for one in found
        ]
        typer.echo(json.dumps({"segments": segments, "damaged": rows}, ensure_ascii=False))
    elif not found:
        typer.echo(Text(f"{segments} segments are whole", f"{segments} 个分段文件均完好"))
    else:
        for one in found:
            typer.echo(
                Text(f"{one.reason.en} ({one.rows} rows)", f"{one.reason.zh}（{one.rows} 行）")
            )
    if found:
        raise typer.Exit(1)


@data_app.command("backup")
@says(
    "在节点运行时备份数据库、分段与设置；再次执行只备份新增内容。\n\n"
    "备份不含密钥：请将 `keys` 目录另行妥善备份。"
)
def data_backup(
    home: Home,
    folder: Annotated[
        Path,
        typer.Argument(file_okay=False),
        Text("On another disk.", "备份目录，应在另一块磁盘上。"),
    ],
    as_json: AsJson = False,
) -> None:
    """Copy database, segments and settings while the node serves; again: only what is new.

    No key is in it: keep a copy of the folder `keys` elsewhere.
    """
    from hejin_node.backup import back_up
    from hejin_node.home import open_home

    with (
        open_home(home) as node,
        progress_bar(shown=not as_json, doing=Text("copying", "备份中")) as progress,
    ):
        done = back_up(node, folder, progress)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(
        Text(
            f"{done.segments} segments, {done.bytes:,} bytes in all, of segments {done.copied:,} "
            f"copied now; {done.removed} old files removed. The folder `keys` is not in it.",
            f"共 {done.segments} 个分段文件、{done.bytes:,} 字节，"
            f"本次复制分段 {done.copied:,} 字节，清除旧文件 {done.removed} 个。"
            "备份不含 `keys` 目录。",
        )
    )


@data_app.command("restore")
@says("恢复缺失或损坏的分段；没有 node.db 时恢复整份备份。\n\n退出码 1：部分分段不在备份中。")
def data_restore(
    home: Home,
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False), Text("The backup.", "备份目录。")
    ],
    as_json: AsJson = False,
) -> None:
    """Put back missing or damaged segments; where there is no node.db, all of the backup.

    Exit 1: some segments are not in the backup.
    """
    from hejin_node.backup import mend, put_back
    from hejin_node.home import open_home

    with progress_bar(shown=not as_json, doing=Text("restoring", "恢复中")) as progress:
        if (home / "node.db").exists():
            with open_home(home) as node:
                done = mend(node, folder, progress)
        else:
            done = put_back(home, folder, progress)
    if as_json:
        typer.echo(json.dumps(asdict(done), ensure_ascii=False))
    else:
        _tell_restored(done)
    if done.lacking:
        raise typer.Exit(1)


def _tell_restored(done: Restored) -> None:
    typer.echo(Text(f"{done.segments} segments put back", f"已恢复分段文件 {done.segments} 个"))
    for dataset, file in done.lacking:
        typer.echo(
            Text(
                f"segment {file} of data set {dataset} is not in this backup: try another one",
                f"数据集 {dataset} 的分段文件 {file} 不在此备份中：请尝试其他备份",
            )
        )
    if done.database:
        typer.echo(
            Text(
                f"database and {done.files} settings files put back. If the node now says that the "
                "mirror knows more than it, go on with `hejin node recover`.",
                f"已恢复数据库及 {done.files} 个设置文件。若节点提示镜像记录更多，"
                "请执行 `hejin node recover`。",
            )
        )
