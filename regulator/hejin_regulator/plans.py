"""V7: the plans of all banks, each looked up once in its bank's part of the export and judged."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from hejin_models.features import FeatureView
from hejin_models.plan import Plan
from hejin_privacy.holdout import split_key
from hejin_regulator.evidence import Evidence
from hejin_regulator.workbook import Shelf
from hejin_trust import canonical
from hejin_trust.charter import Charter, Member
from hejin_trust.envelope import PLAN, open_envelope
from hejin_trust.errors import HejinError
from hejin_trust.export import ExportError
from hejin_trust.text import Text

_MOST: Final = 4_096
"""Plans at hand, of some 2 kB each: every node's log goes through all of them."""
_MOST_VIEWS: Final = 32


@dataclass(frozen=True, slots=True)
class KnownPlan:
    """A plan whose envelope was verified.

    split_key_hash  what its reservations must name
    charter         the charter it was made under
    view            its feature view; None, and a finding, if that is missing or another one
    categories      kinds of data that the view reads, sorted
    """

    digest: str
    plan: Plan
    split_key_hash: str
    charter: Charter
    view: FeatureView | None
    categories: tuple[str, ...]


class PlanBook:
    """The plans of all banks; what is wrong with one is noted when it is first looked up."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        # The verified body of every plan that was looked up; "" of those that are not valid.
        self._judged: Shelf[str] = Shelf(evidence.workbook, "plans", str, str, _MOST_VIEWS)
        self._plans: OrderedDict[tuple[str, str], KnownPlan | None] = OrderedDict()
        self._views: OrderedDict[tuple[str, str], FeatureView | None] = OrderedDict()
        self._common: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def find(self, bank: str, digest: str) -> KnownPlan | None:
        """Return a plan; None, and a finding the first time, if it is missing or not valid."""
        key = (bank, digest)
        if key in self._plans:
            self._plans.move_to_end(key)
        else:
            self._plans[key] = self._load(bank, digest)
            if len(self._plans) > _MOST:
                self._plans.popitem(last=False)
        return self._plans[key]

    def _load(self, bank: str, digest: str) -> KnownPlan | None:
        key = f"{bank}/{digest}"
        body = self._judged.get(key)
        first = body is None
        if body is None:
            body = self._judge(bank, digest)
            self._judged.put(key, body)
        if body == "":
            return None
        plan = self._slim(Plan.parse(canonical.decode(body.encode())))
        charter = self._evidence.history.by_digest.get(plan.charter)
        if charter is None:
            return None
        view = self._view(bank, plan, first)
        hashed = hashlib.sha256(split_key(digest, charter.nonce)).hexdigest()
        categories = () if view is None else tuple(sorted({d.category for d in view.datasets}))
        return KnownPlan(digest, plan, hashed, charter, view, categories)

    def _slim(self, plan: Plan) -> Plan:
        """Return a plan that shares with others what they have in common: sums and nodes."""
        if len(self._common) > _MOST_VIEWS:
            self._common.clear()
        sums = self._common.setdefault(plan.sums, plan.sums)
        nodes = self._common.setdefault(plan.nodes, plan.nodes)
        return replace(plan, sums=sums, nodes=nodes)

    def _judge(self, bank: str, digest: str) -> str:
        """Return the signed body of a plan as text, or "" where nothing can rest on it."""
        notes, member = self._evidence.notes, self._evidence.history.member(bank, "bank")
        file = f"{bank}/documents/{digest}.json"
        if member is None:
            notes.add(
                "V7",
                bank,
                None,
                "the log of the bank that a plan names is not in the export",
                "导出中没有计划所指银行的日志",
            )
            return ""
        try:
            document = self._evidence.export(bank).document(digest)
            opened = open_envelope(document, PLAN, member.identity_key, bank)
            plan = Plan.parse(opened.body)
        except HejinError as reason:
            notes.add_text("V7", bank, None, reason.text, evidence=(file,))
            return ""
        for fault in self._faults(plan, opened.digest, digest, member):
            notes.add_text("V7", bank, None, fault, evidence=(file,))
        return opened.payload.decode() if opened.digest == digest else ""

    def _faults(self, plan: Plan, found: str, digest: str, bank: Member) -> Iterator[Text]:
        """Yield what is wrong with a plan in itself and under the charter it names."""
        short = digest[:12]
        if found != digest:
            yield Text(f"document {short} is another plan", f"文件 {short} 是另一份计划")
            return
        logged = self._evidence.workbook.row(
            "SELECT purpose, family FROM plan WHERE bank = ? AND digest = ?", bank.id, digest
        )
        if logged != (plan.purpose, plan.family):
            yield Text(
                f"plan {short} is not in the bank's log as it was signed",
                f"银行日志中没有与签名一致的计划 {short}",
            )
        charter = self._evidence.history.by_digest.get(plan.charter)
        if charter is None:
            yield Text(
                f"plan {short} was made under a charter that is not in the export: "
                "add it to charters/",
                f"计划 {short} 依据的章程不在导出中：请放入 charters/",
            )
            return
        yield from _charter_faults(plan, short, charter, bank)

    def _view(self, bank: str, plan: Plan, first: bool) -> FeatureView | None:
        """Return a plan's feature view; what is wrong with it is noted the first time."""
        key = (bank, plan.view.sha256)
        known = key in self._views
        if known:
            self._views.move_to_end(key)
        if known and not (first and self._views[key] is None):
            return self._views[key]
        self._evidence.workbook.put("named", bank, f"{plan.view.sha256}.view")
        try:
            data = self._evidence.export(bank).view(plan.view.sha256)
            if hashlib.sha256(data).hexdigest() != plan.view.sha256:
                raise _another_view()
            view: FeatureView | None = FeatureView.parse(data)
        except HejinError as reason:
            view = None
            if first:
                self._evidence.notes.add_text(
                    "V7",
                    bank,
                    None,
                    reason.text,
                    evidence=(f"{bank}/documents/{plan.view.sha256}.view",),
                )
        self._views[key] = view
        if len(self._views) > _MOST_VIEWS:
            self._views.popitem(last=False)
        return view


def _another_view() -> ExportError:
    return ExportError(
        "The feature view of a plan is another one than the plan names: export the bank again.",
        "计划的特征视图与计划所指不同：请重新导出该银行。",
    )


def _charter_faults(plan: Plan, short: str, charter: Charter, bank: Member) -> Iterator[Text]:
    if plan.consortium != charter.consortium or plan.bank != bank.id:
        yield Text(
            f"plan {short} names another bank or consortium", f"计划 {short} 的银行或联盟不符"
        )
    nodes = {member.id for member in charter.members if member.role == "node"}
    if not nodes.issuperset(plan.nodes):
        yield Text(f"plan {short} names nodes outside the charter", f"计划 {short} 含章程外的节点")
    if plan.minimum_nodes < charter.minimum_nodes:
        yield Text(
            f"plan {short} allows {plan.minimum_nodes} nodes, "
            f"the charter asks for {charter.minimum_nodes}",
            f"计划 {short} 允许 {plan.minimum_nodes} 个节点，"
            f"章程要求至少 {charter.minimum_nodes} 个",
        )
    if plan.rho > charter.rho_cap:
        yield Text(f"plan {short} costs more than the charter's cap", f"计划 {short} 超过章程上限")
    if plan.rho_alone(charter.r) > charter.rho_alone_cap:
        yield Text(
            f"plan {short} costs more than the charter's cap if all other nodes colluded",
            f"若其他节点全部合谋，计划 {short} 超过章程为此设定的上限",
        )
