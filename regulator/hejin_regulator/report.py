"""A verification as a page on the screen (zh/en) and as one JSON object."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from hejin_regulator.findings import CHECKS, Spending, Verification, shown
from hejin_trust.canonical import fraction_body
from hejin_trust.text import Text

_MOST_SHOWN = 100
"""Findings on the screen; the JSON has all of them."""


def report_json(verification: Verification) -> dict[str, object]:
    """Return the verification for `--json`: rho exact as {num, den}, epsilon as a number.

    An epsilon beyond every float is null.
    """
    failed = {finding.check for finding in verification.findings}
    return {
        "ok": verification.ok,
        "consortium": verification.consortium,
        "charter": verification.charter,
        "checks": {check: check not in failed for check in verification.checks},
        "findings": [
            {
                "check": finding.check,
                "member": finding.member,
                "seq": finding.seq,
                "reason": _both(finding.reason),
            }
            for finding in verification.findings
        ],
        "warnings": [_both(warning) for warning in verification.warnings],
        "counts": dict(verification.counts),
        "spending": [_spending_json(row) for row in verification.spending],
    }


def render_report(verification: Verification) -> RenderableType:
    """Return the verification for a rich console, in the current language."""
    parts: list[RenderableType] = [
        f"[yellow]{escape(str(warning))}[/yellow]" for warning in verification.warnings
    ]
    parts += [_checks(verification), _spending(verification), _counts(verification)]
    if verification.findings:
        parts.append(_findings(verification))
        number = len(verification.findings)
        verdict = Text(f"NOT VERIFIED: {number} findings", f"未通过：发现 {number} 处问题")
        parts.append(f"[bold red]{verdict}[/bold red]")
    else:
        verdict = Text("VERIFIED: every check holds", "通过：全部检查成立")
        parts.append(f"[bold green]{verdict}[/bold green]")
    return Group(*parts)


def _both(text: Text) -> dict[str, str]:
    return {"en": text.en, "zh": text.zh}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _spending_json(row: Spending) -> dict[str, object]:
    return {
        "node": row.node,
        "bank": row.bank,
        "period": row.period,
        "rho": fraction_body(row.rho),
        "rho_cap": fraction_body(row.rho_cap),
        "epsilon": _finite(row.epsilon),
        "epsilon_cap": _finite(row.epsilon_cap),
        "delta": float(row.delta),
        "rho_alone": None if row.rho_alone is None else fraction_body(row.rho_alone),
        "rho_alone_cap": fraction_body(row.rho_alone_cap),
        "epsilon_alone": None if row.epsilon_alone is None else _finite(row.epsilon_alone),
        "epsilon_alone_cap": _finite(row.epsilon_alone_cap),
    }


def _checks(verification: Verification) -> Table:
    failed = {finding.check for finding in verification.findings}
    table = Table(title=f"{verification.consortium}  {verification.charter[:12]}")
    table.add_column(str(Text("check", "检查")))
    table.add_column(str(Text("what holds", "内容")), overflow="fold")
    table.add_column("")
    for check in verification.checks:
        held = "[red]✗[/red]" if check in failed else "[green]✓[/green]"
        table.add_row(check, str(CHECKS[check]), held)
    return table


def _spending(verification: Verification) -> Table:
    title = Text(
        "Spent so far (an odometer reading; the guarantee is the cap)",
        "已用预算（仅为累计读数，保证以上限为准）",
    )
    table = Table(title=str(title))
    for heading in (
        Text("node", "节点"),
        Text("bank", "银行"),
        Text("period from", "预算期起"),
        Text("rho", "rho"),
        Text("epsilon", "epsilon"),
        Text("epsilon cap", "epsilon 上限"),
        Text("if all others colluded: epsilon", "若其余节点全部合谋：epsilon"),
        Text("its cap", "其上限"),
        Text("delta", "delta"),
    ):
        table.add_column(str(heading))
    for row in verification.spending:
        table.add_row(
            row.node,
            row.bank or str(Text("all banks", "全部银行")),
            row.period,
            shown(row.rho),
            _rounded_up(row.epsilon),
            _rounded_up(row.epsilon_cap),
            "" if row.epsilon_alone is None else _rounded_up(row.epsilon_alone),
            "" if row.epsilon_alone is None else _rounded_up(row.epsilon_alone_cap),
            f"{float(row.delta):.3g}",
        )
    return table


def _rounded_up(epsilon: float) -> str:
    """A privacy loss must not look smaller than it is."""
    return f"{math.ceil(epsilon * 1e4) / 1e4:.4f}" if math.isfinite(epsilon) else "∞"


def _counts(verification: Verification) -> str:
    entries = ", ".join(f"{name} {number}" for name, number in verification.counts.items())
    return escape(f"{Text('entries', '条目')}: {entries}")


def _findings(verification: Verification) -> Table:
    table = Table(title=str(Text("Findings", "问题")))
    for heading in (Text("check", "检查"), Text("member", "成员"), Text("entry", "条目")):
        table.add_column(str(heading))
    table.add_column(str(Text("reason", "原因")), overflow="fold")
    for finding in verification.findings[:_MOST_SHOWN]:
        seq = "" if finding.seq is None else str(finding.seq)
        table.add_row(finding.check, escape(finding.member), seq, escape(str(finding.reason)))
    left = len(verification.findings) - _MOST_SHOWN
    if left > 0:
        table.add_row("", "", "", str(Text(f"and {left} more: --json", f"另有 {left} 处：--json")))
    return table
