"""V7: plans are signed, approved and within the charter; authorisations were in force."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hejin_models.plan import Plan
from hejin_privacy.holdout import split_key
from hejin_privacy.mechanism import Mechanism
from hejin_regulator.evidence import Evidence
from hejin_regulator.records import Approval, BankLog, NodeLog, Reservation
from hejin_trust.canonical import time_text
from hejin_trust.charter import Charter
from hejin_trust.envelope import PLAN, open_envelope
from hejin_trust.errors import HejinError
from hejin_trust.text import Text


@dataclass(frozen=True, slots=True)
class KnownPlan:
    """A plan whose envelope was verified.

    split_key_hash  what its reservations must name
    charter         the charter it was made under
    """

    plan: Plan
    split_key_hash: str
    charter: Charter


class PlanBook:
    """The plans of all banks, each looked up once in its bank's part of the export."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._known: dict[tuple[str, str], KnownPlan | None] = {}

    def find(self, bank: str, digest: str) -> KnownPlan | None:
        """Return a plan; None, and a finding the first time, if it is missing or not valid."""
        key = (bank, digest)
        if key not in self._known:
            self._known[key] = self._load(bank, digest)
        return self._known[key]

    def _load(self, bank: str, digest: str) -> KnownPlan | None:
        notes, log = self._evidence.notes, self._evidence.banks.get(bank)
        if log is None:
            notes.add(
                "V7",
                bank,
                None,
                "the log of the bank that a plan names is not in the export",
                "导出中没有计划所指银行的日志",
            )
            return None
        try:
            opened = open_envelope(log.export.document(digest), PLAN, log.member.identity_key, bank)
            plan = Plan.parse(opened.body)
        except HejinError as reason:
            notes.add_text("V7", bank, None, reason.text)
            return None
        charter = self._evidence.charters.get(plan.charter)
        for fault in _plan_faults(plan, opened.digest, digest, log, charter):
            notes.add_text("V7", bank, None, fault)
        if charter is None:
            return None
        hashed = hashlib.sha256(split_key(digest, charter.nonce)).hexdigest()
        return KnownPlan(plan, hashed, charter)


def _plan_faults(
    plan: Plan, found: str, digest: str, bank: BankLog, charter: Charter | None
) -> list[Text]:
    """Return what is wrong with a plan in itself and under the charter it names."""
    short = digest[:12]
    if found != digest:
        return [Text(f"document {short} is another plan", f"文件 {short} 是另一份计划")]
    if charter is None:
        return [
            Text(
                f"plan {short} was made under a charter that is not in the export: "
                "add it to charters/",
                f"计划 {short} 依据的章程不在导出中：请放入 charters/",
            )
        ]
    faults: list[Text] = []
    if bank.plans.get(digest) != (plan.purpose, plan.family):
        faults.append(
            Text(
                f"plan {short} is not in the bank's log as it was signed",
                f"银行日志中没有与签名一致的计划 {short}",
            )
        )
    if plan.consortium != charter.consortium or plan.bank != bank.member.id:
        faults.append(
            Text(f"plan {short} names another bank or consortium", f"计划 {short} 的银行或联盟不符")
        )
    nodes = {member.id for member in charter.members if member.role == "node"}
    if not nodes.issuperset(plan.nodes):
        faults.append(
            Text(f"plan {short} names nodes outside the charter", f"计划 {short} 含章程外的节点")
        )
    if plan.minimum_nodes < charter.minimum_nodes:
        faults.append(
            Text(
                f"plan {short} allows {plan.minimum_nodes} nodes, "
                f"the charter asks for {charter.minimum_nodes}",
                f"计划 {short} 允许 {plan.minimum_nodes} 个节点，"
                f"章程要求至少 {charter.minimum_nodes} 个",
            )
        )
    if plan.rho > charter.rho_cap:
        faults.append(
            Text(f"plan {short} costs more than the charter's cap", f"计划 {short} 超过章程上限")
        )
    if plan.rho_alone(charter.r) > charter.rho_alone_cap:
        faults.append(
            Text(
                f"plan {short} costs more than the charter's cap if all other nodes colluded",
                f"若其他节点全部合谋，计划 {short} 超过章程为此设定的上限",
            )
        )
    return faults


def check_plans(evidence: Evidence, plans: PlanBook, node: NodeLog) -> None:
    """Compare every reservation of a node with its plan and the operator's approval."""
    for reservation in node.reservations.values():
        known = plans.find(reservation.bank, reservation.plan)
        if known is None:
            evidence.notes.add(
                "V7",
                node.member.id,
                reservation.seq,
                "no valid plan is in the export for the reservation",
                "导出中没有该预留所依据的有效计划",
            )
            continue
        approval = node.approvals.get((reservation.plan, reservation.bank))
        for fault in _reservation_faults(node.member.id, reservation, known, approval):
            evidence.notes.add_text("V7", node.member.id, reservation.seq, fault)


def _reservation_faults(
    name: str, reservation: Reservation, known: KnownPlan, approval: Approval | None
) -> list[Text]:
    plan, mechanism = known.plan, reservation.mechanism
    faults: list[Text] = []
    if approval is None or approval.seq >= reservation.seq:
        faults.append(Text("the plan was not approved before", "该计划此前未获批准"))
    elif (approval.rho, approval.rho_train, approval.rho_holdout) != (
        plan.rho,
        plan.rho_train,
        plan.rho_holdout,
    ):
        faults.append(
            Text("the approval names another cost than the plan", "批准所列费用与计划不符")
        )
    if name not in plan.nodes:
        faults.append(Text("the node is not in the plan", "该节点不在计划之内"))
    if reservation.time >= time_text(plan.expires):
        faults.append(Text("the plan had expired", "当时该计划已过期"))
    if reservation.split_key_hash != known.split_key_hash:
        faults.append(
            Text(
                "the hold-out split is not the one that plan and charter fix",
                "留出划分与计划及章程所定不符",
            )
        )
    if mechanism is not None and not any(
        (planned.statistic, planned.version, planned.part)
        == (mechanism.statistic, mechanism.version, reservation.part)
        and mechanism.cost() <= planned.rho
        for planned in plan.sums
    ):
        faults.append(
            Text(
                "the plan has no such sum, or not at that cost", "计划中没有该求和，或费用超出计划"
            )
        )
    if mechanism is not None and _sizes(mechanism) != (
        plan.mode,
        len(plan.nodes),
        plan.quorum,
        plan.minimum_nodes if plan.mode == "shared" else 0,
        plan.colluders,
        known.charter.r,
    ):
        faults.append(
            Text(
                "noise mode, number of nodes, thresholds or r are not those of plan and charter",
                "噪声模式、节点数、门限或 r 与计划及章程不符",
            )
        )
    return faults


def _sizes(mechanism: Mechanism) -> tuple[str, int, int, int, int, int]:
    return (
        mechanism.mode, mechanism.n, mechanism.tau, mechanism.m, mechanism.t, mechanism.r
    )  # fmt: skip
