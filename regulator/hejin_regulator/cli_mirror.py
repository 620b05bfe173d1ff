"""The regulator's commands about what members logged: logs, certificates, export, recovery."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hejin_regulator.authority import Office
from hejin_regulator.certificate_status import CertificateStatus
from hejin_regulator.mirror import open_mirror
from hejin_regulator.mirror_check import check_newest, check_whole
from hejin_regulator.mirror_export import Progress as Tell
from hejin_regulator.mirror_export import export as write_export
from hejin_regulator.mirror_summary import HeldMember, summary
from hejin_trust.canonical import time_text
from hejin_trust.clock import now
from hejin_trust.commands import says, wrong_usage
from hejin_trust.errors import RefusedError
from hejin_trust.files import replace_file
from hejin_trust.listing import print_table
from hejin_trust.recovery import Recovery
from hejin_trust.text import Text

Home = Annotated[
    Path,
    typer.Option("--home", envvar="HEJIN_HOME", file_okay=False),
    Text("The regulator's folder.", "监管方的目录。"),
]
AsJson = Annotated[
    bool, typer.Option("--json"), Text("Print one JSON object.", "输出一个 JSON 对象。")
]


class NothingHeldError(RefusedError):
    """A recovery was asked for of a member that the mirror holds nothing of."""

    code = "nothing-held"


@says("显示镜像所持各成员的日志，以及所拒绝的内容。服务运行时也可执行。")
def logs(
    home: Home,
    check: Annotated[
        bool,
        typer.Option("--check"),
        Text(
            "Rebuild every tree and check every cosigned head.",
            "重建每棵树并核对每个见证过的检查点。",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the mirror holds of every member, and what it refused. Works while it serves."""
    with open_mirror(Office(home)) as mirror:
        check_newest(mirror)
        if check:
            with _progress() as tell:
                check_whole(mirror, lambda done: tell(str(Text("checking", "核验")), done))
        held = summary(mirror)
    if as_json:
        body: dict[str, object] = {"checked": check, "members": [item.body() for item in held]}
        typer.echo(json.dumps(body, ensure_ascii=False))
        return
    console = Console()
    console.print(_logs_table(held))
    if any(item.refusals for item in held):
        console.print(_refusals_table(held))
    if check:
        typer.echo(
            Text("everything that is held was checked and fits", "所持全部内容均已核验且相符")
        )


@says("显示每份证书的有效起止时间。")
def certificates(home: Home, as_json: AsJson = False) -> None:
    """Show from when until when each certificate counted."""
    status, _ = Office(home).certificate_status(now())
    if as_json:
        listed = [item.body() for item in status.certificates]
        body = {"issued": status.issued, "charters": len(status.charters), "certificates": listed}
        typer.echo(json.dumps(body, ensure_ascii=False))
        return
    print_table(_certificates_table(status))


@says("写出导出内容中由监管方提供的部分：章程、证书、见证过的检查点。")
def export(
    folder: Annotated[
        Path, typer.Argument(file_okay=False), Text("The export's folder.", "导出目录。")
    ],
    home: Home,
    with_logs: Annotated[
        bool,
        typer.Option("--with-logs"),
        Text(
            "Also the logs that members have not exported there.",
            "一并写出成员尚未导出到此处的日志。",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the regulator's part of an export: charters, certificates, cosigned heads."""
    office = Office(home)
    with open_mirror(office) as mirror, _progress() as tell:
        check_newest(mirror)
        written = write_export(office, mirror, folder, now(), with_logs=with_logs, progress=tell)
    if as_json:
        typer.echo(json.dumps(written.body(), ensure_ascii=False))
        return
    heads = sum(written.heads.values())
    typer.echo(
        Text(
            f"{folder}: {written.charters} charters, {written.certificates} certificates,"
            f" {heads} cosigned heads of {len(written.heads)} logs",
            f"{folder}：{written.charters} 份章程、{written.certificates} 份证书、"
            f"{len(written.heads)} 个日志的 {heads} 个见证检查点",
        )
    )
    for origin in written.logs:
        typer.echo(Text(f"from the mirror: {origin}", f"取自镜像：{origin}"))


@says("批准成员以镜像现有的日志副本为准继续运行。")
def approve_recovery(
    member: Annotated[
        str,
        typer.Argument(),
        Text("Member whose database was put back.", "数据库已从备份恢复的成员。"),
    ],
    home: Home,
    reason: Annotated[
        str,
        typer.Option(),
        Text(
            "What happened, in one sentence; it is logged.", "用一句话说明发生了什么；会记入日志。"
        ),
    ],
    out: Annotated[
        Path, typer.Option(dir_okay=False), Text("File for the member.", "交给该成员的文件。")
    ],
    as_json: AsJson = False,
) -> None:
    """Approve that a member goes on from the mirror's copy of its logs, as they are now."""
    if not reason.strip():
        raise wrong_usage(
            "--reason must say in one sentence what happened", "--reason 须用一句话说明发生了什么"
        )
    office = Office(home)
    charter = office.charter
    charter.admitted(member)
    with open_mirror(office) as mirror:
        check_newest(mirror)
        held = mirror.door(member).standing()
    if not any(log.size for log in held):
        raise NothingHeldError(
            f"the mirror holds nothing of {member}: there is nothing to recover; check the name",
            f"镜像中没有 {member} 的任何内容：无可恢复；请检查名称",
        )
    approval = Recovery(charter.consortium, member, reason, time_text(now()), held)
    signed = approval.seal(office.identity, charter.regulator.id)
    digest = Recovery.parse(signed, charter).digest
    replace_file(out, signed)
    if as_json:
        sizes = {log.origin: log.size for log in held}
        body = {"member": member, "approval": digest, "file": str(out), "logs": sizes}
        typer.echo(json.dumps(body, ensure_ascii=False))
        return
    typer.echo(Text(f"recovery of {member}: {out}", f"{member} 的恢复批准：{out}"))
    for log in held:
        typer.echo(Text(f"  {log.origin}: {log.size} entries", f"  {log.origin}：{log.size} 条"))


@contextmanager
def _progress() -> Iterator[Tell]:
    """Give what is told (what, how many); shown on a terminal only."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def tell(what: str, done: int) -> None:
            bar.update(task, description=f"{what} {done:,}")

        yield tell


def _logs_table(held: tuple[HeldMember, ...]) -> Table:
    headings = (
        Text("log", "日志"),
        Text("status", "状态"),
        Text("entries", "条数"),
        Text("newest cosigned", "最近见证"),
        Text("by type", "按类型"),
    )
    table = Table(*(str(heading) for heading in headings))
    for item in held:
        for log in item.logs:
            types = ", ".join(f"{kind} {count}" for kind, count in log.types.items())
            table.add_row(log.origin, item.member.status, f"{log.size:,}", log.cosigned, types)
    return table


def _refusals_table(held: tuple[HeldMember, ...]) -> Table:
    headings = (
        Text("member", "成员"),
        Text("refused", "拒绝"),
        Text("times", "次数"),
        Text("first", "首次"),
        Text("newest", "最近"),
        Text("signed evidence", "签名证据"),
    )
    table = Table(*(str(heading) for heading in headings))
    for item in held:
        for refused in item.refusals:
            kept = str(Text("kept (--json)", "已留存（--json）")) if refused.note else ""
            table.add_row(
                refused.member,
                refused.code,
                str(refused.count),
                refused.first,
                refused.newest,
                kept,
            )
    return table


def _certificates_table(status: CertificateStatus) -> Table:
    headings = (
        Text("member", "成员"),
        Text("role", "角色"),
        Text("from", "起"),
        Text("to", "止"),
        Text("reason", "原因"),
        Text("certificate (SHA-256)", "证书（SHA-256）"),
    )
    title = Text(f"certificates as of {status.issued}", f"截至 {status.issued} 的证书")
    table = Table(*(str(heading) for heading in headings), title=str(title))
    reasons = {
        "": Text("", ""),
        "superseded": Text("superseded", "已换新"),
        "revoked": Text("revoked", "已撤销"),
    }
    for item in status.certificates:
        reason = str(reasons[item.reason])
        table.add_row(item.member, item.role, item.since, item.until, reason, item.fingerprint[:16])
    return table
