"""The command `hejin regulator audit-noise`: does the installed sampler add the noise it claims?"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hejin_trust.canonical import fraction_body
from hejin_trust.commands import says, wrong_usage
from hejin_trust.errors import HejinError
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_privacy.audit import NoiseAudit, Sampler
    from hejin_privacy.audit import Progress as Report


class MissingSamplerError(HejinError):
    """The library that draws noise is not installed: a regulator does not need it otherwise."""

    code = "missing-extra"

    def __init__(self) -> None:
        super().__init__(
            "`hejin regulator audit-noise` draws noise with the library opendp, which is not "
            "installed here; run: pip install 'hejin[node]'.",
            "`hejin regulator audit-noise` 需用程序库 opendp 抽取噪声，此处尚未安装；"
            "请执行：pip install 'hejin[node]'。",
        )


def installed_sampler() -> Sampler:
    """Return the sampler that nodes use; raises MissingSamplerError.

    By name, not by an import statement: a regulator's install must not need it (ADR 0005).
    """
    try:
        module = importlib.import_module("hejin_privacy.noise")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "opendp":
            raise
        raise MissingSamplerError from missing
    return cast("Sampler", module.discrete_gaussian)


def weakened(sampler: Sampler, divisor: int) -> Sampler:
    """Return a sampler that divides its noise on purpose, to see the audit fail."""
    if divisor == 1:
        return sampler
    return lambda sigma, number: sampler(sigma, number) // divisor


def _rational(value: str) -> Fraction:
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError) as reason:
        raise wrong_usage(
            "write a number such as 0.5 or 1/2", "请写成数字，例如 0.5 或 1/2"
        ) from reason


@says(
    "反复攻击一次隐私求和。退出码 0：噪声与声明一致；1：少于声明。\n\n"
    "审计的是本机安装的采样器，无法得知节点实际运行的程序。"
)
def audit_noise(
    rho: Annotated[
        Fraction,
        typer.Option(parser=_rational, metavar="NUMBER"),
        Text("zCDP cost of the audited sum.", "所审计求和的 zCDP 代价。"),
    ] = Fraction(1, 2),
    runs: Annotated[
        int,
        typer.Option(min=1),
        Text(
            "Runs with, and as many without, the enterprise.",
            "含该企业的运行次数；不含的次数相同。",
        ),
    ] = 20_000,
    divide_noise_by: Annotated[
        int,
        typer.Option(min=1),
        Text(
            "Add too little noise on purpose, to see the audit fail.",
            "故意少加噪声，以验证审计会不通过。",
        ),
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json"), Text("Print one JSON object.", "输出一个 JSON 对象。")
    ] = False,
) -> None:
    """Attack one private sum many times. Exit 0: the noise is as claimed. Exit 1: it is less.

    Audits the sampler installed on this machine. It cannot tell what a node runs.
    """
    sampler = weakened(installed_sampler(), divide_noise_by)
    from hejin_privacy import audit  # scipy: half a second that other commands need not wait

    with _progress() as report:
        found = audit.audit_noise(rho, runs, sampler, report)
    if as_json:
        typer.echo(json.dumps(audit_json(found), ensure_ascii=False))
    else:
        _show(found)
    raise typer.Exit(0 if found.holds else 1)


@contextmanager
def _progress() -> Iterator[Report]:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(str(Text("drawing noise", "抽取噪声")), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def audit_json(found: NoiseAudit) -> dict[str, object]:
    """Return an audit for `--json`; rho exact, rates and mu as numbers."""
    return {
        "ok": found.holds,
        "runs": found.runs,
        "rho": fraction_body(found.rho),
        "mechanism": found.mechanism.body(),
        "mu_claimed": found.mu_claimed,
        "mu_at_least": found.mu_at_least,
        "thresholds": [
            {
                "at": threshold.at,
                "false_positives": threshold.false_positives,
                "false_negatives": threshold.false_negatives,
                "mu_at_least": threshold.mu_at_least,
            }
            for threshold in found.thresholds
        ],
    }


def _show(found: NoiseAudit) -> None:
    title = Text(
        f"{found.runs} runs with and {found.runs} without the worst-case enterprise",
        f"含与不含最坏情形企业各运行 {found.runs} 次",
    )
    headings = (
        Text("threshold (sigma)", "阈值（sigma）"),
        Text("false positives", "误报率"),
        Text("false negatives", "漏报率"),
        Text("mu at least", "mu 下界"),
    )
    table = Table(*(str(heading) for heading in headings), title=str(title))
    for threshold in found.thresholds:
        table.add_row(
            f"{threshold.at:.2f}",
            f"{threshold.false_positives / found.runs:.4%}",
            f"{threshold.false_negatives / found.runs:.4%}",
            f"{threshold.mu_at_least:.4f}",
        )
    console = Console()
    console.print(table)
    numbers = f"mu >= {found.mu_at_least:.4f}"
    claim = f"mu = {found.mu_claimed:.4f} (rho = {float(found.rho):.6g})"
    if found.holds:
        verdict = Text(
            f"CONSISTENT: the attack proves {numbers}, the claim is {claim}",
            f"一致：攻击仅能证明 {numbers}，声明值为 {claim}",
        )
        console.print(f"[bold green]{verdict}[/bold green]")
    else:
        verdict = Text(
            f"REFUTED: the attack proves {numbers}, the claim is {claim}: there is less noise "
            "than claimed. Stop this node software and report it.",
            f"不成立：攻击已证明 {numbers}，声明值为 {claim}：噪声少于声明。"
            "请停用该节点软件并上报。",
        )
        console.print(f"[bold red]{verdict}[/bold red]")
