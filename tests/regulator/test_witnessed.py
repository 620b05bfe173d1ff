"""V2 and V3: what the regulator cosigned, beside what members export and show each other."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ledger_lies import found, once, reasons
from ledger_papers import AT, CONSORTIUM, write_witness
from ledger_world import NODES, Body, Consortium
from sqlalchemy import Connection

from hejin_trust.canonical import encode
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.cosignature import cosign, witness_name
from hejin_trust.export import write_export
from hejin_trust.keys import SigningKey

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
    (consortium.folder / member / f"{log}.cosigned.jsonl").unlink()
    verification = consortium.verify()
    assert ("V2", member) in found(verification)
    assert "not witnessed" in reasons(verification, "V2")


def test_entries_after_the_last_cosignature_are_found(consortium: Consortium) -> None:
    keep(consortium, "jing", notes(consortium, "jing")[:-1])
    (consortium.folder / "jing" / "release.cosigned.jsonl").unlink()
    verification = consortium.verify()
    assert found(verification) == {("V2", "jing")}
    assert "mirror its logs and to export again" in reasons(verification, "V2")


def test_a_member_s_own_last_note_may_bear_the_cosignature(consortium: Consortium) -> None:
    kept = notes(consortium, "jing")
    keep(consortium, "jing", kept[:-1])
    (consortium.folder / "jing" / "release.cosigned.jsonl").unlink()
    (consortium.folder / "jing" / "release.checkpoint").write_text(kept[-1], encoding="utf-8")
    assert consortium.verify().ok


def later(consortium: Consortium, member: str, note: str) -> str:
    """Return a note as the regulator cosigned it again, an hour later."""
    head = note.split("\n")
    return cosigned(consortium, member, int(head[1]), base64.b64decode(head[2]), at=3600)


def test_a_mirror_that_was_restored_accuses_nobody(consortium: Consortium) -> None:
    """It holds the last note alone, of an hour later: the member kept all that were before."""
    for member in MEMBERS:
        *_, last = notes(consortium, member)
        keep(consortium, member, [later(consortium, member, last)])
    assert consortium.verify().ok
    for member in MEMBERS:
        (consortium.folder / member / "release.cosigned.jsonl").unlink()
    assert {("V4", node) for node in NODES} <= found(consortium.verify())


def test_a_note_that_was_cosigned_again_counts_from_its_first_time(consortium: Consortium) -> None:
    for member in MEMBERS:
        again = [later(consortium, member, note) for note in notes(consortium, member)]
        keep(consortium, member, again)
    assert consortium.verify().ok
    (consortium.folder / "jing" / "release.cosigned.jsonl").unlink()
    assert ("V3", "jing") in found(consortium.verify())


def kept(consortium: Consortium, member: str, found: list[str]) -> None:
    path = consortium.folder / member / "release.cosigned.jsonl"
    path.write_bytes(b"".join(encode(note) + b"\n" for note in found))


def test_a_note_that_a_member_kept_and_nobody_cosigned_is_found(consortium: Consortium) -> None:
    """jing signs a checkpoint of its own between two, for a release that nobody had seen."""
    first, second, *rest = notes(consortium, "jing")
    size = int(first.split("\n")[1]) + 1
    jing = consortium.parties["jing"]
    own = sign_checkpoint(jing.release.origin, size, b"f" * 32, jing.keys.log)
    forged = own + cosign(own, witness_name(CONSORTIUM, "regulator"), SigningKey.generate(), AT)
    kept(consortium, "jing", [first, forged, second, *rest])
    verification = consortium.verify()
    assert found(verification) == {("V2", "jing")}
    assert verification.findings[0].evidence == ("jing/release.cosigned.jsonl:1",)


def test_a_fork_that_a_member_kept_is_found(consortium: Consortium) -> None:
    first, *rest = notes(consortium, "jing")
    forged = cosigned(consortium, "jing", int(first.split("\n")[1]), b"f" * 32)
    kept(consortium, "jing", [forged, *rest])
    assert "a fork" in reasons(consortium.verify(), "V2")


@pytest.mark.parametrize("line", ["x", "a\nb\n\nc\n", "a\n99999999999999999999\nb\n\nc\n"])
def test_what_a_member_kept_must_be_notes_in_order(consortium: Consortium, line: str) -> None:
    first, second, *rest = notes(consortium, "jing")
    for lines in ([second, first, *rest], [line, *rest]):
        kept(consortium, "jing", lines)
        assert ("V2", "jing") in found(consortium.verify())


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


def test_cosignatures_whose_times_go_back_are_found(consortium: Consortium) -> None:
    kept = notes(consortium, "bank")
    head = kept[1].split("\n")
    forged = cosigned(consortium, "bank", int(head[1]), base64.b64decode(head[2]), at=-60)
    keep(consortium, "bank", [kept[0], forged, *kept[2:]])
    verification = consortium.verify()
    assert found(verification) == {("V3", "regulator")}
