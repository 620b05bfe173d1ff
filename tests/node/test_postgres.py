"""PostgreSQL as a source: a real server, which also goes away half-way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_world import BIN, Postgres
from sql_memory import both, read

from hejin_models.uscc import make_code
from hejin_node import source_sql
from hejin_node.errors import IngestError, SourceGoneError
from hejin_node.ingest import ingest_database
from hejin_node.mapping import SourceMapping, find_mapping
from hejin_node.source_sql import open_query
from hejin_node.sources import Query, silent

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(BIN is None, reason="no PostgreSQL: apt-get install postgresql"),
]

MAPPING = """
dataset = "bills"
[sql]
table = "erp.Bill"
{key}
[enterprise]
column = "企业"
[columns.net]
type = "number"
required = true
[columns.day]
type = "date"
[columns.paid]
type = "text"
"""
KEYS = pytest.mark.parametrize("key", ['key = "id"', ""])
ROWS = 5000


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    found = Postgres()
    try:
        found.do(
            "CREATE SCHEMA erp",
            'CREATE TABLE erp."Bill" (id BIGINT PRIMARY KEY, "企业" TEXT, net NUMERIC(14, 2),'
            " day TIMESTAMP, paid BOOLEAN)",
        )
        yield found
    finally:
        found.close()


@pytest.fixture
def books(server: Postgres) -> Postgres:
    codes = ", ".join(f"'{make_code(n)}'" for n in range(7))
    server.do(
        'TRUNCATE erp."Bill"',
        f'INSERT INTO erp."Bill" SELECT n, (ARRAY[{codes}])[1 + n % 7], n / 4.0,'
        f" TIMESTAMP '2025-01-31 08:30', n % 2 = 0 FROM generate_series(1, {ROWS}) n",
    )
    return server


def mapping(key: str) -> SourceMapping:
    return SourceMapping.parse(MAPPING.format(key=key).encode())


@KEYS
def test_its_types_arrive_as_the_mapping_says(data, books: Postgres, key: str) -> None:
    assert ingest_database(data.warehouse, books.url, mapping(key)).loaded == ROWS
    rows = sorted(data.rows("bills"), key=lambda row: row["net"])
    assert [row["net"] for row in rows] == [n / 4 for n in range(1, ROWS + 1)]
    assert str(rows[0]["day"]) == "2025-01-31"
    assert [row["paid"] for row in rows[:2]] == ["false", "true"]
    assert ingest_database(data.warehouse, books.url, mapping(key)).already


@KEYS
def test_a_server_that_is_killed_half_way_loses_nothing_and_the_next_attempt_goes_on(
    data, books: Postgres, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_sql, "_BLOCK_ROWS", 500)

    def progress(done: int, _size: int) -> None:
        if done >= 2000:
            books.kill()

    try:
        with pytest.raises(SourceGoneError, match=r"failed after \d+ rows") as caught:
            ingest_database(data.warehouse, books.url, mapping(key), progress)
    finally:
        books.start()
    assert str(books.folder) not in str(caught.value)
    assert data.rows("bills") == []
    (load,) = data.warehouse.loads()
    assert load.state == "open"
    assert load.counts.read >= 2000
    again: list[int] = []
    report = ingest_database(
        data.warehouse, books.url, mapping(key), lambda done, _size: again.append(done)
    )
    assert report.loaded == ROWS
    assert min(again) > load.counts.read - 1  # it read on, not anew
    assert sorted(row["net"] for row in data.rows("bills")) == [n / 4 for n in range(1, ROWS + 1)]


def test_a_server_that_is_away_is_refused_without_its_address(data, books: Postgres) -> None:
    books.kill()
    try:
        with pytest.raises(IngestError, match="cannot be reached, or does not let the") as caught:
            ingest_database(data.warehouse, books.url, mapping(""))
    finally:
        books.start()
    assert str(books.folder) not in both(caught.value)


def test_an_option_that_the_driver_does_not_know_is_told_without_the_address(
    books: Postgres,
) -> None:
    url = books.url.update_query_dict({"secret": "secret"})
    with pytest.raises(IngestError, match="cannot be reached, or does not let the") as caught:
        open_query(url, Query("b", "erp.Bill"), ["net"], {}, None)
    assert "secret" not in both(caught.value)
    assert caught.value.__cause__ is None


@KEYS
def test_a_value_that_is_too_long_is_refused_where_it_is_found_and_nothing_is_kept(
    data, books: Postgres, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_sql, "_BLOCK_ROWS", 500)
    longest = "repeat('长', 21845)"  # and a byte less than 64 KB
    books.do(
        'ALTER TABLE erp."Bill" ALTER paid TYPE TEXT',
        f'UPDATE erp."Bill" SET paid = {longest} || $$x$$ WHERE id = 3000',
    )
    try:
        assert ingest_database(data.warehouse, books.url, mapping(key)).loaded == ROWS
        books.do(
            f'UPDATE erp."Bill" SET paid = {longest} || $$xy$$ WHERE id = 3000',
            'UPDATE erp."Bill" SET id = id + 1000000',
        )
        with pytest.raises(IngestError, match="column paid holds a value of more than 64") as no:
            ingest_database(data.warehouse, books.url, mapping(key))
    finally:
        books.do('ALTER TABLE erp."Bill" ALTER paid TYPE BOOLEAN USING NULL')
    assert no.value.code == "file-refused"
    assert "列 paid 有超过 64 KB 的值" in no.value.text.zh
    assert "长长" not in both(no.value)
    assert len(data.warehouse.loads()) == 1
    assert len(data.rows("bills")) == ROWS


@pytest.mark.parametrize(
    "cell",
    ["'x'::CHAR(65537)", "repeat('x', 65537)::BYTEA", "to_jsonb(repeat('x', 65536))",
     "array_fill(1, ARRAY[40000])", "repeat('x', 65537)::VARCHAR"],
)  # fmt: skip
def test_a_value_of_any_type_is_measured_as_it_is_sent(books: Postgres, cell: str) -> None:
    query = Query("q", query=f"SELECT n, {cell} AS cell FROM generate_series(1, 2) n", key="n")
    source = open_query(books.url, query, ["n", "cell"], {}, None)
    with pytest.raises(IngestError, match="column cell holds a value of more than 64 KB"):
        list(source.blocks(None, silent))


@KEYS
def test_a_date_that_no_driver_reads_is_refused_and_not_tried_for_ever(
    data, books: Postgres, key: str
) -> None:
    books.do("UPDATE erp.\"Bill\" SET day = 'infinity' WHERE id = 3000")
    with pytest.raises(IngestError, match="a value that cannot be read, such as a date") as no:
        ingest_database(data.warehouse, books.url, mapping(key))
    assert not isinstance(no.value, SourceGoneError)
    assert data.warehouse.loads() == ()


@pytest.mark.parametrize("key", [{"key": "id"}, {}])
def test_memory_is_bounded_whatever_the_cells_hold(books: Postgres, key: dict[str, str]) -> None:
    books.do(
        "DROP TABLE IF EXISTS large",
        "CREATE TABLE large (id INTEGER PRIMARY KEY, note TEXT)",
        "INSERT INTO large VALUES (1, 'a'), (2, repeat('x', 300000000)), (3, 'b')",
    )
    more, rows, said = read(books.url, {"name": "b", "table": "large", **key}, ["note"])
    assert (rows, said.startswith("sql:b: column note holds a value of more")) == (0, True)
    assert more < 30
    many = "SELECT n AS id, repeat('x', 60000) AS note FROM generate_series(1, 8000) n"
    more, rows, said = read(books.url, {"name": "b", "query": many, **key}, ["note"])
    assert (rows, said) == (8000, "")
    assert more < 450


def test_a_query_may_not_write(books: Postgres) -> None:
    books.do(
        "CREATE OR REPLACE FUNCTION emptied() RETURNS INTEGER LANGUAGE sql AS"
        " 'DELETE FROM erp.\"Bill\"; SELECT 1'"
    )
    with pytest.raises(IngestError, match="does not answer the question") as no:
        open_query(books.url, Query("q", query="SELECT emptied() AS n"), ["n"], {}, None)
    assert no.value.code == "file-refused"
    query = Query("q", query='SELECT count(*)::TEXT AS n FROM erp."Bill" WHERE day::DATE > $$1$$')
    with pytest.raises(IngestError):
        open_query(books.url, query, ["n"], {}, None)
    query = Query("q", query='SELECT count(*)::TEXT AS n FROM erp."Bill"')
    assert open_query(books.url, query, ["n"], {}, None).rows == 1


def test_the_shipped_mappings_of_an_erp_fit_such_a_database(data, server: Postgres) -> None:
    server.do(
        "DROP TABLE IF EXISTS erp_shipment, erp_order, erp_return",
        "CREATE TABLE erp_shipment (id SERIAL, uscc TEXT, sent_on DATE, to_province TEXT,"
        " weight_t FLOAT, freight_cny FLOAT, due_on DATE, arrived_on DATE)",
        "CREATE TABLE erp_order (id SERIAL, uscc TEXT, ordered_on DATE, customer TEXT,"
        " amount_cny NUMERIC, promised_on DATE, delivered_on DATE)",
        "CREATE TABLE erp_return (order_id INTEGER, returned_on DATE, amount_cny NUMERIC)",
        f"INSERT INTO erp_shipment VALUES (1, '{make_code(1)}', '2025-01-02', '河北', 1.5, 200,"
        " '2025-01-05', NULL)",
        f"INSERT INTO erp_order VALUES (1, '{make_code(1)}', '2025-01-02', '甲', 1000,"
        f" '2025-02-01', NULL), (2, '{make_code(2)}', '2025-01-03', '乙', 500, NULL, NULL)",
        "INSERT INTO erp_return VALUES (2, '2025-03-01', 100)",
    )
    assert ingest_database(data.warehouse, server.url, find_mapping("erp-shipments")).loaded == 1
    assert ingest_database(data.warehouse, server.url, find_mapping("erp-orders")).loaded == 2
    server.do("UPDATE erp_order SET delivered_on = '2025-02-03' WHERE id = 1")
    assert ingest_database(data.warehouse, server.url, find_mapping("erp-orders")).loaded == 2
    delivered = {row["customer"]: str(row["delivered"]) for row in data.rows("orders")}
    assert delivered == {"甲": "2025-02-03", "乙": "None"}
