"""The node's commands about plans: list, show, approve, refuse."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hejin_node.appending import open_to_append
from hejin_node.cli_options import AsJson, Home
from hejin_node.home import open_home
from hejin_trust.commands import group, says
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_models.plan import Plan

ANSWERS: Final = {
    "offered": Text("offered", "待答复"),
    "approved": Text("approved", "已批准"),
    "refused": Text("refused", "已拒绝"),
}

plan_app = group(Text("Plans that banks offer.", "银行提出的计划。"))

PlanHash = Annotated[
    str,
    typer.Argument(),
    Text("Plan hash, or its first 8 digits or more.", "计划哈希，或其开头的至少 8 位。"),
]


@plan_app.command("list")
@says("列出收到的计划，及各计划在本节点的执行进度。")
def list_plans(home: Home, as_json: AsJson = False) -> None:
    """List the plans in the inbox, and how far each has been carried out here."""
    from hejin_node import account, inbox
    from hejin_trust.database import reading

    with open_home(home) as node, reading(node.database) as connection:
        offered = inbox.offers(connection)
        courses = {
            run.plan: {
                "open": not run.closed,
                "sums": sum(one.state == "released" for one in account.of_run(connection, run.run)),
            }
            for run in inbox.runs(connection)
        }
    if as_json:
        rows = [
            {
                "plan": offer.digest,
                "bank": offer.plan.bank,
                "product": offer.plan.product,
                "answer": offer.answer,
                "received": offer.received,
                "run": courses.get(offer.digest),
            }
            for offer in offered
        ]
        _print_json({"plans": rows})
        return
    table = Table(
        *(
            str(heading)
            for heading in (
                Text("plan", "计划"),
                Text("bank", "银行"),
                Text("product", "产品"),
                Text("received", "收到时间"),
                Text("answer", "答复"),
            )
        )
    )
    for offer in offered:
        plan = offer.plan
        row = (
            offer.digest[:16],
            plan.bank,
            plan.product,
            offer.received,
            str(ANSWERS[offer.answer]),
        )
        table.add_row(*row)
    print_table(table)
    for digest, run in courses.items():
        state = Text("open", "进行中") if run["open"] else Text("over", "已结束")
        typer.echo(
            Text(
                f"{digest[:16]}: its run is {state.en}, {run['sums']} sums released",
                f"{digest[:16]}：运行{state.zh}，已输出 {run['sums']} 次求和",
            )
        )


@plan_app.command("show")
@says("试算：计划的代价及所涉数据。不读取数据，也不支出预算。")
def show_plan(home: Home, plan: PlanHash, as_json: AsJson = False) -> None:
    """Dry run: what a plan would cost and touch. Nothing is read or spent."""
    from hejin_models.grades import GRADE_NAMES
    from hejin_node import inbox, offers
    from hejin_trust.database import reading

    with open_home(home) as node:
        with reading(node.database) as connection:
            offer = inbox.find_offer(connection, plan)
        found = offers.dry_run(node, offer)
    if as_json:
        _print_json(
            {
                "plan": offer.digest,
                "answer": offer.answer,
                "rho": float(found.rho),
                "epsilon_before": found.epsilon_before,
                "epsilon_after": found.epsilon_after,
                "epsilon_cap": found.epsilon_cap,
                "grade": offer.plan.grade,
                "mode": offer.plan.mode,
                "nodes": list(offer.plan.nodes),
                "minimum_nodes": offer.plan.minimum_nodes,
                "quorum": offer.plan.quorum,
                "colluders": offer.plan.colluders,
                "rho_alone": float(found.rho_alone),
                "epsilon_alone_before": found.epsilon_alone_before,
                "epsilon_alone_after": found.epsilon_alone_after,
                "epsilon_alone_cap": found.epsilon_alone_cap,
                "delta": float(found.delta),
                "authorisations": found.entitled,
                "labelled": found.labelled,
                "problems": [problem.code for problem in found.problems],
                "automatic": found.automatic,
                "waits": [str(reason) for reason in found.waits],
                "warnings": [str(warning) for warning in found.warnings],
            }
        )
        return
    rows = {
        Text("plan", "计划"): offer.digest,
        Text("bank", "银行"): offer.plan.bank,
        Text("product", "产品"): offer.plan.product,
        Text("purpose", "用途"): offer.plan.purpose,
        Text("feature view", "特征视图"): f"{offer.plan.view.name}-v{offer.plan.view.version}",
        Text("outcome", "标签定义"): offer.plan.label.definition,
        Text("data of grade, at most", "数据分级（最高）"): str(GRADE_NAMES[offer.plan.grade]),
        Text("private sums", "隐私求和"): str(len(offer.plan.sums)),
        Text("noise mode", "噪声模式"): offer.plan.mode,
        Text("nodes: know them", "节点：应认识它们"): ", ".join(offer.plan.nodes),
        **_thresholds(offer.plan),
        Text("costs rho at most", "费用 rho（至多）"): f"{float(found.rho):.6f}",
        Text("epsilon spent before", "此前 epsilon"): f"{found.epsilon_before:.4f}",
        Text("epsilon spent after", "此后 epsilon"): f"{found.epsilon_after:.4f}",
        Text("epsilon promised (cap)", "承诺上限 epsilon"): f"{found.epsilon_cap:.4f}",
        Text("if all other nodes colluded", "若其他节点全部合谋"): Text(
            f"rho {float(found.rho_alone):.6f}; epsilon {found.epsilon_alone_before:.4f} before,"
            f" {found.epsilon_alone_after:.4f} after, cap {found.epsilon_alone_cap:.4f}",
            f"rho {float(found.rho_alone):.6f}；epsilon 此前 {found.epsilon_alone_before:.4f}，"
            f"此后 {found.epsilon_alone_after:.4f}，上限 {found.epsilon_alone_cap:.4f}",
        ),
        Text("at delta", "delta"): f"{float(found.delta):.1e}",
        Text("uses authorisations", "涉及授权"): str(found.entitled),
        Text("enterprises with an outcome", "有标签的企业"): str(found.labelled),
        Text("answer", "答复"): str(ANSWERS[offer.answer]),
    }
    table = Table(show_header=False)
    for label, value in rows.items():
        table.add_row(str(label), str(value))
    console = Console()
    print_table(table)
    for problem in found.problems:
        console.print(f"[red]{problem.code}[/red] {escape(str(problem.text))}")
    for reason in found.waits:
        console.print(
            f"{Text('for the operator to decide', '由运营方决定')}: {reason}", markup=False
        )
    for warning in found.warnings:
        console.print(f"[yellow]{Text('note', '注意')}[/yellow] {escape(str(warning))}")


def _thresholds(plan: Plan) -> dict[Text, str]:
    """Return the row of rule P1: a plan in mode `node` has no thresholds."""
    if plan.mode == "node":
        return {}
    return {
        Text("fewest nodes m, votes tau, colluders t", "最少节点 m，票数 tau，合谋数 t"): (
            f"{plan.minimum_nodes}, {plan.quorum}, {plan.colluders}"
        )
    }


@plan_app.command("approve")
@says("批准计划：此后答复其查询并计费。")
def approve_plan(home: Home, plan: PlanHash) -> None:
    """Approve a plan: from then on its queries are answered, and charged."""
    from hejin_node import offers

    with open_to_append(home) as node:
        found = offers.approve(node, plan, f"operator:{getpass.getuser()}")
    typer.echo(
        Text(
            f"approved; the plan may cost rho={float(found.rho):.6f}",
            f"已批准；该计划至多花费 rho={float(found.rho):.6f}",
        )
    )


@plan_app.command("refuse")
@says("拒绝计划。")
def refuse_plan(
    home: Home,
    plan: PlanHash,
    reason: Annotated[
        str, typer.Option(), Text("One sentence; the bank is told.", "一句话说明；会告知银行。")
    ],
) -> None:
    """Refuse a plan."""
    from hejin_node import offers

    with open_to_append(home) as node:
        offers.refuse(node, plan, "operator-refused", reason)
    typer.echo(Text("refused", "已拒绝"))


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
