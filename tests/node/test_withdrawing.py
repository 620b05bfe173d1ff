"""Withdrawing a load: its rows go with their corrections, nothing else, and it may come again."""

from __future__ import annotations

import csv
import errno
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from node_world import World, approved, fill, found_world, new_session
from sqlalchemy import URL, delete, insert, select

from hejin_models.features import Dataset, ViewError
from hejin_models.uscc import make_code
from hejin_node import warehouse, withdrawing
from hejin_node.errors import IngestError, SegmentError, WarehouseError, WithdrawalWaitsError
from hejin_node.home import NodeHome, open_home
from hejin_node.ingest import ingest, ingest_corrected, ingest_database
from hejin_node.lineage import origins, report
from hejin_node.manifest import Counts, segments
from hejin_node.mapping import SourceMapping
from hejin_node.pinned import SnapshotStore
from hejin_node.quality_check import check
from hejin_node.quarantine import export
from hejin_node.segments import SegmentWriter
from hejin_node.tables import load as load_table
from hejin_node.tables import segment as segment_table
from hejin_node.tables import withdrawal
from hejin_node.withdrawing import Withdrawal, WithdrawalError, withdraw, withdraw_again
from hejin_trust.database import reading, writing
from hejin_trust.entries import Entry, parse

A = make_code(3)
RUN = "ab" * 16
BILLS = Dataset("bills", "trade", {"net": "number"})
REASON = "the mapping was wrong"
MAPPING = """
dataset = "bills"
[enterprise]
column = "e"
[columns.net]
type = "number"
required = true
"""
RULES = SourceMapping.parse(MAPPING.encode())
BY_KEY = SourceMapping.parse(MAPPING.encode() + b'[sql]\ntable = "bill"\nkey = "id"\n')
WHOLE = SourceMapping.parse(MAPPING.encode() + b'[sql]\ntable = "bill"\n')


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], world.clock) as node:
        yield node


def bring(home: NodeHome, name: str, *nets: object) -> int:
    """Ingest a file of bills and return the load's number; `bad` goes to quarantine."""
    path = home.path / name
    path.write_text("e,net\n" + "".join(f"{A},{net}\n" for net in nets), "utf-8")
    ingest(home.warehouse, path, RULES)
    return home.warehouse.loads("bills")[-1].id


def correct(home: NodeHome, load: int, net: object, name: str = "fixed.csv") -> int:
    """Bring the first quarantined row of a load again with another value."""
    out = home.path / f"out-{name}"
    export(home.warehouse, "bills", load, out)
    with out.open(encoding="utf-8-sig", newline="") as file:
        row = next(csv.DictReader(file))
    path = home.path / name
    path.write_text(
        ",".join(row) + "\n" + ",".join({**row, "net": str(net)}.values()) + "\n", "utf-8"
    )
    ingest_corrected(home.warehouse, path, RULES, load)
    return home.warehouse.loads("bills")[-1].id


def nets(home: NodeHome) -> list[float]:
    found = list(home.warehouse.read("data", "bills", ["net"]))
    return sorted(net for batch in found for net in batch[0].to_pylist())


def held(home: NodeHome) -> int:
    return home.warehouse.rows("quarantine", "bills")


def whole(home: NodeHome) -> None:
    """The folder holds what the manifest names, and every segment can be read."""
    with reading(home.database) as connection:
        listed = {part.file for part in segments(connection, every=True)}
    assert {path.name for path in (home.path / "warehouse").iterdir()} - {".lock"} == listed
    assert home.warehouse.verify() == ()


def entries(home: NodeHome) -> list[Entry]:
    with reading(home.database) as connection:
        found = [parse(raw) for raw in home.internal_log.entries(connection)]
    return [entry for entry in found if entry.type == "withdraw"]


def test_a_load_goes_with_its_corrections_and_nothing_else_goes(home: NodeHome) -> None:
    kept = bring(home, "a.csv", 1, "bad")
    wrong = bring(home, "b.csv", 2, 3, "bad", "bad")
    fixed = correct(home, wrong, 4)
    home.warehouse.compact()
    assert (nets(home), held(home)) == ([1, 2, 3, 4], 2)
    done = withdraw(home, "bills", wrong, REASON)
    assert (nets(home), held(home)) == ([1], 1)
    assert (done.rows, done.loads, done.runs) == (4, (wrong, fixed), ())
    assert [load.id for load in home.warehouse.loads("bills")] == [kept]
    whole(home)


def test_the_log_names_data_set_load_source_and_reason(home: NodeHome) -> None:
    load = bring(home, "a.csv", 1, 2)
    (known,) = home.warehouse.loads("bills")
    done = withdraw(home, "bills", load, REASON)
    (entry,) = entries(home)
    assert entry.seq == done.seq
    assert entry.body == {
        "dataset": "bills", "load": load, "source": known.source, "completed": known.completed,
        "rows": 2, "reason": REASON,
    }  # fmt: skip


def test_the_same_file_may_be_ingested_again_and_withdrawn_again(home: NodeHome) -> None:
    first = bring(home, "a.csv", 1)
    withdraw(home, "bills", first, REASON)
    second = bring(home, "a.csv", 1)
    assert (nets(home), second > first) == ([1], True)
    withdraw(home, "bills", second, REASON)
    assert [one.id for one in home.warehouse.withdrawn("bills")] == [first, second]
    assert nets(home) == []


def test_a_data_set_without_loads_takes_any_columns_again(home: NodeHome) -> None:
    withdraw(home, "bills", bring(home, "a.csv", 1), REASON)
    other = SourceMapping.parse(MAPPING.replace('"number"', '"text"').encode())
    assert ingest(home.warehouse, home.path / "a.csv", other).loaded == 1


def test_withdrawing_again_does_nothing(home: NodeHome) -> None:
    load = bring(home, "a.csv", 1)
    withdraw(home, "bills", load, REASON)
    assert withdraw(home, "bills", load, REASON) == Withdrawal(None, 0, 0, (), ())
    assert len(entries(home)) == 1


def test_labels_from_a_wrong_file_may_be_withdrawn(home: NodeHome, world: World) -> None:
    fill(home, world)
    (load,) = (one for one in home.warehouse.loads() if one.kind == "labels")
    done = withdraw(home, load.dataset, load.id, REASON)
    assert done.rows == load.counts.loaded > 0
    assert home.warehouse.rows("labels", load.dataset) == 0
    assert home.warehouse.rows("data", "firms") == 40


def test_a_load_that_is_not_there_is_refused(home: NodeHome) -> None:
    load = bring(home, "a.csv", 1)
    for dataset, number in (("bills", load + 1), ("orders", load)):
        with pytest.raises(WithdrawalError, match=f"is none of data set {dataset}"):
            withdraw(home, dataset, number, REASON)
    with pytest.raises(WithdrawalError, match="Give a reason"):
        withdraw(home, "bills", load, " ")
    assert (nets(home), entries(home)) == ([1], [])


def test_an_interrupted_load_is_given_up_instead(home: NodeHome) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        home.warehouse.loading("data", "bills", "2" * 64) as work,
    ):
        _half(work)
    (load,) = home.warehouse.loads("bills")
    with pytest.raises(WithdrawalError, match=f"give-up {load.id}"):
        withdraw(home, "bills", load.id, REASON)


def _half(work) -> None:
    table = pa.table({"enterprise": [A], "net": [9.0]})
    work.writer("data", "bills", {"enterprise": "text", "net": "number"}).write(table)
    work.keep({"rows": 1}, Counts(1, 1))
    raise KeyboardInterrupt


def test_a_correction_is_not_withdrawn_alone(home: NodeHome) -> None:
    """Its rows are in quarantine no more: they would be nowhere."""
    load = bring(home, "a.csv", 1, "bad")
    fixed = correct(home, load, 2)
    with pytest.raises(WithdrawalError, match=f"corrects load {load}"):
        withdraw(home, "bills", fixed, REASON)
    assert nets(home) == [1, 2]


def test_an_interrupted_correction_goes_with_its_load(home: NodeHome) -> None:
    load = bring(home, "a.csv", 1, "bad")
    with (
        pytest.raises(KeyboardInterrupt),
        home.warehouse.loading("data", "bills", "2" * 64, corrects=load) as work,
    ):
        _half(work)
    withdraw(home, "bills", load, REASON)
    assert home.warehouse.loads() == ()
    whole(home)


def test_corrections_that_come_after_it_are_refused(home: NodeHome) -> None:
    """Also where they waited while it was withdrawn: it is looked at under the lock."""
    load = bring(home, "a.csv", 1, "bad")
    out = home.path / "out.csv"
    export(home.warehouse, "bills", load, out)
    withdraw(home, "bills", load, REASON)
    with pytest.raises(IngestError, match=f"Load {load} is none of data set bills"):
        ingest_corrected(home.warehouse, out, RULES, load)
    assert home.warehouse.loads() == ()


# -- databases --------------------------------------------------------------------------------


class Books:
    """A SQLite database of bills."""

    def __init__(self, path: Path) -> None:
        self.url = URL.create("sqlite", database=str(path))
        self.connection = sqlite3.connect(path)
        self.do("CREATE TABLE bill (id INTEGER, e TEXT, net REAL)")

    def do(self, statement: str, *values: object) -> None:
        self.connection.execute(statement, values)
        self.connection.commit()

    def add(self, *nets: int) -> None:
        """Add bills whose key is their amount."""
        for net in nets:
            self.do("INSERT INTO bill VALUES (?, ?, ?)", net, A, net)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    found = Books(tmp_path / "books.db")
    yield found
    found.connection.close()


def take(home: NodeHome, books: Books, mapping: SourceMapping = BY_KEY) -> int:
    """Ask the database and return the number of the load that is the newest then."""
    ingest_database(home.warehouse, books.url, mapping)
    return home.warehouse.loads("bills")[-1].id


def test_with_a_key_the_next_load_begins_before_the_rows_that_were_withdrawn(
    home: NodeHome, books: Books
) -> None:
    books.add(1, 2)
    take(home, books)
    books.add(3, 4)
    second = take(home, books)
    withdraw(home, "bills", second, REASON)
    assert nets(home) == [1, 2]
    books.add(5)
    take(home, books)
    assert nets(home) == [1, 2, 3, 4, 5]


def test_of_a_series_only_the_newest_load_is_withdrawn_for_no_later_one_brings_older_rows(
    home: NodeHome, books: Books
) -> None:
    books.add(1)
    first = take(home, books)
    books.add(2)
    second = take(home, books)
    with pytest.raises(WithdrawalError, match=rf"withdraw them first, .* \({second}\)"):
        withdraw(home, "bills", first, REASON)
    assert nets(home) == [1, 2]
    withdraw(home, "bills", second, REASON)
    withdraw(home, "bills", first, REASON)
    take(home, books)
    assert nets(home) == [1, 2]


def test_without_a_key_content_of_before_comes_again_after_a_withdrawal(
    home: NodeHome, books: Books
) -> None:
    """Its rows gave way to those that were withdrawn: they are there no more."""
    books.add(1, 2)
    first = take(home, books, WHOLE)
    books.add(3)
    second = take(home, books, WHOLE)
    with pytest.raises(WithdrawalError, match="took its place"):
        withdraw(home, "bills", first, REASON)
    withdraw(home, "bills", second, REASON)
    assert nets(home) == []
    books.do("DELETE FROM bill WHERE id = 3")
    take(home, books, WHOLE)
    assert nets(home) == [1, 2]
    assert ingest_database(home.warehouse, books.url, WHOLE).already
    books.add(3)
    take(home, books, WHOLE)
    assert nets(home) == [1, 2, 3]


def test_a_load_that_waited_while_the_one_before_was_withdrawn_skips_no_row(
    home: NodeHome, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.add(1)
    first = take(home, books)
    books.add(2)
    real = warehouse.Warehouse.loading

    def loading(self: warehouse.Warehouse, *told: object, **more: object):
        with monkeypatch.context() as patched:
            patched.setattr(warehouse.Warehouse, "loading", real)
            withdraw(home, "bills", first, REASON)
        return real(self, *told, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(warehouse.Warehouse, "loading", loading)
        with pytest.raises(IngestError, match="was withdrawn"):
            ingest_database(home.warehouse, books.url, BY_KEY)
    assert nets(home) == []
    take(home, books)
    assert nets(home) == [1, 2]


# -- quality, lineage, runs -------------------------------------------------------------------


def test_lineage_still_tells_what_an_older_check_covered(home: NodeHome) -> None:
    (home.path / "schemas").mkdir()
    load = bring(home, "a.csv", 1)
    other = bring(home, "b.csv", 2)
    number = check(home.warehouse, home.schemas(), "bills", home.now()).result.id
    withdraw(home, "bills", load, REASON)
    (entry,) = entries(home)
    told = [(one.load.id, one.load.withdrawn, one.rows) for one in origins(home.warehouse, "bills")]
    assert told == [(load, entry.time, 0), (other, None, 1)]
    _, covered = report(home.warehouse, number)
    assert [one.load.name for one in covered] == ["a.csv", "b.csv"]
    assert [one.load.id for one in origins(home.warehouse, enterprise=A)] == [other]


def test_an_open_run_keeps_the_rows_that_it_took_and_is_named(home: NodeHome, world: World) -> None:
    fill(home, world)
    plan, digest = approved(home, world, sums=[("histogram", "train")] * 3)
    session = new_session(home, world.receipts(home))
    first = session.answer(world.query(plan, digest, run=RUN))
    taken = SnapshotStore(home).pin(plan, world.view, RUN).snapshot
    load, labels = home.warehouse.loads()
    orders = bring(home, "a.csv", 1)
    assert withdraw(home, "bills", orders, REASON).runs == ()  # the view does not read them
    assert withdraw(home, load.dataset, load.id, REASON).runs == (RUN,)
    assert withdraw(home, labels.dataset, labels.id, REASON).runs == (RUN,)
    left = SnapshotStore(home).pin(plan, world.view, RUN).snapshot
    assert left.root == taken.root
    assert np.array_equal(left.cells, taken.cells)
    result, named = world.result(first)
    again = session.answer(
        world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
    )
    assert again["kind"] == b"masked"


def test_where_a_damaged_view_hides_what_a_run_reads_nothing_is_withdrawn(
    home: NodeHome, world: World
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    (file,) = home.views_folder.glob("*.toml")
    file.write_text("id = 1")
    load = home.warehouse.loads()[0]
    with open_home(home.path, world.clock) as again, pytest.raises(ViewError):
        withdraw(again, load.dataset, load.id, REASON)
    assert (entries(home), home.warehouse.withdrawn()) == ([], ())
    assert home.warehouse.rows("data", "firms") == 40


def test_whoever_reads_meanwhile_sees_all_of_it(home: NodeHome) -> None:
    load = bring(home, "a.csv", *range(50))
    reader = home.warehouse.read("data", "bills", ["net"])
    first = next(reader)
    withdraw(home, "bills", load, REASON)
    assert sum(batch.num_rows for batch in [first, *reader]) == 50
    assert nets(home) == []


# -- crashes and backups ----------------------------------------------------------------------


def test_a_damaged_segment_is_no_reason_to_withdraw_half(home: NodeHome) -> None:
    load = bring(home, "a.csv", 1, "bad")
    (part,) = home.warehouse.segments("quarantine")
    (home.path / "warehouse" / part.file).write_bytes(b"not a segment")
    with pytest.raises(SegmentError, match="damaged"):
        withdraw(home, "bills", load, REASON)
    assert (nets(home), entries(home)) == ([1], [])
    with reading(home.database) as connection:
        listed = {one.file for one in segments(connection, every=True)}
    assert {path.name for path in (home.path / "warehouse").iterdir()} - {".lock"} == listed


def test_a_recovery_leaves_a_load_alone_that_only_has_the_number_of_a_withdrawn_one(
    home: NodeHome,
) -> None:
    """Its number was free again in the database of the backup."""
    withdraw(home, "bills", bring(home, "a.csv", 1), REASON)
    (entry,) = entries(home)
    bring(home, "a.csv", 1)
    (load,) = home.warehouse.loads()
    lost = {**entry.body, "load": load.id, "completed": "2026-01-01T00:00:00Z"}
    with writing(home.database) as connection:
        withdrawing.note_lost(connection, replace(entry, body=lost))
    assert withdraw_again(home) == 0
    with writing(home.database) as connection:
        same = replace(entry, seq=entry.seq + 1, body={**lost, "completed": load.completed})
        withdrawing.note_lost(connection, same)
    assert withdraw_again(home) == 1
    assert nets(home) == []


@pytest.mark.parametrize("why", ["a quarantine segment is damaged", "the disk is full"])
def test_nothing_is_read_while_a_load_that_came_back_cannot_go(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    load = come_back(home, bring(home, "a.csv", 1, "bad"))
    bring(home, "b.csv", 2)
    (part,) = home.warehouse.segments("quarantine")
    file = home.path / "warehouse" / part.file
    whole_bytes = file.read_bytes()
    if why == "the disk is full":
        monkeypatch.setattr(SegmentWriter, "finish", no_space)
    else:
        file.write_bytes(b"not a segment")
    assert withdraw_again(home) == 0
    with pytest.raises(WithdrawalWaitsError, match="1 loads of bills were withdrawn") as caught:
        nets(home)
    assert (caught.value.code, "已撤回" in caught.value.text.zh) == ("withdrawal-waits", True)
    with pytest.raises(WithdrawalWaitsError):
        home.warehouse.query("SELECT * FROM bills", [BILLS])
    with pytest.raises(WarehouseError):
        withdraw(home, "bills", load, REASON)
    monkeypatch.undo()
    file.write_bytes(whole_bytes)
    assert withdraw(home, "bills", load, REASON).seq is None
    assert (nets(home), held(home), len(entries(home))) == ([2], 0, 1)
    whole(home)


def come_back(home: NodeHome, load: int) -> int:
    """Withdraw a load, and let it come back as a recovery from an older backup would."""
    with reading(home.database) as connection:
        rows = [
            (table, row._asdict())
            for table in (load_table, segment_table)
            for row in connection.execute(select(table))
        ]
    folder = home.path / "warehouse"
    files = {path: path.read_bytes() for path in folder.glob("*.parquet")}
    withdraw(home, "bills", load, REASON)
    (entry,) = entries(home)
    for path, content in files.items():
        path.write_bytes(content)
    with writing(home.database) as connection:
        for table in (withdrawal, segment_table, load_table):
            connection.execute(delete(table))
        for table, row in rows:
            connection.execute(insert(table).values(**row))
        withdrawing.note_lost(connection, entry)
    return load


def no_space(_writer: SegmentWriter) -> str:
    raise OSError(errno.ENOSPC, "no space")


@pytest.mark.parametrize("step", ["rewrite", "log", "swap", "sweep"])
def test_a_crash_at_any_step_leaves_all_or_nothing_and_the_command_goes_on(
    home: NodeHome, step: str
) -> None:
    load = bring(home, "a.csv", 1, "bad")
    bring(home, "b.csv", 2)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        places: dict[str, Callable[[], None]] = {
            "rewrite": lambda: patch.setattr(warehouse, "rewrite", crash),
            "log": lambda: patch.setattr("hejin_node.withdrawn.record", crash),
            "swap": lambda: patch.setattr("hejin_node.giving_way.GivingWay.swap", crash),
            "sweep": lambda: patch.setattr(warehouse.Warehouse, "_sweep", second_time(crash)),
        }
        places[step]()
        with pytest.raises(KeyboardInterrupt):
            withdraw(home, "bills", load, REASON)
    done = step == "sweep"
    assert (nets(home), held(home)) == (([2], 0) if done else ([1, 2], 1))
    assert len(entries(home)) == len(home.warehouse.withdrawn()) == done
    home.warehouse.sweep()
    whole(home)
    withdraw(home, "bills", load, REASON)
    assert (nets(home), held(home), len(entries(home))) == ([2], 0, 1)


def second_time(crash: Callable[..., None]) -> Callable[[warehouse.Warehouse], None]:
    calls = iter([warehouse.Warehouse._sweep, crash])
    return lambda self: next(calls)(self)
