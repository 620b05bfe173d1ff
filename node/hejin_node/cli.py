"""The node's commands: join, plans, budget, serve; data and ledgers have modules of their own."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from hejin_node.appending import open_to_append
from hejin_node.cli_data import authorisation_app, ingest, labels_app, view_app
from hejin_node.cli_ledger import export, preflight, recover
from hejin_node.config import FILE, NodeSettings, PolicySettings
from hejin_node.home import make_secrets, open_home
from hejin_trust import membership
from hejin_trust.members import check_address
from hejin_trust.settings import read_settings, write_settings
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_models.plan import Plan

app = typer.Typer(
    no_args_is_help=True, help="Data node: data, authorisations, plans, budget. 数据节点。"
)
plan_app = typer.Typer(no_args_is_help=True, help="Plans that banks offer. 银行提出的计划。")
app.command("ingest")(ingest)
app.command("preflight")(preflight)
app.command("export")(export)
app.command("recover")(recover)
app.add_typer(authorisation_app, name="authorisation")
app.add_typer(labels_app, name="labels")
app.add_typer(view_app, name="view")
app.add_typer(plan_app, name="plan")

Home = Annotated[
    Path, typer.Option("--home", envvar="HEJIN_HOME", help="The node's folder.", file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
PlanHash = Annotated[str, typer.Argument(help="Plan hash, or its first 8 digits or more.")]


def _band(value: str) -> tuple[int, int]:
    low, _, high = value.partition(":")
    if not (low.isdecimal() and high.isdecimal()):
        raise typer.BadParameter("write LOW:HIGH, such as 100:5000")
    return int(low), int(high)


@app.command()
def init(
    home: Home,
    member: Annotated[str, typer.Option(help="Member name: a-z, 0-9 and '-'.")],
    name_en: Annotated[str, typer.Option(help="Name in English.")],
    name_zh: Annotated[str, typer.Option(help="Name in Chinese.")],
    regulator_key: Annotated[str, typer.Option(help="The regulator's public key, hex; pinned.")],
    size_band: Annotated[
        str, typer.Option(help="Declared public number of enterprises, LOW:HIGH.")
    ],
    approve_up_to: Annotated[
        float | None,
        typer.Option(help="Approve plans of at most this epsilon without the operator."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make keys and the enrolment request for the regulator."""
    policy = (
        PolicySettings()
        if approve_up_to is None
        else PolicySettings(automatic=True, epsilon_at_most=approve_up_to)
    )
    settings = NodeSettings(member=member, regulator_key=regulator_key, policy=policy)
    request = membership.found(
        home,
        member=member,
        role="node",
        name=Text(name_en, name_zh),
        size_band=_band(size_band),
    )
    make_secrets(home)
    write_settings(home / FILE, settings)
    if as_json:
        _print_json({"member": member, "request": str(request)})
        return
    typer.echo(Text(f"send {request} to the regulator", f"请将 {request} 交给监管方"))


@app.command()
def join(
    home: Home,
    admission: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    bank: Annotated[
        list[str] | None, typer.Option(help="A bank to work with: ID=HOST:PORT; repeat.")
    ] = None,
    regulator: Annotated[
        str | None, typer.Option(help="HOST:PORT of the regulator, for charter updates.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Accept the regulator's admission and found the ledgers. Run again to change addresses."""
    settings = read_settings(home / FILE, NodeSettings)
    banks = dict(settings.banks)
    for item in bank or ():
        name, _, address = item.partition("=")
        check_address(address)
        banks[name] = address
    if regulator is not None:
        check_address(regulator)
    charter = membership.join(
        home, settings.member, bytes.fromhex(settings.regulator_key), admission.read_bytes()
    )
    updated = settings.model_copy(
        update={"banks": banks, "regulator": regulator or settings.regulator}
    )
    write_settings(home / FILE, updated)
    with open_to_append(home):
        pass
    if as_json:
        _print_json({"member": settings.member, "charter": charter.serial})
        return
    typer.echo(
        Text(
            f"{settings.member} joined {charter.consortium} (charter {charter.serial})",
            f"{settings.member} 已加入 {charter.consortium}（第 {charter.serial} 号章程）",
        )
    )


@plan_app.command("list")
def list_plans(home: Home, as_json: AsJson = False) -> None:
    """List the plans in the inbox."""
    from hejin_node import inbox
    from hejin_trust.database import reading

    with open_home(home) as node, reading(node.database) as connection:
        offered = inbox.offers(connection)
    if as_json:
        rows = [
            {
                "plan": offer.digest,
                "bank": offer.plan.bank,
                "product": offer.plan.product,
                "answer": offer.answer,
                "received": offer.received,
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
        table.add_row(offer.digest[:16], plan.bank, plan.product, offer.received, offer.answer)
    Console().print(table)


@plan_app.command("show")
def show_plan(home: Home, plan: PlanHash, as_json: AsJson = False) -> None:
    """Dry run: what a plan would cost and touch. Nothing is read or spent."""
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
                "warnings": [str(warning) for warning in found.warnings],
            }
        )
        return
    rows = {
        Text("plan", "计划"): offer.digest,
        Text("bank", "银行"): offer.plan.bank,
        Text("purpose", "用途"): offer.plan.purpose,
        Text("feature view", "特征视图"): f"{offer.plan.view.name} v{offer.plan.view.version}",
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
        Text("answer", "答复"): offer.answer,
    }
    table = Table(show_header=False)
    for label, value in rows.items():
        table.add_row(str(label), str(value))
    console = Console()
    console.print(table)
    for problem in found.problems:
        console.print(f"[red]{problem.code}[/red] {problem.text}")
    for warning in found.warnings:
        console.print(f"[yellow]{Text('note', '注意')}[/yellow] {warning}")


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
def refuse_plan(
    home: Home,
    plan: PlanHash,
    reason: Annotated[str, typer.Option(help="One sentence; the bank is told.")],
) -> None:
    """Refuse a plan."""
    from hejin_node import offers

    with open_to_append(home) as node:
        offers.refuse(node, plan, "operator-refused", reason)
    typer.echo(Text("refused", "已拒绝"))


@app.command()
def status(home: Home, as_json: AsJson = False) -> None:
    """Show the budget account, data sets and ledgers of this node."""
    from hejin_node import account
    from hejin_privacy.accounting import epsilon
    from hejin_trust.database import reading

    with open_home(home) as node:
        charter = node.charter
        delta = float(charter.delta)
        with reading(node.database) as connection:
            spent = account.spent(connection, charter.period_from)
            alone = account.alone_spent(connection, charter.period_from)
            sizes = [log.size(connection) for log in (node.release_log, node.internal_log)]
        facts: dict[str, object] = {
            "member": node.member_id,
            "charter": charter.serial,
            "rho_spent": float(spent),
            "rho_cap": float(charter.rho_cap),
            "epsilon_spent": epsilon(spent, delta) if spent else 0.0,
            "epsilon_cap": epsilon(charter.rho_cap, delta),
            "epsilon_alone_spent": epsilon(alone, delta) if alone else 0.0,
            "epsilon_alone_cap": epsilon(charter.rho_alone_cap, delta),
            "delta": delta,
            "release_log": sizes[0],
            "internal_log": sizes[1],
        }
        datasets = {item.name: item.rows for item in node.warehouse.datasets()}
    if as_json:
        _print_json({**facts, "datasets": datasets})
        return
    table = Table(show_header=False)
    for label, value in facts.items():
        table.add_row(label, f"{value:.6g}" if isinstance(value, float) else str(value))
    for name, rows in datasets.items():
        table.add_row(str(Text(f"rows of {name}", f"{name} 行数")), f"{rows:,}")
    Console().print(table)
    typer.echo(
        Text(
            "The guarantee is the cap; what is spent so far is only a reading of the odometer.",
            "保证以上限为准；“已花费”只是当前读数。",
        )
    )


@app.command()
def serve(home: Home) -> None:
    """Work with the banks until SIGTERM or Ctrl-C. Dials out only; listens nowhere."""
    from hejin_node import service
    from hejin_trust.logs import log_to_stderr
    from hejin_trust.process import until_signal

    log_to_stderr()
    service.serve(home, lambda: typer.echo("node serves"), until_signal())


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
