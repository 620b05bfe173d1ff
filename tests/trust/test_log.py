"""The log: proofs hold, transactions keep it whole, damage is found at start, exports are exact."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from hejin_trust.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from hejin_trust.cosignature import Cosigned
from hejin_trust.database import StorageError, open_database, reading, writing
from hejin_trust.entries import EntryError, parse
from hejin_trust.errors import HejinError
from hejin_trust.export import ExportError, MemberExport, write_export
from hejin_trust.keys import SigningKey
from hejin_trust.log import ClockError, Log
from hejin_trust.merkle import check_consistency, check_inclusion, leaf_hash, root_of
from hejin_trust.origins import internal_origin, release_origin
from hejin_trust.stored_log import LogError, StoredCosignature, StoredLog

MIGRATION = '''"""first"""
from alembic import op
import sqlalchemy as sa
from hejin_trust.stored_log import log_tables
revision = "0001"
down_revision = None
def upgrade():
    metadata = sa.MetaData()
    log_tables(metadata)
    sa.Table("spent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    metadata.create_all(op.get_bind())
'''
SEED = bytes(range(32))
ORIGIN = "hejin/test/node/a"


class Time:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "migrations" / "versions" / "0001_first.py").write_text(MIGRATION)
    return open_database(tmp_path / "node.db", tmp_path / "migrations")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def log(time: Time) -> Log:
    return Log(ORIGIN, "a", SigningKey.from_seed(SEED), time)


def void(number: int) -> tuple[str, dict[str, object]]:
    return "void", {"reservation": number, "reason": "test"}


def fill(engine: Engine, log: Log, count: int) -> None:
    with writing(engine) as connection:
        log.append_many(connection, [void(number) for number in range(count)])


def test_origins_are_named_as_the_design_says() -> None:
    assert release_origin("c", "bank", "b") == "hejin/c/bank/b"
    assert internal_origin("c", "node", "a") == "hejin/c/node/a/internal"


def test_one_by_one_and_all_at_once_make_the_same_tree(engine: Engine, log: Log) -> None:
    with writing(engine) as connection:
        for number in range(13):
            assert log.append(connection, *void(number)).seq == number
        log.append_many(connection, [void(number) for number in range(13, 40)])
        log.append_many(connection, [])
        assert log.size(connection) == 40
        leaves = [leaf_hash(raw) for raw in log.entries(connection)]
        for size in range(41):
            assert log.root(connection, size) == root_of(leaves[:size])
            edge = log.frontier(connection, size)
            for leaf in leaves[size:]:
                edge.append(leaf)
            assert (edge.size, edge.root()) == (40, root_of(leaves))
        log.verify(connection)


def test_every_proof_holds_against_every_later_checkpoint(engine: Engine, log: Log) -> None:
    fill(engine, log, 20)
    with reading(engine) as connection:
        leaves = list(log.entries(connection))
        for size in range(1, 21):
            root = log.root(connection, size)
            for seq in range(size):
                proof = log.inclusion_proof(connection, seq, size)
                check_inclusion(leaves[seq], seq, size, proof, root)
            for old in range(size):
                proof = log.consistency_proof(connection, old, size)
                check_consistency(old, log.root(connection, old), size, root, proof)


def test_a_checkpoint_signs_what_is_there_and_is_kept(engine: Engine, log: Log) -> None:
    with writing(engine) as connection:
        log.append(connection, *void(1))
        note = log.checkpoint(connection)
        assert log.checkpoint(connection) == note
        told = open_checkpoint(note, ORIGIN, log.public_key)
        assert (told.size, told.root) == (1, log.root(connection))


def test_a_checkpoint_of_an_earlier_size_can_still_be_signed(engine: Engine, log: Log) -> None:
    fill(engine, log, 9)
    with writing(engine) as connection:
        now = log.checkpoint(connection)
        for size in range(10):
            note = log.checkpoint(connection, size)
            told = open_checkpoint(note, ORIGIN, log.public_key)
            assert (told.size, told.root) == (size, log.root(connection, size))
            assert log.checkpoint(connection, size) == log.note(connection, size) == note
        assert log.checkpoint(connection) == now
        log.verify(connection)
        with pytest.raises(LogError, match="entry 9 is missing"):
            log.checkpoint(connection, 10)


def test_a_log_copied_in_portions_is_the_same_log(engine: Engine, log: Log, tmp_path: Path) -> None:
    copy, other = StoredLog(ORIGIN), open_database(tmp_path / "copy.db", tmp_path / "migrations")
    fill(engine, log, 41)
    with reading(engine) as connection:
        entries = [parse(raw) for raw in log.entries(connection)]
        root = log.root(connection)
    for start, end in ((0, 1), (1, 1), (1, 14), (14, 41)):
        with writing(other) as connection:
            copy.extend(connection, entries[start:end])
    with reading(other) as connection:
        assert (copy.size(connection), copy.root(connection)) == (41, root)
        assert list(copy.entries(connection)) == [entry.raw for entry in entries]
        assert [tree.size for tree in copy.rebuilt(connection, "a")] == list(range(1, 42))
        with pytest.raises(LogError, match="out of place"):
            list(copy.rebuilt(connection, "b"))
    for gap in (entries[:1], entries[40:]):
        with writing(other) as connection, pytest.raises(ValueError, match="continue"):
            copy.extend(connection, gap)


def test_the_first_cosignature_of_a_size_is_kept(engine: Engine, log: Log) -> None:
    def cosigned(size: int, minutes: int, note: str) -> Cosigned:
        time = datetime(2026, 11, 22, 20, minutes, 0, tzinfo=UTC)
        return Cosigned(Checkpoint(ORIGIN, size, bytes(32)), note, time)

    first = StoredCosignature(1, "2026-11-22T20:00:00Z", "first")
    later = StoredCosignature(3, "2026-11-22T20:10:00Z", "later")
    with writing(engine) as connection:
        assert log.newest_cosigned(connection) is None
        log.keep_cosigned(connection, cosigned(1, 0, "first"))
        log.keep_cosigned(connection, cosigned(1, 9, "again"))
        log.keep_cosigned(connection, cosigned(3, 10, "later"))
        assert list(log.cosigned(connection)) == [first, later]
        assert list(log.cosigned(connection, 2)) == [later]
        assert log.newest_cosigned(connection) == later
        assert not list(StoredLog("another").cosigned(connection))


def test_entries_are_found_by_range_type_and_number(engine: Engine, log: Log) -> None:
    fill(engine, log, 10)
    with writing(engine) as connection:
        log.append(connection, "authorisation.revoke", {"grant": 3, "reason": "x"})
    with reading(engine) as connection:
        assert [parse(raw).seq for raw in log.entries(connection, 3, 6)] == [3, 4, 5]
        assert [e.seq for e in log.of_type(connection, "authorisation.revoke")] == [10]
        assert log.entry(connection, 4).body["reservation"] == 4
        with pytest.raises(LogError, match="entry 11 is missing"):
            log.entry(connection, 11)


def test_two_logs_share_a_database_and_nothing_else(engine: Engine, log: Log) -> None:
    other = Log(f"{ORIGIN}/internal", "a", SigningKey.generate())
    fill(engine, log, 5)
    fill(engine, other, 3)
    with reading(engine) as connection:
        assert (log.size(connection), other.size(connection)) == (5, 3)
        log.verify(connection)
        other.verify(connection)


def test_every_salt_is_new(engine: Engine, log: Log) -> None:
    with writing(engine) as connection:
        log.append_many(connection, [void(1)] * 50)
        salts = {raw.split(b'"salt":"')[1][:32] for raw in log.entries(connection)}
    assert len(salts) == 50


def test_a_transaction_that_fails_leaves_the_log_as_it_was(engine: Engine, log: Log) -> None:
    fill(engine, log, 7)

    def crash() -> None:
        with writing(engine) as connection:
            log.append_many(connection, [void(number) for number in range(20)])
            log.checkpoint(connection)
            connection.execute(text("INSERT INTO spent VALUES (1)"))
            raise RuntimeError("kill -9")

    with pytest.raises(RuntimeError):
        crash()
    with writing(engine) as connection:
        assert log.size(connection) == 7
        log.verify(connection)
        log.append(connection, *void(7))
        log.verify(connection)


def test_one_bad_body_keeps_all_of_its_batch_out(engine: Engine, log: Log) -> None:
    with writing(engine) as connection:
        with pytest.raises(EntryError):
            log.append_many(connection, [void(1), ("void", {})])
        assert log.size(connection) == 0


def test_a_full_disk_stops_an_append_with_nothing_half_written(engine: Engine, log: Log) -> None:
    fill(engine, log, 5)

    def overfill() -> None:
        with writing(engine) as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
            connection.execute(text("INSERT INTO spent VALUES (1)"))
            log.append_many(connection, [void(number) for number in range(500)])

    with pytest.raises(StorageError, match="disk is full"):
        overfill()
    with reading(engine) as connection:
        assert log.size(connection) == 5
        assert connection.execute(text("SELECT count(*) FROM spent")).scalar_one() == 0
        log.verify(connection)


APPEND = """
import sys
from pathlib import Path
from hejin_trust.database import open_database, writing
from hejin_trust.keys import SigningKey
from hejin_trust.log import Log
folder, origin = Path(sys.argv[1]), sys.argv[2]
engine = open_database(folder / "node.db", folder / "migrations")
log = Log(origin, "a", SigningKey.from_seed(bytes(range(32))))
sys.stdin.readline()
for number in range(40):
    with writing(engine) as connection:
        log.append(connection, "void", {"reservation": number, "reason": "rival"})
        log.checkpoint(connection)
"""


def test_processes_append_at_once_and_none_is_lost(
    engine: Engine, log: Log, tmp_path: Path
) -> None:
    rivals = [
        subprocess.Popen([sys.executable, "-c", APPEND, tmp_path, ORIGIN], stdin=subprocess.PIPE)
        for _ in range(2)
    ]
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write(b"go\n")
        rival.stdin.close()
    assert [rival.wait(60) for rival in rivals] == [0, 0]
    with reading(engine) as connection:
        assert log.size(connection) == 80
        log.verify(connection)


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_a_clock_that_was_never_set_logs_nothing(
    engine: Engine, log: Log, time: Time, year: int
) -> None:
    right, time.now = time.now, datetime(year, 1, 1, tzinfo=UTC)
    with writing(engine) as connection:
        with pytest.raises(ClockError, match="set the clock right"):
            log.append(connection, *void(0))
        time.now = right
        assert log.append(connection, *void(0)).seq == 0


def test_time_never_goes_back(engine: Engine, log: Log, time: Time) -> None:
    with writing(engine) as connection:
        first = log.append(connection, *void(1))
        time.now -= timedelta(seconds=60)
        assert log.append(connection, *void(2)).time == first.time
        time.now -= timedelta(hours=1)
        with pytest.raises(ClockError, match="set the clock right"):
            log.append(connection, *void(3))
        time.now += timedelta(hours=2)
        assert log.append(connection, *void(3)).time > first.time


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE log_entry SET raw = CAST(raw || 'x' AS BLOB) WHERE seq = 3", id="raw"),
        pytest.param("UPDATE log_entry SET leaf = zeroblob(32) WHERE seq = 3", id="leaf"),
        pytest.param("UPDATE log_entry SET type = 'release' WHERE seq = 3", id="type"),
        pytest.param("UPDATE log_entry SET time = '2020-01-01T00:00:00Z' WHERE seq = 3", id="time"),
        pytest.param("UPDATE log_node SET hash = zeroblob(32) WHERE level = 2", id="node"),
        pytest.param("DELETE FROM log_node WHERE level = 3", id="node-missing"),
        pytest.param("DELETE FROM log_entry WHERE seq = 3", id="gap"),
        pytest.param("DELETE FROM log_entry WHERE seq >= 7", id="cut"),
        pytest.param("DELETE FROM log_entry WHERE seq = 8", id="last-cut-before-checkpoint"),
        pytest.param("UPDATE log_checkpoint SET note = replace(note, 'a', 'b')", id="note"),
        pytest.param("UPDATE log_checkpoint SET size = 8", id="note-of-another-size"),
    ],
)
def test_damage_is_found_at_start(engine: Engine, log: Log, damage: str) -> None:
    fill(engine, log, 9)
    with writing(engine) as connection:
        log.checkpoint(connection)
        connection.execute(text(damage))
    with reading(engine) as connection, pytest.raises(HejinError):
        log.verify(connection)


def test_a_log_of_another_member_is_not_ours(engine: Engine, log: Log) -> None:
    fill(engine, log, 2)
    with writing(engine) as connection:
        log.checkpoint(connection)
    with reading(engine) as connection:
        with pytest.raises(LogError, match="out of place"):
            Log(ORIGIN, "b", SigningKey.from_seed(SEED)).verify(connection)
        with pytest.raises(CheckpointError):
            Log(ORIGIN, "a", SigningKey.generate()).verify(connection)


def test_a_missing_subtree_stops_an_append(engine: Engine, log: Log) -> None:
    fill(engine, log, 3)
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM log_node"))
        with pytest.raises(LogError, match="Stop, and restore"):
            log.append(connection, *void(3))


DIGEST = "ab" * 32


@pytest.fixture
def exported(engine: Engine, log: Log, tmp_path: Path) -> MemberExport:
    internal = Log(f"{ORIGIN}/internal", "a", SigningKey.from_seed(SEED))
    fill(engine, log, 1200)
    with writing(engine) as connection:
        write_export(tmp_path / "out", "a", connection, log, internal, [(DIGEST, b"{}")])
    return MemberExport(tmp_path / "out" / "a")


def test_an_export_holds_the_leaves_byte_for_byte(
    exported: MemberExport, engine: Engine, log: Log
) -> None:
    with reading(engine) as connection:
        assert list(exported.leaves("release")) == list(log.entries(connection))
        root = log.root(connection)
    assert list(exported.leaves("internal")) == []
    told = open_checkpoint(exported.checkpoint("release"), ORIGIN, log.public_key)
    assert (told.size, told.root) == (1200, root)
    assert exported.document(DIGEST) == b"{}"
    assert not list(exported.folder.glob(".*"))


Damage = Callable[[MemberExport], object]


@pytest.mark.parametrize(
    ("damage", "read"),
    [
        pytest.param(
            lambda e: (e.folder / "release.jsonl").unlink(),
            lambda e: list(e.leaves("release")),
            id="log-missing",
        ),
        pytest.param(
            lambda e: (e.folder / "release.jsonl").write_bytes(b"{}\n{}"),
            lambda e: list(e.leaves("release")),
            id="line-cut-off",
        ),
        pytest.param(
            lambda e: (e.folder / "release.jsonl").write_bytes(b"x" * 70_000 + b"\n"),
            lambda e: list(e.leaves("release")),
            id="line-too-long",
        ),
        pytest.param(
            lambda e: (e.folder / "release.checkpoint").unlink(),
            lambda e: e.checkpoint("release"),
            id="checkpoint-missing",
        ),
        pytest.param(
            lambda e: (e.folder / "release.checkpoint").write_bytes(b"\xff"),
            lambda e: e.checkpoint("release"),
            id="checkpoint-not-text",
        ),
        pytest.param(
            lambda e: (e.folder / "release.checkpoint").write_bytes(b"x" * 100_000),
            lambda e: e.checkpoint("release"),
            id="checkpoint-too-long",
        ),
        pytest.param(lambda e: None, lambda e: e.document("cd" * 32), id="document-missing"),
        pytest.param(lambda e: None, lambda e: e.document("../../x"), id="path-traversal"),
    ],
)
def test_a_damaged_export_is_refused(exported: MemberExport, damage: Damage, read: Damage) -> None:
    damage(exported)
    with pytest.raises(ExportError):
        read(exported)


def test_an_export_that_cannot_be_written_says_so(engine: Engine, log: Log, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file in the way")
    with writing(engine) as connection, pytest.raises(ExportError, match="cannot be written"):
        write_export(tmp_path / "out", "a", connection, log, log)
