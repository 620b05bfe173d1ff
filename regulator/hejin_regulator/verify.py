"""Verify the exported logs of all members, offline: `hejin regulator verify`."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from pathlib import Path

from hejin_regulator.check_budget import AccountReplay, check_same_question
from hejin_regulator.check_consent import ConsentCheck
from hejin_regulator.check_plans import PlanBook, check_plans
from hejin_regulator.check_receipts import check_both_ways
from hejin_regulator.check_releases import check_reserved
from hejin_regulator.evidence import Evidence
from hejin_regulator.findings import Notebook, Point, Spending, Verification
from hejin_regulator.records import NodeLog
from hejin_trust import canonical
from hejin_trust.canonical import time_text
from hejin_trust.charter import MOST_BYTES, Charter, CharterError
from hejin_trust.errors import HejinError
from hejin_trust.export import CHARTER_FILE, ExportError, MemberExport
from hejin_trust.text import Text

CHARTERS_FOLDER = "charters"


def verify_export(folder: Path, regulator_key: bytes | None = None) -> Verification:
    """Check everything that can be checked in an export of all members' logs.

    folder         holds `charter.json`, one folder a member, and, where the charter changed since
                   logs or plans began, `charters/*.json` with the earlier ones
    regulator_key  the pinned Ed25519 key, 32 bytes; None takes the one that the charter names,
                   with a warning: then the export is only proven consistent with itself
    returns        every finding; missing evidence is a finding, never a pass
    raises         CharterError, ExportError if there is no charter to verify against

    LEDGER section 5, without cosignatures and votes.
    """
    notes = Notebook()
    charter, charters = _charters(folder, regulator_key, notes)
    evidence = Evidence(charter, charters, notes)
    for member in charter.members:
        evidence.read(member, MemberExport(folder / member.id))
    _check_strangers(folder, evidence)
    plans = PlanBook(evidence)
    spending: list[Spending] = []
    course: dict[str, tuple[Point, ...]] = {}
    for node in evidence.nodes.values():
        account = _check_node(evidence, plans, node)
        spending += account.spending()
        course[node.member.id] = tuple(account.course)
    for bank in evidence.banks.values():
        for _ in evidence.entries(bank.member, bank.export, "internal"):
            pass  # reading it is the check
        for digest in bank.plans:
            plans.find(bank.member.id, digest)
    check_same_question(evidence)
    check_both_ways(evidence)
    return Verification(
        consortium=charter.consortium,
        charter=charter.digest,
        findings=tuple(notes.findings),
        warnings=tuple(notes.warnings),
        counts=dict(sorted(notes.counts.items())),
        spending=tuple(spending),
        checked_at=time_text(datetime.now(UTC)),
        members=(*evidence.nodes, *evidence.banks),
        course=course,
    )


def _check_node(evidence: Evidence, plans: PlanBook, node: NodeLog) -> AccountReplay:
    check_reserved(node, evidence.notes)
    check_plans(evidence, plans, node)
    account = AccountReplay(evidence, plans, node)
    consent = ConsentCheck(evidence, plans, node)
    for entry in evidence.entries(node.member, node.export, "internal"):
        consent.see(entry)
        account.see(entry)
    consent.finish()
    account.finish()
    return account


def _charters(
    folder: Path, pinned: bytes | None, notes: Notebook
) -> tuple[Charter, dict[str, Charter]]:
    """Return the charter in force and all charters of the export by digest."""
    data = _read(folder / CHARTER_FILE)
    key = pinned
    if key is None:
        key = _named_key(data)
        notes.warnings.append(
            Text(
                "No regulator key was given: the charter's own was taken. Compare it with the "
                f"one you know: {key.hex()}",
                f"未提供监管方公钥，采用了章程自带的公钥，请与您所知的核对：{key.hex()}",
            )
        )
    try:
        charter = Charter.parse(data, key)
    except HejinError as reason:
        raise CharterError(
            f"the charter of the export does not hold under the regulator's key: {reason.text.en}",
            f"导出中的章程在监管方公钥下不成立：{reason.text.zh}",
        ) from reason
    charters = {charter.digest: charter}
    for path in sorted((folder / CHARTERS_FOLDER).glob("*.json")):
        try:
            earlier = Charter.parse(_read(path), key)
        except HejinError as reason:
            notes.add_text("V1", charter.regulator.id, None, reason.text)
            continue
        if (earlier.consortium, earlier.nonce) != (charter.consortium, charter.nonce):
            notes.add(
                "V1",
                charter.regulator.id,
                None,
                f"{path.name} is the charter of another consortium",
                f"{path.name} 是其他联盟的章程",
            )
            continue
        charters[earlier.digest] = earlier
    return charter, charters


def _named_key(data: bytes) -> bytes:
    """Return the regulator key that a charter names, before anything in it is verified."""
    try:
        outer = canonical.decode(data, max_bytes=MOST_BYTES)
        payload = base64.b64decode(canonical.text(outer, "payload", longest=MOST_BYTES))
        body = canonical.decode(payload, max_bytes=MOST_BYTES)
        return canonical.hexbytes(canonical.child(body, "regulator"), "identity_key", 32)
    except (HejinError, binascii.Error) as reason:
        raise CharterError(
            "the charter of the export is malformed; ask the regulator for the valid charter",
            "导出中的章程格式有误；请向监管方索取有效章程",
        ) from reason


def _check_strangers(folder: Path, evidence: Evidence) -> None:
    """A folder of logs that no member owns hides something, or belongs to another export."""
    known = {member.id for member in evidence.charter.members}
    for log in sorted(folder.glob("*/release.jsonl")):
        if log.parent.name not in known:
            evidence.notes.add(
                "V1",
                log.parent.name[:63],
                None,
                "the export holds logs of somebody who is not in the charter",
                "导出中含有章程之外成员的日志",
            )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as reason:
        raise ExportError(
            f"{path} cannot be read ({reason.strerror}): add the regulator's charter.json.",
            f"无法读取 {path}（{reason.strerror}）：请放入监管方的 charter.json。",
        ) from reason
