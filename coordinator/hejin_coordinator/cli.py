"""The coordinator's commands: join, propose, start, report, disputes, serve, models, outcomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hejin_coordinator.cli_ledger import export, preflight, recover, status
from hejin_coordinator.cli_options import AsJson, Home
from hejin_coordinator.cli_outcomes import outcomes_app
from hejin_coordinator.config import FILE, CoordinatorSettings
from hejin_coordinator.home import open_home
from hejin_trust import membership
from hejin_trust.commands import group, says
from hejin_trust.listing import print_table
from hejin_trust.members import check_address
from hejin_trust.settings import read_settings, typed_settings, write_settings
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_models.plan import Plan

app = group(Text("A bank's coordinator: plans, runs, models.", "银行协调端：计划、运行与模型。"))
models_app = group(Text("The model registry.", "模型登记。"))
app.add_typer(models_app, name="models")
app.add_typer(outcomes_app, name="outcomes")

PlanHash = Annotated[
    str,
    typer.Argument(),
    Text("Plan hash, or its first 8 digits or more.", "计划哈希，或其开头的至少 8 位。"),
]


@app.command()
@says("生成密钥，并写出提交给监管方的入盟申请。")
def init(
    home: Home,
    member: Annotated[
        str, typer.Option(), Text("Member name: a-z, 0-9 and '-'.", "成员名：a-z、0-9 与 '-'。")
    ],
    name_en: Annotated[str, typer.Option(), Text("Name in English.", "英文名称。")],
    name_zh: Annotated[str, typer.Option(), Text("Name in Chinese.", "中文名称。")],
    regulator_key: Annotated[
        str,
        typer.Option(),
        Text("The regulator's public key, hex; pinned.", "监管方公钥（十六进制），此后固定不变。"),
    ],
    as_json: AsJson = False,
) -> None:
    """Make keys and the enrolment request for the regulator."""
    settings = typed_settings(CoordinatorSettings, member=member, regulator_key=regulator_key)
    request = membership.found(home, member=member, role="bank", name=Text(name_en, name_zh))
    write_settings(home / FILE, settings)
    key = membership.identity_key(home)
    if as_json:
        _print_json({"member": member, "request": str(request), "identity_key": key})
        return
    typer.echo(
        Text(
            f"send {request} to the regulator, and compare your identity key with the one that it "
            "sees, by telephone for instance:",
            f"请将 {request} 交给监管方，并以电话等途径核对其所见的身份公钥与下列一致：",
        )
    )
    typer.echo(key)


@app.command()
@says("接受监管方的准入并建立账本。")
def join(
    home: Home,
    admission: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False),
        Text("Admission file that the regulator handed back.", "监管方交回的准入文件。"),
    ],
    regulator: Annotated[
        str | None,
        typer.Option(),
        Text(
            "HOST:PORT of the regulator, the witness of the ledgers; needed to serve.",
            "监管方（账本见证方）的地址 HOST:PORT；运行服务时必需。",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Accept the regulator's admission and found the ledgers."""
    from hejin_coordinator.witnessing import dialled
    from hejin_trust.own_clock import check_own_clock

    settings = read_settings(home / FILE, CoordinatorSettings)
    if regulator is not None:
        check_address(regulator)
        settings = settings.model_copy(update={"regulator": regulator})
    charter = membership.join(
        home, settings.member, bytes.fromhex(settings.regulator_key), admission.read_bytes()
    )
    write_settings(home / FILE, settings)
    with open_home(home, found=False) as bank:
        check_own_clock(bank, None if settings.regulator is None else dialled(bank))
    with open_home(home):
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


@app.command()
@says("先说明代价与预期效果，再签署计划并提交给各节点。")
def propose(
    home: Home,
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False),
        Text("The plan, TOML.", "计划文件（TOML）。"),
    ],
    start_when_answered: Annotated[
        bool,
        typer.Option("--start"),
        Text("Start as soon as every node has answered.", "所有节点答复后立即启动。"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Sign a plan and offer it to its nodes, after showing what it costs and should reach."""
    from hejin_coordinator import desk
    from hejin_coordinator.witnessing import mirror_now
    from hejin_models.grades import GRADE_NAMES

    with open_home(home) as bank:
        mirror_now(bank)
        proposed = desk.propose(bank, file, start_when_answered)
    plan, outlook = proposed.plan, proposed.outlook
    if as_json:
        _print_json(
            {
                "plan": proposed.digest,
                "nodes": list(plan.nodes),
                "sums": len(plan.sums),
                "grade": plan.grade,
                "mode": plan.mode,
                "minimum_nodes": plan.minimum_nodes,
                "quorum": plan.quorum,
                "colluders": plan.colluders,
                "rho": float(plan.rho_once),
                "rho_at_most": float(plan.rho),
                "epsilon": proposed.epsilon,
                "epsilon_at_most": proposed.epsilon_at_most,
                "delta": float(proposed.delta),
                "expected_auc_loss": outlook.auc_loss,
                "expected_holdout_error": outlook.holdout_error,
                "holdout_reportable": outlook.reportable,
            }
        )
        return
    rows = {
        Text("plan", "计划"): proposed.digest,
        Text("nodes", "节点"): ", ".join(plan.nodes),
        Text("private sums", "隐私求和"): str(len(plan.sums)),
        Text("data of grade, at most", "数据分级（最高）"): str(GRADE_NAMES[plan.grade]),
        Text("noise mode", "噪声模式"): f"{plan.mode} ({proposed.mode_reason})",
        Text("nodes n, least m", "节点数 n，最少 m"): f"{len(plan.nodes)}, {plan.minimum_nodes}",
        **_thresholds(plan),
        Text("costs rho", "费用 rho"): f"{float(plan.rho_once):.6f}",
        Text("that is epsilon", "即 epsilon"): f"{proposed.epsilon:.4f}",
        Text("at most, with burned rounds", "至多（含作废轮次）"): (
            f"{proposed.epsilon_at_most:.4f}"
        ),
        Text("at delta", "delta"): f"{float(proposed.delta):.1e}",
        Text("enterprises (declared)", "企业数（申报）"): str(proposed.enterprises),
        Text("AUC expected to be lost to noise", "噪声预计损失的 AUC"): f"{outlook.auc_loss:.3f}",
        Text("noise error of the hold-out AUC", "留出 AUC 的噪声误差"): (
            f"{outlook.holdout_error:.3f}"
        ),
    }
    table = Table(show_header=False)
    for label, value in rows.items():
        table.add_row(str(label), value)
    print_table(table)
    typer.echo(
        Text(
            "nothing is spent yet: the nodes decide now. The loss is simulated on a synthetic"
            " population of the declared size.",
            "尚未产生任何费用：现由各节点决定。AUC 损失是在同等规模的合成数据上模拟得出的。",
        )
    )


def _thresholds(plan: Plan) -> dict[Text, str]:
    """Return the rows of rule P1: a plan in mode `node` has no thresholds."""
    if plan.mode == "node":
        return {}
    return {
        Text("quorum tau, colluders t", "法定数 tau，合谋数 t"): f"{plan.quorum}, {plan.colluders}"
    }


@app.command()
@says("列出计划、各节点的答复以及每次运行的进度。")
def plans(home: Home, as_json: AsJson = False) -> None:
    """List plans, the nodes' answers and how far each run is."""
    from hejin_coordinator import desk

    with open_home(home) as bank:
        listed = desk.overview(bank)
    if as_json:
        _print_json({"plans": [item.body() for item in listed]})
        return
    headings = (
        Text("plan", "计划"),
        Text("product", "产品"),
        Text("approved", "已批准"),
        Text("refused", "已拒绝"),
        Text("waiting", "待答复"),
        Text("state", "状态"),
        Text("sums", "求和"),
    )
    table = _table(headings)
    for item in listed:
        table.add_row(
            item.digest[:16],
            item.product,
            str(len(item.approved)),
            str(len(item.refused)),
            str(len(item.waiting)),
            item.state,
            f"{item.done}/{item.sums}",
        )
    print_table(table)
    for item in listed:
        if item.error:
            typer.echo(f"{item.digest[:16]}: {item.error}")


@app.command()
@says("显示计划运行的每一轮中各节点的情况。")
def report(home: Home, plan: PlanHash, as_json: AsJson = False) -> None:
    """Show what happened to each node in each round of a plan's run."""
    from hejin_coordinator import run_report

    with open_home(home) as bank:
        found = run_report.report(bank, plan)
    if as_json:
        _print_json(found.body())
        return
    headings = (
        Text("round", "轮次"),
        Text("sum", "求和"),
        Text("state", "状态"),
        Text("nodes counted", "计入节点数"),
        Text("what went wrong", "异常"),
    )
    table = _table(headings)
    for item in found.rounds:
        table.add_row(*item.cells)
    print_table(table)
    typer.echo(found.summary)


@app.command()
@says("列出不相符的份额：`settle` 之前两个节点都不参加新的运行。")
def disputes(home: Home, as_json: AsJson = False) -> None:
    """List shares that did not fit: both nodes stay out of new runs until `settle`."""
    from hejin_coordinator import disputes
    from hejin_trust.database import reading

    with open_home(home) as bank, reading(bank.database) as connection:
        listed = disputes.disputes(connection)
    if as_json:
        _print_json({"disputes": [item.body() for item in listed]})
        return
    headings = (
        Text("dispute", "争议"),
        Text("run", "运行"),
        Text("round", "轮次"),
        Text("share of", "份额来自"),
        Text("for", "份额给予"),
        Text("time", "时间"),
        Text("settled", "已了结"),
    )
    table = _table(headings)
    for item in listed:
        yes = Text("yes", "是") if item.settled else Text("no", "否")
        table.add_row(
            str(item.id), item.run[:16], str(item.round), item.giver, item.taker, item.time,
            str(yes),
        )  # fmt: skip
    print_table(table)


@app.command()
@says("监管方核查之后，让争议双方节点重新参加。")
def settle(
    home: Home,
    dispute: Annotated[
        int, typer.Argument(), Text("Its number in `disputes`.", "`disputes` 所列的编号。")
    ],
) -> None:
    """Let both nodes of a dispute take part again, once the regulator has looked."""
    from hejin_coordinator import disputes
    from hejin_trust.database import writing

    with open_home(home) as bank, writing(bank.database) as connection:
        disputes.settle(connection, dispute)
    typer.echo(Text("settled", "已了结"))


@app.command()
@says("与已批准的节点启动计划；已暂停或失败的计划重新启动。")
def start(home: Home, plan: PlanHash) -> None:
    """Start a plan, or one that is paused or has failed again, with the nodes that approved it."""
    from hejin_coordinator import desk

    with open_home(home) as bank:
        nodes = desk.start(bank, plan)
    typer.echo(
        Text(
            f"started with {len(nodes)} nodes; the serving coordinator carries it out",
            f"已启动，共 {len(nodes)} 个节点；由运行中的协调端执行",
        )
    )


@app.command()
@says("放弃已提交、已暂停或已失败的计划。其求和已支出的代价不退回。")
def drop(home: Home, plan: PlanHash) -> None:
    """Give up a plan that is offered, paused or has failed. What its sums cost stays spent."""
    from hejin_coordinator import desk
    from hejin_coordinator.witnessing import mirror_now

    with open_home(home) as bank:
        mirror_now(bank)
        desk.drop(bank, plan)
    typer.echo(Text("dropped", "已放弃"))


@app.command()
@says("为各节点服务并执行已启动的计划，直至 SIGTERM 或 Ctrl-C。")
def serve(
    home: Home,
    listen: Annotated[
        str,
        typer.Option(),
        Text("HOST:PORT; port 0 takes a free one.", "HOST:PORT；端口 0 表示任选空闲端口。"),
    ],
) -> None:
    """Serve the nodes and carry out started plans until SIGTERM or Ctrl-C."""
    from hejin_coordinator import service
    from hejin_trust.logs import log_to_stderr
    from hejin_trust.process import until_signal

    log_to_stderr()
    host = listen.rpartition(":")[0]
    stop = until_signal()
    service.serve(home, listen, lambda port: typer.echo(f"listening on {host}:{port}"), stop)


@models_app.command("list")
@says("列出已登记的模型。")
def list_models(home: Home, as_json: AsJson = False) -> None:
    """List the registered models."""
    from hejin_coordinator import registry

    with open_home(home) as bank:
        models = registry.models(bank)
    if as_json:
        _print_json({"models": [model.summary() for model in models]})
        return
    headings = (
        Text("model", "模型"),
        Text("product", "产品"),
        Text("state", "状态"),
        Text("plan", "计划"),
    )
    table = _table(headings)
    for model in models:
        table.add_row(model.id, model.product, model.state, model.plan[:16])
    print_table(table)


@models_app.command("show")
@says("显示模型卡。")
def show_model(
    home: Home,
    model: Annotated[str, typer.Argument(), Text("Model id.", "模型编号。")],
    as_json: AsJson = False,
) -> None:
    """Show a model's card."""
    from hejin_coordinator import registry

    with open_home(home) as bank:
        found = registry.find(bank, model)
    if as_json:
        _print_json(found.body)
        return
    typer.echo(found.card())


for command in (status, preflight, export, recover):
    app.command()(command)


def _table(headings: Sequence[Text]) -> Table:
    return Table(*(str(heading) for heading in headings))


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
