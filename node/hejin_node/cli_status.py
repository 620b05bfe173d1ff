"""The node's command about itself: status."""

from __future__ import annotations

import json

import typer

from hejin_node.cli_options import AsJson, Home
from hejin_trust.commands import says
from hejin_trust.listing import print_table
from hejin_trust.text import Text

_LABELS = {
    "member": Text("member", "成员"),
    "charter": Text("charter", "章程序号"),
    "rho_spent": Text("rho spent", "已用 rho"),
    "rho_cap": Text("rho cap", "rho 上限"),
    "epsilon_spent": Text("epsilon spent", "已用 epsilon"),
    "epsilon_cap": Text("epsilon cap", "epsilon 上限"),
    "epsilon_alone_spent": Text(
        "epsilon spent if all other nodes colluded", "若其他节点全部合谋，已用 epsilon"
    ),
    "epsilon_alone_cap": Text("cap of that", "其上限"),
    "delta": Text("at delta", "delta"),
    "release_log": Text("entries of the release log", "发布账本条目"),
    "internal_log": Text("entries of the internal log", "内部账本条目"),
    "authorised": Text("enterprises with an authorisation in force", "授权有效的企业"),
    "views": Text("feature views", "特征视图"),
    "plans_waiting": Text("plans that wait for an answer", "等待答复的计划"),
}


@says("显示预算账户、账本、授权、视图、计划、数据集与标签。")
def status(home: Home, as_json: AsJson = False) -> None:
    """Show budget account, ledgers, authorisations, views, plans, data sets and outcomes."""
    from rich.table import Table

    from hejin_node import account, consent, inbox
    from hejin_node.home import open_home
    from hejin_node.views import installed_views
    from hejin_privacy.accounting import epsilon
    from hejin_trust.database import reading

    with open_home(home) as node:
        charter = node.charter
        delta = float(charter.delta)
        with reading(node.database) as connection:
            spent = account.spent(connection, charter.period_from)
            alone = account.alone_spent(connection, charter.period_from)
            sizes = [log.size(connection) for log in (node.release_log, node.internal_log)]
            authorised = consent.count_in_force(connection, node.now())
            waiting = sum(offer.answer == "offered" for offer in inbox.offers(connection))
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
            "authorised": authorised,
            "views": [view.id for view in installed_views(node.views_folder)],
            "plans_waiting": waiting,
        }
        datasets = {item.name: item.rows for item in node.warehouse.datasets()}
        labels: dict[str, int] = {}
        for part in node.warehouse.segments("labels"):
            labels[part.dataset] = labels.get(part.dataset, 0) + part.rows
    if as_json:
        typer.echo(
            json.dumps({**facts, "datasets": datasets, "labels": labels}, ensure_ascii=False)
        )
        return
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(str(_LABELS[name]), _shown(value))
    for name, rows in datasets.items():
        table.add_row(str(Text(f"rows of {name}", f"{name} 行数")), f"{rows:,}")
    for name, rows in labels.items():
        table.add_row(str(Text(f"outcomes {name}", f"标签 {name}")), f"{rows:,}")
    print_table(table)
    typer.echo(
        Text(
            "The guarantee is the cap; what is spent so far is only a reading of the odometer.",
            "保证以上限为准；“已用”只是当前读数。",
        )
    )


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(value) if isinstance(value, list) else str(value)
