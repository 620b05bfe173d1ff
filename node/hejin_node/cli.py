"""The node's commands: init, join, status, serve; the others have modules of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hejin_node.appending import open_to_append
from hejin_node.cli_authorisation import authorisation_app
from hejin_node.cli_ingest import ingest, mapping_app
from hejin_node.cli_labels import labels_app
from hejin_node.cli_ledger import export, preflight, recover
from hejin_node.cli_lineage import data_lineage
from hejin_node.cli_options import ApproveUpTo, AsJson, Highest, Home
from hejin_node.cli_plan import plan_app
from hejin_node.cli_policy import policy_app
from hejin_node.cli_quality import quality_app
from hejin_node.cli_schema import schema_app
from hejin_node.cli_status import status
from hejin_node.cli_trace import statement, trace
from hejin_node.cli_view import view_app
from hejin_node.cli_warehouse import data_app
from hejin_node.config import FILE, NodeSettings
from hejin_node.home import make_secrets
from hejin_trust import membership
from hejin_trust.commands import group, says, wrong_usage
from hejin_trust.files import replace_file
from hejin_trust.members import check_address
from hejin_trust.settings import read_settings, typed_settings, write_settings
from hejin_trust.text import Text

app = group(
    Text("Data node: data, authorisations, plans, budget.", "数据节点：数据、授权、计划与预算。")
)
app.command("ingest")(ingest)
app.command("status")(status)
app.command("preflight")(preflight)
app.command("export")(export)
app.command("recover")(recover)
authorisation_app.command("trace")(trace)
authorisation_app.command("statement")(statement)
app.add_typer(authorisation_app, name="authorisation")
data_app.command("lineage")(data_lineage)
app.add_typer(data_app, name="data")
app.add_typer(labels_app, name="labels")
app.add_typer(mapping_app, name="mapping")
app.add_typer(quality_app, name="quality")
app.add_typer(view_app, name="view")
app.add_typer(plan_app, name="plan")
app.add_typer(policy_app, name="policy")
app.add_typer(schema_app, name="schema")


def _band(value: str) -> tuple[int, int]:
    low, _, high = value.partition(":")
    if not (low.isdecimal() and high.isdecimal()):
        raise wrong_usage(
            "--size-band is written LOW:HIGH, such as 100:5000",
            "--size-band 应写成 下限:上限，例如 100:5000",
        )
    return int(low), int(high)


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
    size_band: Annotated[
        str,
        typer.Option(),
        Text("Declared public number of enterprises, LOW:HIGH.", "公开申报的企业数，下限:上限。"),
    ],
    approve_up_to: ApproveUpTo = None,
    grade: Highest = "important",
    as_json: AsJson = False,
) -> None:
    """Make keys and the enrolment request for the regulator."""
    from hejin_node import policy_file

    band = _band(size_band)
    policy = policy_file.starter(band, approve_up_to, grade)
    settings = typed_settings(NodeSettings, member=member, regulator_key=regulator_key)
    request = membership.found(
        home,
        member=member,
        role="node",
        name=Text(name_en, name_zh),
        size_band=band,
    )
    make_secrets(home)
    write_settings(home / FILE, settings)
    replace_file(home / policy_file.FILE, policy, mode=0o600)
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
@says("接受监管方的准入并建立账本。再次执行可更改地址。")
def join(
    home: Home,
    admission: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False),
        Text("Admission file that the regulator handed back.", "监管方交回的准入文件。"),
    ],
    bank: Annotated[
        list[str] | None,
        typer.Option(),
        Text("A bank to work with: ID=HOST:PORT; repeat.", "要合作的银行：ID=HOST:PORT；可重复。"),
    ] = None,
    regulator: Annotated[
        str | None,
        typer.Option(),
        Text(
            "HOST:PORT of the regulator, for charter updates.",
            "监管方的地址 HOST:PORT，用于更新章程。",
        ),
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
    admitted = {one.id for one in charter.members if one.role == "bank" and one.admitted}
    for name in sorted(banks.keys() - admitted):
        typer.echo(
            Text(
                f"{name} is no bank of charter {charter.serial}: if the name is wrong, correct it "
                f"in {home / FILE}",
                f"第 {charter.serial} 号章程中没有银行 {name}：名称若有误，"
                f"请在 {home / FILE} 中更正",
            ),
            err=True,
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


@app.command()
@says("与银行协作，直至 SIGTERM 或 Ctrl-C。只向外拨号，不监听任何端口。")
def serve(home: Home) -> None:
    """Work with the banks until SIGTERM or Ctrl-C. Dials out only; listens nowhere."""
    from hejin_node import service
    from hejin_trust.logs import log_to_stderr
    from hejin_trust.process import until_signal

    log_to_stderr()
    service.serve(home, lambda: typer.echo("node serves"), until_signal())


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
