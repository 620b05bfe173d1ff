"""A progress bar on stderr, for the commands that take long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_node.sources import Progress


@contextmanager
def progress_bar(
    *, shown: bool, rows: bool = False, doing: Text = Text("reading", "读取中")
) -> Iterator[Progress]:
    """Show a progress bar on stderr while a source is read: bytes of a file, or rows."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn() if rows else DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not shown,
    ) as bar:
        task = bar.add_task(str(doing), total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size or None)
