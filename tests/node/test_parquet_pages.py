"""A Parquet column's pages: what they unpack to is what their headers say, whatever the footer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hejin_node.parquet_pages import Chunk, unpacked

MOST = 1 << 40
TEXTS = ["a" * 50, "b" * 5000, None, "镕"] * 500


def chunk_of(path: Path, column: int = 0) -> tuple[Chunk, int]:
    """Return a chunk of the first row group, and what the footer says it has, headers as well."""
    told = pq.read_metadata(path).row_group(0).column(column)
    first = told.dictionary_page_offset or told.data_page_offset
    return Chunk(first, told.total_compressed_size, told.num_values), told.total_uncompressed_size


def look(path: Path, chunk: Chunk, most: int = MOST) -> int:
    with path.open("rb") as file:
        return unpacked(file.fileno(), chunk, most)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("page", [100, 1 << 20])
def test_pages_unpack_to_what_an_honest_footer_says_but_for_their_headers(
    tmp_path: Path, version: str, dictionary: bool, compression: str, page: int
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"a": TEXTS, "b": range(len(TEXTS))}),
        path,
        data_page_version=version,
        use_dictionary=dictionary,
        compression=compression,
        data_page_size=page,
        write_batch_size=50,
        dictionary_pagesize_limit=3000,
    )
    for column in range(2):
        chunk, told = chunk_of(path, column)
        found = look(path, chunk)
        if compression == "none":
            assert 0 < told - found < 12_000
        assert 0.9 * told - 6000 < found < told


def test_looking_ends_soon_beyond_the_most(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"a": TEXTS}), path, use_dictionary=False, data_page_size=100, write_batch_size=10
    )
    chunk, told = chunk_of(path)
    assert 20_000 < look(path, chunk, 20_000) < told / 10


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=60), values=st.integers(0, 9))
def test_bytes_that_are_no_header_are_refused_or_end(
    tmp_path_factory, data: bytes, values: int
) -> None:
    path = tmp_path_factory.mktemp("pages") / "a"
    path.write_bytes(data)
    with suppress(ValueError):
        assert look(path, Chunk(0, len(data), values)) >= 0


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"\x15\x00\x15\x02", id="it has no end"),
        pytest.param(b"\x15\x00\x16\x02\x15\x02\x00", id="a size of 64 bits, which pyarrow skips"),
        pytest.param(b"\x15\x00\x15\x01\x15\x02\x00", id="a size below 0"),
        pytest.param(b"\x15\x00\x19\x15\x02", id="a list"),
        pytest.param(b"\x1c" * 20, id="structures in structures"),
        pytest.param(b"\x15" + b"\xff" * 12, id="a number without end"),
    ],
)
def test_a_header_that_pyarrow_might_read_in_another_way_is_refused(
    tmp_path: Path, header: bytes
) -> None:
    path = tmp_path / "a"
    path.write_bytes(header)
    with pytest.raises(ValueError):
        look(path, Chunk(0, len(header), 1))


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(b"\x05\x04\xd0\x0f", id="its number written out"),
        pytest.param(b"\x15\x02\x05\x04\xd0\x0f", id="the second of two counts"),
        pytest.param(b"\x15\x02\x05\x84\x80\x08\xd0\x0f", id="a number that overflows"),
    ],
)
def test_a_field_is_the_one_that_pyarrow_takes(tmp_path: Path, size: bytes) -> None:
    """Kind 0, then the size 1000 in field 2, then the packed size 0 and one value."""
    header = b"\x15\x00" + size + b"\x15\x00\x2c\x15\x02\x00\x00"
    path = tmp_path / "a"
    path.write_bytes(header)
    assert look(path, Chunk(0, len(header), 1)) == 1000
