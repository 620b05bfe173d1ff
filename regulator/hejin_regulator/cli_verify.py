"""The command `hejin regulator verify`: exported logs of all members, checked offline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress

from hejin_regulator.authority import Office
from hejin_regulator.cli_mirror import AsJson
from hejin_trust.canonical import hexbytes
from hejin_trust.commands import says
from hejin_trust.export import LOG_NAMES
from hejin_trust.text import Text

_STEP: Final = 1 << 18
"""Bytes after which the bar moves: redrawing it for every entry would take longer than reading."""


@says("离线核验导出的日志。退出码 0：全部成立；1：有不成立。")
def verify(
    folder: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False),
        Text("Exported logs of all members.", "全体成员导出的日志。"),
    ],
    home: Annotated[
        Path | None,
        typer.Option("--home", envvar="HEJIN_HOME"),
        Text(
            "The regulator's folder: pins its key, if it exists.",
            "监管方的目录：若存在，则以其中的密钥为准。",
        ),
    ] = None,
    regulator_key: Annotated[
        str | None,
        typer.Option(),
        Text(
            "The regulator's key in hex, where --home is not at hand.",
            "监管方公钥（十六进制），无法给出 --home 时使用。",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(),
        Text(
            "Also write a report to print, in Chinese and English (HTML).",
            "另写一份可打印的中英文报告（HTML）。",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify exported logs offline. Exit 0: everything holds. Exit 1: something does not."""
    from hejin_regulator.report import render_report, report_json
    from hejin_regulator.report_page import write_page
    from hejin_regulator.verify import verify_export  # its second accountant loads for a second

    with _progress(folder, shown=not as_json) as tell:
        found = verify_export(folder, _pinned(home, regulator_key), tell)
    if as_json:
        typer.echo(json.dumps(report_json(found), ensure_ascii=False))
    else:
        Console().print(render_report(found))
    if report is not None:
        write_page(found, folder, report)
    raise typer.Exit(0 if found.ok else 1)


def _pinned(home: Path | None, regulator_key: str | None) -> bytes | None:
    """Return the key to verify under: the one given, else that of the regulator's folder."""
    if regulator_key is not None:
        return hexbytes({"regulator-key": regulator_key.lower()}, "regulator-key", 32)
    if home is not None and (home / "keys" / "identity.key").exists():
        return Office(home).identity.public
    return None


@contextmanager
def _progress(folder: Path, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how much of the logs was read; yield whom to tell of more bytes."""
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda _: None
        return
    logs = [path for name in LOG_NAMES for path in folder.glob(f"*/{name}.jsonl")]
    read = 0
    with Progress(console=console, transient=True) as bar:
        title = str(Text("reading the logs", "读取日志"))
        task = bar.add_task(title, total=sum(path.stat().st_size for path in logs))

        def tell(more: int) -> None:
            nonlocal read
            read += more
            if read >= _STEP:
                bar.advance(task, read)
                read = 0

        yield tell
