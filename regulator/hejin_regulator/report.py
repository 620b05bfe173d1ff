"""A verification as a page on the screen (zh/en) and as one JSON object."""

from __future__ import annotations

import math
from fractions import Fraction

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from hejin_console.values import cost, exact, loss, percent, visible
from hejin_regulator.findings import CHECKS, Spending, Verification
from hejin_regulator.report_values import fair_share, held
from hejin_trust.canonical import fraction_body
from hejin_trust.text import Text

_MOST_SHOWN = 100
"""Rows of a table on the screen; the JSON has all of them."""
_LONGEST = 10_000
"""Characters of a reason in the JSON: more than any reason of ours has."""


def report_json(verification: Verification) -> dict[str, object]:
    """Return the verification for `--json`.

    ok, consortium, charter (digest), charter_serial, regulator_key (hex), pinned, checked_at, as_of
    (RFC 3339), members
    checks    {"V1": whether it holds, ...}
    findings  [{check, member, seq or null, reason: {en, zh}, evidence: ["FILE:ENTRY", ...]}]
    warnings  [{en, zh}]
    counts    entries by type
    heads     [{member, log, size, root}]: the logs as they were read
    spending  a row for each node, period and bank; `bank` null is the row over all banks, and only
              that one has rho_alone and epsilon_alone (else null):
              {node, bank, period, period_to, releases, rho, rho_cap, rho_left, epsilon,
              epsilon_cap, delta, rho_alone, rho_alone_cap, rho_alone_left, epsilon_alone,
              epsilon_alone_cap}; left is cap - spent of the node's account, so null for one bank
    course    {node: [{time, rho, epsilon}]}: its account over all banks, thinned for a chart
    refusals  [{node, code, peer, count}]
    voids     [{node, reason, count}]

    Every rho is exact, {num, den} in decimal digits (a sum of hostile fractions that is longer
    than 600 digits: rounded up to a multiple of 2^-64); an epsilon is a number in nats, null
    beyond every float. Characters of logs that do not print are escaped.
    """
    return {
        "ok": verification.ok,
        "consortium": verification.consortium,
        "charter": verification.charter,
        "charter_serial": verification.charter_serial,
        "regulator_key": verification.regulator_key,
        "pinned": verification.pinned,
        "checked_at": verification.checked_at,
        "as_of": verification.as_of,
        "members": list(verification.members),
        "checks": {check: number == 0 for check, number in held(verification).items()},
        "findings": [
            {
                "check": finding.check,
                "member": visible(finding.member),
                "seq": finding.seq,
                "reason": _both(finding.reason),
                "evidence": [visible(file) for file in finding.evidence],
            }
            for finding in verification.findings
        ],
        "warnings": [_both(warning) for warning in verification.warnings],
        "counts": dict(verification.counts),
        "heads": [
            {"member": head.member, "log": head.log, "size": head.size, "root": head.root}
            for head in verification.heads
        ],
        "spending": [_spending_json(row) for row in verification.spending],
        "course": {
            node: [
                {"time": at.time, "rho": _rho(at.rho), "epsilon": _finite(at.epsilon)}
                for at in points
            ]
            for node, points in verification.course.items()
        },
        "refusals": [
            {
                "node": row.node,
                "code": visible(row.code),
                "peer": visible(row.peer),
                "count": row.count,
            }
            for row in verification.refusals
        ],
        "voids": [
            {"node": row.node, "reason": visible(row.reason, _LONGEST), "count": row.count}
            for row in verification.voids
        ],
    }


def render_report(verification: Verification) -> RenderableType:
    """Return the verification for a rich console, in the current language."""
    parts: list[RenderableType] = [
        f"[yellow]{_safe(str(warning))}[/yellow]" for warning in verification.warnings
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


def _safe(told: str) -> str:
    """Return text from a log so that neither rich nor the terminal takes it for a command."""
    return escape(visible(told))


def _both(text: Text) -> dict[str, str]:
    return {"en": visible(text.en, _LONGEST), "zh": visible(text.zh, _LONGEST)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rho(value: Fraction) -> dict[str, str]:
    return fraction_body(exact(value))


def _spending_json(row: Spending) -> dict[str, object]:
    whole = row.bank is None
    alone = row.rho_alone
    return {
        "node": row.node,
        "bank": None if row.bank is None else visible(row.bank),
        "period": row.period,
        "period_to": row.period_to,
        "releases": row.releases,
        "rho": _rho(row.rho),
        "rho_cap": _rho(row.rho_cap),
        "rho_left": _rho(row.rho_cap - row.rho) if whole else None,
        "epsilon": _finite(row.epsilon),
        "epsilon_cap": _finite(row.epsilon_cap),
        "delta": float(row.delta),
        "rho_alone": None if alone is None else _rho(alone),
        "rho_alone_cap": _rho(row.rho_alone_cap),
        "rho_alone_left": None if alone is None else _rho(row.rho_alone_cap - alone),
        "epsilon_alone": None if row.epsilon_alone is None else _finite(row.epsilon_alone),
        "epsilon_alone_cap": _finite(row.epsilon_alone_cap),
    }


def _checks(verification: Verification) -> Table:
    title = f"{verification.consortium}  #{verification.charter_serial} {verification.charter[:12]}"
    table = Table(title=escape(title))
    table.add_column(str(Text("check", "检查")))
    table.add_column(str(Text("what must hold", "须成立的内容")), overflow="fold")
    table.add_column("")
    table.add_column(str(Text("findings", "问题")), justify="right")
    for check, number in held(verification).items():
        mark = "[red]✗[/red]" if number else "[green]✓[/green]"
        table.add_row(check, str(CHECKS[check]), mark, str(number) if number else "")
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
    ):
        table.add_column(str(heading), overflow="fold")
    for heading in (
        Text("releases", "输出"),
        Text("rho", "rho"),
        Text("left", "剩余"),
        Text("used", "已用"),
        Text("epsilon / cap", "epsilon / 上限"),
        Text("if all others colluded", "若其余节点合谋"),
    ):
        table.add_column(str(heading), justify="right")
    for row in verification.spending[:_MOST_SHOWN]:
        whole = row.bank is None
        table.add_row(
            _safe(row.node),
            _safe(row.bank or str(Text("all banks", "全部银行"))),
            row.period[:10],
            str(row.releases),
            cost(row.rho, up=True),
            cost(row.rho_cap - row.rho, up=False) if whole else "",
            percent(row.rho, row.rho_cap) if whole else "",
            f"{loss(row.epsilon)} / {loss(row.epsilon_cap)}" if whole else loss(row.epsilon),
            ""
            if row.epsilon_alone is None
            else f"{loss(row.epsilon_alone)} / {loss(row.epsilon_alone_cap)}",
        )
    _tell_left(table, len(verification.spending))
    deltas = sorted({f"{float(row.delta):.3g}" for row in verification.spending})
    table.caption = f"delta {', '.join(deltas)}"
    return table


def _counts(verification: Verification) -> str:
    entries = ", ".join(f"{name} {number}" for name, number in verification.counts.items())
    refusals = sum(row.count for row in verification.refusals)
    voids = sum(row.count for row in verification.voids)
    ended = Text(f"refusals {refusals}, voids {voids}", f"拒绝 {refusals} 次，作废 {voids} 次")
    return escape(f"{Text('entries', '条目')}: {entries}\n{ended}")


def _findings(verification: Verification) -> Table:
    table = Table(title=str(Text("Findings", "问题")))
    for heading in (Text("check", "检查"), Text("member", "成员"), Text("entry", "条目")):
        table.add_column(str(heading))
    table.add_column(str(Text("reason", "原因")), overflow="fold")
    for finding in fair_share(verification.findings, _MOST_SHOWN):
        seq = "" if finding.seq is None else str(finding.seq)
        table.add_row(finding.check, _safe(finding.member), seq, _safe(str(finding.reason)))
    _tell_left(table, len(verification.findings))
    return table


def _tell_left(table: Table, total: int) -> None:
    if total > _MOST_SHOWN:
        left = total - _MOST_SHOWN
        empty = [""] * (len(table.columns) - 1)
        table.add_row(*empty, str(Text(f"and {left} more: --json", f"另有 {left} 行：--json")))
