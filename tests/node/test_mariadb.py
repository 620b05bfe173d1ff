"""MariaDB as a source: a real server, which also goes away half-way."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from mariadb_world import ABSENT, INSTALL, SERVER, Mariadb
from sql_memory import both, read
from sqlalchemy import URL

from hejin_models.uscc import make_code
from hejin_node import source_sql
from hejin_node.errors import IngestError, SourceGoneError
from hejin_node.ingest import ingest_database
from hejin_node.mapping import SourceMapping
from hejin_node.source_sql import open_query
from hejin_node.sources import Query, silent

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(SERVER is None or INSTALL is None, reason=ABSENT),
]

MAPPING = """
dataset = "bills"
missing = ["", "0000-00-00", "0000-00-00 00:00:00"]
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
[columns.due]
type = "date"
[columns.paid]
type = "text"
[columns.customer]
type = "text"
[columns.remark]
type = "text"
[columns.serial]
type = "text"
[columns.pieces]
type = "integer"
"""
KEYS = pytest.mark.parametrize("key", ['key = "id"', ""])
ROWS = 4000
REMARK = "𠮷" * 1000
"""Four bytes a character. What the server sent before it was killed is a small part of all rows."""


@pytest.fixture(scope="module")
def server() -> Iterator[Mariadb]:
    found = Mariadb()
    try:
        found.do(
            "CREATE TABLE Bill (id BIGINT UNSIGNED PRIMARY KEY, `企业` VARCHAR(18),"
            " net DECIMAL(14, 2), day DATETIME, due DATE, paid TINYINT(1),"
            " customer VARCHAR(20) CHARACTER SET gbk, remark MEDIUMTEXT, serial BIGINT UNSIGNED,"
            " pieces BIGINT UNSIGNED)",
        )
        yield found
    finally:
        found.close()


@pytest.fixture
def books(server: Mariadb) -> Mariadb:
    codes = ", ".join(f"'{make_code(n)}'" for n in range(7))
    server.do(
        "TRUNCATE Bill",
        f"INSERT INTO Bill SELECT seq, ELT(1 + seq % 7, {codes}), seq / 4, '2025-01-31 08:30:00',"
        f" NULL, seq % 2, '深圳镕', '{REMARK}', 18446744073709551615, 7 FROM seq_1_to_{ROWS}",
    )
    return server


def mapping(key: str) -> SourceMapping:
    return SourceMapping.parse(MAPPING.format(key=key).encode())


@KEYS
def test_its_types_arrive_as_the_mapping_says(data, books: Mariadb, key: str) -> None:
    assert ingest_database(data.warehouse, books.url, mapping(key)).loaded == ROWS
    rows = sorted(data.rows("bills"), key=lambda row: row["net"])
    assert [row["net"] for row in rows] == [n / 4 for n in range(1, ROWS + 1)]
    one = rows[0]
    assert (str(one["day"]), one["due"], one["paid"]) == ("2025-01-31", None, "1")
    assert (one["customer"], one["remark"]) == ("深圳镕", REMARK)
    assert (one["serial"], one["pieces"]) == ("18446744073709551615", 7)
    assert rows[1]["paid"] == "0"
    assert ingest_database(data.warehouse, books.url, mapping(key)).already


@KEYS
def test_dates_of_zeros_and_numbers_that_are_too_large_are_told_not_guessed(
    data, books: Mariadb, key: str
) -> None:
    code = make_code(1)
    books.do(
        "TRUNCATE Bill",
        "SET sql_mode = ''",
        "INSERT INTO Bill (id, `企业`, net, day, due, pieces) VALUES"
        f" (1, '{code}', 1, '0000-00-00', '0000-00-00', NULL),"
        f" (2, '{code}', 2, NULL, '2025-02-00', NULL),"
        f" (3, '{code}', 3, NULL, NULL, 18446744073709551615)",
    )
    report = ingest_database(data.warehouse, books.url, mapping(key))
    assert (report.loaded, report.quarantined) == (1, {"due.type": 1, "pieces.type": 1})
    (row,) = data.rows("bills")
    assert (row["day"], row["due"]) == (None, None)


def test_a_key_may_be_larger_than_any_signed_integer(data, books: Mariadb) -> None:
    first, last = 2**63 + 5, 2**64 - 1
    books.do("DELETE FROM Bill WHERE id > 3", f"UPDATE Bill SET id = id + {first}")
    assert ingest_database(data.warehouse, books.url, mapping('key = "id"')).loaded == 3
    books.do(
        f"INSERT INTO Bill (id, `企业`, net) VALUES ({last}, '{make_code(1)}', 9)",
    )
    assert ingest_database(data.warehouse, books.url, mapping('key = "id"')).loaded == 1
    assert len(data.rows("bills")) == 4


@KEYS
def test_a_server_that_is_killed_half_way_loses_nothing_and_the_next_attempt_goes_on(
    data, books: Mariadb, key: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    monkeypatch.setattr(source_sql, "_BLOCK_ROWS", 200)

    def progress(done: int, _size: int) -> None:
        if done >= 1000:
            books.kill()

    try:
        with pytest.raises(SourceGoneError, match=r"failed after \d+ rows") as caught:
            ingest_database(data.warehouse, books.url, mapping(key), progress)
    finally:
        books.start()
    assert str(books.folder) not in both(caught.value)
    assert data.rows("bills") == []
    (load,) = data.warehouse.loads()
    assert load.state == "open"
    assert 1000 <= load.counts.read < ROWS
    again: list[int] = []
    report = ingest_database(
        data.warehouse, books.url, mapping(key), lambda done, _size: again.append(done)
    )
    assert report.loaded == ROWS
    assert min(again) > load.counts.read - 1  # it read on, not anew
    assert sorted(row["net"] for row in data.rows("bills")) == [n / 4 for n in range(1, ROWS + 1)]
    assert caplog.records == []


def _absent(_: Mariadb) -> URL:
    return URL.create("mysql+pymysql", "reader", "secret", "no-such-host.invalid", 3306, "erp")


def _away(_: Mariadb) -> URL:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        return URL.create("mysql+pymysql", "reader", "secret", "127.0.0.1", port, "erp")


@pytest.mark.parametrize(
    "url",
    [_absent, _away, lambda server: server.url_of("reader", "secret"),
     lambda server: server.url_of("root").update_query_dict({"secret": "secret"})],
    ids=["unknown host", "server that is away", "wrong password", "unknown option"],
)  # fmt: skip
def test_a_server_that_does_not_let_us_in_is_told_without_the_address(
    books: Mariadb, url, caplog
) -> None:
    books.do("CREATE OR REPLACE USER reader IDENTIFIED BY 'right'")
    with pytest.raises(IngestError, match="cannot be reached, or does not let the user in") as no:
        open_query(url(books), Query("b", "Bill"), ["net"], {}, None)
    assert "无法连接数据库" in no.value.text.zh
    told = both(no.value)
    assert not any(word in told for word in ("secret", "reader", "no-such-host", "hejin-my"))
    assert no.value.__cause__ is None
    assert caplog.records == []


def test_a_user_who_may_not_read_the_table_is_told_so_without_its_name(books: Mariadb) -> None:
    books.do(
        "CREATE OR REPLACE USER reader IDENTIFIED BY 'secret'",
        "GRANT SELECT (id, net) ON Bill TO reader",
    )
    url = books.url_of("reader", "secret")
    assert open_query(url, Query("b", "Bill", key="id"), ["net"], {}, None).rows == ROWS
    with pytest.raises(IngestError, match="does not answer the question") as no:
        open_query(url, Query("b", "Bill", key="id"), ["net", "remark"], {}, None)
    assert not any(word in both(no.value) for word in ("secret", "reader", "hejin-my"))


def test_a_query_may_not_write(books: Mariadb) -> None:
    books.do(
        # Not undone by a rollback.
        "CREATE OR REPLACE TABLE noted (n INT) ENGINE = Aria TRANSACTIONAL = 0",
        "CREATE OR REPLACE FUNCTION note() RETURNS INT BEGIN INSERT INTO noted VALUES (1);"
        " RETURN 1; END",
    )
    with pytest.raises(IngestError, match="does not answer the question") as no:
        open_query(books.url, Query("q", query="SELECT note() AS n"), ["n"], {}, None)
    assert no.value.code == "file-refused"
    assert open_query(books.url, Query("q", "noted", key="n"), ["n"], {}, None).rows == 0


def test_a_query_is_asked_as_it_stands(books: Mariadb) -> None:
    sql = (
        "SELECT id % 3 AS r FROM Bill WHERE customer LIKE '%圳镕' AND id % 2 = 1"
        " AND day = '2025-01-31 08:30:00' AND id < 4"
    )
    source = open_query(books.url, Query("q", query=sql), ["r"], {}, None)
    (block,) = source.blocks(None, silent)
    assert sorted(block.table["r"].to_pylist()) == ["0", "1"]


def test_without_a_key_texts_that_the_server_takes_for_equal_have_an_order(
    data, books: Mariadb
) -> None:
    long = "n" * 2000
    texts = ["abc", "ABC", "äbc", "abc ", f"{long}1", f"{long}2", f"{long}3"]
    for some in (texts, texts[::-1], texts[3:] + texts[:3]):
        rows = (f"({n}, '{make_code(1)}', 1, '{one}')" for n, one in enumerate(some))
        books.do(
            "TRUNCATE Bill",
            f"INSERT INTO Bill (id, `企业`, net, remark) VALUES {', '.join(rows)}",
        )
        ingest_database(data.warehouse, books.url, mapping(""))
    assert len(data.warehouse.loads()) == 1


def test_keys_that_the_server_takes_for_equal_are_refused(data, books: Mariadb) -> None:
    books.do("UPDATE Bill SET remark = IF(id = 1, 'a', IF(id = 2, 'A', concat('b', id)))")
    with pytest.raises(IngestError, match="the key remark is not unique"):
        ingest_database(data.warehouse, books.url, mapping('key = "remark"'))
    books.do("DELETE FROM Bill WHERE id = 2")
    assert ingest_database(data.warehouse, books.url, mapping('key = "remark"')).loaded == ROWS - 1


@KEYS
def test_a_value_that_is_too_long_is_refused_where_it_is_found_and_nothing_is_kept(
    data, books: Mariadb, key: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    monkeypatch.setattr(source_sql, "_BLOCK_ROWS", 200)
    longest = "repeat('长', 21845)"  # and a byte less than 64 KB
    books.do(f"UPDATE Bill SET remark = concat({longest}, 'x') WHERE id = 1500")
    assert ingest_database(data.warehouse, books.url, mapping(key)).loaded == ROWS
    books.do(
        f"UPDATE Bill SET remark = concat({longest}, 'xy') WHERE id = 1500",
        "UPDATE Bill SET id = id + 1000000",
    )
    with pytest.raises(IngestError, match="column remark holds a value of more than 64 KB") as no:
        ingest_database(data.warehouse, books.url, mapping(key))
    assert no.value.code == "file-refused"
    assert "列 remark 有超过 64 KB 的值" in no.value.text.zh
    assert "长长" not in both(no.value)
    assert len(data.warehouse.loads()) == 1
    assert len(data.rows("bills")) == ROWS
    assert caplog.records == []


def test_what_is_refused_is_not_read_to_its_end(books: Mariadb, caplog) -> None:
    books.do("UPDATE Bill SET remark = repeat('x', 65537) WHERE id = 2")
    before = sent(books)
    source = open_query(books.url, Query("b", "Bill", key="id"), ["remark"], {}, None)
    with pytest.raises(IngestError, match="column remark"):
        list(source.blocks(None, silent))
    assert sent(books) - before < ROWS * len(REMARK.encode()) / 4
    assert caplog.records == []


@KEYS
def test_who_stops_early_does_not_wait_for_the_rest(
    books: Mariadb, key: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    monkeypatch.setattr(source_sql, "_BLOCK_ROWS", 200)
    query = Query("b", "Bill", key="id" if key else None)
    blocks = open_query(books.url, query, ["remark"], {}, None).blocks(None, silent)
    before = sent(books)
    assert next(blocks).table.num_rows == 200
    blocks.close()
    assert sent(books) - before < ROWS * len(REMARK.encode()) / 4
    assert caplog.records == []


def sent(server: Mariadb) -> int:
    """Bytes that the server has sent."""
    rows = server.ask("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")
    return int(rows[0][1])


@pytest.mark.parametrize("key", [{"key": "id"}, {}])
def test_memory_is_bounded_whatever_the_cells_hold(books: Mariadb, key: dict[str, str]) -> None:
    books.do(
        "CREATE OR REPLACE TABLE large (id INT PRIMARY KEY, note LONGTEXT)",
        "INSERT INTO large VALUES (1, 'a'), (2, repeat('x', 300000000)), (3, 'b')",
    )
    more, rows, said = read(books.url, {"name": "b", "table": "large", **key}, ["note"])
    assert (rows, said.startswith("sql:b: column note holds a value of more")) == (0, True)
    assert more < 30
    many = "SELECT seq AS id, repeat('x', 60000) AS note FROM seq_1_to_8000"
    more, rows, said = read(books.url, {"name": "b", "query": many, **key}, ["note"])
    assert (rows, said) == (8000, "")
    assert more < 450
