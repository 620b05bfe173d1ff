"""The regulator's commands about what members logged, as a person uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mirror_world import Watched, watched
from sqlalchemy import text
from typer.testing import CliRunner

from hejin_regulator.authority import Office
from hejin_regulator.certificate_status import CertificateStatus
from hejin_regulator.cli import app
from hejin_regulator.cli_mirror import NothingHeldError
from hejin_regulator.mirror_check import MirrorDamagedError
from hejin_regulator.mirror_export import export
from hejin_regulator.witness_rules import ForkError
from hejin_trust.charter import Charter, NotAMemberError
from hejin_trust.checkpoint import open_checkpoint, sign_checkpoint
from hejin_trust.clock import now
from hejin_trust.database import writing
from hejin_trust.export import MemberExport
from hejin_trust.files import FileError
from hejin_trust.mirroring import LogUpdate
from hejin_trust.recovery import Recovery
from hejin_trust.stored_log import LogError

A = "node-a"


def run(*arguments: object, language: str = "en") -> str:
    """Return what a command prints; a failure is raised as it is."""
    settings = {"HEJIN_LANG": language, "COLUMNS": "200"}
    result = CliRunner().invoke(app, [str(a) for a in arguments], env=settings)
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def world(office: Office, tmp_path: Path) -> Iterator[Watched]:
    """A mirror that holds two heads of node-a's logs, one of the bank's, none of node-b's."""
    with watched(office, tmp_path) as found:
        release, internal = found.release[A], found.internal[A]
        found.add(A, release.fill(2).update(0), internal.fill(1).update(0))
        found.time.on(60)
        found.add(A, release.fill(3).update(2))
        found.add("bank-a", found.release["bank-a"].fill(1).update(0))
        yield found


def said(world: Watched, command: str, *more: object) -> Any:
    return json.loads(run(command, "--home", world.office.home, "--json", *more))


def fork(world: Watched) -> LogUpdate:
    """Let node-a sign another tree of a size that is held, and be refused."""
    book = world.release[A]
    note = sign_checkpoint(book.origin, 5, bytes(32), book.key)
    update = replace(book.update(5), checkpoint=note)
    with pytest.raises(ForkError):
        world.mirror.door(A).add([update])
    return update


def test_logs_shows_what_is_held_of_whom_and_what_was_refused(world: Watched) -> None:
    update = fork(world)
    members = {item["member"]: item for item in said(world, "logs")["members"]}
    release, internal = members[A]["logs"]
    assert release == {
        "origin": "hejin/hebei/node/node-a",
        "size": 5,
        "cosigned": "2026-11-22T20:01:00Z",
        "types": {"void": 5},
    }
    assert (internal["size"], internal["cosigned"]) == (1, "2026-11-22T20:00:00Z")
    assert [log["size"] for log in members["node-b"]["logs"]] == [0, 0]
    (refused,) = members[A]["refusals"]
    assert (refused["code"], refused["count"]) == ("witness-fork", 1)
    assert refused["note"] == update.checkpoint
    shown = run("logs", "--home", world.office.home, "--check")
    for word in ("node-a/internal", "void 5", "witness-fork", "checked and fits"):
        assert word in shown
    assert "Text(" not in shown, "both languages at once"
    assert "均已核验" in run("logs", "--home", world.office.home, "--check", language="zh")


def test_check_finds_what_a_start_does_not(world: Watched) -> None:
    with writing(world.mirror.engine) as connection:
        connection.execute(text("UPDATE log_entry SET leaf = zeroblob(32) WHERE seq = 1"))
    run("logs", "--home", world.office.home)
    with pytest.raises(LogError):
        run("logs", "--home", world.office.home, "--check")


def test_certificates_are_shown_with_their_times(world: Watched) -> None:
    world.office.revoke("node-b", now())
    listed = {item["member"]: item for item in said(world, "certificates")["certificates"]}
    assert (listed["node-b"]["reason"], listed[A]["reason"]) == ("revoked", "")
    assert listed["node-b"]["to"] == world.office.charter.issued
    assert "revoked" in run("certificates", "--home", world.office.home)
    assert "已撤销" in run("certificates", "--home", world.office.home, language="zh")


def test_an_export_holds_charters_certificates_and_every_cosigned_head(
    world: Watched, tmp_path: Path
) -> None:
    folder, office = tmp_path / "export", world.office
    written = said(world, "export", folder)
    assert written["charters"] == office.charter.serial == 2
    assert written["heads"]["hejin/hebei/node/node-a"] == 2
    assert written["logs"] == []
    key = office.identity.public
    assert Charter.parse((folder / "charter.json").read_bytes(), key) == office.charter
    for serial in (1, 2):
        data = (folder / "charters" / f"{serial}.json").read_bytes()
        assert Charter.parse(data, key).serial == serial
    signed = (folder / "certificates.json").read_bytes()
    assert len(CertificateStatus.parse(signed, key).certificates) == 4
    lines = (folder / "witness" / "node-a.release.jsonl").read_text("utf-8").splitlines()
    book = world.release[A]
    for line, size in zip(lines, (2, 5), strict=True):
        note = json.loads(line)
        cosignature = note.rpartition("\n— ")[2]
        head = world.opened(book.update(0, size), f"— {cosignature}")
        assert head.note == note
        assert head.checkpoint.root == book.root(size)
    # Of a log that was never seen there is a list, and it is empty.
    assert (folder / "witness" / "node-b.internal.jsonl").read_bytes() == b""
    assert not (folder / A).exists()
    assert "4 certificates, 4 cosigned heads" in run("export", folder, "--home", office.home)


def test_with_logs_the_mirror_speaks_for_members_that_do_not(
    world: Watched, tmp_path: Path
) -> None:
    folder, book = tmp_path / "export", world.release[A]
    (folder / "bank-a").mkdir(parents=True)
    (folder / "bank-a" / "release.jsonl").write_bytes(b"what the bank itself exported\n")
    written = said(world, "export", folder, "--with-logs")
    assert written["logs"] == ["hejin/hebei/node/node-a", "hejin/hebei/node/node-a/internal"]
    of_node = MemberExport(folder / A)
    assert list(of_node.leaves("release")) == book.leaves
    head = open_checkpoint(of_node.checkpoint("release"), book.origin, book.key.public)
    assert (head.size, head.root) == (5, book.root())
    assert not (folder / "node-b").exists()
    kept = (folder / "bank-a" / "release.jsonl").read_bytes()
    assert kept == b"what the bank itself exported\n"
    assert "from the mirror" not in run(
        "export", folder, "--with-logs", "--home", world.office.home
    )


def test_a_long_export_tells_how_far_it_is(world: Watched, tmp_path: Path) -> None:
    world.add(A, world.release[A].fill(1500).update(5))
    told: list[tuple[str, int]] = []
    export(
        world.office,
        world.mirror,
        tmp_path / "export",
        now(),
        with_logs=True,
        progress=lambda name, done: told.append((name, done)),
    )
    assert told == [("release.jsonl", 1000)]


def test_an_export_that_cannot_be_written_says_so(world: Watched, tmp_path: Path) -> None:
    (tmp_path / "export").write_bytes(b"a file in the way")
    with pytest.raises(FileError, match="cannot be made"):
        said(world, "export", tmp_path / "export" / "deeper")


def test_a_recovery_is_approved_for_what_the_mirror_holds(world: Watched, tmp_path: Path) -> None:
    out, office = tmp_path / "recovery.json", world.office
    arguments = ["--reason", "restored from Monday's backup", "--out", out]
    told = said(world, "approve-recovery", A, *arguments)
    approval = Recovery.parse(out.read_bytes(), office.charter)
    assert approval.logs == world.mirror.door(A).standing()
    assert (approval.member, approval.consortium) == (A, "hebei")
    assert approval.reason == "restored from Monday's backup"
    assert told["approval"] == approval.digest
    assert told["logs"]["hejin/hebei/node/node-a"] == 5
    shown = run("approve-recovery", A, "--home", office.home, *arguments)
    assert "node-a/internal: 1 entries" in shown


def test_no_recovery_is_approved_of_nobody_and_nothing(world: Watched, tmp_path: Path) -> None:
    arguments = ["--reason", "x", "--out", tmp_path / "recovery.json"]
    with pytest.raises(NothingHeldError, match="nothing of node-b"):
        said(world, "approve-recovery", "node-b", *arguments)
    with pytest.raises(NotAMemberError):
        said(world, "approve-recovery", "nobody", *arguments)
    world.office.revoke(A, now())
    with pytest.raises(NotAMemberError, match="revoked"):
        said(world, "approve-recovery", A, *arguments)
    with pytest.raises(SystemExit):
        said(world, "approve-recovery", A, "--reason", " ", "--out", tmp_path / "recovery.json")
    assert not (tmp_path / "recovery.json").exists()


@pytest.mark.parametrize("command", ["logs", "export", "approve-recovery"])
def test_nothing_is_told_from_a_damaged_mirror(
    world: Watched, tmp_path: Path, command: str
) -> None:
    with writing(world.mirror.engine) as connection:
        connection.execute(text("DELETE FROM log_entry WHERE seq = 4"))
    more: dict[str, list[object]] = {
        "logs": [],
        "export": [tmp_path / "export"],
        "approve-recovery": [A, "--reason", "x", "--out", tmp_path / "recovery.json"],
    }
    with pytest.raises(MirrorDamagedError):
        said(world, command, *more[command])
