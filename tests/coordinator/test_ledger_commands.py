"""`hejin coordinator status`, `preflight`, `export`, `recover`: what a bank sees of its witness."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from away_mirror import FarMirror, Line
from node_world import BANK, World, found_world
from typer.testing import CliRunner, Result

from hejin_coordinator import witnessing
from hejin_coordinator.cli import app
from hejin_coordinator.config import FILE, CoordinatorSettings
from hejin_coordinator.home import CoordinatorHome, open_home
from hejin_trust.canonical import time_text
from hejin_trust.database import reading, writing
from hejin_trust.one_history import FrozenError
from hejin_trust.recovery import Recovery
from hejin_trust.settings import write_settings


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def world(tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch) -> World:
    """Found a bank whose commands ask the mirror in this process."""
    world = found_world(tmp_path, nodes=1)
    settings = CoordinatorSettings(
        member=BANK, regulator_key=world.office.identity.public.hex(), regulator="127.0.0.1:1"
    )
    write_settings(tmp_path / BANK / FILE, settings)

    @contextmanager
    def dialled(home: CoordinatorHome) -> Iterator[FarMirror]:
        yield FarMirror(world.mirror.door(home.member_id), home.member_id, line)

    monkeypatch.setattr(witnessing, "dialled", dialled)
    return world


def run(world: World, *words: str, language: str = "en") -> Result:
    command, *rest = words
    result = CliRunner().invoke(
        app,
        [command, "--home", str(world.folder / BANK), *rest],
        env={"HEJIN_LANG": language, "COLUMNS": "300"},
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def log(world: World, entries: int = 1) -> None:
    with open_home(world.folder / BANK) as home, writing(home.database) as connection:
        for number in range(entries):
            body = {"plan": f"{number:064x}", "purpose": "p", "family": "f"}
            home.release_log.append(connection, "plan", body)


def restored(world: World) -> int:
    """Let the bank log three entries, mirror them and lose them; return how many are left."""
    assert run(world, "status").exit_code == 0
    folder, copy = world.folder / BANK, world.folder / "copy.db"
    shutil.copy(folder / "coordinator.db", copy)
    log(world, 3)
    assert run(world, "status").exit_code == 0
    for path in folder.glob("coordinator.db*"):
        path.unlink()
    shutil.copy(copy, folder / "coordinator.db")
    with open_home(folder) as home, reading(home.database) as connection:
        return home.release_log.size(connection)


@pytest.mark.parametrize(
    ("language", "said"), [("en", "holds the same ledgers"), ("zh", "所持账本相同")]
)
def test_status_says_that_the_mirror_holds_the_same(world: World, language: str, said: str) -> None:
    shown = run(world, "status", language=language).output
    assert said in shown
    told = json.loads(run(world, "status", "--json").output)
    assert told["regulator"]["ok"]
    assert (told["member"], told["release_log"], told["plans"]) == (BANK, 1, {})


def test_status_says_that_the_regulator_is_away(world: World, line: Line) -> None:
    line.cut.add(BANK)
    told = json.loads(run(world, "status", "--json").output)
    assert told["regulator"]["code"] == "witness-unreachable"
    assert "does not answer" in run(world, "status").output


def test_status_says_that_a_restored_bank_is_frozen(world: World) -> None:
    restored(world)
    told = json.loads(run(world, "status", "--json").output)
    assert told["regulator"]["code"] == "frozen"
    assert "recover" in run(world, "status").output


def test_preflight_looks_at_everything_and_its_exit_code_says_whether_all_is_well(
    world: World, line: Line
) -> None:
    good = run(world, "preflight", "--json")
    assert good.exit_code == 0
    looks = json.loads(good.output)["looks"]
    assert [look["name"] for look in looks] == ["certificate", "ledgers", "regulator", "clock"]
    world.clock.turn(timedelta(minutes=10))
    off = run(world, "preflight")
    assert off.exit_code == 1
    assert "clock" in off.output
    line.cut.add(BANK)
    away = json.loads(run(world, "preflight", "--json").output)
    assert not away["ok"]
    assert [look["code"] for look in away["looks"]][-1] == "witness-unreachable"


def test_an_export_mirrors_first(world: World, tmp_path: Path) -> None:
    log(world)
    result = run(world, "export", str(tmp_path / "export"))
    assert "not witnessed" not in result.stderr
    leaves = (tmp_path / "export" / BANK / "release.jsonl").read_bytes().splitlines()
    held = {each.origin: each.size for each in world.mirror.door(BANK).standing()}
    assert len(leaves) == max(held.values()) == 2


def test_an_export_without_the_regulator_says_that_its_end_is_not_witnessed(
    world: World, tmp_path: Path, line: Line
) -> None:
    line.cut.add(BANK)
    result = run(world, "export", str(tmp_path / "export"))
    assert "the newest entries are not witnessed yet" in result.stderr
    assert (tmp_path / "export" / BANK / "release.jsonl").exists()
    assert "尚未经见证" in run(world, "export", str(tmp_path / "export"), language="zh").stderr


def test_recover_takes_the_regulators_approval_and_ends_the_freeze(
    world: World, tmp_path: Path
) -> None:
    left = restored(world)
    with pytest.raises(FrozenError):
        run(world, "drop", "ab" * 32)
    office = world.office
    approval = tmp_path / "approval.json"
    approval.write_bytes(
        Recovery(
            consortium=office.charter.consortium,
            member=BANK,
            reason="the disk was lost",
            issued=time_text(world.clock()),
            logs=world.mirror.door(BANK).standing(),
        ).seal(office.identity, office.charter.regulator.id)
    )
    shown = run(world, "recover", str(approval)).output
    assert "entries put back" in shown
    with open_home(world.folder / BANK) as home, reading(home.database) as connection:
        types = [entry.type for entry in home.release_log.of_type(connection, "plan", "recover")]
        assert home.release_log.size(connection) == left + 4
    assert types == ["plan", "plan", "plan", "recover"]
    told = json.loads(run(world, "status", "--json").output)
    assert told["regulator"]["ok"]
