"""V7: every reservation rests on a plan that was approved, in force and open to its parties."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hejin_models.plan_rules import plan_problems, view_problems
from hejin_models.schemas import shipped_schemas
from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import fraction, rational, text
from hejin_regulator.plans import KnownPlan, PlanBook
from hejin_regulator.records import Approval, Priced, Reservation
from hejin_regulator.workbook import Shelf
from hejin_trust.canonical import time_from, time_text
from hejin_trust.entries import Entry
from hejin_trust.errors import HejinError
from hejin_trust.text import Text

_MOST_JUDGED: Final = 4096
_RHOS: Final = ("rho", "rho_train", "rho_holdout")


class PlanCheck:
    """The reservations of one node against plans, approvals and the charter."""

    def __init__(self, evidence: Evidence, plans: PlanBook, node: str) -> None:
        self._evidence, self._plans, self._node = evidence, plans, node
        self._approvals: Shelf[Approval] = Shelf(
            evidence.workbook, "approvals", _dump_approval, _load_approval, 256
        )
        self._banks: Shelf[str] = Shelf(evidence.workbook, "banks", str, str, 256)
        self._judged: dict[tuple[str, str, bytes, frozenset[int]], tuple[Text, ...]] = {}

    def approve(self, entry: Entry) -> None:
        """Take a `plan.approve` entry; the first one of a plan counts."""
        body = entry.body
        key = f"{text(body, 'bank')}/{text(body, 'plan')}"
        if self._approvals.get(key) is None:
            self._approvals.put(
                key, Approval(entry.seq, tuple(rational(body, name) for name in _RHOS))
            )
            if self.bank_of(text(body, "plan")) is None:
                self._banks.put(text(body, "plan"), text(body, "bank"))
        known = self._plans.find(text(body, "bank"), text(body, "plan"))
        if known is not None:
            self._check_approved(entry, known)

    def _check_approved(self, entry: Entry, known: KnownPlan) -> None:
        """A node approves what its own policy lets pass, under the charter of then."""
        bank, charter = text(entry.body, "bank"), known.charter
        told: list[Text] = []
        if charter not in self._evidence.history.in_force(entry.time):
            told.append(
                Text(
                    f"the plan was made under charter {charter.serial}, which was not in force "
                    "when it was approved",
                    f"计划依据第 {charter.serial} 号章程，而批准时该章程并非现行",
                )
            )
        at = time_from(entry.time)
        problems = plan_problems(known.plan, bank, self._node, charter, at)
        if known.view is not None:
            problems += view_problems(known.plan, known.view, shipped_schemas())
        told += [
            Text(
                f"a plan was approved that no node may approve: {problem.text.en}",
                f"批准了节点不得批准的计划：{problem.text.zh}",
            )
            for problem in problems
        ]
        for reason in told:
            self._note(entry.seq, reason, bank, known.digest)

    def refuse(self, entry: Entry) -> None:
        """Take a `plan.refuse` entry: nothing is reserved for the plan from then on."""
        key = f"{text(entry.body, 'bank')}/{text(entry.body, 'plan')}"
        self._approvals.put(key, Approval(entry.seq, (), refused=True))

    def bank_of(self, plan: str) -> str | None:
        """Return the bank whose plan was approved first under a digest."""
        return self._banks.get(plan)

    def check(self, reservation: Reservation) -> KnownPlan | None:
        """Return the plan of a reservation, all of V7 that concerns both checked."""
        known = self._plans.find(reservation.bank, reservation.plan)
        if known is None:
            self._note(
                reservation.seq,
                Text("the reservation rests on no valid plan", "该预留没有有效的计划"),
            )
            return None
        approval = self._approvals.get(f"{reservation.bank}/{reservation.plan}")
        for fault in (
            *self._faults(reservation, known, approval),
            *self._sum_faults(reservation, known),
        ):
            self._note(reservation.seq, fault, reservation.bank, known.digest)
        self.check_time(reservation.seq, reservation.time, reservation.bank, known)
        return known

    def check_time(self, seq: int, time: str, bank: str, known: KnownPlan) -> None:
        """Check that plan and parties were in force when a sum was reserved, renewed or sent."""
        if time >= time_text(known.plan.expires):
            self._note(seq, Text("the plan had expired", "当时该计划已过期"), bank, known.digest)
        history = self._evidence.history
        if not history.admitted(bank, "bank", time):
            self._note(
                seq,
                Text(
                    f"{bank} was not admitted at {time}, or its certificate had been revoked",
                    f"{bank} 在 {time} 未获准入或其证书已被撤销",
                ),
            )
        if not history.admitted(self._node, "node", time):
            self._note(
                seq,
                Text(
                    f"the node was not admitted at {time}, or its certificate had been revoked",
                    f"该节点在 {time} 未获准入或其证书已被撤销",
                ),
            )

    def _note(self, seq: int, reason: Text, bank: str = "", digest: str = "") -> None:
        evidence = (f"{bank}/documents/{digest}.json",) if digest else ()
        self._evidence.notes.add_text("V7", self._node, seq, reason, evidence=evidence)

    def _faults(
        self, reservation: Reservation, known: KnownPlan, approval: Approval | None
    ) -> Iterator[Text]:
        plan = known.plan
        if approval is None:
            yield Text("the plan was not approved before", "该计划此前未获批准")
        elif approval.refused:
            yield Text(
                f"the node had refused the plan in entry {approval.seq}",
                f"该节点已在条目 {approval.seq} 中拒绝该计划",
            )
        elif approval.rhos != (plan.rho, plan.rho_train, plan.rho_holdout):
            yield Text("the approval names another cost than the plan", "批准所列费用与计划不符")
        if self._node not in plan.nodes:
            yield Text("the node is not in the plan", "该节点不在计划之内")
        if reservation.split_key_hash != known.split_key_hash:
            yield Text(
                "the hold-out split is not the one that plan and charter fix",
                "留出划分与计划及章程所定不符",
            )

    def _sum_faults(self, reservation: Reservation, known: KnownPlan) -> tuple[Text, ...]:
        """Return what is wrong with the sum; nodes log the same one many times."""
        if isinstance(reservation.priced, HejinError):
            return ()  # a finding of V8
        charters = self._evidence.history.in_force(reservation.time)
        r = frozenset(charter.r for charter in charters)
        key = (known.digest, reservation.part, reservation.mechanism, r)
        found = self._judged.get(key)
        if found is None:
            if len(self._judged) >= _MOST_JUDGED:
                self._judged.clear()
            found = (
                *sum_faults(reservation.priced, reservation.part, known),
                *_r_faults(reservation.priced, r),
            )
            self._judged[key] = found
        return found


def sum_faults(priced: Priced, part: str, known: KnownPlan) -> Iterator[Text]:
    """Yield why a mechanism is not that of one of a plan's sums."""
    plan, mechanism = known.plan, priced.mechanism
    if not any(
        (planned.statistic, planned.version, planned.part)
        == (mechanism.statistic, mechanism.version, part)
        and priced.cost <= planned.rho
        for planned in plan.sums
    ):
        yield Text(
            "the plan has no such sum, or not at that cost", "计划中没有该求和，或费用超出计划"
        )
    sizes = (mechanism.mode, mechanism.n, mechanism.tau, mechanism.m, mechanism.t)
    shared = plan.mode == "shared"
    if sizes != (
        plan.mode,
        len(plan.nodes),
        plan.quorum,
        plan.minimum_nodes if shared else 0,
        plan.colluders,
    ):
        yield Text(
            "noise mode, number of nodes or thresholds are not those of the plan",
            "噪声模式、节点数或门限与计划不符",
        )


def _r_faults(priced: Priced, allowed: frozenset[int]) -> Iterator[Text]:
    """Yield a fault unless an enterprise counts in as many nodes as the charter of then says."""
    if priced.mechanism.r not in allowed:
        yield Text(
            f"the sum counts on an enterprise in {priced.mechanism.r} nodes, which was not the "
            "charter's r then",
            f"该求和按每家企业至多属于 {priced.mechanism.r} 个节点计算，与当时章程的 r 不符",
        )


def _dump_approval(approval: Approval) -> str:
    told = (f"{rho.numerator}/{rho.denominator}" for rho in approval.rhos)
    return " ".join((str(approval.seq), str(int(approval.refused)), *told))


def _load_approval(value: str) -> Approval:
    seq, refused, *told = value.split(" ")
    return Approval(int(seq), tuple(fraction(*rho.split("/")) for rho in told), refused == "1")
