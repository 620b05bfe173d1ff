"""The node's commands about its policy: show, check, init."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hejin_node.cli_options import ApproveUpTo, AsJson, Highest, Home
from hejin_trust.commands import group, says
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_models.plan_rules import Problem
    from hejin_node.policy_file import BankRules

policy_app = group(Text("Which plans this node may approve.", "计划准入策略。"))


@policy_app.command("show")
@says("显示各银行的计划可向本节点要求什么。")
def show(home: Home, as_json: AsJson = False) -> None:
    """Show what each bank's plans may ask of this node."""
    from rich.table import Table

    from hejin_node.home import read_policy
    from hejin_node.policy_file import FILE

    policy = read_policy(home / FILE)
    if as_json:
        typer.echo(json.dumps(policy.model_dump(mode="json"), ensure_ascii=False))
        return
    heads = (
        Text("bank", "银行"),
        Text("purposes", "用途"),
        Text("grade, at most", "分级上限"),
        Text("families", "模型族"),
        Text("statistics", "统计量"),
        Text("feature views", "特征视图"),
        Text("by itself", "自动批准"),
    )
    low, high = policy.size_band
    title = Text(f"size band {low}:{high}", f"规模区间 {low}:{high}")
    table = Table(*map(str, heads), title=str(title))
    for bank, rules in policy.banks.items():
        table.add_row(bank, *_cells(rules))
    if policy.default is not None:
        table.add_row(str(Text("any other", "其他银行")), *_cells(policy.default))
    print_table(table)


def _cells(rules: BankRules) -> tuple[str, ...]:
    from hejin_models.grades import GRADE_NAMES

    lists = (rules.families, rules.statistics, rules.views)
    return (
        ", ".join(rules.purposes),
        str(GRADE_NAMES[rules.grade]),
        *(", ".join(names) for names in lists),
        str(_automatic(rules)),
    )


def _automatic(rules: BankRules) -> Text:
    limits = rules.automatic
    if limits is None:
        return Text("nothing", "不自动批准")
    return Text(
        f"epsilon <= {limits.epsilon_at_most:g}, {limits.share_at_most:.0%} of the cap,"
        f" t >= {limits.colluders_at_least}",
        f"epsilon <= {limits.epsilon_at_most:g}，上限的 {limits.share_at_most:.0%}，"
        f"t >= {limits.colluders_at_least}",
    )


@policy_app.command("check")
@says("将策略与章程对照。退出码 0：相符；1：见所列各项。")
def check(
    home: Home,
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False),
        Text("Another file than the node's own.", "另一份策略文件，代替节点自己的。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a policy with the charter. Exit 0: it fits; 1: see what is listed."""
    from hejin_node.home import open_home, read_policy
    from hejin_node.policy_rules import bank_problems, charter_problems

    with open_home(home) as node:
        policy = node.policy() if file is None else read_policy(file)
        charter = node.charter
        found = charter_problems(policy, charter, node.member_id) + bank_problems(policy, charter)
    _tell(found, as_json=as_json)
    raise typer.Exit(1 if found else 0)


def _tell(found: list[Problem], *, as_json: bool) -> None:
    if as_json:
        rows = [{"code": p.code, **p.text.body()} for p in found]
        typer.echo(json.dumps({"ok": not found, "problems": rows}, ensure_ascii=False))
        return
    for problem in found:
        typer.echo(f"{problem.code}: {problem.text}")
    if not found:
        typer.echo(Text("the policy fits the charter", "策略与章程相符"))


@policy_app.command("init")
@says("在节点尚无策略时写出一份初始策略。")
def init(
    home: Home,
    approve_up_to: ApproveUpTo = None,
    grade: Highest = "important",
    as_json: AsJson = False,
) -> None:
    """Write a policy to begin with, where the node has none."""
    from hejin_node.errors import PolicyExistsError
    from hejin_node.home import open_home
    from hejin_node.policy_file import FILE, starter
    from hejin_trust.files import replace_file

    path = home / FILE
    if path.exists():
        raise PolicyExistsError(
            f"{path} is there already: edit it, or move it away first",
            f"{path} 已存在：请直接编辑，或先移走",
        )
    with open_home(home) as node:
        band = node.charter.member(node.member_id, "node").size_band
        assert band is not None, "a node of the charter has one"
        replace_file(path, starter(band, approve_up_to, grade), mode=0o600)
    said = Text(f"written to {path}", f"已写入 {path}")
    typer.echo(json.dumps({"policy": str(path)}) if as_json else said)
