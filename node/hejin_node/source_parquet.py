"""Rows of a Parquet file, in its own types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import IO, Final, NoReturn

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hejin_node.parquet_pages import Chunk, unpacked
from hejin_node.sources import (
    BLOCK_ROWS,
    Block,
    Layout,
    Place,
    Progress,
    check_header,
    refuse,
    rows_before,
)

MAGIC: Final = b"PAR1"
#: Bytes. A text of 1 MB that a page of a few bytes names for each row of a block takes 64 GB.
_MOST_TEXTS: Final = 256 << 20
#: Of a block: several are in memory at a time.
_BLOCK_TEXTS: Final = 16 << 20
_MOST_GROUP: Final = 1 << 30
#: Where the pages of the columns at given places are, and how many values these have.
_CHUNKS: Final = """
    SELECT row_group_id, data_page_offset, coalesce(dictionary_page_offset, 0),
        total_compressed_size, num_values
    FROM parquet_metadata(?) WHERE list_contains(?, column_id) ORDER BY row_group_id
"""
_NO_EXTENSIONS: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def read(
    name: str,
    file: IO[bytes],
    columns: Sequence[str],
    _layout: Layout,
    place: Place | None,
    progress: Progress,
) -> Iterator[Block]:
    """Yield blocks; a row group that was read in part is opened again and skipped through."""
    size = file.seek(0, 2)
    try:
        with pq.ParquetFile(file) as looked:
            schema, meta = looked.schema_arrow, looked.metadata
        check_header(name, schema.names, columns)
        _check_columns(name, schema, columns)
        _check_groups(name, file, meta, columns)
        # Each text once, whatever the rows: what they take together is known before they take it.
        texts = [one for one in columns if _is_text(schema.field(one).type)]
        with pq.ParquetFile(file, metadata=meta, read_dictionary=texts) as parquet:
            done = rows_before(place)
            ends = list(accumulate(meta.row_group(i).num_rows for i in range(meta.num_row_groups)))
            groups = [i for i, end in enumerate(ends) if end > done]
            if not groups:
                return
            seen = ends[groups[0] - 1] if groups[0] else 0
            for batch in parquet.iter_batches(
                BLOCK_ROWS, row_groups=groups, columns=list(columns), use_threads=False
            ):
                # Texts may be no UTF-8, and lists end where they should not.
                batch.validate(full=True)
                fresh = batch.slice(max(done - seen, 0))
                seen += batch.num_rows
                for part in _decoded(name, pa.Table.from_batches([fresh])):
                    done += part.num_rows
                    progress(size * done // ends[-1], size)
                    yield Block(part, {"rows": done})
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        _damaged(name)


def _check_columns(name: str, schema: pa.Schema, columns: Sequence[str]) -> None:
    """Refuse columns whose size is not known before they are unpacked."""
    odd = next((one for one in columns if not _is_plain(schema.field(one).type)), None)
    if odd is not None:
        refuse(
            name,
            f"column {odd} is of type {schema.field(odd).type}; export it as texts or numbers.",
            f"列 {odd} 的类型为 {schema.field(odd).type}，请导出为文本或数值。",
        )


def _check_groups(
    name: str, file: IO[bytes], meta: pq.FileMetaData, columns: Sequence[str]
) -> None:
    """Refuse a file with a row group that takes too much, in the columns that are read.

    DuckDB looks: pyarrow ends the process over a column of a row group that has no description.
    """
    if any(meta.row_group(i).num_rows < 0 for i in range(meta.num_row_groups)):
        _damaged(name)
    # By place, as they are read: the name that a column bears in a row group may be any.
    places = [i for i in range(meta.num_columns) if meta.schema.column(i).path in columns]
    try:
        with duckdb.connect(config=_NO_EXTENSIONS) as connection:
            found = connection.execute(_CHUNKS, [f"/dev/fd/{file.fileno()}", places]).fetchall()
    except duckdb.Error:
        _damaged(name)
    groups = {number: list(told) for number, told in groupby(found, key=itemgetter(0))}
    if len(groups) != meta.num_row_groups:
        _damaged(name)
    for told in groups.values():
        chunks = [_chunk(*of_column) for _, *of_column in told]
        if len(chunks) != len(places) or any(one.start < 0 or one.length < 0 for one in chunks):
            _damaged(name)
        try:
            total = sum(unpacked(file.fileno(), one, _MOST_GROUP) for one in chunks)
        except ValueError:
            _damaged(name)
        if total > _MOST_GROUP:
            _bomb(name)


def _chunk(data: int, dictionary: int, length: int, values: int) -> Chunk:
    """Return where pyarrow begins: with the dictionary, if it comes first."""
    return Chunk(dictionary if 0 < dictionary < data else data, length, values)


def _decoded(name: str, rows: pa.Table) -> Iterator[pa.Table]:
    """Yield rows with plain texts in place of dictionaries, in parts; refuse what is too long."""
    coded = [
        i
        for i, field in enumerate(rows.schema)
        if pa.types.is_dictionary(field.type) and _is_text(field.type.value_type)
    ]
    size = sum(_bytes(rows.column(i)) for i in coded)
    if size > _MOST_TEXTS:
        _bomb(name)
    most = max(rows.num_rows * _BLOCK_TEXTS // max(size, _BLOCK_TEXTS), 1)
    for at in range(0, rows.num_rows, most):
        part = rows.slice(at, most)
        for i in coded:
            plain = part.column(i).cast(rows.schema.field(i).type.value_type)
            part = part.set_column(i, part.column_names[i], plain)
        yield part


def _bytes(column: pa.ChunkedArray) -> int:
    """Return how many bytes a column of dictionary-encoded texts has once it is decoded."""
    return sum(
        pc.sum(pc.binary_length(chunk.dictionary).cast(pa.int64()).take(chunk.indices)).as_py() or 0
        for chunk in column.chunks
    )


def _is_plain(kind: pa.DataType) -> bool:
    return not (
        pa.types.is_nested(kind) or pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _damaged(name: str) -> NoReturn:
    refuse(
        name,
        "the Parquet file is damaged or encrypted; export it again.",
        "Parquet 文件已损坏或被加密，请重新导出。",
    )


def _bomb(name: str) -> NoReturn:
    refuse(
        name,
        "the Parquet file unpacks to more than a node reads (1 GB a row group, 256 MB of texts in "
        "65,536 rows); write smaller row groups and shorter texts.",
        "Parquet 文件解压后超出节点可读范围（每行组 1 GB，每 65,536 行文本 256 MB），"
        "请使用更小的行组与更短的文本。",
    )
