"""What binds the rounds of a run: its roster, where noise is shared, and the run's context."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from hejin_privacy.round_context import run_context
from hejin_privacy.secure_sum.documents import KeyAd
from hejin_privacy.secure_sum.keys import Advertised, Invitation, Roster, open_roster
from hejin_regulator.evidence import Evidence
from hejin_regulator.plans import KnownPlan, PlanBook
from hejin_regulator.witnessed import origin_of
from hejin_trust import canonical
from hejin_trust.canonical import time_from, time_text
from hejin_trust.charter import Member
from hejin_trust.checkpoint import open_checkpoint
from hejin_trust.envelope import SUM_KEYAD, open_envelope, peek_signer
from hejin_trust.errors import HejinError
from hejin_trust.export import RosterLine

_MOST: Final = 128


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one plan; roster is None in mode "node"."""

    context: bytes
    roster: Roster | None


class RunBook:
    """The runs of all banks; every roster is verified when it is read."""

    def __init__(self, evidence: Evidence, plans: PlanBook) -> None:
        self._evidence, self._plans = evidence, plans
        self._runs: OrderedDict[tuple[str, str, str], Run | None] = OrderedDict()

    def read(self, bank: Member) -> None:
        """Verify the rosters in a bank's part of the export; what does not hold is V6."""
        notes, line = self._evidence.notes, 0
        try:
            for line, told in enumerate(self._evidence.export(bank.id).rosters()):
                file = f"{bank.id}/rosters.jsonl:{line}"
                try:
                    roster = self._open(bank, told, file)
                except HejinError as reason:
                    notes.add_text("V6", bank.id, None, reason.text, evidence=(file,))
                    continue
                first = self._line_of(bank.id, told.run)
                if first is not None:
                    notes.add(
                        "V6",
                        bank.id,
                        None,
                        f"run {told.run} has a roster already: a run has one",
                        f"运行 {told.run} 已有名册：每次运行只有一份",
                        evidence=(
                            f"{bank.id}/rosters.jsonl:{self._line_of(bank.id, told.run)}",
                            file,
                        ),
                    )
                    continue
                body = canonical.encode(roster.body()).decode()
                self._evidence.workbook.put("roster", bank.id, told.run, told.plan, line, body)
        except HejinError as reason:
            file = f"{bank.id}/rosters.jsonl:{line}"
            notes.add_text("V6", bank.id, None, reason.text, evidence=(file,))

    def _line_of(self, bank: str, run: str) -> int | None:
        row = self._evidence.workbook.row(
            "SELECT line FROM roster WHERE bank = ? AND run = ?", bank, run
        )
        return None if row is None else row[0]

    def find(self, bank: str, run: str, known: KnownPlan) -> Run | None:
        """Return a run of a plan; None where its roster is missing or does not hold."""
        key = (bank, run, known.digest)
        if key in self._runs:
            self._runs.move_to_end(key)
            return self._runs[key]
        found = self._runs[key] = self._find(bank, run, known)
        if len(self._runs) > _MOST:
            self._runs.popitem(last=False)
        return found

    def _find(self, bank: str, run: str, known: KnownPlan) -> Run | None:
        if known.plan.mode == "node":
            return Run(run_context(run, known.digest), None)
        row = self._evidence.workbook.row(
            "SELECT body FROM roster WHERE bank = ? AND run = ? AND plan = ?",
            bank,
            run,
            known.digest,
        )
        if row is None:
            return None
        roster = Roster.parse(canonical.decode(row[0].encode()))
        return Run(roster.context, roster)

    def _open(self, bank: Member, line: RosterLine, file: str) -> Roster:
        """Return the roster that a line proves.

        Nobody wrote down when the keys were collected: the roster holds if it held when its plan
        was made or when a charter was new while the plan was valid.
        raises   HejinError
        """
        known = self._plans.find(bank.id, line.plan)
        if known is None:
            raise _refused("its plan is missing or not valid", "其计划缺失或无效")
        if len(line.keyads) != len(line.certificates):
            raise _refused("keys and certificates differ in number", "密钥与证书数量不同")
        if known.plan.mode != "shared":
            raise _refused("its plan shares no noise", "其计划不使用共享噪声")
        self._claim(line, file)
        keys = [Advertised(*pair) for pair in zip(line.keyads, line.certificates, strict=True)]
        refusal: HejinError | None = None
        plan = known.plan
        for moment, charter in self._evidence.history.between(
            time_text(plan.created), time_text(plan.expires)
        ):
            invitation = Invitation(
                run=line.run,
                plan=line.plan,
                nodes=frozenset(plan.nodes),
                tau=plan.quorum,
                m=plan.minimum_nodes,
                t=plan.colluders,
                charter=charter,
            )
            try:
                return open_roster(keys, invitation, time_from(moment))
            except HejinError as reason:
                refusal = reason
        raise refusal or _refused(
            "no charter in the export is as old as its plan", "导出中没有与其计划同期的章程"
        )

    def _claim(self, line: RosterLine, file: str) -> None:
        """Remember the checkpoint in each node's signed key (V2)."""
        charter = self._evidence.charter
        for envelope in line.keyads:
            member = charter.member(peek_signer(envelope), "node")
            opened = open_envelope(envelope, SUM_KEYAD, member.identity_key, member.id)
            told = open_checkpoint(
                KeyAd.parse(opened.body).checkpoint,
                origin_of(charter, member, "release"),
                member.log_key,
            )
            self._evidence.claim(
                (member.id, "release"), (told.size, told.root), "keyad", member.id, None, file
            )


class RosterUnprovenError(HejinError):
    """The roster of a masked run is not proven by the export."""

    code = "roster-unproven"


def _refused(en: str, zh: str) -> RosterUnprovenError:
    return RosterUnprovenError(
        f"the roster of a run is not proven: {en}; export the bank again",
        f"某次运行的名册未得到证明：{zh}；请重新导出该银行",
    )
