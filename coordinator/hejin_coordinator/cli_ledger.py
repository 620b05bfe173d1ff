"""The bank's commands about its ledgers: status, preflight, export, recover."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from hejin_coordinator.cli_options import AsJson, Home
from hejin_coordinator.home import open_home
from hejin_trust.cli_witness import tell_looks, tell_not_witnessed, tell_recovered
from hejin_trust.commands import says
from hejin_trust.listing import print_table
from hejin_trust.text import Text


@says("显示账本、计划，以及监管方镜像是否持有相同的账本。")
def status(home: Home, as_json: AsJson = False) -> None:
    """Show ledgers, plans, and whether the regulator's mirror holds the same ledgers."""
    from hejin_coordinator import store
    from hejin_coordinator.witnessing import mirror_now
    from hejin_trust.database import reading
    from hejin_trust.errors import HejinError

    says = Text("holds the same ledgers", "所持账本相同")
    code = ""
    with open_home(home) as bank:
        try:
            mirror_now(bank)
        except HejinError as reason:
            says, code = reason.text, reason.code
        with reading(bank.database) as connection:
            sizes = [log.size(connection) for log in (bank.release_log, bank.internal_log)]
            states = Counter(stored.state for stored in store.plans(connection))
        facts: dict[str, object] = {
            "member": bank.member_id,
            "charter": bank.charter.serial,
            "release_log": sizes[0],
            "internal_log": sizes[1],
            "plans": dict(sorted(states.items())),
        }
    if as_json:
        witness = {"ok": code == "", "code": code, **says.body()}
        typer.echo(json.dumps({**facts, "regulator": witness}, ensure_ascii=False))
        return
    plans = ", ".join(f"{state} {count}" for state, count in sorted(states.items()))
    table = Table(show_header=False)
    for label, value in (
        (Text("member", "成员"), facts["member"]),
        (Text("charter", "章程"), facts["charter"]),
        (Text("entries of the release ledger", "发布账本条目"), sizes[0]),
        (Text("entries of the internal ledger", "内部账本条目"), sizes[1]),
        (Text("plans", "计划"), plans or "0"),
        (Text("regulator's mirror", "监管方镜像"), says),
    ):
        table.add_row(str(label), str(value))
    print_table(table)


@says("检查证书、账本、监管方与时钟。退出码 0：一切正常；1：见表。")
def preflight(home: Home, as_json: AsJson = False) -> None:
    """Look at certificate, ledgers, regulator and clock. Exit 0: all well; 1: see the table."""
    from hejin_coordinator.witnessing import dialled
    from hejin_trust.preflight import preflight as look
    from hejin_trust.witness import Witness

    with open_home(home) as bank, dialled(bank) as mirror:
        tell_looks(look(bank, Witness(bank, mirror)), as_json=as_json)


@says("将两个账本以及计划与轮次的证明写成普通文件交给监管方。")
def export(
    home: Home,
    folder: Annotated[
        Path, typer.Argument(), Text("Where to write the export.", "导出文件的存放目录。")
    ],
) -> None:
    """Write both ledgers, and what proves plans and rounds, as flat files for the regulator."""
    from hejin_coordinator.export import export as write
    from hejin_coordinator.witnessing import mirror_now
    from hejin_trust.errors import HejinError

    with open_home(home) as bank:
        try:
            mirror_now(bank)
        except HejinError as reason:
            tell_not_witnessed(reason)
        typer.echo(str(write(bank, folder)))


@says("从监管方镜像补回备份恢复后缺失的内容；未完成的运行就此结束。")
def recover(
    home: Home,
    approval: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False),
        Text("The regulator's approval.", "监管方的批准文件。"),
    ],
    as_json: AsJson = False,
) -> None:
    """Put back from the regulator's mirror what a restored backup has lost; open runs end."""
    from hejin_coordinator.recovery import recover as put_back
    from hejin_coordinator.witnessing import dialled
    from hejin_trust.files import held
    from hejin_trust.witness import Witness

    with held(home), open_home(home, found=False) as bank:
        bank.verify_logs()
        with dialled(bank) as mirror:
            found = put_back(bank, mirror, approval.read_bytes())
            Witness(bank, mirror).start()
    facts = {
        "entries": (Text("entries put back", "补回条目"), found.entries),
        "receipts": (Text("receipts signed again", "重新签署的回执"), found.receipts),
        "rounds": (Text("open rounds burned", "作废的未结轮次"), found.rounds),
        "plans": (Text("plans ended", "已终止的计划"), found.plans),
        "models": (Text("models lost with the disk, to be trained again", "随磁盘丢失、须重新训练"
                        "的模型"), found.models),
    }  # fmt: skip
    to_do = Text(
        "Nodes ask for their receipts by themselves; propose anew what had not ended.",
        "各节点会自行索取回执；未完成的计划请重新提出。",
    )
    tell_recovered(facts, to_do, as_json=as_json)
