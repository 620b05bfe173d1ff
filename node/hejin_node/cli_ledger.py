"""The node's commands about its ledgers, and its preflight: preflight, export, recover."""

from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from hejin_node.appending import dialled
from hejin_node.cli_options import AsJson, Home
from hejin_node.home import open_home
from hejin_trust.cli_witness import tell_looks, tell_not_witnessed, tell_recovered
from hejin_trust.commands import says
from hejin_trust.text import Text


@says(
    "检查会妨碍节点工作或计划通过的事项。退出码 0：没有；1：见所列各项。\n\n"
    "检查证书、账本、监管方、时钟、密钥、磁盘、预算、策略、银行、已安装的视图与收到的计划。不计费，也不发送任何数据。"
)
def preflight(home: Home, as_json: AsJson = False) -> None:
    """Tell what would keep the node from working or a plan from passing. Exit 0: nothing; 1: see.

    Looks at certificate, ledgers, regulator, clock, keys, disk, budget, policy, banks, installed
    views and offered plans. Nothing is charged or sent.
    """
    from hejin_node.preflight import preflight as look_at_node
    from hejin_node.reach import reach
    from hejin_trust.preflight import preflight as look_at_member
    from hejin_trust.witness import Witness

    with open_home(home) as node, dialled(node) as mirror:
        member = look_at_member(node, Witness(node, mirror))
        tell_looks(chain(member, look_at_node(node, partial(reach, node))), as_json=as_json)


@says("将两个账本写成普通文件交给监管方：目录/成员/……")
def export(
    home: Home,
    folder: Annotated[
        Path, typer.Argument(), Text("Where to write the export.", "导出文件的存放目录。")
    ],
) -> None:
    """Write both ledgers as flat files for the regulator: FOLDER/MEMBER/..."""
    from hejin_node.export import export as write
    from hejin_trust.errors import HejinError
    from hejin_trust.witness import Witness

    with open_home(home) as node:
        try:
            with dialled(node) as mirror:
                Witness(node, mirror).start()
        except HejinError as reason:
            tell_not_witnessed(reason)
        typer.echo(str(write(node, folder)))


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
    from hejin_node.recovery import recover as put_back
    from hejin_trust.files import held
    from hejin_trust.witness import Witness

    with held(home), open_home(home, found=False) as node:
        node.verify_logs()
        with dialled(node) as mirror:
            found = put_back(node, mirror, approval.read_bytes())
            Witness(node, mirror).start()
    facts = {
        "entries": (Text("entries put back", "补回条目"), found.entries),
        "reservations": (Text("reservations put back, all charged", "补回预留（均已计费）"),
                         found.reservations),
        "unknown": (Text("of these, waiting for the bank's word", "其中待银行答复"), found.unknown),
        "authorisations": (Text("authorisations put back", "补回授权"), found.authorisations),
        "lapsed": (Text("authorisations to be granted again", "须重新授予的授权"), found.lapsed),
        "runs": (Text("open runs ended", "已终止的运行"), found.runs),
    }  # fmt: skip
    to_do = Text(
        "Data and labels ingested after the backup are not in the mirror: ingest them again.",
        "备份之后导入的数据与标签不在镜像中：请重新导入。",
    )
    tell_recovered(facts, to_do, as_json=as_json)
