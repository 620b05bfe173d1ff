"""The story of a sandbox run: what happens now, how long it took, and what came out (zh/en)."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hejin_trust.text import Text


@dataclass(frozen=True, slots=True)
class Kept:
    """The folder that a run was kept in, and the names in it: a model and three members."""

    folder: Path
    model: str
    bank: str
    node: str


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
        self._paragraph(str(text), "none")

    def warn(self, text: Text) -> None:
        """Tell one fact that must not be overlooked."""
        self._paragraph(f"! {text}", "yellow")

    def _paragraph(self, words: str, style: str) -> None:
        if not self._console.is_terminal:  # a log is searched by line
            self._console.print(f"  {escape(words)}", soft_wrap=True)
            return
        for line in wrapped(words, self._console.width - 4):
            self._console.print(f"  {escape(line)}", style=style, no_wrap=True)

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
        table.add_column(str(Text("Result", "结果")), no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
        table.add_column(str(Text("In words", "说明")))
        for line in table_of(result):
            value = f"[green]{line.value}[/green]" if line.good else line.value
            words = "" if line.words is None else f"[dim]{escape(str(line.words))}[/dim]"
            table.add_row(str(line.name), f"[bold]{value}[/bold]", words)
        self._console.print(table)

    def guide(self, kept: Kept, program: str) -> None:
        """Say where everything lies and what to try next.

        program   what to type for `hejin` here
        """
        folder = _shown(kept.folder)
        self._head(Text(f"Everything lies in {folder}", f"全部内容位于 {folder}"))
        for name, text in PLACES:
            self._console.print(f"  {name:<18} [dim]{escape(str(text))}[/dim]", soft_wrap=True)
        self._head(Text("What to try next", "接下来可以"))
        for text, command in commands(kept, program):
            self._console.print(f"  {escape(str(text))}", soft_wrap=True)
            self._console.print(f"    [cyan]{escape(command)}[/cyan]", soft_wrap=True)

    def _head(self, text: Text) -> None:
        self._console.print(f"\n [bold]{escape(str(text))}[/bold]", soft_wrap=True)


PLACES = (
    ("roc.svg", Text("how well the scorecard tells bad from good", "评分卡区分好坏企业的能力")),
    ("points.svg", Text("what raises and what lowers a score", "哪些因素提高或降低评分")),
    ("model-card.md", Text("the scorecard, its measures and limits", "评分卡、评估指标与局限")),
    ("report.json", Text("all figures; the regulator's findings", "全部数值与监管端核验结果")),
    ("verification.html", Text("the regulator's report, to print", "监管端核验报告，可打印")),
    ("ledgers/", Text("what every member's ledgers say, signed", "各成员已签名的账本")),
    ("homes/, logs/", Text("each member's own folder; its words", "各成员的主目录与运行日志")),
)


def commands(kept: Kept, program: str) -> tuple[tuple[Text, str], ...]:
    """Return what a reader can do next: the sentence, and the command that does it."""
    folder = _shown(kept.folder)

    def home(member: str) -> str:
        return f"--home {shlex.quote(f'{folder}/homes/{member}')}"

    own = "sandbox run --table loans.csv --label default --node-by region --epsilon 2"
    return (
        (
            Text("check the ledgers yourself, as the regulator does", "像监管端一样亲自核验账本"),
            f"{program} regulator verify {shlex.quote(f'{folder}/ledgers')}",
        ),
        (
            Text("read the scorecard, as the bank does", "像银行一样查看评分卡"),
            f"{program} coordinator models show {kept.model} {home(kept.bank)}",
        ),
        (
            Text(
                "see a cluster's privacy budget, as its operator does",
                "像节点运营方一样查看隐私预算",
            ),
            f"{program} node status {home(kept.node)}",
        ),
        (
            Text(
                "use a table of your own (put in your file and columns)",
                "换用自己的数据表（替换文件名与列名）",
            ),
            f"{program} {own}",
        ),
    )


def wrapped(words: str, width: int) -> list[str]:
    """Return lines of at most `width` columns; Chinese breaks anywhere but before punctuation."""
    lines, line = [], ""
    for piece in _PIECES.findall(words):
        if line and cell_len((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    return [*lines, line.rstrip()]


# One Chinese character, or a run of others, with the punctuation and blanks that follow it.
_PIECES = re.compile(
    r"(?:[\u4e00-\u9fff]|[^\s\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]+|（)[\u3000-\u303f\uff00-\uff07\uff09-\uffef]*\s*|\S|\s+"
)


def _shown(folder: Path) -> str:
    """Return a folder as a user would type it from here."""
    whole = folder.resolve()
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)


def _seconds(begin: float) -> str:
    return f"{time.monotonic() - begin:.1f} s"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the final table: a measure, its value, what it means."""

    name: Text
    value: str
    words: Text | None
    good: bool = False


def table_of(result: Result) -> tuple[Line, ...]:
    """Return the final table, in words that need no statistics."""
    unknown = str(Text("too few to tell", "样本不足"))
    private = (
        unknown
        if result.private_auc is None or result.private_auc_se is None
        else f"{result.private_auc:.3f} ± {result.private_auc_se:.3f}"
    )
    return (
        Line(
            Text("Private scorecard: AUC", "隐私评分卡：AUC"),
            f"{result.test_auc:.3f}",
            Text(
                "how often a good firm outscores a bad one; 0.5 is a coin, 1 is perfect",
                "正常企业得分高于违约企业的概率；0.5 为随机，1 为完美",
            ),
        ),
        Line(
            Text("  and its KS", "　同上：KS"),
            f"{result.test_ks:.3f}",
            Text(
                "at the best cut-off: share of bad firms stopped minus share of good ones lost",
                "最佳分数线处：识别的违约占比减去误拒的正常占比",
            ),
        ),
        Line(
            Text("  AUC as the bank sees it", "　银行所见 AUC"),
            private,
            Text(
                "the bank sees no enterprise; it measures by a private sum, ± one standard error",
                "银行看不到任何企业，只能通过隐私求和评估；± 为一个标准误",
            ),
        ),
        Line(
            Text("All data in one place: AUC", "数据集中：AUC"),
            f"{result.pooled_scorecard_auc:.3f}",
            Text("without privacy: what could be had at best", "无隐私保护时可达到的水平"),
        ),
        Line(
            Text("Each node alone: AUC", "各节点单独：AUC"),
            unknown if result.alone_auc_mean is None else f"{result.alone_auc_mean:.3f}",
            Text(
                "without privacy and without the others; the mean over nodes",
                "无隐私保护、互不合作；各节点平均值",
            ),
        ),
        Line(
            Text("Privacy: epsilon", "隐私保证：epsilon"),
            f"{result.epsilon:.3g}",
            Text(
                f"for every enterprise; smaller hides more (delta {result.delta:.0e},"
                f" rho {result.rho:.4f})",
                f"对每家企业；越小保护越强（delta {result.delta:.0e}，rho {result.rho:.4f}）",
            ),
        ),
        Line(
            Text("Enterprises", "企业数"),
            f"{result.enterprises:,}",
            Text(
                f"at {result.nodes} nodes; only {result.sums} private sums over them left each",
                f"分布于 {result.nodes} 个节点；离开节点的只有 {result.sums} 次隐私求和",
            ),
        ),
        Line(
            Text("Time", "用时"),
            f"{result.seconds:.0f} s",
            Text(
                f"all processes on this machine; {result.seconds_per_sum:.2f} s a private sum",
                f"全部进程在本机运行；每次隐私求和 {result.seconds_per_sum:.2f} s",
            ),
        ),
        Line(
            Text("Verified by the regulator", "监管端核验"),
            str(Text("yes", "通过") if result.verified else Text("NO", "未通过")),
            Text(
                "from the ledgers alone it checked every signature and recomputed every budget",
                "仅凭账本，核对全部签名并重新计算全部预算",
            ),
            good=result.verified,
        ),
    )
