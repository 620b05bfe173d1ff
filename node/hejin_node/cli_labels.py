"""The node's commands about outcomes: from a file, from a bank, and what was asked of banks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hejin_node.cli_bar import progress_bar
from hejin_node.cli_ingest import print_report
from hejin_node.cli_options import AsJson, CsvEncoding, Home
from hejin_trust.commands import group, says
from hejin_trust.listing import print_table
from hejin_trust.text import Text

labels_app = group(Text("Outcomes that banks reported.", "银行报告的结果，即标签。"))


@labels_app.command("load")
@says("导入标签：每家企业一行，1 为违约，0 为正常。")
def labels_load(
    home: Home,
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False),
        Text("CSV or Parquet.", "CSV 或 Parquet 文件。"),
    ],
    bank: Annotated[
        str,
        typer.Option(),
        Text("Member name of the bank whose outcomes they are.", "提供结果的银行的成员名。"),
    ],
    definition: Annotated[
        str,
        typer.Option(),
        Text(
            "What counts as bad, with its version: overdue90-12m-v1.",
            "违约口径及其版本：overdue90-12m-v1。",
        ),
    ],
    period: Annotated[
        str, typer.Option(), Text("Which months the outcomes cover.", "结果所涵盖的时段。")
    ] = "",
    enterprise_column: Annotated[
        str, typer.Option(), Text("Column of the codes.", "企业代码所在列。")
    ] = "enterprise",
    label_column: Annotated[
        str,
        typer.Option(),
        Text("Column of 1 (bad) and 0 (good).", "标签所在列：1 为违约，0 为正常。"),
    ] = "label",
    encoding: CsvEncoding = "utf-8",
    as_json: AsJson = False,
) -> None:
    """Load outcomes: one row per enterprise, 1 bad, 0 good."""
    from hejin_node.appending import open_to_append
    from hejin_node.labels import LabelFile, label_spec, load_labels

    layout = LabelFile(enterprise_column, label_column, encoding)
    spec = label_spec(bank, definition)
    with open_to_append(home) as node, progress_bar(shown=not as_json) as progress:
        report = load_labels(
            node.warehouse,
            node.internal_log,
            file,
            spec,
            period=period,
            layout=layout,
            progress=progress,
        )
    print_report(report, as_json=as_json)


@labels_app.command("match")
@says(
    "以隐私求交向银行询问标签。\n\n"
    "所询问的是授权中含 outcome 类别的企业；银行不知道是哪些企业、有多少家。节点运行时也可执行。"
)
def labels_match(
    home: Home,
    bank: Annotated[
        str, typer.Option(), Text("Member name of the bank to ask.", "所询问银行的成员名。")
    ],
    definition: Annotated[
        str,
        typer.Option(),
        Text(
            "What counts as bad, with its version: overdue90-12m-v1.",
            "违约口径及其版本：overdue90-12m-v1。",
        ),
    ],
    period: Annotated[
        str | None,
        typer.Option(),
        Text(
            "Which of the bank's periods; default: the only one.",
            "银行的哪个时段；默认为唯一的时段。",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a bank for outcomes by private set intersection.

    It is asked for the enterprises whose authorisation names the category outcome; it does not
    learn which or how many they are. May be run while the node serves.
    """
    from hejin_node.appending import dialled, open_to_append
    from hejin_node.errors import MatchingError
    from hejin_node.label_channel import LabelChannel
    from hejin_node.labels import label_spec
    from hejin_node.matching import match
    from hejin_trust.witness import Witness

    spec = label_spec(bank, definition)
    with open_to_append(home) as node:
        address = node.settings.banks.get(bank)
        if address is None:
            raise MatchingError(
                f"the address of {bank} is not known: run `hejin node join ADMISSION --bank"
                f" {bank}=HOST:PORT`",
                f"尚未设置 {bank} 的地址：请执行 `hejin node join ADMISSION --bank"
                f" {bank}=HOST:PORT`",
            )
        doing = str(Text("asking, a few seconds for thousands", "询问中，数千家企业约需数秒"))
        console = Console(stderr=True)
        with console.status(doing), dialled(node) as mirror, node.dial(bank, address) as channel:
            witness = Witness(node, mirror)
            witness.start()
            witness.check_clock()
            found = match(node, witness, LabelChannel(channel, bank), spec, period)
    report = found.report
    if as_json:
        facts = {
            "session": found.session,
            "bank": bank,
            "definition": found.definition.id,
            "definition_sha256": found.definition.digest,
            "period": found.period,
            "slots": found.slots,
            "asked": found.asked,
            "labels": found.labels,
            "loaded": report.loaded,
            "quarantined": dict(report.quarantined),
            "seconds": report.seconds,
        }
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    conflicts = sum(report.quarantined.values())
    known = found.labels - report.loaded - conflicts
    typer.echo(
        Text(
            f"{bank} knows the outcomes of {found.labels} of {found.asked} enterprises:"
            f" {report.loaded} are new, {known} were known, {conflicts} in quarantine.\n"
            f"Bad means {found.definition.text.en}. The bank saw {found.slots} points, the number"
            f" that the charter declares. Session {found.session[:8]}.",
            f"{bank} 有 {found.asked} 家企业中 {found.labels} 家的结果：新增 {report.loaded}，"
            f"已有 {known}，隔离 {conflicts}。\n"
            f"违约指{found.definition.text.zh}。银行所见为 {found.slots} 个点，即章程申报的规模。"
            f"会话 {found.session[:8]}。",
        )
    )


@labels_app.command("sessions")
@says("列出向银行询问标签的各次会话。")
def labels_sessions(home: Home, as_json: AsJson = False) -> None:
    """List the questions for outcomes that were asked of banks."""
    from hejin_node.home import open_home
    from hejin_node.label_sessions import sessions
    from hejin_trust.database import reading

    with open_home(home) as node, reading(node.database) as connection:
        listed = sessions(connection)
    if as_json:
        rows = [{**asdict(one), "state": one.state} for one in listed]
        typer.echo(json.dumps({"sessions": rows}, ensure_ascii=False))
        return
    headings = (
        Text("session", "会话"),
        Text("time", "时间"),
        Text("bank", "银行"),
        Text("definition", "定义"),
        Text("period", "期间"),
        Text("enterprises", "企业数"),
        Text("slots", "位置数"),
        Text("state", "状态"),
    )
    states = {"asked": Text("asked", "已询问"), "answered": Text("answered", "已应答")}
    table = Table(*map(str, headings))
    for one in listed:
        table.add_row(
            one.session[:8], one.time, one.bank, one.definition, one.period, str(one.size),
            str(one.slots), str(states[one.state]),
        )  # fmt: skip
    print_table(table)


@labels_app.command("audit")
@says(
    "供监管方现场使用：以密钥材料重做一次会话，查明询问了哪些企业。\n\n"
    "退出码 0：根与点同账本一致，监管方也持有该账本。"
)
def labels_audit(
    home: Home,
    session: Annotated[
        str,
        typer.Argument(),
        Text("Session id, or its first 8 digits or more.", "会话编号，或其开头的至少 8 位。"),
    ],
    as_json: AsJson = False,
) -> None:
    """Redo a session from its secrets, for the regulator on site: whom was the bank asked for?

    Exit 0: root and points are those in the ledger, which the regulator holds as well.
    """
    from hejin_node.home import open_home
    from hejin_node.label_audit import audit

    with open_home(home) as node:
        redone = audit(node, session)
    found = redone.session
    if as_json:
        facts = {"root": redone.root, "query": redone.query, "size": redone.size}
        typer.echo(json.dumps({"session": found.session, **facts}))
        return
    typer.echo(
        Text(
            f"session {found.session[:8]} with {found.bank}: {redone.size} enterprises in"
            f" {found.slots} slots, as entry {found.request} of the internal log and entry"
            f" {found.ask} of the release log say\nroot  {redone.root}\nquery {redone.query}",
            f"与 {found.bank} 的会话 {found.session[:8]}：{found.slots} 个位置中企业 {redone.size}"
            f" 家，与内部日志第 {found.request} 条、发布日志第 {found.ask} 条一致\n"
            f"root  {redone.root}\nquery {redone.query}",
        )
    )
