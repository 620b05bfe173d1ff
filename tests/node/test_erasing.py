"""Erasing an enterprise: no row of it is left, nothing else goes, and a crash leaves no half."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from node_world import World, approved, fill, found_world, new_session, terms
from sqlalchemy import delete

from hejin_models.uscc import make_code
from hejin_node import erased, manifest, pinned, tables, warehouse
from hejin_node.consent import authorisations, grant, pseudonym
from hejin_node.erasing import Erasure, ErasureError, erase, erase_again
from hejin_node.errors import SegmentError
from hejin_node.home import NodeHome, open_home
from hejin_node.loading import ERASED
from hejin_node.manifest import Counts, segments
from hejin_node.pinned import SnapshotStore
from hejin_node.segments import Columns
from hejin_node.terms import Terms
from hejin_trust.database import reading, writing
from hejin_trust.entries import Entry, parse

A, B = make_code(3), make_code(4)
RUN = "ab" * 16
COLUMNS: Columns = {"enterprise": "text", "net": "number"}
REASON = "the enterprise asked for it"


def new_terms(world: World) -> Terms:
    """Return what an enterprise signs that authorises again."""
    return replace(terms(world), document="2" * 64)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    """A node with rows of A and B in data, quarantine, labels, and in a load that was killed."""
    with open_home(world.nodes["node-1"], world.clock) as opened:
        fill(opened, world)
        add(opened, "1", A, B, A)
        with pytest.raises(KeyboardInterrupt):
            add_half(opened)
        yield opened


def add_half(home: NodeHome) -> None:
    with loading(home, "2") as work:
        table = pa.table({"enterprise": [A, B], "net": [1.0, 2.0]})
        work.writer("data", "orders", COLUMNS).write(table)
        work.keep({"offset": 1}, Counts(2, 2))
        raise KeyboardInterrupt


def loading(home: NodeHome, number: str):
    return home.warehouse.loading("data", "orders", number * 64)


def add(home: NodeHome, number: str, *codes: str) -> Counts:
    """Load orders of some enterprises, each row also as a quarantined one."""
    with loading(home, number) as work:
        table = pa.table({"enterprise": list(codes), "net": [1.0] * len(codes)})
        for kind in ("data", "quarantine"):
            work.writer(kind, "orders", COLUMNS).write(table)
        work.complete(Counts(len(codes), len(codes)))
        with writing(home.database) as connection:
            work.publish(connection)
    return work.counts


def codes(home: NodeHome) -> list[tuple[str, str, str]]:
    """Decrypt every file in the warehouse's folder: (kind, data set, enterprise) of each row."""
    with reading(home.database) as connection:
        listed = segments(connection, every=True)
    folder = home.path / "warehouse"
    assert {path.name for path in folder.iterdir()} - {".lock"} == {part.file for part in listed}
    found = []
    for part in listed:
        with home.warehouse.files.open(part) as reader:
            for batch in reader.batches(["enterprise"]):
                found += [(part.kind, part.dataset, code) for code in batch[0].to_pylist()]
    return sorted(found)


def internal(home: NodeHome) -> list[Entry]:
    with reading(home.database) as connection:
        return [parse(raw) for raw in home.internal_log.entries(connection)]


def standing(home: NodeHome) -> set[str]:
    with reading(home.database) as connection:
        return {one.code for one in authorisations(connection, at=home.now())}


def test_no_row_of_any_kind_is_left_and_no_other_goes(home: NodeHome) -> None:
    before = codes(home)
    done = erase(home, A, REASON)
    assert codes(home) == [row for row in before if row[2] != A]
    assert {row[0] for row in before if row[2] == A} == {"data", "quarantine", "labels"}
    assert done.rows == len([row for row in before if row[2] == A]) == 7
    assert done.segments == 5
    assert standing(home) == {make_code(n) for n in range(40)} - {A}
    # The killed load goes on without it.
    with loading(home, "2") as work:
        assert work.place == {"offset": 1}
        work.complete()
        with writing(home.database) as connection:
            work.publish(connection)
    found = pa.Table.from_batches(home.warehouse.read("data", "orders"))["enterprise"]
    assert found.to_pylist() == [B, B]


def test_the_log_tells_the_pseudonym_and_no_grant_outlives_the_data(home: NodeHome) -> None:
    done = erase(home, f" {A} ", REASON)
    *_, revoked, logged = internal(home)
    assert (revoked.type, logged.type) == ("authorisation.revoke", "erase")
    assert revoked.body["grant"] == done.revoked[0]
    assert logged.seq == done.seq
    assert logged.body == {"enterprise": pseudonym(home.pseudonym_key, A), "reason": REASON}


def test_erasing_again_does_nothing(home: NodeHome) -> None:
    erase(home, A, REASON)
    entries, rows = internal(home), codes(home)
    assert erase(home, A, REASON) == Erasure(None, 0, 0, (), 0)
    assert (internal(home), codes(home)) == (entries, rows)


def test_rows_that_come_later_are_dropped_until_the_enterprise_grants_anew(
    home: NodeHome, world: World
) -> None:
    erase(home, A, REASON)
    assert add(home, "3", A, B, A).quarantined == {ERASED: 4}
    assert all(row[2] != A for row in codes(home))
    assert home.warehouse.loads("orders")[-1].counts.quarantined == {ERASED: 4}
    with writing(home.database) as connection:
        grant(connection, home.internal_log, home.pseudonym_key, A, new_terms(world))
    assert add(home, "4", A, B, A).quarantined == {}
    assert len([row for row in codes(home) if row[2] == A]) == 4
    assert erase(home, A, REASON).rows == 4


def test_one_who_is_not_there_may_be_erased_and_stays_out(home: NodeHome) -> None:
    stranger = make_code(99)
    assert erase(home, stranger, REASON).rows == 0
    assert add(home, "3", stranger).quarantined == {ERASED: 2}


@pytest.mark.parametrize(
    ("code", "reason"),
    [("", REASON), (" ", REASON), ("x" * 65, REASON), (A, ""), (A, f"as {A} asked")],
)
def test_what_cannot_be_logged_is_refused(home: NodeHome, code: str, reason: str) -> None:
    before = codes(home)
    with pytest.raises(ErasureError):
        erase(home, code, reason)
    assert codes(home) == before


def test_a_damaged_segment_is_no_reason_to_erase_half(home: NodeHome) -> None:
    part = home.warehouse.segments("labels")[0]
    (home.path / "warehouse" / part.file).write_bytes(b"not a segment")
    entries = internal(home)
    with pytest.raises(SegmentError, match="damaged"):
        erase(home, A, REASON)
    assert internal(home) == entries
    assert A in standing(home)
    with reading(home.database) as connection:
        listed = {one.file for one in segments(connection, every=True)}
    assert {path.name for path in (home.path / "warehouse").iterdir()} - {".lock"} == listed


@pytest.mark.parametrize("step", ["rewrite", "publish", "sweep", "snapshots"])
def test_a_crash_at_any_step_leaves_all_or_nothing_and_the_command_goes_on(
    home: NodeHome, step: str
) -> None:
    before = codes(home)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        if step == "rewrite":
            patch.setattr(warehouse, "rewrite", crash)
        elif step == "publish":
            patch.setattr("hejin_node.giving_way.GivingWay.swap", crash)
        elif step == "sweep":
            real = warehouse.Warehouse._sweep
            calls = iter([real, crash])
            patch.setattr(warehouse.Warehouse, "_sweep", lambda self: next(calls)(self))
        else:
            patch.setattr(SnapshotStore, "leave_out_erased", crash)
        with pytest.raises(KeyboardInterrupt):
            erase(home, A, REASON)
    done = step in ("sweep", "snapshots")
    assert (A in standing(home)) is not done
    assert [entry.type for entry in internal(home)].count("erase") == done
    home.warehouse.sweep()
    expected = [row for row in before if row[2] != A]
    assert codes(home) == (expected if done else before)
    erase(home, A, REASON)
    assert codes(home) == expected
    assert [entry.type for entry in internal(home)].count("erase") == 1


def test_an_open_run_goes_on_without_the_enterprise(home: NodeHome, world: World) -> None:
    plan, digest = approved(home, world, sums=[("histogram", "train")] * 3)
    session = new_session(home, world.receipts(home))
    first = session.answer(world.query(plan, digest, run=RUN))
    assert first["kind"] == b"masked"
    store = SnapshotStore(home)
    taken = store.pin(plan, world.view, RUN).snapshot
    assert A in taken.codes
    done = erase(home, A, REASON)
    assert done.runs == 1
    left = SnapshotStore(home).pin(plan, world.view, RUN).snapshot
    assert left.codes == tuple(code for code in taken.codes if code != A)
    kept = np.array([code != A for code in taken.codes])
    assert np.array_equal(left.cells, taken.cells[kept])
    assert np.array_equal(left.labels, taken.labels[kept])
    assert left.root == taken.root  # what was logged stays
    # Also in a store that held the rows before.
    assert store.pin(plan, world.view, RUN).snapshot.codes == left.codes
    result, named = world.result(first)
    again = session.answer(
        world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
    )
    assert again["kind"] == b"masked"


def test_stored_rows_that_cannot_be_read_are_removed(home: NodeHome, world: World) -> None:
    plan, digest = approved(home, world)
    new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    stored = home.path / "snapshots" / f"{RUN}.sealed"
    stored.write_bytes(stored.read_bytes()[:-1])
    assert erase(home, A, REASON).runs == 0
    assert not stored.exists()
    with pytest.raises(pinned.SnapshotLostError):
        SnapshotStore(home).pin(plan, world.view, RUN)


def test_one_who_is_erased_while_the_snapshot_is_stored_is_not_in_it(
    home: NodeHome, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = approved(home, world)
    real = SnapshotStore._store
    calls = []

    def store(self: SnapshotStore, run: str, snapshot: pinned.Snapshot, size: int) -> None:
        calls.append(A in snapshot.codes)
        if len(calls) == 1:
            erase(home, A, REASON)
        real(self, run, snapshot, size)

    monkeypatch.setattr(SnapshotStore, "_store", store)
    snapshot = SnapshotStore(home).pin(plan, world.view, RUN).snapshot
    assert calls == [True, False]
    assert A not in snapshot.codes


def test_one_who_is_erased_before_the_run_is_logged_is_not_in_its_stored_rows(
    home: NodeHome, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are its rows used again when it grants anew: they are none of what it grants then."""
    plan, digest = approved(home, world)
    real = SnapshotStore.pin

    def pin(self: SnapshotStore, *told: object) -> pinned.Pinned:
        found = real(self, *told)
        erase(home, A, REASON)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(SnapshotStore, "pin", pin)
        new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    with writing(home.database) as connection:
        grant(connection, home.internal_log, home.pseudonym_key, A, new_terms(world))
    stored, _ = SnapshotStore(home)._load(RUN)
    assert A not in stored.codes
    assert B in stored.codes
    assert A not in SnapshotStore(home).pin(plan, world.view, RUN).snapshot.codes


def test_rows_that_a_crashed_erasure_left_are_not_used_when_the_enterprise_grants_anew(
    home: NodeHome, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, digest = approved(home, world)
    new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    with monkeypatch.context() as patched:
        patched.setattr(SnapshotStore, "leave_out_erased", lambda _: 0)
        erase(home, A, REASON)
    with writing(home.database) as connection:
        grant(connection, home.internal_log, home.pseudonym_key, A, new_terms(world))
    assert A not in SnapshotStore(home).pin(plan, world.view, RUN).snapshot.codes
    assert SnapshotStore(home).leave_out_erased() == 0  # that stored them anew
    assert A not in SnapshotStore(home)._load(RUN)[0].codes


def test_rows_of_a_run_that_was_never_opened_lose_the_enterprise_as_well(
    home: NodeHome, world: World
) -> None:
    """A refused reservation leaves them until the next start."""
    plan, _ = approved(home, world)
    SnapshotStore(home).pin(plan, world.view, RUN)
    assert A in SnapshotStore(home)._load(RUN)[0].codes
    assert erase(home, A, REASON).runs == 1
    assert A not in SnapshotStore(home)._load(RUN)[0].codes


def test_what_came_back_with_a_backup_goes_again(home: NodeHome, world: World) -> None:
    with reading(home.database) as connection:
        old = segments(connection, every=True)
    folder = home.path / "warehouse"
    kept = {part.file: (folder / part.file).read_bytes() for part in old}
    erase(home, A, REASON)
    entry = internal(home)[-1]
    without = codes(home)
    # As after a recovery: the old manifest and files, and the entry put back.
    with writing(home.database) as connection:
        connection.execute(delete(tables.segment))
        connection.execute(delete(tables.erasure))
        manifest.list_segments(connection, old, home.warehouse.files.keys.id)
        erased.record(connection, entry, applied=False)
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    (folder / old[0].file).write_bytes(b"damaged")
    assert erase_again(home) == 0  # put off, and not forgotten
    (folder / old[0].file).write_bytes(kept[old[0].file])
    assert erase_again(home) == 7
    assert codes(home) == without
    assert erase_again(home) == 0
