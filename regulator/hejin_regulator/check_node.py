"""Read a node's two logs side by side and put every entry before the checks that follow it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from hejin_regulator.check_accounts import AccountCheck
from hejin_regulator.check_budget import AccountReplay
from hejin_regulator.check_consent import ConsentCheck
from hejin_regulator.check_labels import LabelCheck
from hejin_regulator.check_plans import PlanCheck
from hejin_regulator.check_receipts import OpenedNote, ReceiptCheck
from hejin_regulator.check_recovery import RecoveryCheck
from hejin_regulator.check_reservations import ReservationCheck, Standing
from hejin_regulator.check_runs import RunCheck
from hejin_regulator.check_signatures import SignatureCheck
from hejin_regulator.evidence import Evidence, LogReader
from hejin_regulator.fields import number, text
from hejin_regulator.findings import Point, RefusalCount, Spending, VoidCount
from hejin_regulator.notebook import place
from hejin_regulator.plans import PlanBook
from hejin_regulator.records import Release, Reservation
from hejin_regulator.runs import RunBook
from hejin_regulator.workbook import Shelf
from hejin_trust.charter import Member
from hejin_trust.entries import Entry

_Kind = TypeVar("_Kind")
_MOST_KINDS: Final = 10_000
"""Kinds of refusals, or of voids, that are counted one by one: codes and peers are few."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What is told of a node beside findings."""

    node: str
    spending: tuple[Spending, ...]
    course: tuple[Point, ...]
    refusals: tuple[RefusalCount, ...]
    voids: tuple[VoidCount, ...]


class NodeCheck:
    """One node: V1 to V4 and V7 to V10 of its logs, and its side of V5 and V6."""

    def __init__(
        self,
        evidence: Evidence,
        plans: PlanBook,
        runs: RunBook,
        opened: Shelf[OpenedNote],
        node: Member,
    ) -> None:
        self._evidence, self._node, self._name = evidence, node, node.id
        self._plans = PlanCheck(evidence, plans, node.id)
        self._runs = RunCheck(evidence, runs, node.id)
        self._reservations = ReservationCheck(evidence, node.id)
        self._receipts = ReceiptCheck(evidence, opened, node.id)
        self._consent = ConsentCheck(evidence, plans, node.id)
        self._signatures = SignatureCheck(evidence, node)
        self._labels = LabelCheck(evidence, node)
        self._recoveries = RecoveryCheck(evidence, node, "release")
        self._replay = AccountReplay(evidence, node.id)
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._voids: Counter[str] = Counter()
        self._steps: dict[str, Callable[[Entry], None]] = {
            "plan.approve": self._plans.approve,
            "plan.refuse": self._plans.refuse,
            "snapshot": self._snapshot,
            "reserve": self._reserve,
            "renew": self._renew,
            "release": self._release,
            "void": self._void,
            "receipt": self._receipts.receive,
            "result": self._runs.note_result,
            "recover": self._recover,
            "labels.ask": self._labels.ask,
        }

    def read(self) -> NodeReport:
        """Read and check everything."""
        self._accounts = AccountCheck(self._evidence.notes, self._name, self._internal())
        for entry, seen in LogReader(self._evidence, self._node, "release").entries():
            self._take(entry)
            if seen is not None:
                self._reservations.cover(seen)
        self._accounts.finish()
        self._reservations.finish()
        self._receipts.finish()
        self._consent.finish()
        self._labels.finish(self._consent)
        self._replay.finish()
        return self._report()

    def _take(self, entry: Entry) -> None:
        step = self._steps.get(entry.type)
        if step is not None:
            step(entry)

    def _snapshot(self, entry: Entry) -> None:
        self._runs.snapshot(entry)
        self._consent.take(entry, self._plans.bank_of(text(entry.body, "plan")))

    def _recover(self, entry: Entry) -> None:
        self._recoveries.see(entry)
        self._runs.recover(entry.seq)
        self._reservations.recover(entry.seq)

    def _release(self, entry: Entry) -> None:
        release = Release.of(entry)
        standing = self._reservations.release(release)
        self._receipts.sent(release, standing)
        if standing is not None:
            self._replay.released(standing.period, standing.reservation.bank)
            lost = self._reservations.was_lost(standing)
            self._consent.released(entry, standing, lost=lost)
            if not lost:
                self._check_moment(entry, standing)

    def _reserve(self, entry: Entry) -> None:
        reservation = Reservation.of(entry)
        known = self._plans.check(reservation)
        balance = self._replay.reserve(reservation, known)
        self._reservations.reserve(
            Standing(
                reservation,
                balance.period,
                known,
                (entry.seq, entry.time),
                accounted=self._accounts.check(entry.seq, balance),
                asked=self._runs.reserve(reservation, known),
            )
        )

    def _renew(self, entry: Entry) -> None:
        standing = self._reservations.renew(entry)
        if standing is not None:
            self._check_moment(entry, standing)

    def _check_moment(self, entry: Entry, standing: Standing) -> None:
        """Period, plan and parties must still be in force when a sum is renewed or sent."""
        reservation = standing.reservation
        if self._replay.period_at(entry.time) != standing.period:
            self._evidence.notes.add(
                "V8",
                self._name,
                entry.seq,
                f"this is of another budget period than the one that reservation {reservation.seq} "
                "was charged to",
                f"此条所在预算期与预留 {reservation.seq} 计费的预算期不同",
                evidence=(place(self._name, "release", reservation.seq),),
            )
        if standing.known is not None:
            self._plans.check_time(entry.seq, entry.time, reservation.bank, standing.known)

    def _void(self, entry: Entry) -> None:
        standing = self._reservations.void(entry.seq, number(entry.body, "reservation"))
        self._count(self._voids, text(entry.body, "reason"), entry)
        if standing is not None and not standing.accounted:
            self._evidence.notes.add(
                "V10",
                self._name,
                entry.seq,
                f"reservation {standing.reservation.seq} is void and was not accounted for: "
                "its cost is not returned",
                f"预留 {standing.reservation.seq} 已作废且未记账：其费用不退还",
                evidence=(place(self._name, "release", standing.reservation.seq),),
            )

    def _internal(self) -> Iterator[Entry]:
        """Yield the `account` entries of the internal log; look at all others on the way."""
        recoveries = RecoveryCheck(self._evidence, self._node, "internal")
        for entry, _ in LogReader(self._evidence, self._node, "internal").entries():
            match entry.type:
                case "account":
                    self._consent.account(entry)
                    yield entry
                case "authorisation.use":
                    self._consent.use(entry)
                case "authorisation.grant" | "authorisation.revoke":
                    self._consent.see(entry)
                    self._signatures.see(entry)
                case "authorisation.key" | "authorisation.signature":
                    self._signatures.see(entry)
                case "labels.request":
                    self._labels.request(entry)
                case "erase":
                    self._consent.see(entry)
                case "refusal":
                    told = (text(entry.body, "code"), text(entry.body, "peer"))
                    self._count(self._refusals, told, entry)
                case "recover":
                    recoveries.see(entry)
                    self._signatures.see(entry)
        self._signatures.finish()

    def _count(self, counted: Counter[_Kind], kind: _Kind, entry: Entry) -> None:
        if kind in counted or len(counted) < _MOST_KINDS:
            counted[kind] += 1
            return
        self._evidence.notes.add(
            "V10",
            self._name,
            entry.seq,
            f"there are more than {_MOST_KINDS} kinds of {entry.type}: this one is not counted",
            f"{entry.type} 的种类超过 {_MOST_KINDS} 种：此条未计数",
            log="internal" if entry.type == "refusal" else "release",
        )

    def _report(self) -> NodeReport:
        return NodeReport(
            self._name,
            tuple(self._replay.spending()),
            self._replay.course(),
            tuple(
                RefusalCount(self._name, code, peer, count)
                for (code, peer), count in sorted(self._refusals.items())
            ),
            tuple(
                VoidCount(self._name, reason, count)
                for reason, count in sorted(self._voids.items())
            ),
        )
