"""One encrypted Parquet file: its keys, how it is written durably, how it is read back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pyarrow.parquet import encryption

from hejin_models.features import ColumnType
from hejin_node.errors import SegmentError, WarehouseError

KEY_BYTES: Final = 32
ROW_GROUP: Final = 65_536
"""Rows that are encrypted, and later held in memory, together."""

Kind = Literal["data", "quarantine", "labels"]
Columns = Mapping[str, ColumnType]

_TYPES: Final[Mapping[ColumnType, pa.DataType]] = {
    "text": pa.string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "date": pa.date32(),
}

# The node stays under 300 MB: Arrow's own allocators keep what they freed, and its pools
# would start a thread for each core.
pa.set_memory_pool(pa.system_memory_pool())
pa.set_cpu_count(2)
pa.set_io_thread_count(1)


def arrow_schema(columns: Columns) -> pa.Schema:
    """Return the Arrow schema of columns by name and type, in their order."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])


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

    def _derive(self, purpose: str, length: int) -> bytes:
        info = f"hejin/warehouse/v1/{purpose}".encode("ascii")
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(self._key)


def read_segment(
    path: Path,
    dataset: str,
    properties: encryption.FileDecryptionProperties,
    columns: Sequence[str] | None,
) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows, at most ROW_GROUP at a time; SegmentError if it is not as written."""
    try:
        with pq.ParquetFile(path, decryption_properties=properties) as file:
            yield from file.iter_batches(ROW_GROUP, columns=columns, use_threads=False)
    except FileNotFoundError:
        raise SegmentError(
            f"Segment {path.name} of data set {dataset} is missing: restore the "
            "warehouse folder from its backup.",
            f"数据集 {dataset} 的分段文件 {path.name} 缺失：请从备份恢复仓库目录。",
        ) from None
    except (OSError, pa.ArrowException) as reason:
        raise SegmentError(
            f"Segment {path.name} of data set {dataset} is damaged or was altered: "
            "restore the warehouse folder from its backup.",
            f"数据集 {dataset} 的分段文件 {path.name} 已损坏或被改动：请从备份恢复仓库目录。",
        ) from reason


class SegmentWriter:
    """Writes one encrypted segment beside the manifest; `Loading.publish` makes it count."""

    def __init__(
        self, path: Path, columns: Columns, properties: encryption.FileEncryptionProperties
    ) -> None:
        self._path = path
        self._schema = arrow_schema(columns)
        self._waiting: list[pa.Table] = []
        self._held = 0
        self.rows = 0
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="zstd", encryption_properties=properties
        )

    def write(self, table: pa.Table) -> None:
        """Add rows; the table's columns are the segment's, in any order."""
        if table.num_rows:
            self._waiting.append(table.select(self._schema.names).cast(self._schema))
            self._held += table.num_rows
            if self._held >= ROW_GROUP:
                self._flush()

    def finish(self) -> str:
        """Complete the file, make it durable, and return its hex SHA-256."""
        self._flush()
        self._writer.close()
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()

    def abandon(self) -> None:
        """Close and remove the file."""
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._waiting:
            with disk_errors():
                self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=ROW_GROUP)
            self.rows += self._held
            self._waiting, self._held = [], 0


def sync_folder(folder: Path) -> None:
    """Make a folder's new names durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a failed write into a WarehouseError that says what to do."""
    try:
        yield
    except OSError as reason:
        said = os.strerror(reason.errno) if reason.errno else "disk error"
        raise WarehouseError(
            f"The warehouse could not be written ({said}); nothing was loaded. "
            "Check the disk's free space and rights.",
            f"仓库写入失败（{said}），未载入任何数据。请检查磁盘空间与权限。",
        ) from reason


def _bound_to(kind: str, dataset: str, file: str) -> bytes:
    return f"hejin/segment/v1/{kind}/{dataset}/{file}".encode()
