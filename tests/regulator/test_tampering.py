"""An export that someone without keys has touched: found, and named; or nothing claimed changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from export_damage import Damage, Export, damages, judge, same
from ledger_world import Consortium

from hejin_regulator.findings import Verification
from hejin_trust.checkpoint import sign_note
from hejin_trust.keys import SigningKey

SEED = 20_261_122
PARTS = 4
DAMAGES = 500


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """A consortium that shares its noise: its export has every kind of file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # what is durable is tested with the log
        return Consortium(
            tmp_path_factory.mktemp("honest") / "export",
            plan=lambda plan: replace(plan, mode="shared", minimum_nodes=3, quorum=3, colluders=1),
            charter=lambda charter: replace(charter, rho_alone_cap=3 * charter.rho_alone_cap),
        ).run()


@pytest.fixture
def export(original: Consortium) -> Export:
    return Export.of(original)  # every damage is mended at once


# -- 500 damages -------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(PARTS))
def test_every_damage_is_found_and_named(export: Export, part: int) -> None:
    for number, damage in enumerate(damages(export, DAMAGES, SEED)):
        if number % PARTS == part:
            judge(export, damage)
    verification = export.consortium.verify()
    assert verification.ok  # all was mended: each damage was judged by itself


def test_the_damages_reach_every_class_of_bytes(export: Export) -> None:
    kinds = set(export.classes)
    assert {
        "charter envelope signatures.sig",
        "checkpoint blank line",
        "checkpoint signer key id",
        "checkpoint size",
        "internal account body.period",
        "internal authorisation.grant punctuation",
        "plan envelope payload",
        "release accept body.proof_root",
        "release line end",
        "release receipt body.receipt",
        "release release name",
        "release reserve body.mechanism.sigma.num",
        "release void salt",
    } <= kinds
    covered = {damage.what.partition("(")[2][:-1] for damage in damages(export, DAMAGES, SEED)}
    assert kinds <= covered


# -- the judge itself --------------------------------------------------------------------


def test_a_verifier_that_compares_no_roots_would_be_blamed(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Salts of entries that nobody else's entry covers: the root alone tells.
    for kind in ("internal account salt", "release receipt salt"):
        place = export.classes[kind][-1]
        data = bytearray(export.files[place.file])
        data[place.end - 2] = ord("1") if data[place.end - 2] != ord("1") else ord("2")
        damage = Damage(kind, {place.file: bytes(data)})
        judge(export, damage)
        with monkeypatch.context() as fault:
            fault.setattr("hejin_regulator.evidence.Checkpoint", lambda *_: mock.ANY)
            with pytest.raises(AssertionError, match="V1 of"):
                judge(export, damage)


def test_a_verifier_that_checks_no_signatures_would_be_blamed(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("charter envelope signatures.sig", "plan envelope signatures.sig")
    damage = [
        Damage(kind, {name: _other_signature(export.files[name])})
        for kind in kinds
        for name in [export.classes[kind][0].file]
    ]
    for one in damage:
        judge(export, one)
    monkeypatch.setattr("hejin_trust.envelope.verify", lambda *_: None)
    for one in damage:
        with pytest.raises(AssertionError, match=r"not found|verified under"):
            judge(export, one)


def _other_signature(envelope: bytes) -> bytes:
    """Return the envelope with a well-formed signature that nobody made."""
    outer = json.loads(envelope)
    signature = outer["signatures"][0]["sig"]
    outer["signatures"][0]["sig"] = ("B" if signature[0] == "A" else "A") + signature[1:]
    return json.dumps(outer, sort_keys=True, separators=(",", ":")).encode()


def test_a_finding_that_names_another_member_would_be_blamed(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage = Damage("none", {"jing/release.jsonl": None})
    judge(export, damage)
    monkeypatch.setattr("hejin_regulator.evidence.LogReader._note", lambda *_: None)
    with pytest.raises(AssertionError):
        judge(export, damage)


# -- what is not claimed -----------------------------------------------------------------


def test_a_cosignature_beside_the_log_s_own_is_not_claimed_and_may_be_damaged(
    export: Export,
) -> None:
    # What counts is the regulator's own copy of the cosigned notes.
    honest = export.consortium.verify()
    name = "anping/release.checkpoint"
    note = export.files[name]
    text = note.decode().partition("\n\n")[0] + "\n"
    line = sign_note(text, "regulator.hebei/witness", SigningKey.generate()).partition("\n\n")[2]
    same(export.verify(Damage("cosigned", {name: note + line.encode()})), honest)
    cosigned = note + line.encode()
    for at in range(len(note), len(cosigned), 7):
        broken = cosigned[:at] + bytes([cosigned[at] ^ 1]) + cosigned[at + 1 :]
        outcome = export.verify(Damage(f"cosignature byte {at}", {name: broken}))
        assert isinstance(outcome, Verification)
        if outcome.ok:  # else the line is no signature line any more, and the note is refused
            same(outcome, honest)
        else:
            assert {(f.check, f.member) for f in outcome.findings} == {("V1", "anping")}


@pytest.mark.parametrize("name", ["README", "anping/.release.jsonl.part"])
def test_a_file_that_no_entry_refers_to_is_not_claimed(export: Export, name: str) -> None:
    honest = export.consortium.verify()
    path = export.consortium.folder / name
    same(export.verify(Damage("added", {name: b"anything\n"})), honest)
    assert not path.exists()


# -- by the command ----------------------------------------------------------------------


def _verify(consortium: Consortium, folder: Path) -> subprocess.CompletedProcess[str]:
    key = consortium.regulator.public.hex()
    words = ["-m", "hejin_sandbox.main", "regulator", "verify", str(folder), "--json"]
    return subprocess.run(
        [sys.executable, *words, "--regulator-key", key],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HEJIN_LANG": "en"},
    )


def test_the_command_exits_1_and_names_member_entry_and_reason(
    original: Consortium, tmp_path: Path
) -> None:
    folder = shutil.copytree(original.folder, tmp_path / "export")
    log = folder / "jing" / "release.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join((*lines[:5], lines[5].replace(b'"round":', b'"r0und":'), *lines[6:])))
    run = _verify(original, folder)
    assert run.returncode == 1
    told = json.loads(run.stdout)
    assert told["ok"] is False
    first = told["findings"][0]
    assert (first["check"], first["member"], first["seq"]) == ("V1", "jing", 5)
    assert first["reason"]["en"].startswith("release log: ")
    assert first["reason"]["zh"].startswith("release 日志：")


def test_the_command_exits_1_under_a_damaged_charter_and_0_under_the_true_one(
    original: Consortium, tmp_path: Path
) -> None:
    assert _verify(original, original.folder).returncode == 0
    folder = shutil.copytree(original.folder, tmp_path / "export")
    charter = folder / "charter.json"
    charter.write_bytes(_other_signature(charter.read_bytes()))
    run = _verify(original, folder)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("hejin: ")
    assert "charter" in run.stderr
