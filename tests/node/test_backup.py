"""Backup and restore: whole or refused, without keys, and the ledgers' rules hold afterwards."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from node_world import World, fill, found_world, terms
from recovery_world import approval
from witnessed_node import opened

from hejin_models.uscc import make_code
from hejin_node import backup
from hejin_node.backup import BackupError, Restored, back_up, known_backups, mend, put_back
from hejin_node.consent import authorisations, grant
from hejin_node.erasing import erase
from hejin_node.errors import SegmentError, WithdrawalWaitsError
from hejin_node.home import NodeHome, open_home
from hejin_node.recovery import recover
from hejin_node.segments import Columns
from hejin_node.withdrawing import withdraw
from hejin_trust.database import reading, writing
from hejin_trust.files import FileError
from hejin_trust.keys import KeyFileError, write_private
from hejin_trust.one_history import FrozenError

A = make_code(3)
COLUMNS: Columns = {"enterprise": "text", "net": "number"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], world.clock) as node:
        fill(node, world)
        add(node, "1")
        yield node


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def add(home: NodeHome, number: str) -> None:
    table = pa.table({"enterprise": [A, make_code(4)], "net": [1.0, float(number)]})
    home.warehouse.append("orders", COLUMNS, table.to_batches(), number * 64)


def rows(home: NodeHome) -> dict[str, list[dict[str, object]]]:
    return {
        name: pa.Table.from_batches(list(home.warehouse.read("data", name))).to_pylist()
        for name in ("firms", "orders")
    }


def listing(folder: Path) -> dict[str, str]:
    """Return the hash of every file but the lock and the database's log."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("node.db-wal", "node.db-shm", "serve.lock")
    }


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def lose(home: Path, *, everything: bool = False) -> None:
    """Lose the database, or all but the keys."""
    for path in home.iterdir():
        if path.name.startswith("node.db"):
            path.unlink()
        elif everything and path.name != "keys":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_backup_holds_everything_but_keys(home: NodeHome, folder: Path) -> None:
    done = back_up(home, folder)
    held = listing(folder)
    assert {name.split("/")[0] for name in held} == {
        "files", "segments", "manifest.json", next(name for name in held if name.endswith(".db")),
    }  # fmt: skip
    own = listing(home.path)
    for name in ("node.toml", "policy.toml", "charter.json", "tls.pem", "views/firms-v1.toml"):
        assert held[f"files/{name}"] == own[name]
    for part in home.warehouse.segments():
        assert held[f"segments/{part.file}"] == part.sha256
    assert done.segments == 3
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for key in (home.path / "keys").iterdir():
        assert key.read_bytes() not in everything
        assert key.read_bytes().hex().encode() not in everything
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))


def test_a_second_backup_copies_what_is_new_and_lets_go_of_what_is_not_there_any_more(
    home: NodeHome, folder: Path
) -> None:
    first = back_up(home, folder)
    assert first.copied > 0
    assert back_up(home, folder).copied == 0
    add(home, "2")
    new = (home.path / "warehouse" / home.warehouse.segments()[-1].file).stat().st_size
    assert back_up(home, folder).copied == new
    home.warehouse.compact()
    assert back_up(home, folder).removed >= 2
    assert {path.name for path in (folder / "segments").iterdir()} == {
        part.file for part in home.warehouse.segments()
    }
    assert len(list(folder.glob("node-*.db"))) == 1
    flip(folder / "segments" / home.warehouse.segments()[-1].file)
    assert back_up(home, folder).copied > 0  # it was damaged there
    assert known_backups(home) == ((str(folder), known_backups(home)[0][1]),)


def test_a_backup_is_of_one_moment_although_others_write_meanwhile(
    home: NodeHome, folder: Path, world: World
) -> None:
    stop = threading.Event()

    def grant_on() -> None:
        number = 100
        while not stop.is_set():
            with writing(home.database) as connection:
                key = home.pseudonym_key
                grant(connection, home.internal_log, key, make_code(number), terms(world))
            number += 1

    busy = threading.Thread(target=grant_on)
    busy.start()
    try:
        for _ in range(5):
            back_up(home, folder)
    finally:
        stop.set()
        busy.join()
    other = world.nodes["node-1"].with_name("copy")
    shutil.copytree(home.path / "keys", other / "keys")
    put_back(other, folder)
    with open_home(other, world.clock) as node:
        node.verify_logs()
        assert rows(node) == rows(home)


def test_lost_and_damaged_segments_are_put_back(home: NodeHome, folder: Path) -> None:
    back_up(home, folder)
    before = rows(home)
    add(home, "2")
    first, second, _, fourth = home.warehouse.segments()
    (home.path / "warehouse" / first.file).unlink()
    flip(home.path / "warehouse" / second.file)
    assert [one.file for one in home.warehouse.verify()] == [first.file, second.file]
    assert mend(home, folder) == Restored(False, 2, 0, ())
    assert home.warehouse.verify() == ()
    assert rows(home)["firms"] == before["firms"]
    flip(home.path / "warehouse" / fourth.file)
    assert mend(home, folder).lacking == (("orders", fourth.file),)
    flip(folder / "segments" / first.file)
    (home.path / "warehouse" / first.file).unlink()
    assert mend(home, folder).lacking == (("firms", first.file), ("orders", fourth.file))


@pytest.mark.parametrize("everything", [False, True])
def test_a_node_that_lost_its_database_gets_it_back(
    world: World, folder: Path, everything: bool
) -> None:
    path = world.nodes["node-1"]
    with open_home(path, world.clock) as home:
        fill(home, world)
        add(home, "1")
        before, listed = rows(home), listing(path)
        with reading(home.database) as connection:
            granted = authorisations(connection)
        back_up(home, folder)
    lose(path, everything=everything)
    done = put_back(path, folder)
    assert done.database
    assert done.segments == (3 if everything else 0)
    assert (done.files > 3) == everything
    with open_home(path, world.clock) as home:
        assert rows(home) == before
        with reading(home.database) as connection:
            assert authorisations(connection) == granted
        now = listing(path)
        assert {name for name in listed if name not in now} <= {"labels.csv", "warehouse/.lock"}


def test_a_node_from_a_backup_freezes_and_recovers_and_what_was_erased_stays_so(
    world: World, folder: Path
) -> None:
    path = world.nodes["node-1"]
    with opened(world) as node:
        fill(node.home, world)
        add(node.home, "1")
        node.witness.refresh()
        back_up(node.home, folder)
        erase(node.home, A, "it asked for it")
        node.witness.refresh()
    lose(path, everything=True)
    put_back(path, folder)
    with open_home(path, world.clock) as home:
        assert A in {row["enterprise"] for row in rows(home)["orders"]}
    with pytest.raises(FrozenError), opened(world):
        pass
    with open_home(path, world.clock) as home:
        recover(home, world.mirror.door("node-1"), approval(world))
        assert A not in {row["enterprise"] for found in rows(home).values() for row in found}
        assert len(rows(home)["firms"]) == 39
        with reading(home.database) as connection:
            assert A not in {one.code for one in authorisations(connection, at=home.now())}
    with opened(world):
        pass


def test_an_old_database_beside_a_newer_warehouse_recovers_and_is_mended(
    world: World, folder: Path
) -> None:
    """The old manifest names segments that the erasure removed: only the backup has them."""
    path = world.nodes["node-1"]
    with opened(world) as node:
        fill(node.home, world)
        add(node.home, "1")
        node.witness.refresh()
        back_up(node.home, folder)
        erase(node.home, A, "it asked for it")
        node.witness.refresh()
    lose(path)
    shutil.copy(next(folder.glob("node-*.db")), path / "node.db")
    with open_home(path, world.clock) as home:
        recover(home, world.mirror.door("node-1"), approval(world))
        with pytest.raises(SegmentError, match="restore"):
            rows(home)
        assert mend(home, folder).lacking == ()
        assert A not in {row["enterprise"] for found in rows(home).values() for row in found}
        assert len(rows(home)["firms"]) == 39
    with opened(world):
        pass


@pytest.mark.parametrize("everything", [True, False])
def test_a_node_from_a_backup_withdraws_again_what_was_withdrawn_after_it(
    world: World, folder: Path, everything: bool
) -> None:
    """Also where the old manifest names segments that only the backup has."""
    path = world.nodes["node-1"]
    with opened(world) as node:
        fill(node.home, world)
        add(node.home, "1")
        add(node.home, "2")
        node.witness.refresh()
        back_up(node.home, folder)
        *_, first, second = (load.id for load in node.home.warehouse.loads())
        withdraw(node.home, "orders", second, "a wrong file")
        node.witness.refresh()
    lose(path, everything=everything)
    if everything:
        put_back(path, folder)
    else:
        shutil.copy(next(folder.glob("node-*.db")), path / "node.db")
    with open_home(path, world.clock) as home:
        recover(home, world.mirror.door("node-1"), approval(world))
        if not everything:
            with pytest.raises(WithdrawalWaitsError, match="restore"):
                rows(home)
            assert mend(home, folder).lacking == ()
        assert {row["net"] for row in rows(home)["orders"]} == {1.0}
        assert [load.id for load in home.warehouse.loads("orders")] == [first]
        assert [load.id for load in home.warehouse.withdrawn("orders")] == [second]
        assert home.warehouse.verify() == ()
    with opened(world):
        pass


def test_a_backup_that_is_made_again_forgets_the_erased(home: NodeHome, folder: Path) -> None:
    back_up(home, folder)
    erase(home, A, "it asked for it")
    old = {part.file for part in home.warehouse.segments()}
    assert {path.name for path in (folder / "segments").iterdir()} != old
    assert [place for place, _ in known_backups(home)] == [str(folder)]
    back_up(home, folder)
    assert {path.name for path in (folder / "segments").iterdir()} == old


def another_key(home: Path, _folder: Path) -> None:
    (home / "keys" / "warehouse.key").unlink()
    write_private(home / "keys" / "warehouse.key", bytes(32))


def without_key(home: Path, _folder: Path) -> None:
    (home / "keys" / "warehouse.key").unlink()


def spoil(pattern: str) -> Callable[[Path, Path], None]:
    return lambda _, folder: flip(next(folder.glob(pattern)))


def forge(_: Path, folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"node-1"', b'"node-2"'))


@pytest.mark.parametrize(
    ("harm", "error", "said"),
    [
        (another_key, BackupError, "another warehouse key"),
        (without_key, KeyFileError, "warehouse.key"),
        (spoil("node-*.db"), BackupError, "damaged: node-"),
        (spoil("segments/*"), BackupError, "damaged: segments/"),
        (spoil("files/*.toml"), BackupError, "damaged: files/"),
        (spoil("manifest.json"), BackupError, "damaged|altered|another"),
        (forge, BackupError, "altered"),
        (lambda _, folder: (folder / "manifest.json").unlink(), BackupError, "no backup"),
    ],
)
def test_what_is_not_this_nodes_whole_backup_is_refused_and_nothing_changes(
    world: World,
    folder: Path,
    harm: Callable[[Path, Path], None],
    error: type[Exception],
    said: str,
) -> None:
    path = world.nodes["node-1"]
    with open_home(path, world.clock) as home:
        fill(home, world)
        back_up(home, folder)
    lose(path, everything=True)
    harm(path, folder)
    before = listing(path)
    with pytest.raises(error, match=said) as caught:
        put_back(path, folder)
    assert error is KeyFileError or caught.value.code == "backup"  # type: ignore[attr-defined]
    assert listing(path) == before


def test_another_nodes_backup_mends_nothing(tmp_path: Path, folder: Path) -> None:
    world = found_world(tmp_path, nodes=2)
    for name in ("node-1", "node-2"):
        with open_home(world.nodes[name], world.clock) as home:
            fill(home, world)
    with open_home(world.nodes["node-2"], world.clock) as home:
        back_up(home, folder)
    with open_home(world.nodes["node-1"], world.clock) as home:
        (home.path / "warehouse" / home.warehouse.segments()[0].file).unlink()
        before = listing(home.path)
        with pytest.raises(BackupError, match="of node-2 under another warehouse key"):
            mend(home, folder)
        with pytest.raises(BackupError, match="of node-2 under another warehouse key"):
            back_up(home, folder)
        assert listing(home.path) == before


def test_places_that_are_no_place_for_a_backup_are_refused(home: NodeHome, folder: Path) -> None:
    with pytest.raises(BackupError, match="inside the node's own folder"):
        back_up(home, home.path / "backup")
    folder.mkdir()
    (folder / "thesis.docx").write_bytes(b"mine")
    with pytest.raises(BackupError, match="holds other files"):
        back_up(home, folder)
    with pytest.raises(FileError):
        back_up(home, folder / "thesis.docx")
    assert listing(folder).keys() == {"thesis.docx"}
    assert known_backups(home) == ()


def test_a_damaged_segment_ends_a_backup_and_the_last_one_stays(
    home: NodeHome, folder: Path
) -> None:
    back_up(home, folder)
    manifest = (folder / "manifest.json").read_bytes()
    add(home, "2")
    flip(home.path / "warehouse" / home.warehouse.segments()[-1].file)
    with pytest.raises(BackupError, match="missing or damaged: put it back first"):
        back_up(home, folder)
    assert (folder / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize(
    "step", ["_copy_of_database", "_copy_segment", "_copy_kept", "replace_file"]
)
def test_a_backup_that_is_cut_off_leaves_the_last_one_whole(
    home: NodeHome, folder: Path, tmp_path: Path, step: str
) -> None:
    back_up(home, folder)
    before = rows(home)
    add(home, "2")

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, step, crash)
        with pytest.raises(KeyboardInterrupt):
            back_up(home, folder)
    other = tmp_path / "other"
    shutil.copytree(home.path / "keys", other / "keys")
    put_back(other, folder)
    with open_home(other, home.clock) as node:
        assert rows(node) == before
    assert back_up(home, folder).segments == 4


def test_a_backup_that_changes_after_it_was_checked_is_not_put_back(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to its disk could else choose what authorisations the node has."""
    path = world.nodes["node-1"]
    with open_home(path, world.clock) as home:
        fill(home, world)
        back_up(home, folder)
    lose(path, everything=True)
    real = backup._put

    def changes(*what: object) -> None:
        if Path(str(what[2])).name == "node.db":
            (kept,) = folder.glob("node-*.db")
            kept.write_bytes(b"another")
        real(*what)  # type: ignore[arg-type]

    monkeypatch.setattr(backup, "_put", changes)
    with pytest.raises(BackupError, match="changed while it was put back"):
        put_back(path, folder)
    assert not (path / "node.db").exists()


def test_a_restore_that_is_cut_off_is_done_again(world: World, folder: Path) -> None:
    path = world.nodes["node-1"]
    with open_home(path, world.clock) as home:
        fill(home, world)
        add(home, "1")
        before = rows(home)
        back_up(home, folder)
    lose(path, everything=True)
    real = backup._put

    def crash_at_the_database(*what: object) -> None:
        if Path(str(what[2])).name == "node.db":
            raise KeyboardInterrupt
        real(*what)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "_put", crash_at_the_database)
        with pytest.raises(KeyboardInterrupt):
            put_back(path, folder)
    assert not (path / "node.db").exists()
    (path / "node.db-wal").write_bytes(b"of the old database")
    put_back(path, folder)
    with open_home(path, world.clock) as home:
        assert rows(home) == before
