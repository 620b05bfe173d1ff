"""`hejin regulator verify`: an honest consortium passes; damaged and missing files are found."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from ledger_lies import found, reasons
from ledger_papers import VIEW, make_keys, write_witness
from ledger_world import CAP, MEMBERS, NODES, Consortium, Party
from rich.console import Console
from sqlalchemy import Connection

from hejin_privacy.accounting import epsilon
from hejin_regulator.findings import RefusalCount, VoidCount
from hejin_regulator.report import render_report, report_json
from hejin_regulator.verify import verify_export
from hejin_trust.envelope import PLAN, seal
from hejin_trust.keys import SigningKey

LOGS = ("release.jsonl", "internal.jsonl")

# -- honesty -----------------------------------------------------------------------------


def test_an_honest_consortium_verifies(consortium: Consortium) -> None:
    verification = consortium.verify()
    assert verification.findings == ()
    assert verification.ok
    assert verification.warnings == ()
    counts = verification.counts
    assert (counts["reserve"], counts["release"], counts["void"]) == (13, 12, 1)
    assert (counts["accept"], counts["receipt"]) == (11, 12)


def test_spending_is_told_by_node_and_bank_with_epsilon_and_cap(consortium: Consortium) -> None:
    rows = {(row.node, row.bank): row for row in consortium.verify().spending}
    assert set(rows) == {(node, bank) for node in NODES for bank in (None, "bank")}
    row = rows["anping", None]
    assert row.rho == consortium.parties["anping"].spent
    assert row.rho == rows["anping", "bank"].rho
    assert row.epsilon == epsilon(row.rho, 1e-6)
    assert (row.rho_cap, row.delta) == (CAP, Fraction(1, 10**6))
    assert 0 < row.epsilon < row.epsilon_cap
    # Round 5 was charged at jing alone, although nothing left.
    assert rows["jing", None].rho > row.rho


def test_what_was_read_and_counted_is_told(consortium: Consortium) -> None:
    verification = consortium.verify()
    assert verification.members == (*NODES, "bank")
    assert (verification.charter_serial, verification.pinned) == (2, True)
    assert verification.regulator_key == consortium.regulator.public.hex()
    assert {(head.member, head.log) for head in verification.heads} == {
        (member, log) for member in (*NODES, "bank") for log in ("release", "internal")
    }
    assert verification.refusals == tuple(
        RefusalCount(node, "query-refused", "bank", 1) for node in NODES
    )
    assert verification.voids == (VoidCount("jing", "interrupted", 1),)
    row = next(row for row in verification.spending if (row.node, row.bank) == ("jing", None))
    assert (row.releases, row.period_to) == (4, "2027-01-01T00:00:00Z")
    points = verification.course["jing"]
    assert [point.rho for point in points] == sorted(point.rho for point in points)
    assert (len(points), points[-1].rho) == (5, row.rho)


def test_progress_is_told_in_bytes_of_the_logs(consortium: Consortium) -> None:
    told: list[int] = []
    verify_export(consortium.folder, consortium.regulator.public, told.append)
    logs = [consortium.folder / name / log for name in (*NODES, "bank") for log in LOGS]
    size = sum(log.stat().st_size - log.read_bytes().count(b"\n") for log in logs)
    assert sum(told) == size


def test_the_charter_s_own_key_is_taken_with_a_warning(consortium: Consortium) -> None:
    verification = verify_export(consortium.folder)
    assert verification.ok
    assert consortium.regulator.public.hex() in verification.warnings[0].en


def test_the_report_reads_in_both_languages_and_as_json(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    verification = verify_export(consortium.folder)
    for language, verdict in (("en", "VERIFIED: every check holds"), ("zh", "通过：全部检查成立")):
        monkeypatch.setenv("HEJIN_LANG", language)
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(render_report(verification))
        shown = console.export_text()
        assert verdict in shown
        assert "anping" in shown
    told = json.loads(json.dumps(report_json(verification), allow_nan=False))
    assert told["ok"] is True
    assert told["checks"] == {f"V{number}": True for number in range(1, 11)}
    assert len(told["spending"]) == 6


def test_findings_are_shown_with_check_member_and_entry(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    (consortium.folder / "jing" / "internal.jsonl").unlink()
    monkeypatch.setenv("HEJIN_LANG", "en")
    verification = consortium.verify()
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(render_report(verification))
    shown = console.export_text()
    assert "NOT VERIFIED" in shown
    assert "export its owner's part again" in shown
    told = report_json(verification)
    assert told["ok"] is False
    assert isinstance(told["checks"], dict)
    assert told["checks"]["V1"] is False
    assert told["checks"]["V4"] is True


# -- what an outsider changes: files ------------------------------------------------------


@pytest.mark.parametrize("log", ["release", "internal"])
@pytest.mark.parametrize("member", [*NODES, "bank"])
def test_a_changed_byte_in_any_log_is_found(consortium: Consortium, member: str, log: str) -> None:
    path = consortium.folder / member / f"{log}.jsonl"
    data = bytearray(path.read_bytes())
    digit = data.rindex(b'"salt":"') + len(b'"salt":"')
    data[digit] = ord("1") if data[digit] != ord("1") else ord("2")
    path.write_bytes(data)
    assert ("V1", member) in found(consortium.verify())


@pytest.mark.parametrize(
    "name",
    ["release.jsonl", "internal.jsonl", "release.checkpoint", "internal.checkpoint"],
)
@pytest.mark.parametrize("member", ["jing", "bank"])
def test_a_missing_file_is_found(consortium: Consortium, member: str, name: str) -> None:
    (consortium.folder / member / name).unlink()
    verification = consortium.verify()
    assert ("V1", member) in found(verification)
    assert name in reasons(verification, "V1")


def test_a_member_left_out_is_found(consortium: Consortium) -> None:
    folder = consortium.folder / "yongnian"
    folder.rename(consortium.folder.parent / "hidden")
    assert ("V1", "yongnian") in found(consortium.verify())


@pytest.mark.parametrize("member", ["node-9", "bank-9"])
def test_a_member_that_has_not_begun_is_told_and_no_finding(tmp_path: Path, member: str) -> None:
    class Waiting(Consortium):
        """The charter admits one member more, which has not started yet."""

        def export(self, connection: Connection) -> None:
            late = self.parties.pop(member)
            super().export(connection)
            write_witness(self.folder, late.id, {"release": [], "internal": []})

        def _found(self, connection: Connection, party: Party) -> None:
            if party.id != member:
                super()._found(connection, party)

    keys = make_keys((*MEMBERS, member))
    consortium = Waiting(tmp_path / "export", keys=keys).run()
    verification = consortium.verify()
    assert verification.findings == ()
    told = [warning.en for warning in verification.warnings]
    assert told == [f"{member} was admitted and has not logged anything yet."]
    (consortium.folder / "witness" / f"{member}.internal.jsonl").unlink()
    assert ("V1", member) in found(consortium.verify())


def test_who_exports_during_a_run_is_told_how_to(consortium: Consortium) -> None:
    path = consortium.folder / "witness" / "bank.release.jsonl"
    path.unlink()
    told = [warning.en for warning in consortium.verify().warnings]
    assert "export all of them again when no run is under way" in told[-1]


def test_logs_of_a_stranger_are_found(consortium: Consortium) -> None:
    (consortium.folder / "stranger").mkdir()
    (consortium.folder / "stranger" / "release.jsonl").write_bytes(b"")
    assert ("V1", "stranger") in found(consortium.verify())


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("jing/rosters.jsonl", "jing"),
        ("jing/notes.txt", "jing"),
        ("bank/documents/letter.json", "bank"),
        (f"bank/documents/{'0' * 64}.json", "bank"),
        (f"bank/documents/{'0' * 64}.view", "bank"),
        ("witness/nobody.release.jsonl", "regulator"),
        ("charters/3.json", "regulator"),
    ],
)
def test_a_file_that_nobody_accounts_for_is_found(
    consortium: Consortium, name: str, owner: str
) -> None:
    (consortium.folder / name).write_bytes(b"anything\n")
    verification = consortium.verify()
    assert found(verification) == {("V1", owner)}
    assert verification.findings[0].evidence == (name,)


def test_a_name_that_is_no_text_is_told_all_the_same(consortium: Consortium) -> None:
    for folder in ("", "bank/documents", "jing"):
        name = os.fsencode(consortium.folder / folder) + b"/\xff\xfe"
        if folder:
            Path(os.fsdecode(name)).write_bytes(b"")
        else:
            Path(os.fsdecode(name)).mkdir()
    verification = consortium.verify()
    assert {("V1", "bank"), ("V1", "jing")} <= found(verification)
    json.dumps(report_json(verification)).encode()


def test_a_report_beside_the_folders_is_left_alone(consortium: Consortium) -> None:
    (consortium.folder / "report.html").write_bytes(b"<html>")
    assert consortium.verify().ok


def test_a_feature_view_that_is_missing_or_another_one_is_found(consortium: Consortium) -> None:
    path = consortium.folder / "bank" / "documents" / f"{hashlib.sha256(VIEW).hexdigest()}.view"
    nested = b"a=" + b"[" * 100_000  # not even looked at: it is not what the plan names
    for data in (None, VIEW.replace(b"cells = 8", b"cells = 9"), b"name =", nested):
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)
        verification = consortium.verify()
        assert ("V7", "bank") in found(verification)
        assert all(("V7", node) in found(verification) for node in NODES)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("jing/release.jsonl", ("V1", "jing")),
        ("jing/internal.checkpoint", ("V1", "jing")),
        ("witness/jing.release.jsonl", ("V2", "jing")),
        ("certificates.json", ("V7", "regulator")),
        ("charters/1.json", ("V1", "regulator")),
        ("bank/rounds.jsonl", ("V6", "bank")),
        ("bank/rosters.jsonl", ("V6", "bank")),
    ],
)
def test_a_pipe_in_the_place_of_a_file_is_found_and_not_waited_for(
    consortium: Consortium, name: str, named: tuple[str, str]
) -> None:
    path = consortium.folder / name
    path.unlink()
    os.mkfifo(path)
    assert named in found(consortium.verify())


def test_a_log_cut_at_the_end_is_found(consortium: Consortium) -> None:
    path = consortium.folder / "jing" / "internal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert ("V1", "jing") in found(consortium.verify())


def test_swapped_entries_are_found(consortium: Consortium) -> None:
    path = consortium.folder / "jing" / "release.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    assert "stands at place 2" in reasons(consortium.verify(), "V1")


def test_an_emptied_log_is_found(consortium: Consortium) -> None:
    (consortium.folder / "bank" / "internal.jsonl").write_bytes(b"")
    assert ("V1", "bank") in found(consortium.verify())


def test_a_log_of_another_member_in_its_place_is_found(consortium: Consortium) -> None:
    for name in ("release.jsonl", "release.checkpoint"):
        data = (consortium.folder / "anping" / name).read_bytes()
        (consortium.folder / "jing" / name).write_bytes(data)
    assert "another member" in reasons(consortium.verify(), "V1")


def test_a_checkpoint_by_another_key_is_found(consortium: Consortium) -> None:
    note = (consortium.folder / "anping" / "internal.checkpoint").read_bytes()
    (consortium.folder / "jing" / "internal.checkpoint").write_bytes(note)
    assert ("V1", "jing") in found(consortium.verify())


def test_a_missing_plan_document_is_found(consortium: Consortium) -> None:
    (consortium.folder / "bank" / "documents" / f"{consortium.digest}.json").unlink()
    verification = consortium.verify()
    assert ("V7", "bank") in found(verification)
    assert all(("V7", node) in found(verification) for node in NODES)


def test_a_plan_signed_by_somebody_else_is_found(consortium: Consortium) -> None:
    forged = seal(PLAN, consortium.plan.body(), SigningKey.generate(), "bank")
    path = consortium.folder / "bank" / "documents" / f"{consortium.digest}.json"
    path.write_bytes(forged)
    assert ("V7", "bank") in found(consortium.verify())


def test_another_plan_under_the_same_name_is_found(consortium: Consortium) -> None:
    other = replace(consortium.plan, product="other")
    path = consortium.folder / "bank" / "documents" / f"{consortium.digest}.json"
    path.write_bytes(seal(PLAN, other.body(), consortium.bank.keys.identity, "bank"))
    assert "is another plan" in reasons(consortium.verify(), "V7")
