"""One encrypted Parquet file: its keys, how it is written durably, how it is read back."""

from __future__ import annotations

import hashlib
import hmac
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pyarrow.parquet import encryption

from hejin_models.features import ColumnType
from hejin_node.errors import SegmentError, WarehouseError

KEY_BYTES: Final = 32
BATCH: Final = 65_536
"""Rows that are handed on together."""

CHUNK: Final = 524_288
"""Rows that are sorted together: about 100 MB of invoices, of which a load holds twice that."""

_CHUNK_BYTES: Final = 256 << 20
"""Of long texts fewer rows are sorted together: so many bytes of them."""

ROW_GROUP: Final = 16_384
"""Rows that are encrypted together; of a chunk of invoices, those of about 8 buckets."""

BUCKETS: Final = 256
BUCKET: Final = "_bucket"
LOAD: Final = "_load"

Kind = Literal["data", "quarantine", "labels"]
Columns = Mapping[str, ColumnType]
Buckets = npt.NDArray[np.int64]
"""int64[256]: rows in each bucket."""

_TYPES: Final[Mapping[ColumnType, pa.DataType]] = {
    "text": pa.string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "date": pa.date32(),
}
_INTERNAL: Final = (pa.field(BUCKET, pa.int32()), pa.field(LOAD, pa.int64()))

# The node stays under 300 MB: Arrow's own allocators keep what they freed, and its pools
# would start a thread for each core.
pa.set_memory_pool(pa.system_memory_pool())
pa.set_cpu_count(2)
pa.set_io_thread_count(1)


def arrow_schema(columns: Columns) -> pa.Schema:
    """Return the Arrow schema of columns by name and type, in their order."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])


def bucket_of(code: str) -> int:
    """Return the bucket of an enterprise's rows, 0 to 255: CRC-32 of its code, last 8 bits."""
    return zlib.crc32(code.encode("utf-8")) % BUCKETS


def buckets_of(codes: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """Return int32[n]: the bucket of each row's enterprise; of a missing one that of ""."""
    coded = pa.chunked_array(codes).combine_chunks()
    if not pa.types.is_dictionary(coded.type):
        coded = coded.dictionary_encode()
    known = [bucket_of(code or "") for code in (*coded.dictionary.to_pylist(), "")]
    places = coded.indices.cast(pa.int64()).fill_null(len(known) - 1)
    found: npt.NDArray[np.int32] = np.array(known, np.int32)[places.to_numpy(zero_copy_only=False)]
    return found


class Keyring:
    """The keys of a warehouse's files, all derived from one (HKDF-SHA256, RFC 5869).

    Each file has its own key, from its random name: AES-GCM must not meet one key in many files.
    Its data set and name are authenticated with it, so that files can be neither swapped nor
    renamed. Footer and schema are encrypted too.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a warehouse key has {KEY_BYTES} bytes, got {len(key)}")
        self._key = key
        self.id = self._derive("key-id", 8).hex()

    def sealing(self, kind: Kind, dataset: str, file: str) -> encryption.FileEncryptionProperties:
        """Return what encrypts a new file."""
        return encryption.create_encryption_properties(
            self._derive(f"segment/{file}", KEY_BYTES),
            aad_prefix=_bound_to(kind, dataset, file),
            store_aad_prefix=False,
        )

    def opening(self, kind: Kind, dataset: str, file: str) -> encryption.FileDecryptionProperties:
        """Return what decrypts that file."""
        return encryption.create_decryption_properties(
            self._derive(f"segment/{file}", KEY_BYTES),
            aad_prefix=_bound_to(kind, dataset, file),
        )

    def authenticate(self, data: bytes) -> str:
        """Return the hex HMAC-SHA-256 of a backup's list: nobody else can make one."""
        return hmac.digest(self._derive("backup", KEY_BYTES), data, "sha256").hex()

    def _derive(self, purpose: str, length: int) -> bytes:
        info = f"hejin/warehouse/v1/{purpose}".encode("ascii")
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(self._key)


class SegmentReader:
    """One segment, held open: its rows stay readable when compaction removes the file.

    opening  makes what decrypts the file, anew at each call: a Parquet reader keeps its own
    lacking  columns that the data set got later: no row has a value there
    raises   FileNotFoundError where there is no such file; SegmentError as its rows are read
    """

    def __init__(
        self,
        path: Path,
        dataset: str,
        opening: Callable[[], encryption.FileDecryptionProperties],
        lacking: Columns | None = None,
    ) -> None:
        self._name, self._dataset, self._opening = path.name, dataset, opening
        self._lacking = lacking or {}
        self._handle = pa.OSFile(str(path))
        self._coded: dict[tuple[str, ...], pq.ParquetFile] = {}

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._coded.clear()
        self._handle.close()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield its rows in their order, at most BATCH at a time."""
        with self._damage():
            file = self._open(())
            yield from self._filled(file, range(file.num_row_groups), columns)

    def bucket_range(self, columns: Sequence[str], low: int, high: int) -> Iterator[pa.RecordBatch]:
        """Yield the row groups that may have rows of buckets low to high - 1, whole.

        Several threads may do so at once.
        """
        with self._damage():
            yield from self._range(self._open(()), columns, low, high)

    def coded_range(
        self, columns: Sequence[str], low: int, high: int, coded: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Yield the same with the texts of `coded` dictionary-encoded; for one thread only.

        The footer is read once however many ranges are.
        """
        with self._damage():
            key = tuple(coded)
            if key not in self._coded:
                self._coded[key] = self._open(key)
            yield from self._range(self._coded[key], columns, low, high)

    def _open(self, coded: Sequence[str]) -> pq.ParquetFile:
        here = [name for name in coded if name not in self._lacking]
        return pq.ParquetFile(
            self._handle, decryption_properties=self._opening(), read_dictionary=here
        )

    def _range(
        self, file: pq.ParquetFile, columns: Sequence[str], low: int, high: int
    ) -> Iterator[pa.RecordBatch]:
        groups = [
            i for i, (least, most) in enumerate(self._ranges(file)) if least < high and most >= low
        ]
        if groups:
            yield from self._filled(file, groups, columns)

    def _filled(
        self, file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Yield row groups with the columns that the file lacks empty."""
        here = [name for name in columns if name not in self._lacking]
        absent = arrow_schema({n: kind for n, kind in self._lacking.items() if n in columns})
        for batch in file.iter_batches(
            BATCH, row_groups=list(groups), columns=here, use_threads=False
        ):
            rows = batch
            for field in absent:
                rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
            yield rows

    def _ranges(self, file: pq.ParquetFile) -> Iterator[tuple[int, int]]:
        """Yield the least and the highest bucket of each row group."""
        place = file.schema_arrow.get_field_index(BUCKET)
        for i in range(file.num_row_groups):
            found = file.metadata.row_group(i).column(place).statistics
            yield found.min, found.max

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as reason:
            raise SegmentError(
                f"Segment {self._name} of data set {self._dataset} is damaged or was altered: "
                "put it back with `hejin node data restore`.",
                f"数据集 {self._dataset} 的分段文件 {self._name} 已损坏或被改动："
                "请执行 `hejin node data restore` 恢复。",
            ) from reason


def missing(file: str, dataset: str) -> SegmentError:
    """Return the error of a segment that is listed and not there."""
    return SegmentError(
        f"Segment {file} of data set {dataset} is missing: "
        "put it back with `hejin node data restore`.",
        f"数据集 {dataset} 的分段文件 {file} 缺失：请执行 `hejin node data restore` 恢复。",
    )


class SegmentWriter:
    """Writes one encrypted segment beside the manifest; `Loading.publish` makes it count.

    columns   without the two internal ones, of which each table brings its own
    arranged  rows are sorted by bucket, CHUNK at most at a time, so that a range of buckets can
              be read
    """

    def __init__(
        self,
        path: Path,
        columns: Columns,
        properties: encryption.FileEncryptionProperties,
        *,
        arranged: bool,
    ) -> None:
        self._path = path
        self._schema = pa.schema([*arrow_schema(columns), *_INTERNAL])
        self._arranged = arranged
        self._waiting: list[pa.Table] = []
        self._held = self._bytes = 0
        self.buckets: Buckets = np.zeros(BUCKETS, np.int64)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            compression_level=1,
            # Numbers rarely repeat: a dictionary of them costs a quarter more time and space.
            use_dictionary=[name for name, kind in columns.items() if kind in ("text", "date")]
            + [BUCKET, LOAD],
            write_statistics=[BUCKET],
            encryption_properties=properties,
        )

    @property
    def rows(self) -> int:
        """How many rows were written."""
        return int(self.buckets.sum())

    def write(self, table: pa.Table) -> None:
        """Add rows; the table's columns are the segment's, in any order."""
        if table.num_rows:
            self._waiting.append(table.select(self._schema.names).cast(self._schema))
            self._held += table.num_rows
            self._bytes += table.nbytes
            if self._held >= CHUNK or self._bytes >= _CHUNK_BYTES:
                self.flush()

    def flush(self) -> None:
        """Sort and write what waits."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        self._waiting, self._held, self._bytes = [], 0, 0
        place = table.column(BUCKET).to_numpy()
        self.buckets += np.bincount(place, minlength=BUCKETS)
        if self._arranged:
            # Stable: the rows of one enterprise stay in their order.
            order = np.argsort(place.astype(np.uint8), kind="stable")
            table = table.take(pa.array(order))
        with disk_errors():
            self._writer.write_table(table, row_group_size=ROW_GROUP)

    def finish(self) -> str:
        """Complete the file, make it durable, and return its hex SHA-256."""
        self.flush()
        self._writer.close()
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()

    def abandon(self) -> None:
        """Close and remove the file."""
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a failed write into a WarehouseError that says what to do."""
    try:
        yield
    except OSError as reason:
        said = os.strerror(reason.errno) if reason.errno else "disk error"
        raise WarehouseError(
            f"The warehouse could not be written ({said}); nothing was changed. "
            "Check the disk's free space and rights.",
            f"仓库写入失败（{said}），未作任何更改。请检查磁盘空间与权限。",
        ) from reason


def _bound_to(kind: str, dataset: str, file: str) -> bytes:
    return f"hejin/segment/v1/{kind}/{dataset}/{file}".encode()
