"""V1: a log that was put back from the mirror says so, with the regulator's signed approval."""

from __future__ import annotations

from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import number, text
from hejin_regulator.history import CLOCKS
from hejin_regulator.witnessed import origin_of
from hejin_trust.canonical import time_from
from hejin_trust.charter import Member
from hejin_trust.entries import Entry
from hejin_trust.errors import HejinError
from hejin_trust.export import ExportError, LogName
from hejin_trust.recovery import Recovery


class RecoveryCheck:
    """The `recover` entries of one log.

    Each names an approval that is in the export, of this log as it stood after the recovery before,
    and of no later moment. What the regulator approved is compared with what was read (V2).
    """

    def __init__(self, evidence: Evidence, member: Member, log: LogName) -> None:
        self._evidence, self._member, self._log = evidence, member, log
        self._newest = -1

    def see(self, entry: Entry) -> None:
        """Take the next entry of the log, of whatever type."""
        if entry.type == "recover":
            _check(self._evidence, self._member, self._log, entry, self._newest)
            self._newest = entry.seq


def _check(evidence: Evidence, member: Member, log: LogName, entry: Entry, before: int) -> None:
    digest = text(entry.body, "approval")
    evidence.workbook.put("named", member.id, f"{digest}.json")
    try:
        data = evidence.export(member.id).document(digest)
        approval = Recovery.parse(data, evidence.charter)
        origin = origin_of(evidence.charter, member, log)
        held = [standing for standing in approval.logs if standing.origin == origin]
        known = (approval.digest, approval.consortium, approval.member)
        if known != (digest, evidence.charter.consortium, member.id) or len(held) != 1:
            raise _refused("the regulator's approval is of another recovery", "批准针对另一次恢复")
        if not number(entry.body, "size") <= held[0].size <= entry.seq:
            raise _refused(
                f"{held[0].size} entries were approved, which the log did not have by then",
                f"批准的 {held[0].size} 条与当时的日志不符",
            )
        if held[0].size <= before:
            raise _refused(
                f"the approval is of before the recovery in entry {before}: each needs its own",
                f"该批准早于条目 {before} 处的恢复：每次恢复须单独批准",
            )
        if time_from(approval.issued) > time_from(entry.time) + CLOCKS:
            raise _refused(
                f"it was approved at {approval.issued}, after it was done",
                f"批准时间 {approval.issued} 晚于恢复",
            )
    except HejinError as reason:
        evidence.notes.add_text(
            "V1",
            member.id,
            entry.seq,
            reason.text,
            log=log,
            evidence=(f"{member.id}/documents/{digest}.json",),
        )
        return
    if held[0].size:
        checkpoint = (held[0].size, held[0].root)
        evidence.claim((member.id, log), checkpoint, "recover", member.id, entry.seq)


def _refused(en: str, zh: str) -> ExportError:
    return ExportError(f"The recovery is not proven: {en}.", f"该恢复未得到证明：{zh}。")
