"""V1: a log that was put back from the mirror says so, with the regulator's signed approval."""

from __future__ import annotations

from hejin_regulator.evidence import Evidence, origin_of
from hejin_regulator.records import number, text
from hejin_trust.charter import Member
from hejin_trust.entries import Entry
from hejin_trust.errors import HejinError
from hejin_trust.export import ExportError, LogName
from hejin_trust.recovery import Recovery


def check_recovery(evidence: Evidence, member: Member, log: LogName, entry: Entry) -> None:
    """Check a `recover` entry: the approval is in the export, of this log, and not of its future.

    The log as the regulator approved it is compared with what was read (V2).
    """
    digest = text(entry.body, "approval")
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
