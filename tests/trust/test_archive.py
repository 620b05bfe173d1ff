"""Old entries go into a sealed file; proofs, checkpoints and exports stay as they were."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from hejin_trust import archive as archiving
from hejin_trust.archive import archivable, archive, archived_end, move
from hejin_trust.archived import Archive, ArchiveError, ArchiveMissingError, archives
from hejin_trust.canonical import time_text
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import CheckpointError
from hejin_trust.cosignature import cosign, open_cosigned, witness_name
from hejin_trust.database import compact, erase_deleted, open_database, reading, writing
from hejin_trust.errors import HejinError
from hejin_trust.export import write_export
from hejin_trust.files import FileError
from hejin_trust.keys import SigningKey
from hejin_trust.log import Log
from hejin_trust.merkle import check_consistency, check_inclusion
from hejin_trust.origins import internal_origin, release_origin
from hejin_trust.sealing import check_part, seal_part
from hejin_trust.stored_log import LogError

MIGRATION = '''"""first"""
from alembic import op
import sqlalchemy as sa
from hejin_trust.stored_log import log_tables
revision = "0001"
down_revision = None
def upgrade():
    log_tables(metadata := sa.MetaData())
    metadata.create_all(op.get_bind())
'''
ORIGIN = release_origin("hebei", "node", "node-a")


@dataclass
class Desk:
    """A node's database in last year's budget period, its charter of this year, its clock."""

    house: Any
    engine: Engine
    folder: Path
    now: datetime

    @property
    def charter(self) -> Charter:
        charter: Charter = self.house.charter
        return charter

    @property
    def log(self) -> Log:
        return self.of(ORIGIN)

    def of(self, origin: str) -> Log:
        return Log(origin, "node-a", self.house.people["node-a"].log, lambda: self.now)

    def add(self, *kinds: tuple[str, dict[str, object]], origin: str = ORIGIN) -> None:
        """Append entries, an hour after the last ones."""
        self.now += timedelta(hours=1)
        with writing(self.engine) as connection:
            self.of(origin).append_many(connection, kinds)
            self.of(origin).checkpoint(connection)

    def witness(self, origin: str = ORIGIN) -> None:
        """Let the regulator cosign the log as it is."""
        name = witness_name("hebei", "regulator")
        key = self.house.regulator.log
        log = self.of(origin)
        with writing(self.engine) as connection:
            note = log.checkpoint(connection)
            note += cosign(note, name, key, self.now)
            log.keep_cosigned(
                connection, open_cosigned(note, origin, log.public_key, name, key.public)
            )

    def archive(self, *, to: str = "archive", **bounds: object) -> archiving.Archived:
        folder = self.folder / to
        return archive(
            self.engine,
            self.log,
            self.charter,
            lambda start, end: folder / f"node-a.release.{start}-{end - 1}.jsonl",
            **bounds,  # type: ignore[arg-type]
        )

    def leaves(self) -> list[bytes]:
        with reading(self.engine) as connection:
            return list(self.log.entries(connection))

    def emptied(self) -> int:
        with reading(self.engine) as connection:
            query = text("SELECT count(*) FROM log_entry WHERE raw = x''")
            return int(connection.execute(query).scalar_one())


def void(number: int) -> tuple[str, dict[str, object]]:
    return "void", {"reservation": number, "reason": "test"}


def reserve(number: int) -> tuple[str, dict[str, object]]:
    nothing = {"num": "0", "den": "1"}
    mechanism = dict.fromkeys(
        ("scale", "nonzeros", "dimension", "version", "n", "tau", "m", "t", "r"), 1
    )
    return "reserve", {
        "run": "0f" * 16,
        "round": number,
        "bank": "bank-a",
        "part": "train",
        "snapshot_seq": 0,
        **dict.fromkeys(("plan", "query", "split_key_hash", "round_ctx", "snapshot"), "ab" * 32),
        **dict.fromkeys(("rho", "charge", "rho_alone", "charge_alone"), nothing),
        "mechanism": {
            **mechanism,
            **dict.fromkeys(("sigma", "bound_squared"), nothing),
            "delta_squared": "1",
            "mode": "node",
            "statistic": "gram",
        },
    }


def opened(house: Any, folder: Path) -> Desk:
    """An empty log; it begins a year before the charter's period, which begins now."""
    (folder / "migrations" / "versions").mkdir(parents=True)
    (folder / "migrations" / "versions" / "0001_first.py").write_text(MIGRATION)
    engine = open_database(folder / "node.db", folder / "migrations")
    return Desk(house, engine, folder, house.now - timedelta(days=365))


@pytest.fixture
def desk(house: Any, tmp_path: Path) -> Desk:
    """Twenty entries of last year, cosigned, and three of this year."""
    desk = opened(house, tmp_path)
    for number in range(20):
        desk.add(void(number))
    desk.now = house.now
    desk.add(void(20), void(21), void(22))
    desk.witness()
    return desk


def test_a_closed_period_goes_into_a_file_and_every_reader_still_has_it(desk: Desk) -> None:
    before = desk.leaves()
    with reading(desk.engine) as connection:
        root = desk.log.root(connection)
    done = desk.archive()
    assert done.archive is not None
    assert (done.archive.start, done.archive.end, desk.emptied()) == (0, 20, 20)
    assert "is running" in done.limit.why.en
    assert done.archive.path.read_bytes() == b"".join(leaf + b"\n" for leaf in before[:20])
    assert desk.leaves() == before
    with writing(desk.engine) as connection:
        log = desk.log
        log.verify(connection)
        assert (log.size(connection), log.root(connection)) == (23, root)
        assert [e.seq for e in log.of_type(connection, "void")] == list(range(23))
        assert log.entry(connection, 7).raw == before[7]
        for old in range(1, 24):
            way = log.consistency_proof(connection, old, 23)
            check_consistency(old, log.root(connection, old), 23, root, way)
        for seq in range(23):
            path = log.inclusion_proof(connection, seq, 23)
            check_inclusion(before[seq], seq, 23, path, root)
        log.append(connection, *void(23))
        log.verify(connection)


def test_an_export_puts_archives_and_database_together_again(desk: Desk) -> None:
    internal = desk.of(internal_origin("hebei", "node", "node-a"))

    def export(folder: str) -> bytes:
        with writing(desk.engine) as connection:
            write_export(desk.folder / folder, "node-a", connection, desk.log, internal)
        return (desk.folder / folder / "node-a" / "release.jsonl").read_bytes()

    whole = export("before")
    desk.archive(keep=15)
    desk.archive(keep=8)
    assert export("after") == whole
    with reading(desk.engine) as connection:
        known = archives(connection, ORIGIN)
    assert [(one.start, one.end) for one in known] == [(0, 8), (8, 15)]
    assert b"".join(one.path.read_bytes() for one in known) == b"".join(
        line + b"\n" for line in whole.splitlines()[:15]
    )
    known[1].path.rename(desk.folder / "elsewhere.jsonl")
    with pytest.raises(ArchiveMissingError, match=r"8 to 14 .*node-a\.release\.8-14\.jsonl"):
        export("without")
    assert not (desk.folder / "without" / "node-a" / "release.jsonl").exists()


def test_a_log_whose_archives_are_away_still_starts_and_grows(desk: Desk) -> None:
    done = desk.archive()
    assert done.archive is not None
    done.archive.path.unlink()
    with writing(desk.engine) as connection:
        desk.log.append(connection, *void(23))
        desk.log.verify(connection)
        assert [len(raw) > 0 for raw in desk.log.entries(connection, 20)] == [True] * 4
        with pytest.raises(ArchiveMissingError, match="put it back there"):
            desk.log.entry(connection, 19)


def test_what_a_serving_bank_looks_up_needs_no_archive(house: Any, tmp_path: Path) -> None:
    desk = opened(house, tmp_path)
    recover = {"approval": "ab" * 32, "reason": "restored", "size": 2}
    plan = {"plan": "cd" * 32, "purpose": "credit", "family": "scorecard"}
    desk.add(void(0), ("plan", plan), void(2), ("recover", recover), void(4), void(5))
    desk.witness()
    done = desk.archive()
    assert done.archive is not None
    assert (done.archive.end, desk.emptied()) == (5, 3)
    check_part(done.archive.path, desk.charter)
    whole = desk.leaves()
    done.archive.path.unlink()
    with reading(desk.engine) as connection:
        found = desk.log.of_type(connection, "plan", "recover")
        assert [entry.raw for entry in found] == [whole[1], whole[3]]
        desk.log.verify(connection)


def test_moved_archives_are_read_from_their_new_place(desk: Desk) -> None:
    before = desk.leaves()
    desk.archive(keep=15)
    desk.archive()
    (desk.folder / "archive").rename(desk.folder / "tape")
    with pytest.raises(ArchiveMissingError):
        desk.leaves()
    moved = move(desk.engine, desk.log, desk.charter, desk.folder / "tape")
    assert [one.path.parent.name for one in moved] == ["tape", "tape"]
    assert desk.leaves() == before
    (desk.folder / "tape" / moved[1].path.name).unlink()
    with pytest.raises(ArchiveError, match="two files"):
        move(desk.engine, desk.log, desk.charter, desk.folder / "tape")


def test_a_file_with_another_ones_name_is_not_taken_for_it(desk: Desk) -> None:
    desk.archive(keep=15)
    done = desk.archive(keep=8)
    assert done.archive is not None
    other = desk.folder / "other"
    other.mkdir()
    for suffix in (".jsonl", ".seal"):
        first = done.archive.path.with_name(f"node-a.release.0-7{suffix}")
        (other / first.name).write_bytes(first.read_bytes())
        (other / f"node-a.release.8-14{suffix}").write_bytes(first.read_bytes())
    with pytest.raises(ArchiveError, match="other entries than its name says"):
        move(desk.engine, desk.log, desk.charter, other)


# -- the rule: what may go ---------------------------------------------------------------------


def test_nothing_goes_that_the_regulator_has_not_cosigned(desk: Desk) -> None:
    with writing(desk.engine) as connection:
        connection.execute(text("DELETE FROM log_cosigned"))
    done = desk.archive()
    assert (done.archive, done.limit.end, desk.emptied()) == (None, 0, 0)
    assert "cosigned" in done.limit.why.en


def test_only_what_lies_below_the_cosigned_checkpoint_goes(desk: Desk) -> None:
    other = internal_origin("hebei", "node", "node-a")
    desk.now = desk.house.now - timedelta(days=300)
    for number in range(4):
        desk.add(void(number), origin=other)
    desk.witness(other)
    desk.add(void(4), void(5), origin=other)
    with reading(desk.engine) as connection:
        found = archivable(connection, desk.of(other), desk.charter, before=None, keep=1)
    assert found.end == 4


def test_nothing_of_the_running_period_goes(desk: Desk) -> None:
    assert desk.archive().limit.end == 20
    again = desk.archive()
    assert (again.archive, again.limit.end) == (None, 20)


def test_the_operator_may_keep_more(desk: Desk) -> None:
    with reading(desk.engine) as connection:
        fifth = desk.log.entry(connection, 5).time
    first = desk.archive(before=fifth)
    assert (first.limit.end, desk.emptied()) == (5, 5)
    assert fifth in first.limit.why.en
    kept = desk.archive(keep=12)
    assert (kept.limit.end, kept.limit.why.en) == (11, "the newest 12 entries stay")
    assert desk.archive(keep=100).archive is None


def test_the_last_entry_always_stays(desk: Desk) -> None:
    later = replace(desk.charter, period_from=time_text(desk.house.now + timedelta(days=300)))
    with reading(desk.engine) as connection:
        assert archivable(connection, desk.log, later, before=None, keep=1).end == 22


@pytest.mark.parametrize("end", ["void", "receipt"])
def test_a_reservation_without_its_end_stays_and_all_after_it(
    house: Any, tmp_path: Path, end: str
) -> None:
    desk = opened(house, tmp_path)
    release = {
        "reservation": 2,
        "run": "0f" * 16,
        "round": 2,
        **dict.fromkeys(("round_ctx", "vector", "header"), "ab" * 32),
    }
    desk.add(reserve(1), void(0), reserve(2), ("release", release), reserve(3), void(4))
    desk.witness()
    done = desk.archive()
    assert (done.limit.end, desk.emptied()) == (2, 2)
    assert "neither an end nor a receipt" in done.limit.why.en
    receipt = {"reservation": 2, "run": "0f" * 16, "round": 2, "receipt": "e30="}
    desk.add(void(2) if end == "void" else ("receipt", receipt))
    desk.witness()
    assert desk.archive().limit.end == 6
    with reading(desk.engine) as connection:
        desk.log.verify(connection)


# -- damage ------------------------------------------------------------------------------------

Damage = Callable[[Path], object]


def rewrite(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def reseal(path: Path, **changes: object) -> None:
    """Alter the seal; its SHA-256 is made to fit the file as it is."""
    seal = path.with_suffix(".seal")
    body = json.loads(seal.read_bytes()) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    seal.write_bytes(
        json.dumps(
            body | changes, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    )


def altered(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[3].replace(b"test", b"tess"), *lines[4:]]


DAMAGES = [
    pytest.param(lambda p: rewrite(p, altered), "not the file", "at entry 3", id="altered"),
    pytest.param(
        lambda p: (rewrite(p, altered), reseal(p)), "not lead", "entry 3", id="altered-and-resealed"
    ),
    pytest.param(
        lambda p: (rewrite(p, lambda lines: lines[:-1]), reseal(p)),
        "ends at entry 18 instead of 19",
        "entry 19",
        id="last-dropped",
    ),
    pytest.param(
        lambda p: rewrite(p, lambda lines: lines[1:]), "out of place", "entry 0", id="first-dropped"
    ),
    pytest.param(
        lambda p: rewrite(p, lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]]),
        "out of place",
        "entry 5",
        id="swapped",
    ),
    pytest.param(
        lambda p: rewrite(p, lambda lines: [*lines, lines[-1]]), "out of", None, id="one-twice"
    ),
    pytest.param(
        lambda p: p.write_bytes(p.read_bytes()[:-1]), "cut off", None, id="newline-cut-off"
    ),
    pytest.param(
        lambda p: p.write_bytes(b"x" * 70_000 + b"\n"), "too long", "entry 0", id="line-too-long"
    ),
    pytest.param(lambda p: p.write_bytes(b""), "not the file", "entry 0", id="empty"),
    pytest.param(lambda p: p.unlink(), "cannot be read", "cannot be read", id="leaves-missing"),
    pytest.param(
        lambda p: p.with_suffix(".seal").unlink(), "two files", None, id="seal-missing"
    ),
    pytest.param(
        lambda p: p.with_suffix(".seal").write_bytes(b"{}"), "is refused", None, id="seal-empty"
    ),
    pytest.param(
        lambda p: p.with_suffix(".seal").write_bytes(b" " * 200_000), "refused", None, id="long"
    ),
    pytest.param(lambda p: reseal(p, end=19), "out of place", None, id="seal-says-less"),
    pytest.param(lambda p: reseal(p, end=21), "ends at entry", None, id="seal-says-more"),
    pytest.param(
        lambda p: reseal(p, start=1, tree=["00" * 32]), "out of place", None, id="other-start"
    ),
    pytest.param(lambda p: reseal(p, tree=["00" * 32]), "subtrees", None, id="a-subtree-too-many"),
    pytest.param(lambda p: reseal(p, proof=["00" * 32]), "not lead", None, id="other-proof"),
    pytest.param(lambda p: reseal(p, proof=["00" * 32] * 65), "64", None, id="too-many-hashes"),
    pytest.param(lambda p: reseal(p, origin="x"), "another log", None, id="other-origin"),
    pytest.param(
        lambda p: p.with_suffix(".seal").write_bytes(
            p.with_suffix(".seal").read_bytes().replace(b'"sha256":"', b'"sha256":"0')[:-2] + b"}"
        ),
        "refused",
        None,
        id="seal-malformed",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "said", "reading_said"), DAMAGES)
def test_a_damaged_archive_is_refused_offline_and_wherever_it_is_read(
    desk: Desk, damage: Damage, said: str, reading_said: str | None
) -> None:
    done = desk.archive()
    assert done.archive is not None
    part = check_part(done.archive.path, desk.charter)
    assert (part.origin, part.start, part.end) == (ORIGIN, 0, 20)
    assert part.first < part.last
    damage(done.archive.path)
    with pytest.raises(HejinError, match=said):
        check_part(done.archive.path, desk.charter)
    if reading_said is not None:
        with pytest.raises(HejinError, match=reading_said):
            desk.leaves()


def test_a_sealed_part_of_another_consortium_or_witness_is_refused(
    desk: Desk, make_house: Callable[[], Any]
) -> None:
    done = desk.archive()
    assert done.archive is not None
    with pytest.raises(CheckpointError):
        check_part(done.archive.path, make_house().charter)
    with pytest.raises(CheckpointError, match="no log of a member"):
        check_part(done.archive.path, replace(desk.charter, consortium="henan"))


def test_a_part_of_somebody_elses_entries_is_refused(desk: Desk) -> None:
    own = desk.house.people["node-a"].log
    forger = Log(ORIGIN, "node-b", own, lambda: desk.now)
    with writing(desk.engine) as connection:
        forger.append(connection, *void(23))
    desk.witness()
    with reading(desk.engine) as connection:
        head = desk.log.newest_cosigned(connection)
        assert head is not None
        seal_part(connection, desk.log, 20, 24, head, desk.folder / "x.jsonl")
    with pytest.raises(ArchiveError, match="entry 23 is out of place"):
        check_part(desk.folder / "x.jsonl", desk.charter)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 23), (7, 9), (16, 20), (22, 23)])
def test_any_part_can_be_sealed_and_is_proven_by_itself(desk: Desk, start: int, end: int) -> None:
    path = desk.folder / "part.jsonl"
    with reading(desk.engine) as connection:
        head = desk.log.newest_cosigned(connection)
        assert head is not None
        seal_part(connection, desk.log, start, end, head, path)
    part = check_part(path, desk.charter)
    assert (part.start, part.end, part.head.member.id) == (start, end, "node-a")
    if start:
        seal = json.loads(path.with_suffix(".seal").read_bytes())
        reseal(path, tree=["00" * 32, *seal["tree"][1:]])
        with pytest.raises(ArchiveError, match="not lead"):
            check_part(path, desk.charter)


def test_bytes_that_were_emptied_without_an_archive_are_damage(desk: Desk) -> None:
    desk.archive(keep=15)
    with writing(desk.engine) as connection:
        connection.execute(text("UPDATE log_entry SET raw = x'' WHERE seq = 9"))
        with pytest.raises(HejinError):
            desk.log.verify(connection)
        with pytest.raises(ArchiveError, match="no archive that is known here"):
            desk.log.entry(connection, 9)


def test_a_damaged_log_is_not_archived(desk: Desk) -> None:
    with writing(desk.engine) as connection:
        other = "CAST(replace(raw, 'test', 'tess') AS BLOB)"
        connection.execute(text(f"UPDATE log_entry SET raw = {other} WHERE seq = 3"))
    with pytest.raises(ArchiveError):
        desk.archive()
    assert desk.emptied() == 0


@pytest.mark.parametrize("damage", ["leaf = zeroblob(32)", "time = '2020-01-01T00:00:00Z'"])
def test_an_archived_entrys_hash_and_time_are_looked_at_at_start(desk: Desk, damage: str) -> None:
    desk.archive()
    with writing(desk.engine) as connection:
        connection.execute(text(f"UPDATE log_entry SET {damage} WHERE seq = 7"))
        with pytest.raises(LogError):
            desk.log.verify(connection)


def test_a_folder_that_cannot_be_made_keeps_everything_where_it_is(desk: Desk) -> None:
    (desk.folder / "file").write_bytes(b"")
    with pytest.raises(FileError, match="name another folder"):
        desk.archive(to="file/sub")
    assert desk.emptied() == 0


def test_two_that_archive_at_once_make_one_archive(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = True

    def rival(path: Path, charter: Charter) -> object:
        nonlocal first
        if first:
            first = False
            desk.archive()
        return check_part(path, charter)

    monkeypatch.setattr(archiving, "check_part", rival)
    with pytest.raises(ArchiveError, match="at the same time"):
        desk.archive()
    with reading(desk.engine) as connection:
        assert archived_end(connection, desk.log) == 20
        desk.log.verify(connection)


def test_the_space_of_archived_entries_is_given_back(desk: Desk) -> None:
    before = desk.leaves()
    with writing(desk.engine) as connection:
        rows = [("labels", dict.fromkeys(("bank", "definition", "period", "source"), "x" * 250))]
        desk.of("x").append_many(connection, rows * 500)
        connection.execute(text("UPDATE log_entry SET raw = x'' WHERE origin = 'x'"))
    erase_deleted(desk.engine)
    large = (desk.folder / "node.db").stat().st_size
    assert len(desk.leaves()) == 23  # a connection that only read is used again
    compact(desk.engine)
    assert (desk.folder / "node.db").stat().st_size < large - 400_000
    assert desk.leaves() == before


# -- kill -9 between the steps -------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from hejin_trust import archive, files, sealing
from hejin_trust.charter import Charter
from hejin_trust.database import open_existing
from hejin_trust.stored_log import StoredLog
folder, step, origin = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
charter = Charter.parse((folder / "charter.json").read_bytes(), bytes.fromhex(sys.argv[4]))
def dies(module, name, after):
    work = getattr(module, name)
    def patched(*args, **named):
        if after:
            work(*args, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(module, name, patched)
module, name, when = step.split(".")
dies({"archive": archive, "sealing": sealing}[module], name, when == "after")
archive.archive(open_existing(folder / "node.db"), StoredLog(origin), charter,
    lambda start, end: folder / "archive" / f"node-a.release.{start}-{end - 1}.jsonl")
"""
STEPS = [
    "archive.seal_part.before",
    "sealing.replace_file.before",
    "archive.seal_part.after",
    "archive.check_part.after",
    "archive._let_go.after",
]


@pytest.mark.parametrize("step", STEPS)
def test_kill_between_the_steps_of_archiving_loses_nothing(desk: Desk, step: str) -> None:
    before = desk.leaves()
    (desk.folder / "charter.json").write_bytes(desk.house.sealed())
    key = desk.house.regulator.identity.public.hex()
    child = subprocess.run(
        [sys.executable, "-c", KILLED, desk.folder, step, ORIGIN, key],
        env=dict(os.environ),
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert desk.emptied() == 0
    assert desk.leaves() == before
    done = desk.archive()
    assert done.archive == Archive(0, 20, desk.folder / "archive" / "node-a.release.0-19.jsonl")
    assert (desk.leaves(), desk.emptied()) == (before, 20)
    with reading(desk.engine) as connection:
        desk.log.verify(connection)


def test_a_seal_of_the_wrong_keys_is_never_written_over_the_rules(desk: Desk) -> None:
    # A cosigned note in the database that the charter's regulator did not cosign.
    impostor = SigningKey.generate()
    with writing(desk.engine) as connection:
        note = desk.log.checkpoint(connection)
        note += cosign(note, witness_name("hebei", "regulator"), impostor, desk.now)
        connection.execute(text("UPDATE log_cosigned SET note = :note"), {"note": note})
    with pytest.raises(CheckpointError, match="0 cosignatures"):
        desk.archive()
    assert desk.emptied() == 0


def test_archives_follow_each_other_without_a_gap(desk: Desk) -> None:
    for keep in (20, 17, 10, 3):
        desk.archive(keep=keep)
    with reading(desk.engine) as connection:
        known = archives(connection, ORIGIN)
    assert known[0].start == 0
    assert all(one.end == two.start for one, two in itertools.pairwise(known))
    assert known[-1].end == 20


def test_any_slice_and_any_type_is_read_across_archives(house: Any, tmp_path: Path) -> None:
    desk = opened(house, tmp_path)
    refuse = ("plan.refuse", {"plan": "ab" * 32, "bank": "b", "code": "c", "reason": "r"})
    for number in range(24):
        desk.add(refuse if number % 5 == 2 else void(number))
    desk.witness()
    whole = desk.leaves()
    for keep in (20, 17, 9, 2):
        desk.archive(keep=keep)
    with reading(desk.engine) as connection:
        for start, end in itertools.combinations(range(25), 2):
            assert list(desk.log.entries(connection, start, end)) == whole[start:end]
        found = desk.log.of_type(connection, "plan.refuse")
        assert [entry.raw for entry in found] == whole[2::5]
        # A reader may stop early; the next one begins anew.
        assert next(desk.log.entries(connection)) == whole[0]
