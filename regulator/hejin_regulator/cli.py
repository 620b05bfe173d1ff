"""The regulator's commands: found, admit, revoke, show, serve, verify; the rest is joined on."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hejin_privacy.accounting import epsilon, rho_for
from hejin_regulator import authority, service
from hejin_regulator.authority import Office, Terms
from hejin_regulator.cli_audit import audit_noise
from hejin_regulator.cli_mirror import (
    AsJson,
    Home,
    approve_recovery,
    certificates,
    export,
    logs,
)
from hejin_regulator.cli_verify import verify
from hejin_trust.charter import LARGEST_DELTA, Charter
from hejin_trust.clock import now
from hejin_trust.commands import group, says, wrong_usage
from hejin_trust.logs import log_to_stderr
from hejin_trust.members import Member
from hejin_trust.process import until_signal
from hejin_trust.text import Text

app = group(Text("Regulator: admission, charter, verification.", "监管端：准入、章程与核验。"))
charter_app = group(Text("The charter in force.", "现行章程。"))
app.add_typer(charter_app, name="charter")
app.command("audit-noise")(audit_noise)
app.command()(logs)
app.command()(certificates)
app.command()(export)
app.command()(verify)
app.command("approve-recovery")(approve_recovery)


def _rational(value: str) -> Fraction:
    """Return an exact rational from decimal, scientific or a/b notation."""
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError) as reason:
        raise wrong_usage(
            "write a number such as 0.05, 1e-6 or 1/20",
            "请写成数字，例如 0.05、1e-6 或 1/20",
        ) from reason


ALONE_TIMES = 20
"""Default of the cap on rho_alone, in rho caps. A plan with shared noise costs m - t times its rho
if all other nodes collude: 14 times with 20 nodes by default, 20 times with 27. The other nodes
would all have to collude, so this cap bounds the damage; the promise is the rho cap."""


def _cap(epsilon_cap: float | None, rho_cap: Fraction | None, delta: Fraction) -> Fraction:
    if (epsilon_cap is None) == (rho_cap is None):
        raise wrong_usage(
            "give either --epsilon-cap or --rho-cap: the most a node may spend in a period",
            "请在 --epsilon-cap 与 --rho-cap 中择一给出：节点在一个预算期内的支出上限",
        )
    if rho_cap is not None:
        return rho_cap
    assert epsilon_cap is not None
    return rho_for(epsilon_cap, float(delta))


@app.command()
@says("建立联盟：密钥、证书机构与第 1 号章程。")
def init(
    home: Home,
    consortium: Annotated[
        str, typer.Option(), Text("Its name: a-z, 0-9 and '-'.", "联盟的名称：a-z、0-9 与 '-'。")
    ],
    epsilon_cap: Annotated[
        float | None,
        typer.Option(),
        Text("Most epsilon a node may spend in the period.", "节点在一个预算期内的 epsilon 上限。"),
    ] = None,
    rho_cap: Annotated[
        Fraction | None,
        typer.Option(parser=_rational, metavar="NUMBER"),
        Text("The same as a zCDP cost.", "同一上限，以 zCDP 代价表示。"),
    ] = None,
    rho_alone_cap: Annotated[
        Fraction | None,
        typer.Option(parser=_rational, metavar="NUMBER"),
        Text(
            f"Cap if all other nodes colluded. Default: {ALONE_TIMES} times the rho cap, as shared"
            " noise among 20 nodes needs.",
            f"其余节点全部合谋时的上限。默认为 rho 上限的 {ALONE_TIMES} 倍，"
            "即 20 个节点共享噪声所需。",
        ),
    ] = None,
    delta: Annotated[
        Fraction,
        typer.Option(parser=_rational, metavar="NUMBER"),
        Text("At most 1e-6.", "不大于 1e-6。"),
    ] = LARGEST_DELTA,
    period_from: Annotated[
        datetime | None,
        typer.Option(),
        Text(
            "Start of the budget period, UTC. Default: now.",
            "预算期的起始时刻（UTC）。默认为现在。",
        ),
    ] = None,
    period_days: Annotated[
        int, typer.Option(min=1), Text("Days of the budget period.", "预算期的天数。")
    ] = 365,
    minimum_nodes: Annotated[
        int, typer.Option(min=1), Text("Fewest nodes of a plan.", "一个计划的最少节点数。")
    ] = 3,
    minimum_enterprises: Annotated[
        int,
        typer.Option(min=1),
        Text("Fewest enterprises a node must declare.", "节点须申报的最少企业数。"),
    ] = 100,
    r: Annotated[
        int,
        typer.Option("--r", min=1),
        Text("Most nodes of one enterprise.", "一家企业最多属于几个节点。"),
    ] = 1,
    member: Annotated[
        str, typer.Option(), Text("The regulator's own member name.", "监管方自己的成员名。")
    ] = "regulator",
    name_en: Annotated[
        str, typer.Option(), Text("Its name in English.", "监管方的英文名称。")
    ] = "Regulator",
    name_zh: Annotated[
        str, typer.Option(), Text("Its name in Chinese.", "监管方的中文名称。")
    ] = "监管方",
    as_json: AsJson = False,
) -> None:
    """Found a consortium: keys, certificate authority and charter number 1."""
    cap = _cap(epsilon_cap, rho_cap, delta)
    start = now() if period_from is None else period_from.replace(tzinfo=UTC)
    terms = Terms(
        consortium=consortium,
        regulator=member,
        name=Text(name_en, name_zh),
        rho_cap=cap,
        rho_alone_cap=cap * ALONE_TIMES if rho_alone_cap is None else rho_alone_cap,
        delta=delta,
        period_from=start,
        period_to=start + timedelta(days=period_days),
        minimum_nodes=minimum_nodes,
        minimum_enterprises=minimum_enterprises,
        r=r,
    )
    charter = authority.init(home, terms, now())
    key = charter.regulator.identity_key.hex()
    if as_json:
        _print_json({"consortium": consortium, "regulator": member, "regulator_key": key})
        return
    typer.echo(Text(f"consortium {consortium} founded", f"联盟 {consortium} 已建立"))
    typer.echo(Text("members pin this regulator key:", "各成员须固定以下监管方公钥："))
    typer.echo(key)


@app.command()
@says(
    "准入成员：签发一份新章程，并为每个成员各出一份准入文件。\n\n"
    "请以其他途径（例如电话）与该成员核对所显示的密钥。"
)
def admit(
    home: Home,
    requests: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False),
        Text("Enrolment requests.", "入盟申请文件。"),
    ],
    out: Annotated[
        Path,
        typer.Option(file_okay=False),
        Text("Folder for the admission files.", "准入文件的存放目录。"),
    ],
    as_json: AsJson = False,
) -> None:
    """Admit members: one new charter, and one admission file each to hand back.

    Compare the key shown with the member by another way, such as the telephone.
    """
    office = Office(home)
    admitted = office.admit(requests, out, now())
    if as_json:
        files = {item.member.id: str(item.file) for item in admitted}
        _print_json({"charter": office.charter.serial, "admitted": files})
        return
    for item in admitted:
        typer.echo(f"{item.member.id} ({item.member.role}, {item.member.name}): {item.file}")
        key = item.member.identity_key.hex()
        typer.echo(Text(f"  identity key {key}", f"  身份公钥 {key}"))
    serial = office.charter.serial
    typer.echo(Text(f"charter {serial} is in force", f"第 {serial} 号章程生效"))


@app.command()
@says("永久撤销一个成员：此后拒绝其所有调用。")
def revoke(
    home: Home,
    member: Annotated[str, typer.Argument(), Text("Member name.", "成员名。")],
    as_json: AsJson = False,
) -> None:
    """Revoke a member for good: from now on every call of its is refused."""
    charter = Office(home).revoke(member, now())
    if as_json:
        _print_json({"charter": charter.serial, "revoked": member})
        return
    typer.echo(
        Text(
            f"{member} is revoked; charter {charter.serial} is in force",
            f"{member} 已被撤销；第 {charter.serial} 号章程生效",
        )
    )


@charter_app.command()
@says("显示成员与各项上限。")
def show(home: Home, as_json: AsJson = False) -> None:
    """Show members and limits."""
    charter = Office(home).charter
    if as_json:
        _print_json({**charter.body(), "digest": charter.digest})
        return
    console = Console()
    console.print(_limits(charter))
    console.print(_members(charter))


def _limits(charter: Charter) -> Table:
    most = epsilon(charter.rho_cap, float(charter.delta))
    alone = epsilon(charter.rho_alone_cap, float(charter.delta))
    table = Table(title=f"{charter.consortium} #{charter.serial}", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    rows = {
        Text("issued", "签发时间"): charter.issued,
        Text("digest", "摘要"): charter.digest,
        Text("period", "预算期"): f"{charter.period_from} - {charter.period_to}",
        # Rounded up: a limit must not look smaller than it is.
        Text("epsilon at most", "epsilon 上限"): f"{math.ceil(most * 1e4) / 1e4:.4f}",
        Text("rho at most", "rho 上限"): f"{float(charter.rho_cap):.6g}",
        Text("epsilon at most if all other nodes colluded", "其他节点全部合谋时 epsilon 上限"): (
            f"{math.ceil(alone * 1e4) / 1e4:.4f}"
        ),
        Text("delta", "delta"): f"{float(charter.delta):.3g}",
        Text("nodes at least", "最少节点数"): str(charter.minimum_nodes),
        Text("enterprises at least", "最少企业数"): str(charter.minimum_enterprises),
    }
    for label, value in rows.items():
        table.add_row(str(label), value)
    return table


def _members(charter: Charter) -> Table:
    headings = (
        Text("member", "成员"),
        Text("role", "角色"),
        Text("name", "名称"),
        Text("status", "状态"),
        Text("enterprises", "企业数"),
    )
    table = Table(*(str(heading) for heading in headings))
    for member in (charter.regulator, *charter.members):
        table.add_row(member.id, member.role, str(member.name), member.status, _band(member))
    return table


def _band(member: Member) -> str:
    return "" if member.size_band is None else f"{member.size_band[0]}-{member.size_band[1]}"


@app.command()
@says("向成员提供章程、镜像与见证，直至 SIGTERM 或 Ctrl-C。")
def serve(
    home: Home,
    listen: Annotated[
        str,
        typer.Option(),
        Text("HOST:PORT; port 0 takes a free one.", "HOST:PORT；端口 0 表示任选空闲端口。"),
    ],
) -> None:
    """Serve charter, mirror and witness to members until SIGTERM or Ctrl-C."""
    log_to_stderr()
    stop = until_signal()
    host = listen.rpartition(":")[0]
    service.serve(home, listen, lambda port: typer.echo(f"listening on {host}:{port}"), stop)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
