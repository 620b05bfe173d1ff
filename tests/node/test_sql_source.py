"""Databases as sources: goes on behind a key, compares where there is none, shows no address."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from sql_memory import both, read
from sqlalchemy import URL, make_url
from sqlalchemy.exc import OperationalError

from hejin_models.uscc import make_code
from hejin_node import source_sql
from hejin_node.errors import IngestError, SourceGoneError
from hejin_node.ingest import ingest, ingest_database
from hejin_node.mapping import SourceMapping
from hejin_node.source_sql import open_query, url_in_environment, url_in_file
from hejin_node.sources import Query, silent
from hejin_trust.keys import KeyFileError

A, B, C = (make_code(n) for n in range(3))
MAPPING = """
dataset = "bills"
[sql]
table = "bill"
{key}
[enterprise]
column = "uscc"
[columns.net]
type = "number"
required = true
[columns.day]
type = "date"
"""


def mapping(key: str = 'key = "id"') -> SourceMapping:
    return SourceMapping.parse(MAPPING.format(key=key).encode())


class Books:
    """A SQLite database of bills."""

    def __init__(self, path: Path) -> None:
        self.url = URL.create("sqlite", database=str(path))
        self.connection = sqlite3.connect(path)
        self.do("CREATE TABLE bill (id INTEGER, uscc TEXT, net REAL, day TEXT)")

    def do(self, statement: str, *values: object) -> None:
        self.connection.execute(statement, values)
        self.connection.commit()

    def add(self, key: object, code: str, net: object, day: str | None = None) -> None:
        self.do("INSERT INTO bill VALUES (?, ?, ?, ?)", key, code, net, day)


@pytest.fixture
def books(tmp_path: Path):
    found = Books(tmp_path / "books.db")
    yield found
    found.connection.close()


def nets(data) -> list[object]:
    return sorted(row["net"] for row in data.rows("bills"))


def test_with_a_key_each_run_goes_on_behind_the_last_one(data, books: Books) -> None:
    books.add(1, A, 1.5, "2025-01-31")
    books.add(2, B, -2)
    books.add(3, "nobody", 9)
    first = ingest_database(data.warehouse, books.url, mapping())
    assert (first.loaded, first.quarantined, first.already) == (2, {"enterprise.code": 1}, False)
    again = ingest_database(data.warehouse, books.url, mapping())
    assert (again.already, again.loaded) == (True, 0)
    books.add(4, C, 4)
    assert ingest_database(data.warehouse, books.url, mapping()).loaded == 1
    assert nets(data) == [-2.0, 1.5, 4.0]
    assert [load.name for load in data.warehouse.loads("bills")] == ["sql:bill", "sql:bill"]


def test_keys_may_be_texts(data, books: Books) -> None:
    for key in ("a1", "a10", "b1"):
        books.add(key, A, 1)
    assert ingest_database(data.warehouse, books.url, mapping()).loaded == 3
    books.add("b2", A, 1)
    assert ingest_database(data.warehouse, books.url, mapping()).loaded == 1


@pytest.mark.parametrize("at", [2, 3])
def test_a_key_that_comes_twice_is_refused_and_nothing_is_loaded(
    data, books: Books, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_sql, "_BLOCK_ROWS", 3)
    for key in sorted([1, 2, 3, 4, 5, at]):
        books.add(key, A, 1)
    with pytest.raises(IngestError, match="is not unique"):
        ingest_database(data.warehouse, books.url, mapping())
    assert data.warehouse.segments() == ()
    assert data.warehouse.loads() == ()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_of_any_size_give_every_row_once(
    data, books: Books, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_sql, "_BLOCK_ROWS", size)
    for key in range(7):
        books.add(key, A, key)
    assert ingest_database(data.warehouse, books.url, mapping()).loaded == 7
    assert nets(data) == [float(key) for key in range(7)]


def test_rows_without_a_key_are_refused(data, books: Books) -> None:
    books.add(1, A, 1)
    books.add(None, A, 1)
    with pytest.raises(IngestError, match="1 rows have no id"):
        ingest_database(data.warehouse, books.url, mapping())


def test_keys_that_are_neither_whole_numbers_nor_texts_are_refused(data, books: Books) -> None:
    books.add(1.5, A, 1)
    with pytest.raises(IngestError, match="integers or texts"):
        ingest_database(data.warehouse, books.url, mapping())


def failing(after: int, real=source_sql.SqlSource._table):
    """Blocks of rows, and then no database any more."""
    done = 0

    def table(self, rows):
        nonlocal done
        if done == after:
            raise OperationalError("SELECT", {}, Exception("server closed: secret-host"))
        done += 1
        return real(self, rows)

    return table


@pytest.mark.parametrize("key", ['key = "id"', ""])
def test_a_database_that_goes_away_half_way_loses_nothing_and_shows_nothing(
    data, books: Books, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_sql, "_BLOCK_ROWS", 3)
    for number in range(10):
        books.add(number, A, number)
    with monkeypatch.context() as patch:
        patch.setattr(source_sql.SqlSource, "_table", failing(after=2))
        with pytest.raises(
            SourceGoneError, match=r"failed after 6 rows \(OperationalError\)"
        ) as no:
            ingest_database(data.warehouse, books.url, mapping(key))
    assert "secret" not in str(no.value)
    assert no.value.__cause__ is None
    assert data.rows("bills") == []
    (load,) = data.warehouse.loads()
    assert (load.state, load.counts.read) == ("open", 6)
    report = ingest_database(data.warehouse, books.url, mapping(key))
    assert report.loaded == 10
    assert nets(data) == [float(number) for number in range(10)]


def test_without_a_key_the_same_content_in_any_order_changes_nothing(data, books: Books) -> None:
    books.add(1, A, 1)
    books.add(2, B, 2)
    assert ingest_database(data.warehouse, books.url, mapping("")).loaded == 2
    books.do("DELETE FROM bill WHERE id = 1")
    books.add(7, A, 1)
    assert ingest_database(data.warehouse, books.url, mapping("")).already


def test_without_a_key_changed_content_takes_the_place_of_what_was_loaded(
    data, books: Books
) -> None:
    whole = mapping("")
    books.add(1, A, 1)
    books.add(2, "nobody", 2)
    ingest_database(data.warehouse, books.url, whole)
    data.warehouse.append("bills", whole.schema, other_bill(), "2" * 64)
    books.do("UPDATE bill SET net = 5 WHERE id = 1")
    books.do("UPDATE bill SET uscc = ? WHERE id = 2", B)
    report = ingest_database(data.warehouse, books.url, whole)
    assert (report.loaded, report.quarantined) == (2, {})
    assert nets(data) == [2.0, 5.0, 77.0]  # the other source's row stays
    assert data.rows("bills", "quarantine") == []
    assert ingest_database(data.warehouse, books.url, whole).already


@pytest.mark.parametrize(
    ("before", "after"),
    [('key = "id"', ""), ("", 'key = "id"'), ('key = "id"', 'key = "net"')],
    ids=["key taken away", "key given", "another key"],
)
def test_a_table_that_is_asked_in_another_way_than_before_is_refused(
    data, books: Books, before: str, after: str
) -> None:
    """Its rows would come twice, or those behind the other key never."""
    for number in (1, 2):
        books.add(number, A, number * 10)
        ingest_database(data.warehouse, books.url, mapping(before))
    held, loads = nets(data), len(data.warehouse.loads())
    books.add(3, A, 1)
    with pytest.raises(IngestError, match="another key") as caught:
        ingest_database(data.warehouse, books.url, mapping(after))
    assert "键列" in caught.value.text.zh
    assert (nets(data), len(data.warehouse.loads())) == (held, loads)
    assert ingest_database(data.warehouse, books.url, mapping(before)).loaded in (1, 3)


def test_a_file_with_the_name_of_a_table_does_not_give_way_to_it(
    data, books: Books, tmp_path: Path
) -> None:
    path = tmp_path / "sql:bill"
    path.write_text(f"uscc,net,day\n{B},7,\n", "utf-8")
    whole = mapping("")
    ingest(data.warehouse, path, replace(whole, sql=None))
    books.add(1, A, 1)
    with pytest.raises(IngestError, match="another key"):
        ingest_database(data.warehouse, books.url, whole)
    assert nets(data) == [7.0]


def test_content_that_comes_back_is_loaded_again(data, books: Books) -> None:
    books.add(1, A, 1)
    for net in (1, 2, 1, 2, 2, 1):
        books.do("UPDATE bill SET net = ?", net)
        ingest_database(data.warehouse, books.url, mapping(""))
        assert nets(data) == [float(net)]


def test_one_row_per_enterprise_is_not_counted_against_the_rows_that_give_way(
    data, books: Books
) -> None:
    unique = SourceMapping.parse(f"unique = true\n{MAPPING.format(key='')}".encode())
    books.add(1, A, 1)
    ingest_database(data.warehouse, books.url, unique)
    books.do("UPDATE bill SET net = 2")
    assert ingest_database(data.warehouse, books.url, unique).loaded == 1
    assert nets(data) == [2.0]


def other_bill() -> list[pa.RecordBatch]:
    day = pa.array([None], pa.date32())
    return pa.table({"enterprise": [C], "net": [77.0], "day": day}).to_batches()


def test_content_that_changes_between_digest_and_reading_is_refused(data, books: Books) -> None:
    books.add(1, A, 1)
    source = open_query(books.url, Query("bill", "bill"), ["uscc", "net"], {}, None)
    books.add(2, A, 2)
    with pytest.raises(IngestError, match="changed while they were read"):
        list(source.blocks(None, silent))


def test_a_query_is_asked_as_it_stands(books: Books) -> None:
    books.add(1, A, 10, "08:30")
    sql = "SELECT uscc, net * 100 % 7 AS r FROM bill WHERE day = '08:30' AND uscc LIKE '9%'"
    source = open_query(books.url, Query("q", query=sql), ["uscc", "r"], {}, None)
    (block,) = source.blocks(None, silent)
    assert block.table.to_pylist() == [{"uscc": A, "r": "6.0"}]
    assert source.name == "sql:q"


def test_a_query_can_change_nothing(books: Books) -> None:
    for sql in (
        "DELETE FROM bill",
        "SELECT 1; DELETE FROM bill",
        "SELECT 1) ; DELETE FROM bill --",
    ):
        books.add(1, A, 1)
        with pytest.raises(IngestError, match="does not answer the question"):
            open_query(books.url, Query("q", query=sql), ["uscc"], {}, None)
        assert books.connection.execute("SELECT count(*) FROM bill").fetchone() > (0,)


def test_binary_columns_are_refused(books: Books) -> None:
    books.add(1, A, b"\x00\x01")
    with pytest.raises(IngestError, match="column net is binary"):
        open_query(books.url, Query("bill", "bill"), ["uscc", "net"], {}, None)


@pytest.mark.parametrize("key", ["id", None])
@pytest.mark.parametrize("size", [65_537, 20_000_000, 40_000_000])
def test_a_value_that_is_too_long_is_refused_however_long_it_is(
    data, books: Books, size: int, key: str | None
) -> None:
    books.add(1, A, 1)
    books.do("INSERT INTO bill VALUES (2, ?, 2, printf('%.*c', ?, 'x'))", A, 65_536)
    query = Query("bill", "bill", key=key)
    (block,) = open_query(books.url, query, ["day", "uscc"], {}, None).blocks(None, silent)
    assert sorted(len(day or "") for day in block.table["day"].to_pylist()) == [0, 65_536]
    # Two such are more than SQLite may sort.
    books.do("UPDATE bill SET day = printf('%.*c', ?, 'x'), net = 'x' || day WHERE id = 2", size)
    books.do("UPDATE bill SET net = day WHERE id = 2")
    with pytest.raises(IngestError, match="column day holds a value of more than 64 KB") as no:
        list(open_query(books.url, query, ["uscc", "day", "net"], {}, None).blocks(None, silent))
    assert no.value.code == "file-refused"
    assert "列 day 有超过 64 KB 的值" in no.value.text.zh
    assert "xxx" not in both(no.value)
    with pytest.raises(IngestError, match=r"column (day|net) holds a value of more than 64 KB"):
        ingest_database(data.warehouse, books.url, mapping('key = "id"' if key else ""))
    assert data.warehouse.loads() == ()


@pytest.mark.parametrize("size", [65_537, 40_000_000])
def test_a_key_that_is_too_long_is_refused(books: Books, size: int) -> None:
    books.do("INSERT INTO bill VALUES (printf('%.*c', ?, 'x'), ?, 1, NULL)", size, A)
    with pytest.raises(IngestError, match="column id holds a value of more than 64 KB"):
        list(
            open_query(books.url, Query("bill", "bill", key="id"), ["uscc"], {}, None).blocks(
                None, silent
            )
        )


@pytest.mark.parametrize("key", [{"key": "id"}, {}])
def test_memory_is_bounded_whatever_the_cells_hold(books: Books, key: dict[str, str]) -> None:
    books.do("CREATE TABLE large (id INTEGER PRIMARY KEY, note TEXT)")
    books.do("INSERT INTO large VALUES (1, 'a'), (2, hex(zeroblob(150000000))), (3, 'b')")
    more, rows, said = read(books.url, {"name": "b", "table": "large", **key}, ["note"])
    assert (rows, said.startswith("sql:b: column note holds a value of more")) == (0, True)
    assert more < 100
    many = (
        "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 8000)"
        " SELECT id, hex(zeroblob(30000)) AS note FROM n"
    )
    more, rows, said = read(books.url, {"name": "b", "query": many, **key}, ["note"])
    assert (rows, said) == (8000, "")
    assert more < 450


def test_keys_that_the_database_takes_for_equal_are_refused(data, books: Books) -> None:
    books.do("DROP TABLE bill")
    books.do("CREATE TABLE bill (id TEXT COLLATE NOCASE, uscc TEXT, net REAL, day TEXT)")
    books.add("a", A, 1)
    books.add("b", A, 1)
    books.add("A", A, 1)
    with pytest.raises(IngestError, match="the key id is not unique"):
        ingest_database(data.warehouse, books.url, mapping())


@pytest.mark.parametrize(
    ("query", "columns"),
    [(Query("b", "no_such"), ["uscc"]), (Query("b", "bill"), ["no_such"]),
     (Query("b", "bill", key="no_such"), ["uscc"]), (Query("b", "other.bill"), ["uscc"])],
)  # fmt: skip
def test_a_wrong_name_is_refused_without_the_address(
    books: Books, query: Query, columns: list[str]
) -> None:
    books.add(1, A, 1)
    with pytest.raises(IngestError, match="does not answer the question") as caught:
        open_query(books.url, query, columns, {}, None)
    assert str(books.url.database) not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_sqlite_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "absent.db"))
    with pytest.raises(IngestError, match="SQLite file that is not there"):
        open_query(url, Query("b", "bill"), ["uscc"], {}, None)
    assert not (tmp_path / "absent.db").exists()


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"No driver for oracle\+nothing"):
        open_query(make_url("oracle+nothing://u:p@h/d"), Query("b", "b"), ["a"], {}, None)


def test_an_address_comes_from_the_environment_or_a_file_of_mode_0600(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERP_URL", "postgresql+psycopg://u:secret@h/d")
    assert url_in_environment("ERP_URL").password == "secret"
    path = tmp_path / "url"
    path.write_text("mysql+pymysql://u:secret@h/d\n")
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="can be read by other users"):
        url_in_file(path)
    path.chmod(0o600)
    assert url_in_file(path).database == "d"


@pytest.mark.parametrize("given", ["", "secret", "://secret", "a://b:secret:port/"])
def test_an_address_that_is_none_is_not_repeated(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERP_URL", given)
    with pytest.raises(IngestError, match="empty or no SQLAlchemy URL") as caught:
        url_in_environment("ERP_URL")
    assert "secret" not in str(caught.value)
