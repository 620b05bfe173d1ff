"""Verify the exported logs of all members, offline: `hejin regulator verify`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hejin_regulator.certificate_status import MOST_BYTES, CertificateStatus, standings
from hejin_regulator.check_bank import BankCheck
from hejin_regulator.check_both_ways import check_both_ways
from hejin_regulator.check_labels import check_labels_both_ways
from hejin_regulator.check_node import NodeCheck
from hejin_regulator.check_receipts import opened_notes
from hejin_regulator.check_reservations import IN_TIME
from hejin_regulator.check_results import ResultCheck, check_models
from hejin_regulator.check_runs import check_same_question
from hejin_regulator.evidence import Evidence, check_claims
from hejin_regulator.findings import Verification
from hejin_regulator.history import History, read_history
from hejin_regulator.notebook import Notebook, Progress
from hejin_regulator.plans import PlanBook
from hejin_regulator.runs import RunBook
from hejin_regulator.strangers import check_documents, check_strangers
from hejin_regulator.workbook import Workbook
from hejin_trust.canonical import time_from, time_text
from hejin_trust.charter import Member
from hejin_trust.envelope import peek_signer
from hejin_trust.errors import HejinError
from hejin_trust.export import STATUS_FILE, read_part
from hejin_trust.text import Text

#: What parts of different moments, or a round that is open, contradict each other in.
_MIXED: Final = frozenset({"V2", "V4", "V5", "V6"})


def verify_export(
    folder: Path, regulator_key: bytes | None = None, progress: Progress = lambda _: None
) -> Verification:
    """Check everything that can be checked in an export of all members' logs.

    folder         see hejin_trust.export for what it holds
    regulator_key  the pinned Ed25519 key, 32 bytes; None takes the one that the charter names,
                   with a warning: then the export is only proven consistent with itself
    progress       told, from time to time, how many more bytes of the logs were read
    returns        every finding; missing evidence is a finding, never a pass
    raises         CharterError, ExportError if there is no charter to verify against

    LEDGER section 5, V1 to V10, in memory that does not grow with the logs: they are read once,
    from their first entry to their last, banks' before nodes'; what one log says of another waits
    in a temporary SQLite file.
    """
    notes = Notebook(progress)
    history, key = read_history(folder, regulator_key, notes)
    with Workbook() as workbook:
        evidence = Evidence(folder, history, workbook, notes)
        check_strangers(evidence)
        plans = PlanBook(evidence)
        runs = RunBook(evidence, plans)
        banks = [member for member in history.charter.members if member.role == "bank"]
        for bank in banks:
            _check_bank(evidence, plans, runs, bank)
        workbook.flush()
        opened = opened_notes(workbook)
        nodes = [
            NodeCheck(evidence, plans, runs, opened, member).read()
            for member in history.charter.members
            if member.role == "node"
        ]
        check_same_question(evidence)
        check_models(evidence)
        check_documents(evidence)
        check_both_ways(evidence)
        check_labels_both_ways(evidence)
        check_claims(evidence)
        as_of = _check_status(evidence, key)
        _warn(evidence)
    return Verification(
        consortium=history.charter.consortium,
        charter=history.charter.digest,
        charter_serial=history.charter.serial,
        regulator_key=key.hex(),
        pinned=regulator_key is not None,
        findings=notes.findings(),
        warnings=tuple(notes.warnings),
        counts=dict(sorted(notes.counts.items())),
        heads=tuple(notes.heads),
        spending=tuple(row for node in nodes for row in node.spending),
        checked_at=time_text(datetime.now(UTC)),
        as_of=as_of,
        members=tuple(member.id for member in _in_order(history)),
        course={node.node: node.course for node in nodes},
        refusals=tuple(count for node in nodes for count in node.refusals),
        voids=tuple(count for node in nodes for count in node.voids),
    )


def _in_order(history: History) -> list[Member]:
    return sorted(history.charter.members, key=lambda member: member.role != "node")


def _check_bank(evidence: Evidence, plans: PlanBook, runs: RunBook, bank: Member) -> None:
    BankCheck(evidence, bank).read()
    if not evidence.has_begun(bank):
        return
    for (digest,) in evidence.workbook.rows(
        "SELECT digest FROM plan WHERE bank = ? ORDER BY seq", bank.id
    ):
        plans.find(bank.id, digest)
    runs.read(bank)
    ResultCheck(evidence, plans, runs, bank).check()


def _warn(evidence: Evidence) -> None:
    """Tell who has not begun, and what may make an honest export look wrong."""
    for member in evidence.charter.members:
        if not evidence.has_begun(member):
            evidence.notes.warn(
                f"{member.id} was admitted and has not logged anything yet.",
                f"{member.id} 已获准入，尚未记录任何内容。",
            )
    if any(finding.check in _MIXED for finding in evidence.notes.findings()):
        evidence.notes.warn(
            "If a run was under way, or the parts were exported at different moments, export all "
            "of them again when no run is under way: members first, the regulator's part last.",
            "若导出时有运行正在进行，或各部分导出的时间不同：请在没有运行时重新导出，"
            "先导出各成员，最后导出监管方部分。",
        )


def _check_status(evidence: Evidence, regulator_key: bytes) -> str:
    """V7: the regulator's list of certificates is what its charters say, and not an old one.

    Return when it was issued, RFC 3339, or "". A charter or a list that was put back in place of a
    newer one shows by what the regulator cosigned after it.
    """
    history, notes = evidence.history, evidence.notes
    regulator = history.charter.regulator.id

    def note(reason: Text) -> None:
        notes.add_text("V7", regulator, None, reason, evidence=(STATUS_FILE,))

    try:
        data = read_part(evidence.folder / STATUS_FILE, MOST_BYTES)
        status = CertificateStatus.parse(data, regulator_key)
        signer = peek_signer(data, max_bytes=MOST_BYTES)
    except HejinError as refusal:
        note(refusal.text)
        return ""
    row = [(item.serial, item.digest, item.issued) for item in status.charters]
    known = [(item.serial, item.digest, item.issued) for item in history.charters]
    same = (signer, status.consortium) == (regulator, history.charter.consortium)
    if not same or row != known or status.certificates != standings(history.charters):
        note(
            Text(
                "the list of certificates is not what the charters of the export say: export the "
                "regulator's part again",
                "证书状态列表与导出中的章程不符：请重新导出监管方部分",
            )
        )
    newest = max(notes.newest_cosigned, history.charter.issued)
    if time_from(status.issued) < time_from(newest) - IN_TIME:
        note(
            Text(
                f"the list of certificates and the charters are as of {status.issued}, the "
                f"regulator cosigned until {newest}: export the regulator's part again",
                f"证书状态列表与章程截至 {status.issued}，而监管方会签至 {newest}："
                "请重新导出监管方部分",
            )
        )
    return status.issued
