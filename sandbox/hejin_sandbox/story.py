"""The story of a sandbox run: what happens now, how long it took, and what came out (zh/en)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hejin_trust.text import Text


@dataclass(frozen=True, slots=True)
class Result:
    """What a sandbox run found; `--json` prints exactly these fields.

    test_auc, test_ks      of the private model on the hold-out enterprises, true labels
    private_auc, .._se     what the bank itself learnt, by a private sum; its standard error
                           (None where the noise leaves too few hold-out bads to tell)
    pooled_scorecard_auc   the same code on all data in one place, without noise
    alone_auc_mean         the same, each node's model from its own data; all on the hold-out of
                           all nodes (None where no node has both classes)
    epsilon, delta, rho    the guarantee of this plan, and its exact cost rounded to a float
    seconds_per_sum        wall time of training and hold-out rounds over the number of sums
    verified               the regulator's verification of all exported ledgers passed
    """

    test_auc: float
    test_ks: float
    private_auc: float | None
    private_auc_se: float | None
    pooled_scorecard_auc: float
    alone_auc_mean: float | None
    epsilon: float
    delta: float
    rho: float
    mode: str
    nodes: int
    enterprises: int
    sums: int
    seconds: float
    seconds_per_sum: float
    verified: bool


class Story:
    """Tells a run to a console. On a terminal the current step moves; elsewhere lines are final."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def title(self, text: Text) -> None:
        """Open the story."""
        self._console.rule(f"[bold]{escape(str(text))}[/bold]", align="left")

    def say(self, text: Text) -> None:
        """Tell one fact."""
        self._console.print(f"  {escape(str(text))}", soft_wrap=True)

    def warn(self, text: Text) -> None:
        """Tell one fact that must not be overlooked."""
        self._console.print(f"  [yellow]! {escape(str(text))}[/yellow]", soft_wrap=True)

    @contextmanager
    def step(self, text: Text) -> Iterator[None]:
        """Tell that a step has begun, then that it is done and how long it took."""
        begin = time.monotonic()
        words = escape(str(text))
        try:
            with self._console.status(words):
                yield
        except BaseException:
            self._console.print(f"[red]✗[/red] {words}")
            raise
        self._console.print(f"[green]✓[/green] {words} [dim]{_seconds(begin)}[/dim]")

    @contextmanager
    def counted(self, text: Text, total: int) -> Iterator[Callable[[int], None]]:
        """Tell a step of `total` parts; call the yielded function with the parts done so far."""
        begin = time.monotonic()
        words = escape(str(text))
        bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        try:
            with bar:
                task = bar.add_task(words, total=total)
                yield lambda done: bar.update(task, completed=done)
        except BaseException:
            self._console.print(f"[red]✗[/red] {words}")
            raise
        self._console.print(f"[green]✓[/green] {words} [dim]{_seconds(begin)}[/dim]")

    def finish(self, result: Result) -> None:
        """Show the final table."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(str(Text("Result", "结果")))
        table.add_column("", justify="right")
        for label, value in _lines(result):
            table.add_row(str(label), value)
        self._console.print(table)


def _seconds(begin: float) -> str:
    return f"{time.monotonic() - begin:.1f} s"


def _lines(result: Result) -> list[tuple[Text, str]]:
    unknown = str(Text("too few to tell", "样本不足"))
    private = (
        unknown
        if result.private_auc is None or result.private_auc_se is None
        else f"{result.private_auc:.3f} ± {result.private_auc_se:.3f}"
    )
    alone = unknown if result.alone_auc_mean is None else f"{result.alone_auc_mean:.3f}"
    return [
        (
            Text("Private scorecard, hold-out enterprises: AUC", "隐私评分卡(留出企业)AUC"),
            f"[bold]{result.test_auc:.3f}[/bold]",
        ),
        (Text("The same: KS", "同上,KS"), f"{result.test_ks:.3f}"),
        (
            Text("That AUC as the bank sees it, by a private sum", "银行所见 AUC(隐私求和)"),
            private,
        ),
        (
            Text("All data in one place, no privacy: AUC", "数据集中、无隐私保护:AUC"),
            f"{result.pooled_scorecard_auc:.3f}",
        ),
        (Text("Each node alone, no privacy: mean AUC", "各节点单独、无隐私保护:平均 AUC"), alone),
        (
            Text(
                "Privacy of every enterprise: epsilon, delta", "每家企业的隐私保证:epsilon、delta"
            ),
            f"{result.epsilon:.3g}, {result.delta:.0e}",
        ),
        (Text("Its exact cost: rho", "对应的精确代价:rho"), f"{result.rho:.4f}"),
        (
            Text("Nodes, enterprises, private sums", "节点、企业、隐私求和"),
            f"{result.nodes}, {result.enterprises:,}, {result.sums}",
        ),
        (
            Text("Time: whole run, each sum", "用时:全程、每次求和"),
            f"{result.seconds:.0f} s, {result.seconds_per_sum:.2f} s",
        ),
        (
            Text("Verified by the regulator, by ledgers alone", "监管端仅凭账本核验"),
            f"[green]{Text('yes', '通过')}[/green]"
            if result.verified
            else f"[red]{Text('NO', '未通过')}[/red]",
        ),
    ]
