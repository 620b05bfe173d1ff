"""The node's commands that explain the use of one enterprise's data: trace and statement."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hejin_node.cli_options import AsJson, Code, Home
from hejin_trust.commands import says
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_node.trace import PeriodCost, RunLine, SumLine, Trace


@says("说明企业数据的每一次使用，以及未被使用的原因。")
def trace(home: Home, code: Code, as_json: AsJson = False) -> None:
    """Explain every use of an enterprise's data, and why there was none."""
    from hejin_models.uscc import check_code
    from hejin_node.home import open_home
    from hejin_node.trace import read_trace
    from hejin_node.trace_json import trace_json

    check_code(code)
    with open_home(home) as node:
        found, delta = read_trace(node, code), node.charter.delta
    if as_json:
        typer.echo(json.dumps(trace_json(found, delta), ensure_ascii=False))
        return
    _print(found, delta)


@says("写出交给企业的说明：使用了什么、何时、由谁、代价多少。")
def statement(
    home: Home,
    code: Code,
    out: Annotated[
        Path, typer.Option(dir_okay=False), Text("HTML file to write.", "要写出的 HTML 文件。")
    ],
    as_json: AsJson = False,
) -> None:
    """Write what an enterprise is given: what was used, when, by whom, at what cost."""
    from hejin_models.uscc import check_code
    from hejin_node.home import open_home
    from hejin_node.statement import write_statement
    from hejin_trust.text import current_language

    check_code(code)
    with open_home(home) as node:
        found = write_statement(node, code, out, current_language())
    counted = sum(line.counted is True for run in found.runs for line in run.sums)
    if as_json:
        typer.echo(json.dumps({"file": str(out), "runs": len(found.runs), "sums": counted}))
        return
    typer.echo(
        Text(
            f"written to {out}: {counted} sums hold this enterprise's data",
            f"已写入 {out}：共有 {counted} 次求和含该企业数据",
        )
    )


def _print(found: Trace, delta: Fraction) -> None:
    from rich.table import Table

    typer.echo(Text(f"{found.code}, {found.pseudonym}", f"{found.code}，{found.pseudonym}"))
    grants = Table(
        *map(str, (Text("seq", "序号"), Text("recorded", "登记"), Text("grade", "等级"),
                   Text("valid", "有效期"), Text("revoked", "撤销"))),
        title=str(Text(f"{len(found.grants)} authorisations", f"授权 {len(found.grants)} 份")),
    )  # fmt: skip
    for line in found.grants:
        one = line.authorisation
        valid = f"{one.terms.valid_from:%Y-%m-%d} - {one.terms.valid_to:%Y-%m-%d}"
        grants.add_row(str(one.seq), line.granted, one.terms.grade, valid, one.revoked_at or "")
    print_table(grants)
    for time in found.erased:
        typer.echo(Text(f"data erased at {time}", f"{time} 已删除数据"))
    for asked in found.questions:
        typer.echo(
            Text(
                f"{asked.bank} was asked for its outcome ({asked.definition}, {asked.period}) at"
                f" {asked.time}, session {asked.session[:8]}",
                f"{asked.time} 向 {asked.bank} 询问其履约结果"
                f"（{asked.definition}，{asked.period}），会话 {asked.session[:8]}",
            )
        )
    for run in found.runs:
        _print_run(run)
    if not found.runs:
        typer.echo(Text("no run of any bank so far", "尚无任何银行的运行"))
    for cost in found.costs:
        _print_cost(cost, delta)


def _print_run(run: RunLine) -> None:
    from rich.table import Table

    plan = run.plan
    state = Text("open", "进行中") if run.open else Text("over", "已结束")
    typer.echo(
        Text(
            f"\nrun {run.run[:8]} of {plan.bank}, plan {run.digest[:8]} ({plan.purpose}, "
            f"{plan.view.name}-v{plan.view.version}), begun {run.began}, {state.en}",
            f"\n{plan.bank} 的运行 {run.run[:8]}，计划 {run.digest[:8]}（{plan.purpose}，"
            f"{plan.view.name}-v{plan.view.version}），{run.began} 开始，{state.zh}",
        )
    )
    if run.grant is None:
        for reason in run.why:
            typer.echo(Text(f"  not in it: {reason.text.en}", f"  未参与：{reason.text.zh}"))
        return
    part = Text("hold-out", "留出") if run.part == "holdout" else Text("training", "训练")
    typer.echo(
        Text(
            f"  in it by authorisation {run.grant}, in the {part.en} part",
            f"  依第 {run.grant} 号授权参与，属{part.zh}部分",
        )
    )
    table = Table(
        *map(str, (Text("round", "轮"), Text("statistic", "统计量"), Text("released", "输出"),
                   Text("rho", "rho"), Text("its data in it", "是否含该企业"))),
    )  # fmt: skip
    for line in run.sums:
        table.add_row(
            str(line.round),
            f"{line.statistic} ({line.part})",
            line.released or "",
            f"{float(line.cost):.6g}",
            str(_counted(line)),
        )
    print_table(table)


def _print_cost(cost: PeriodCost, delta: Fraction) -> None:
    from hejin_console import values
    from hejin_node.trace import loss

    own, alone = (values.loss(loss(rho, delta)) for rho in (cost.rho, cost.rho_alone))
    typer.echo(
        Text(
            f"\ncost to its privacy since {cost.period}: epsilon {own} at delta {float(delta):.1e}"
            f" ({alone} if all other nodes colluded); sums that hold its data: {cost.sums}",
            f"\n自 {cost.period} 起的隐私代价：epsilon {own}（delta {float(delta):.1e}；"
            f"若其他节点全部合谋：{alone}）；含其数据的求和：{cost.sums} 次",
        )
    )


def _counted(line: SumLine) -> Text:
    if line.counted:
        return Text("yes", "是")
    why = Text("", "") if line.why is None else line.why.text
    said = Text("no", "否") if line.counted is False else Text("unknown", "未知")
    return Text(f"{said.en}: {why.en}", f"{said.zh}：{why.zh}")
