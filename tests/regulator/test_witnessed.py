"""V2, V3 and V4: what the regulator cosigned, beside what members export and show each other."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ledger_lies import Build, drop, found, once, put, reasons
from ledger_papers import AT, CONSORTIUM, write_witness
from ledger_world import NODES, OUTAGE, Asked, Body, Consortium, Party
from sqlalchemy import Connection

from hejin_trust.canonical import encode
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.cosignature import cosign, witness_name
from hejin_trust.export import write_export
from hejin_trust.keys import SigningKey
from hejin_trust.log import Log

MEMBERS = (*NODES, "bank")
SHARED = {"mode": "shared", "minimum_nodes": 3, "quorum": 3, "colluders": 1}


def cosigned(consortium: Consortium, member: str, size: int, root: bytes, *, at: int = 0) -> str:
    """Return a note of a release log that both the member and the regulator signed."""
    party = consortium.parties[member]
    note = sign_checkpoint(party.release.origin, size, root, party.keys.log)
    key = consortium.keys["regulator"].log
    moment = AT + timedelta(seconds=at)
    return note + cosign(note, witness_name(CONSORTIUM, "regulator"), key, moment)


def notes(consortium: Consortium, member: str, log: str = "release") -> list[str]:
    path = consortium.folder / "witness" / f"{member}.{log}.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def keep(consortium: Consortium, member: str, found: list[str]) -> None:
    write_witness(consortium.folder, member, {"release": found})


# -- V2 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("log", ["release", "internal"])
@pytest.mark.parametrize("member", MEMBERS)
def test_a_log_without_its_cosigned_notes_is_found(
    consortium: Consortium, member: str, log: str
) -> None:
    (consortium.folder / "witness" / f"{member}.{log}.jsonl").unlink()
    verification = consortium.verify()
    assert ("V2", member) in found(verification)
    assert "not witnessed" in reasons(verification, "V2")


def test_entries_after_the_last_cosignature_are_found(consortium: Consortium) -> None:
    keep(consortium, "jing", notes(consortium, "jing")[:-1])
    verification = consortium.verify()
    assert found(verification) == {("V2", "jing")}
    assert "mirror its logs and to export again" in reasons(verification, "V2")


def test_a_member_s_own_last_note_may_bear_the_cosignature(consortium: Consortium) -> None:
    kept = notes(consortium, "jing")
    keep(consortium, "jing", kept[:-1])
    (consortium.folder / "jing" / "release.checkpoint").write_text(kept[-1], encoding="utf-8")
    assert consortium.verify().ok


class Diary(Consortium):
    """A consortium that also keeps how its logs stood after the second round."""

    def _round(self, connection: Connection, number: int) -> None:
        super()._round(connection, number)
        if number == 2:
            for name, party in self.parties.items():
                write_export(self.old, name, connection, party.release, party.internal)

    @property
    def old(self) -> Path:
        return self.folder.parent / "old"


@pytest.mark.parametrize("log", ["release", "internal"])
@pytest.mark.parametrize("member", ["jing", "bank"])
def test_a_log_put_back_to_an_older_signed_state_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, log: str
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    consortium = Diary(tmp_path / "export")
    consortium.run()
    names = (f"{member}/{log}.jsonl", f"{member}/{log}.checkpoint")
    changed = False
    for name in names:
        data = (consortium.old / name).read_bytes()
        changed |= data != (consortium.folder / name).read_bytes()
        (consortium.folder / name).write_bytes(data)
    verification = consortium.verify()
    if changed:  # the bank's internal log has its genesis alone
        assert ("V2", member) in found(verification)
        assert "rolled back" in reasons(verification, "V2")


def test_two_cosigned_logs_of_one_size_are_a_fork(consortium: Consortium) -> None:
    kept = notes(consortium, "jing")
    size = int(kept[1].split("\n")[1])
    forged = cosigned(consortium, "jing", size, b"f" * 32)
    keep(consortium, "jing", [*kept[:2], forged, *kept[2:]])
    verification = consortium.verify()
    assert found(verification) == {("V2", "jing")}
    assert f"two different logs of {size} entries were signed: a fork" in reasons(
        verification, "V2"
    )
    assert verification.findings[0].evidence == (
        "witness/jing.release.jsonl:1",
        "witness/jing.release.jsonl:2",
    )


def test_a_log_that_is_not_the_cosigned_one_is_found(consortium: Consortium) -> None:
    kept = notes(consortium, "jing")
    forged = cosigned(consortium, "jing", int(kept[0].split("\n")[1]), b"f" * 32)
    keep(consortium, "jing", [forged, *kept[1:]])
    assert "rewritten or forked" in reasons(consortium.verify(), "V2")


def test_notes_out_of_order_are_found(consortium: Consortium) -> None:
    kept = notes(consortium, "jing")
    keep(consortium, "jing", [kept[1], kept[0], *kept[2:]])
    verification = consortium.verify()
    assert ("V2", "regulator") in found(verification)
    assert "not in order" in reasons(verification, "V2")


def _uncosigned(consortium: Consortium, note: str) -> bytes:
    return encode("\n".join(note.split("\n")[:-2]) + "\n")


def _by_another_witness(consortium: Consortium, note: str) -> bytes:
    own = "\n".join(note.split("\n")[:-2]) + "\n"
    name = witness_name(CONSORTIUM, "regulator")
    return encode(own + cosign(own, name, SigningKey.generate(), AT))


def _of_another_log(consortium: Consortium, note: str) -> bytes:
    return encode(notes(consortium, "anping")[0])


@pytest.mark.parametrize(
    "line",
    [
        _uncosigned,
        _by_another_witness,
        _of_another_log,
        lambda *_: b"[" * 90_000,
        lambda *_: b'"\\ud800"',
        lambda *_: b'"',
        lambda *_: b'"' + b"a" * 140_000 + b'"',
    ],
)
def test_a_line_that_is_no_cosigned_note_is_found(
    consortium: Consortium, line: Callable[[Consortium, str], bytes]
) -> None:
    path = consortium.folder / "witness" / "jing.release.jsonl"
    lines = path.read_bytes().splitlines()
    lines[0] = line(consortium, notes(consortium, "jing")[0])
    path.write_bytes(b"\n".join(lines) + b"\n")
    verification = consortium.verify()
    assert ("V2", "jing") in found(verification)
    assert verification.findings[0].evidence == ("witness/jing.release.jsonl:0",)


def test_a_receipt_with_a_checkpoint_of_another_history_is_found(tmp_path: Path) -> None:
    """The bank shows one node a log that is not the one it shows the regulator."""
    consortium = Consortium(tmp_path / "export")

    def lie(body: Body) -> Body:
        bank = consortium.bank
        size = int(str(body["checkpoint"]).split("\n")[1])
        forged = sign_checkpoint(bank.release.origin, size, b"f" * 32, bank.keys.log)
        return {**body, "checkpoint": forged}

    consortium.tamper = once("bank", "signed receipt", lie)
    verification = consortium.run().verify()
    assert found(verification) == {("V2", "anping")}
    assert "the bank's receipt names" in reasons(verification, "V2")


def test_a_key_with_a_checkpoint_of_another_history_is_found(
    tmp_path: Path,
) -> None:
    consortium = Consortium(
        tmp_path / "export",
        plan=lambda plan: replace(plan, **SHARED),
        charter=lambda charter: replace(charter, rho_alone_cap=3 * charter.rho_alone_cap),
    )

    def lie(body: Body) -> Body:
        jing = consortium.parties["jing"]
        forged = sign_checkpoint(jing.release.origin, 2, b"f" * 32, jing.keys.log)
        return {**body, "checkpoint": forged}

    consortium.tamper = once("jing", "signed keyad", lie)
    verification = consortium.run().verify()
    assert found(verification) == {("V2", "jing")}
    assert verification.findings[0].evidence[0] == "bank/rosters.jsonl:0"


# -- V3 and V4: in time ------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "holds"), [(120, True), (121, False), (-120, True)])
def test_a_cosignature_comes_within_120_seconds(build: Build, seconds: int, holds: bool) -> None:
    verification = build(late=timedelta(seconds=seconds)).verify()
    assert verification.ok == holds
    if not holds:
        # The bank, whose clock is the nodes', accepted before the regulator cosigned.
        assert found(verification) == {*(("V3", node) for node in NODES), ("V5", "bank")}
        late = [finding for finding in verification.findings if finding.check == "V3"]
        assert len(late) == 12  # of the void reservation nothing left
        assert "more than 120 seconds apart" in reasons(verification, "V3")


def test_a_reservation_that_waited_for_the_regulator_must_be_renewed(build: Build) -> None:
    verification = build(once("jing", "renew", drop)).verify()
    assert found(verification) == {("V3", "jing")}


def test_a_renewal_of_what_has_ended_is_found(build: Build) -> None:
    verification = build(once("jing", "renew", put(reservation=3))).verify()
    assert "was never reserved, or has ended" in reasons(verification, "V4")


class Unwatched(Consortium):
    """A consortium whose jing does not wait for the regulator in the third round."""

    def mirror(self, connection: Connection, party: Party) -> None:
        unwatched = party.id == "jing" and len(party.notes["release"]) == 2
        if not unwatched or self.rounds[3:]:
            super().mirror(connection, party)


def test_a_release_before_the_cosignature_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    verification = Unwatched(tmp_path / "export").run().verify()
    assert ("V4", "jing") in found(verification)
    assert "had not cosigned the reservation" in reasons(verification, "V4")
    assert {member for check, member in found(verification) if check == "V4"} == {"jing"}


class Slow(Consortium):
    """A consortium whose last round leaves its nodes long after it was charged."""

    def before_release(self, number: int) -> None:
        if number == 4 and self.moment.month == 11:
            self.moment += timedelta(days=41)


def test_a_release_after_plan_and_period_are_over_is_found(tmp_path: Path) -> None:
    verification = Slow(tmp_path / "export").run().verify()
    late = [f for f in verification.findings if f.seq is not None and f.member == "anping"]
    assert {f.check for f in late} == {"V7", "V8"}
    assert "the plan had expired" in reasons(verification, "V7")
    assert "of another budget period" in reasons(verification, "V8")


class Lost(Consortium):
    """anping loses its database between its last reservation and what its bank tells it of it."""

    def before_release(self, number: int) -> None:
        anping = self.parties["anping"]
        if number == 4 and self.moment.month == 11:
            self._recover(self.connection, anping)
            self.moment += timedelta(days=41)

    def live(self, connection: Connection) -> None:
        self.connection = connection
        super().live(connection)


def test_what_a_bank_tells_a_node_that_lost_its_database_may_be_logged_late(
    tmp_path: Path,
) -> None:
    verification = Lost(tmp_path / "export").run().verify()
    assert not [f for f in verification.findings if f.member == "anping"]
    assert [f for f in verification.findings if f.member == "jing"]


def test_a_run_that_goes_on_after_its_node_lost_its_database_is_found(tmp_path: Path) -> None:
    class Undead(Consortium):
        """jing loses its database after the second round, and answers the third all the same."""

        def _round(self, connection: Connection, number: int) -> None:
            if number == 3:
                self._recover(connection, self.parties["jing"])
            super()._round(connection, number)

    verification = Undead(tmp_path / "export").run().verify()
    assert found(verification) == {("V4", "jing")}
    assert "had lost its database" in reasons(verification, "V4")


def test_cosignatures_whose_times_go_back_are_found(consortium: Consortium) -> None:
    kept = notes(consortium, "bank")
    head = kept[1].split("\n")
    forged = cosigned(consortium, "bank", int(head[1]), base64.b64decode(head[2]), at=-60)
    keep(consortium, "bank", [kept[0], forged, *kept[2:]])
    verification = consortium.verify()
    assert found(verification) == {("V3", "regulator")}


# -- V1: recoveries ----------------------------------------------------------------------


def test_a_recovery_without_its_approval_is_found(consortium: Consortium) -> None:
    for path in (consortium.folder / "yongnian" / "documents").glob("*.json"):
        path.unlink()
    verification = consortium.verify()
    assert found(verification) == {("V1", "yongnian")}
    assert len(verification.findings) == 2  # in both logs


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(put(approval="ab" * 32), id="no such approval"),
        pytest.param(put(size=10_000), id="more than was approved"),
    ],
)
def test_a_recovery_that_was_not_approved_so_is_found(
    build: Build, lie: Callable[[Body], Body]
) -> None:
    verification = build(once("yongnian", "recover", lie)).verify()
    assert found(verification) == {("V1", "yongnian")}


def test_an_approval_serves_one_recovery(tmp_path: Path) -> None:
    class Twice(Consortium):
        """yongnian goes back a second time by the approval of the first."""

        def _recover(self, connection: Connection, party: Party) -> None:
            super()._recover(connection, party)
            digest, _ = party.documents[0]
            body: Body = {"approval": digest, "reason": "again", "size": 3}
            self.log(connection, party.internal, "recover", body)

    verification = Twice(tmp_path / "export").run().verify()
    assert found(verification) == {("V1", "yongnian")}
    assert "each needs its own" in reasons(verification, "V1")


def test_an_approval_of_after_the_recovery_is_found(tmp_path: Path) -> None:
    class Later(Consortium):
        def _recover(self, connection: Connection, party: Party) -> None:
            self.moment += timedelta(hours=1)
            super()._recover(connection, party)

        def log(self, connection: Connection, log: Log, kind: str, body: Body) -> int:
            if kind == "recover":
                self.moment = AT + OUTAGE
            return super().log(connection, log, kind, body)

    verification = Later(tmp_path / "export").run().verify()
    assert ("V1", "yongnian") in found(verification)
    assert "after it was done" in reasons(verification, "V1")


def test_an_acceptance_long_before_the_cosignature_is_found(tmp_path: Path) -> None:
    """The bank takes a proof at an hour when the regulator had not seen the reservation."""

    class Early(Consortium):
        def _accept(self, connection: Connection, party: Party, asked: Asked, *sent: Any) -> None:
            self.moment -= timedelta(hours=1)
            super()._accept(connection, party, asked, *sent)
            self.moment += timedelta(hours=1)

        def _found(self, connection: Connection, party: Party) -> None:
            self.moment = AT - timedelta(hours=2)  # so that no time goes back in the bank's log
            super()._found(connection, party)
            self.moment = AT

        def _approve(self, connection: Connection) -> None:
            self.moment = AT - timedelta(hours=2)
            super()._approve(connection)
            self.moment = AT

    class First(Early):
        """Of the first round alone, for the bank's log to go on."""

        def _round(self, connection: Connection, number: int) -> None:
            if number == 1:
                super()._round(connection, number)

    verification = First(tmp_path / "export").run().verify()
    told = [f.reason.en for f in verification.findings if f.check == "V5" and f.member == "bank"]
    assert len(told) == 3
    assert all("and cosigned only at" in reason for reason in told)


def test_an_approval_of_another_member_or_by_somebody_else_is_found(
    consortium: Consortium,
) -> None:
    (path,) = (consortium.folder / "yongnian" / "documents").glob("*.json")
    document = json.loads(path.read_bytes())
    document["signatures"][0]["sig"] = "A" * 86 + "=="
    path.write_bytes(encode(document))
    assert found(consortium.verify()) == {("V1", "yongnian")}
