"""What would keep this node from working, or a plan from being approved, told before it happens."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Final

from hejin_models.features import FeatureView
from hejin_models.grades import GRADE_NAMES, GRADES, Grade
from hejin_models.plan_rules import Problem
from hejin_models.schemas import view_grade
from hejin_node import account, inbox, offers
from hejin_node.consent import entitled
from hejin_node.home import NodeHome
from hejin_node.policy_file import Policy
from hejin_node.policy_rules import bank_problems, charter_problems
from hejin_node.readiness import data_problems
from hejin_node.views import installed_views
from hejin_privacy.accounting import epsilon
from hejin_trust.authorisation import ANY
from hejin_trust.canonical import time_from
from hejin_trust.charter import Charter
from hejin_trust.database import reading
from hejin_trust.errors import HejinError
from hejin_trust.preflight import Look
from hejin_trust.text import Text

LEAST_FREE: Final = 1 << 30
"""Bytes of free space below which a node should not go on: ledger and database grow with each sum,
and compaction writes a data set's segments anew before it removes the old ones."""

TRAINING: Final = "model-training"

Reach = Callable[[str, str], None]
"""Ask a bank, by id and HOST:PORT, whether it serves this node; raises HejinError."""


def preflight(home: NodeHome, reach: Reach) -> Iterator[Look]:
    """Look at what the node has, at its policy, banks, views and offered plans, in turn.

    Nothing is charged or sent, and no enterprise's row is read.
    """
    yield from _looks("keys", Text("key files", "密钥文件"), *_keys(home))
    yield from _looks("disk", Text("free space", "磁盘空间"), *_disk(home))
    yield from _looks("budget", Text("budget", "预算"), *_budget(home))
    try:
        policy, schemas = home.policy(), home.schemas()
    except HejinError as reason:
        yield Look("policy", Text("policy", "准入策略"), reason.text, reason.code)
        return
    charter = home.charter
    found = [*charter_problems(policy, charter, home.member_id), *bank_problems(policy, charter)]
    well = Text("fits the charter", "与章程相符")
    yield from _looks("policy", Text("policy", "准入策略"), well, found)
    yield from _banks(home, policy, reach)
    for view in installed_views(home.views_folder):
        name, what = f"view:{view.id}", Text(f"view {view.id}", f"视图 {view.id}")
        grade = view_grade(view, schemas)
        shown = GRADE_NAMES[grade]
        ready = Text(f"ready, grade {shown.en}", f"就绪，分级为{shown.zh}")
        yield from _looks(name, what, ready, list(_view(home, view, policy, grade)))
    yield from _plans(home)


def _looks(name: str, what: Text, well: Text, found: list[Problem]) -> Iterator[Look]:
    """Yield one look a problem, or the one that says that there is none."""
    if not found:
        yield Look(name, what, well)
    for problem in found:
        yield Look(name, what, problem.text, problem.code)


def _keys(home: NodeHome) -> tuple[Text, list[Problem]]:
    folder = home.path / "keys"
    files = sorted(path for path in folder.iterdir() if path.is_file())
    loose = [path.name for path in (*files, folder) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    well = Text(f"{len(files)}, for the owner alone", f"{len(files)} 个，仅所有者可读")
    if not loose:
        return well, []
    names = ", ".join(loose)
    said = Text(
        f"other users can reach {names}: chmod 700 the folder, 600 the files",
        f"其他用户可访问 {names}：请将目录设为 700、文件设为 600",
    )
    return well, [Problem("bad-key", said)]


def _disk(home: NodeHome) -> tuple[Text, list[Problem]]:
    free = shutil.disk_usage(home.path).free
    shown = f"{free / (1 << 30):.1f} GiB"
    if free >= LEAST_FREE:
        return Text(f"{shown} free", f"剩余 {shown}"), []
    said = Text(
        f"{shown} free, at least {LEAST_FREE >> 30} GiB are wanted: make room",
        f"剩余 {shown}，应不少于 {LEAST_FREE >> 30} GiB：请清理磁盘",
    )
    return said, [Problem("disk-low", said)]


def _budget(home: NodeHome) -> tuple[Text, list[Problem]]:
    charter, delta = home.charter, float(home.charter.delta)
    with reading(home.database) as connection:
        spent = account.spent(connection, charter.period_from)
        alone = account.alone_spent(connection, charter.period_from)
    cap = epsilon(charter.rho_cap, delta)
    so_far = epsilon(spent, delta) if spent else 0.0
    well = Text(
        f"epsilon {so_far:.4f} of {cap:.4f} charged, until {charter.period_to}",
        f"已计 epsilon {so_far:.4f}，上限 {cap:.4f}，至 {charter.period_to}",
    )
    left = min(charter.rho_cap - spent, charter.rho_alone_cap - alone)
    if left <= Fraction(0):
        said = Text("the period's budget is spent", "本期预算已用尽")
        return well, [Problem("budget-exhausted", said)]
    if not time_from(charter.period_from) <= home.now() < time_from(charter.period_to):
        said = Text(
            f"the charter's budget period is {charter.period_from} to {charter.period_to}: no plan"
            " passes now",
            f"章程的预算期为 {charter.period_from} 至 {charter.period_to}：当前不能批准任何计划",
        )
        return well, [Problem("outside-period", said)]
    return well, []


def _banks(home: NodeHome, policy: Policy, reach: Reach) -> Iterator[Look]:
    banks = home.settings.banks
    if not banks:
        said = Text(
            "no bank's address is known: `hejin node join ADMISSION --bank ID=HOST:PORT`",
            "尚未设置任何银行的地址：请执行 `hejin node join ADMISSION --bank ID=HOST:PORT`",
        )
        yield Look("banks", Text("banks", "银行"), said, "no-bank")
    labelled = {part.dataset.partition("/")[0] for part in home.warehouse.segments("labels")}
    for bank, address in banks.items():
        name, what = f"bank:{bank}", Text(f"bank {bank}", f"银行 {bank}")
        found: list[Problem] = []
        if policy.rules(bank) is None:
            said = Text("the policy has no rules for it", "策略中没有适用于该银行的规则")
            found.append(Problem("policy-bank", said))
        if bank not in labelled:
            said = Text(
                "no outcomes of its borrowers are loaded: match or load labels",
                "尚未载入其借款企业的标签：请以隐私求交获取，或载入标签",
            )
            found.append(Problem("no-labels", said))
        try:
            reach(bank, address)
        except HejinError as reason:
            found.append(Problem(reason.code, reason.text))
        yield from _looks(name, what, Text("answers", "有应答"), found)


def _view(home: NodeHome, view: FeatureView, policy: Policy, grade: Grade) -> Iterator[Problem]:
    """Yield what stands against plans of any bank over an installed view."""
    with reading(home.database) as connection:
        yield from data_problems(home, view)
        for bank in home.settings.banks:
            yield from _allowed(policy, bank, view, grade)
            count = len(
                entitled(
                    connection,
                    purpose=TRAINING,
                    bank=bank,
                    categories={dataset.category for dataset in view.datasets},
                    features=[feature.name for feature in view.features],
                    at=home.now(),
                )
            )
            if count < home.charter.minimum_enterprises:
                yield _too_few(bank, count, home.charter)


def _allowed(policy: Policy, bank: str, view: FeatureView, grade: Grade) -> Iterator[Problem]:
    rules = policy.rules(bank)
    if rules is None:
        return
    if TRAINING not in rules.purposes:
        said = f"the policy does not allow {bank} the purpose {TRAINING}"
        yield Problem("policy-purpose", Text(said, f"策略不允许 {bank} 使用用途 {TRAINING}"))
    if view.id not in rules.views and ANY not in rules.views:
        said = f"the policy does not allow it to {bank}"
        yield Problem("policy-view", Text(said, f"策略不允许 {bank} 使用"))
    if GRADES.index(grade) > GRADES.index(rules.grade):
        here, allowed = GRADE_NAMES[grade], GRADE_NAMES[rules.grade]
        said = f"it reads data of grade {here.en}, the policy allows {bank} at most {allowed.en}"
        yield Problem(
            "policy-grade",
            Text(said, f"所读数据的分级为{here.zh}，策略允许 {bank} 最高为{allowed.zh}"),
        )


def _too_few(bank: str, count: int, charter: Charter) -> Problem:
    least = charter.minimum_enterprises
    return Problem(
        "too-few-authorisations",
        Text(
            f"{count} authorisations cover it for {bank}, the charter's least size is {least}",
            f"对 {bank} 有 {count} 份授权覆盖，章程的最小规模为 {least}",
        ),
    )


def _plans(home: NodeHome) -> Iterator[Look]:
    """Yield what the dry run says of each plan that waits for an answer."""
    with reading(home.database) as connection:
        waiting = [one for one in inbox.offers(connection) if one.answer == "offered"]
    for offer in waiting:
        if home.now() >= offer.plan.expires:
            continue
        short, bank = offer.digest[:16], offer.plan.bank
        name, what = f"plan:{short}", Text(f"plan {short} of {bank}", f"{bank} 的计划 {short}")
        found = offers.dry_run(home, offer)
        reasons = list(found.problems)
        if found.entitled < home.charter.minimum_enterprises:
            reasons.append(_too_few(bank, found.entitled, home.charter))
        if found.labelled == 0:
            definition = offer.plan.label.definition
            said = Text(
                f"no enterprise has an outcome under {definition}",
                f"没有企业具有 {definition} 定义下的标签",
            )
            reasons.append(Problem("no-labels", said))
        waits = found.waits[0] if found.waits else Text("", "")
        well = (
            Text("the node approves it by itself", "节点将自动批准")
            if found.automatic
            else Text(
                f"can be approved, by the operator: {waits.en}", f"可由运营方批准：{waits.zh}"
            )
        )
        yield from _looks(name, what, well, reasons)
