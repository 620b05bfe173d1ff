"""A run whose regulator goes away and comes back, and a node that is restored from a backup."""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from books import Books
from node_world import BANK
from process_world import REGULATOR, SECONDS, Members, prepared
from typer.testing import CliRunner

from hejin_coordinator import store
from hejin_coordinator.home import open_home as open_bank
from hejin_node import account
from hejin_node.cli import app as node_app
from hejin_node.home import open_home as open_node
from hejin_regulator.cli import app as regulator_app
from hejin_trust.database import reading
from hejin_trust.recovering import RecoveryError

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

NODE = "node-1"
DONE = re.compile(r"event=run-done\b")
SERVES = re.compile(r"^node serves", re.M)
AWAY_SECONDS = 6.0


def plan_of(members: Members) -> store.StoredPlan:
    with open_bank(members.folder / BANK) as bank, reading(bank.database) as connection:
        return store.find_plan(connection, members.plan)


def test_a_run_waits_for_its_regulator_and_loses_nothing(tmp_path: Path) -> None:
    members = prepared(tmp_path, deadlines={"masked": 8})
    with members:
        members.arm(REGULATOR, "stored", 12)
        members.start_all()
        members.wait_for_death(REGULATOR)
        end = time.monotonic() + SECONDS
        while plan_of(members).state != "paused":
            assert time.monotonic() < end, members.tails()
            time.sleep(0.1)
        told = plan_of(members).error or ""
        assert "regulator" in told or "监管方" in told
        time.sleep(AWAY_SECONDS)  # longer than a look of the bank for what may go on
        assert plan_of(members).state == "paused"
        members.start(REGULATOR)
        members.wait_for(BANK, DONE)
        members.stop_all()
    for node in members.nodes:
        Books(members, node).check()
        with open_node(members.folder / node) as home, reading(home.database) as connection:
            types = [
                entry.type
                for entry in home.release_log.of_type(connection, "reserve", "release", "void")
            ]
        assert types.count("reserve") == types.count("release") == 6
        assert "void" not in types
    assert members.verify().findings == ()


@pytest.mark.parametrize("whole", [False, True], ids=["from a backup", "from nothing"])
def test_a_node_that_lost_its_database_freezes_and_goes_on_after_its_recovery(
    tmp_path: Path, whole: bool
) -> None:
    members = prepared(tmp_path)
    backup, database = tmp_path / "backup.db", members.folder / NODE / "node.db"
    with members:
        members.arm(NODE, "computed", 2)
        members.start_all()
        members.wait_for(NODE, SERVES)
        members.wait_for_death(NODE)
        _copy(database, backup)
        # It serves on, and then its disk fails: the backup is older than what the mirror holds.
        members.start(NODE)
        members.wait_for(BANK, DONE)
        members.stop(NODE)
        with open_node(members.folder / NODE) as home, reading(home.database) as connection:
            spent = account.spent(connection, home.charter.period_from)
            size = home.release_log.size(connection)
        _remove(database)
        if whole:
            (database.parent / "warehouse").rename(tmp_path / "warehouse")
        else:
            shutil.copy(backup, database)

        members.start(NODE)
        frozen = members.processes.pop(NODE)
        frozen.join(SECONDS)
        assert frozen.exitcode == 3, members.tails()
        assert "put back from a backup" in members.said(NODE)

        approval = tmp_path / "approval.json"
        _run(
            regulator_app,
            ["approve-recovery", NODE, "--home", str(members.folder / REGULATOR)],
            ["--reason", "the disk failed", "--out", str(approval)],
        )
        recover = ["recover", "--home", str(members.folder / NODE), str(approval)]
        if whole:
            with pytest.raises(RecoveryError, match="begun anew"):
                _run(node_app, recover)
            _remove(database)
        _run(node_app, recover)
        with open_node(members.folder / NODE) as home, reading(home.database) as connection:
            assert account.spent(connection, home.charter.period_from) == spent
            assert home.release_log.entry(connection, size).type == "recover"
        said = len(members.said(NODE))
        members.start(NODE)
        end = time.monotonic() + SECONDS
        while not SERVES.search(members.said(NODE)[said:]):
            assert time.monotonic() < end, members.tails()
            time.sleep(0.1)
        members.stop_all()
    assert members.verify().findings == ()


def _remove(database: Path) -> None:
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()


def _copy(database: Path, to: Path) -> None:
    """Back a database up as its owner would, with what its write-ahead log holds."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def _run(app: object, *words: list[str]) -> str:
    told = CliRunner().invoke(app, [w for some in words for w in some], catch_exceptions=False)  # type: ignore[arg-type]
    assert told.exit_code == 0, told.output
    return told.output
