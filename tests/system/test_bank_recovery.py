"""A bank that is restored from a backup stops, and every node gets its word after the recovery."""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from node_world import BANK
from process_world import REGULATOR, SECONDS, Members, prepared
from typer import Typer
from typer.testing import CliRunner

from hejin_coordinator import store
from hejin_coordinator.cli import app as bank_app
from hejin_coordinator.home import open_home as open_bank
from hejin_node.home import open_home as open_node
from hejin_regulator.cli import app as regulator_app
from hejin_trust.database import reading

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

DONE = re.compile(r"event=run-done\b")
LISTENS = re.compile(r"^listening on", re.M)


def run(app: Typer, *words: object) -> str:
    told = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.output


def copied(database: Path, to: Path) -> None:
    """Back a database up as its owner would, with what its write-ahead log holds."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def without_receipt(members: Members, node: str) -> int:
    with open_node(members.folder / node) as home, reading(home.database) as connection:
        ends = [e.type for e in home.release_log.of_type(connection, "release", "receipt")]
    return ends.count("release") - ends.count("receipt")


def test_a_bank_restored_from_a_backup_recovers_and_owes_nobody_a_word(tmp_path: Path) -> None:
    members = prepared(tmp_path)
    home, backup = members.folder / BANK, tmp_path / "backup.db"
    with members:
        members.arm(BANK, "survivors fixed", 3)
        members.start_all()
        members.wait_for_death(BANK)
        copied(home / "coordinator.db", backup)
        # It goes on to a model, and then its disk fails.
        members.start(BANK)
        members.wait_for(BANK, DONE)
        members.stop(BANK)
        for file in home.glob("coordinator.db*"):
            file.unlink()
        shutil.copy(backup, home / "coordinator.db")

        members.start(BANK)
        frozen = members.processes.pop(BANK)
        frozen.join(SECONDS)
        assert frozen.exitcode == 3, members.tails()
        assert "put back from a backup" in members.said(BANK)

        approval = tmp_path / "approval.json"
        run(
            regulator_app, "approve-recovery", BANK, "--home", members.folder / REGULATOR,
            "--reason", "the disk failed", "--out", approval,
        )  # fmt: skip
        run(bank_app, "recover", "--home", home, approval)
        with open_bank(home) as bank, reading(bank.database) as connection:
            # The model's files were on another disk.
            assert store.find_plan(connection, members.plan).state == "done"
        said = len(members.said(BANK))
        members.start(BANK)
        end = time.monotonic() + SECONDS
        while not LISTENS.search(members.said(BANK)[said:]):
            assert time.monotonic() < end, members.tails()
            time.sleep(0.1)
        while any(without_receipt(members, node) for node in members.nodes):
            assert time.monotonic() < end, members.tails()
            time.sleep(0.5)
        members.stop_all()
    found = members.verify().findings
    # Nothing is wrong but what was lost: the documents of the rounds after the backup.
    assert {finding.check for finding in found} == {"V6"}
    assert all("missing in rounds.jsonl" in finding.reason.en for finding in found)
