"""Whatever a mapping or a source file holds: it is read or refused in one sentence, no traceback.

HEJIN_FUZZ_SECONDS=600 makes each test go on that long and print how much it tried.
"""

from __future__ import annotations

import io
import os
import random
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from hejin_models.schemas import shipped_schemas
from hejin_models.uscc import make_code
from hejin_node import source_csv
from hejin_node.errors import IngestError, MappingError
from hejin_node.ingest import ingest
from hejin_node.mapping import SourceMapping, shipped_mappings

SECONDS = float(os.environ.get("HEJIN_FUZZ_SECONDS", "0"))
pytestmark = pytest.mark.timeout(max(300, 3 * SECONDS + 300))

#: Until the time is up where one is set; otherwise a few.
FUZZ = settings(
    max_examples=200 if SECONDS else 40,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
FIELDS = sorted(
    {"dataset", "encoding", "delimiter", "sheet", "missing", "absent", "unique", "enterprise",
     "columns", "sql", "source", "type", "required", "minimum", "maximum", "allowed", "translate",
     "strip", "formats", "constant", "column", "check", "table", "query", "name", "key",
     *shipped_schemas(), *shipped_schemas()["invoices"].columns}
)  # fmt: skip
WORDS = [*FIELDS, "text", "number", "integer", "date", "utf-8", "gb18030", "uscc", "%Y", "%", "'",
         "", " ", "\0", "\\", '"', "'; DROP TABLE source; --", "企业", "𠮷", "\ud7ff", "e", "a",
         "2025-01-31", "NULL", "nan", "1e999", "_", "{}"]  # fmt: skip
CODES = [make_code(n) for n in range(3)]
CELLS = [*CODES, "", " ", "NULL", "1", "-1.5", "1e308", "1e999", "nan", "-inf", "1_0", "0x1F",
         "9" * 400, "2025-01-31", "2025/02/30", "0000-00-00", "9999-12-31", "有效", "作废", "\0",
         "'", '"', '""', ",", ";", "\t", "\r", "\n", "\r\n", "\u3000", "\ufeff", "𠮷", "a" * 300,
         "true", "=1+1", "#N/A"]  # fmt: skip
RULES = b"""
dataset = "bills"
missing = ["", "NULL"]
encoding = "%s"
unique = %s
[enterprise]
column = "e"
[columns.n]
type = "number"
[columns.i]
type = "integer"
minimum = 0
[columns.d]
type = "date"
formats = ["%%Y-%%m-%%d", "%%Y/%%m/%%d"]
[columns.t]
type = "text"
translate = { "\xe6\x9c\x89\xe6\x95\x88" = "valid" }
[columns.s]
type = "text"
strip = false
"""
HEADER = ["e", "n", "i", "d", "t", "s"]
MAPPINGS = [
    SourceMapping.parse(RULES % (encoding, unique))
    for encoding in (b"utf-8", b"gb18030")
    for unique in (b"false", b"true")
]


def until_time_is_up(tries: Callable[[], None], told: Counter[str], name: str) -> None:
    end = time.monotonic() + SECONDS
    while True:
        tries()
        if time.monotonic() >= end:
            break
    if SECONDS:
        with Path(os.environ.get("HEJIN_FUZZ_LOG", os.devnull)).open("a") as file:
            file.write(f"{name}: {told.total()} tried, {dict(told)}\n")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Bytes with some flipped, cut out, doubled, or replaced by something suspicious."""
    out = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 6])):
        at = chance.randrange(len(out) + 1)
        length = chance.choice([0, 1, 1, 2, 8, 100])
        match chance.randrange(5):
            case 0:
                out[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del out[at : at + length]
            case 2:
                out[at:at] = out[at : at + length]
            case 3:
                out[at:at] = chance.choice([*WORDS, *CELLS]).encode("utf-8", "ignore")
            case _:
                out[at : at + length] = chance.randbytes(length)
    return bytes(out)


def toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return (
            '"'
            + "".join(
                c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in value
            )
            + '"'
        )
    return repr(value)


def test_any_mapping_file_is_a_mapping_or_refused_by_its_field() -> None:
    told: Counter[str] = Counter()
    scalars = st.one_of(
        st.sampled_from(WORDS), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)
    )
    values = st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=5)), inner,
                            max_size=5),
        ),
        max_leaves=12,
    )  # fmt: skip
    structured = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8).map(
        lambda table: "\n".join(f"{toml(k)} = {toml(v)}" for k, v in table.items()).encode()
    )
    shipped = st.tuples(
        st.sampled_from([*shipped_mappings().values(), RULES]), st.randoms(use_true_random=False)
    ).map(lambda pair: mutated(*pair))

    @FUZZ
    @given(st.one_of(shipped, structured, st.binary(max_size=60)))
    def tries(data: bytes) -> None:
        try:
            mapping = SourceMapping.parse(data)
        except MappingError:
            told["refused"] += 1
        else:
            told["read"] += 1
            assert mapping.schema
            assert mapping.sources

    until_time_is_up(tries, told, "mappings")


def tried(data, path: Path, mapping: SourceMapping, told: Counter[str]) -> None:
    """Ingest: all rows are accounted for, or one sentence and nothing is there."""
    before = len(data.warehouse.loads())
    rows = data.warehouse.rows("data", "bills")
    try:
        report = ingest(data.warehouse, path, mapping)
    except IngestError:
        told["refused"] += 1
        assert len(data.warehouse.loads()) == before
        assert data.warehouse.rows("data", "bills") == rows
    else:
        told["already" if report.already else "loaded"] += 1
        assert data.warehouse.rows("data", "bills") == rows + report.loaded
        load = data.warehouse.loads()[-1]
        if not report.already:
            assert load.counts.read == report.loaded + sum(report.quarantined.values())


def test_any_csv_file_is_loaded_or_refused_whole(data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_csv, "_BLOCK", 4096)
    told: Counter[str] = Counter()
    sound = [cell for cell in CELLS if not set(cell) & set('\r\n\0",')]
    cells = st.lists(st.sampled_from(sound), min_size=6, max_size=6).map(",".join)
    odd = st.one_of(
        st.lists(st.sampled_from(CELLS), min_size=4, max_size=7).map(",".join),
        st.text(st.characters(exclude_characters="\0"), max_size=30),
    )
    # Each is new also where an enterprise may have one row.
    good = st.integers(0, 10**7).map(lambda n: f"{make_code(n)},1.5,2,2025-01-31,有效,x")

    @FUZZ
    @given(
        lines=st.one_of(
            st.lists(st.one_of(good, cells), min_size=1, max_size=30),
            st.lists(st.one_of(good, cells, odd), max_size=30),
        ),
        newline=st.sampled_from(["\n", "\r\n", "\r"]),
        encoding=st.sampled_from([None] * 9 + ["utf-8", "utf-8-sig", "gb18030", "utf-16"]),
        mapping=st.sampled_from(MAPPINGS),
        chance=st.randoms(use_true_random=False),
        bent=st.integers(0, 3).map(lambda number: number == 0),
        header=st.sampled_from([",".join(HEADER)] * 30 + ["", "e,n", "e,e,n,i,d,t,s", '"e']),
    )
    def tries(lines, newline, encoding, mapping, chance, bent, header) -> None:
        text = newline.join([header, *lines]).encode(encoding or mapping.encoding, "replace")
        path = data.file("in.csv", mutated(text, chance) if bent else text)
        tried(data, path, mapping, told)

    until_time_is_up(tries, told, "csv")


def test_any_parquet_file_is_loaded_or_refused_whole(data) -> None:
    told: Counter[str] = Counter()
    base = io.BytesIO()
    pq.write_table(
        pa.table({name: [*CODES, None, "x"] if name == "e" else ["1", "", None, "2025-01-31", "有"]
                  for name in HEADER}),
        base,
    )  # fmt: skip
    kinds = st.sampled_from(
        [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_(), pa.string(),
         pa.large_string(), pa.date32(), pa.timestamp("ns"), pa.timestamp("us", "UTC"),
         pa.decimal128(20, 3), pa.null(), pa.binary(), pa.list_(pa.int8()), pa.time64("us"),
         pa.duration("s"), pa.dictionary(pa.int8(), pa.string())]
    )  # fmt: skip

    @st.composite
    def tables(draw: st.DrawFn) -> bytes:
        codes = draw(st.lists(st.sampled_from([*CODES, "", None, "x"]), max_size=8))
        columns: dict[str, object] = {"e": pa.array(codes, pa.string())}
        for name in HEADER[1:]:
            kind = draw(kinds)
            columns[name] = (
                pa.array([draw(st.sampled_from(CELLS)) for _ in codes], kind)
                if pa.types.is_string(kind) or pa.types.is_large_string(kind)
                else pa.nulls(len(codes), kind)
            )
        file = io.BytesIO()
        pq.write_table(pa.table(columns), file)
        return file.getvalue()

    bent = st.randoms(use_true_random=False).map(lambda chance: mutated(base.getvalue(), chance))

    @FUZZ
    @given(st.one_of(tables(), bent), st.sampled_from(MAPPINGS))
    def tries(content: bytes, mapping: SourceMapping) -> None:
        tried(data, data.file("in.parquet", content), mapping, told)

    until_time_is_up(tries, told, "parquet")


def test_any_workbook_is_loaded_or_refused_whole(data) -> None:
    told: Counter[str] = Counter()
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (HEADER, [CODES[0], 1.5, 2, "2025-01-31", "有效", "x"], [CODES[1], None, "a"]):
        sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    whole = file.getvalue()
    with zipfile.ZipFile(file) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}

    def bent(chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return mutated(whole, chance)
        # Inside a sound archive the parts themselves are bent.
        name = chance.choice(list(parts))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for one, content in parts.items():
                archive.writestr(one, mutated(content, chance) if one == name else content)
        return out.getvalue()

    @FUZZ
    @given(st.randoms(use_true_random=False).map(bent), st.sampled_from(MAPPINGS))
    def tries(content: bytes, mapping: SourceMapping) -> None:
        tried(data, data.file("in.xlsx", content), mapping, told)

    until_time_is_up(tries, told, "excel")
