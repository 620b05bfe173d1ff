"""A user's table becomes the nodes of a consortium: read, checked, split, nothing guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from hejin_sandbox.errors import TableError
from hejin_trust.text import Text

Rows = npt.NDArray[np.int64]

#: A node is a process of up to 300 MB with its own database; more do not fit a usual machine.
MOST_NODES = 32
FEWEST_NODES = 2

#: Member ids of the consortium's other two.
BANK, REGULATOR = "bank", "regulator"

_ID_LENGTH = 40  # of the 63 characters that a member id may have


@dataclass(frozen=True, slots=True)
class Group:
    """One node's share of the table: its member id, its name and its row numbers, ascending."""

    id: str
    name: Text
    rows: Rows


def read_table(path: Path) -> pa.Table:
    """Return a Parquet or CSV file (UTF-8 or GB18030) with a header line.

    raises   TableError where the file is absent, of another kind, malformed or empty
    """
    readers: dict[str, Callable[[Path], pa.Table]] = {".parquet": pq.read_table, ".csv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise TableError(
            f"{path.name} is neither .parquet nor .csv; convert it to one of them.",
            f"{path.name} 既不是 .parquet 也不是 .csv;请先转换。",
        )
    try:
        table = reader(path)
    except FileNotFoundError as absent:
        raise TableError(
            f"there is no file {path}; check the path.", f"文件 {path} 不存在;请检查路径。"
        ) from absent
    except (pa.ArrowException, OSError, UnicodeDecodeError) as reason:
        raise TableError(
            f"{path.name} cannot be read as {path.suffix.lower()[1:]}: it is malformed;"
            " save it again and check that every line has as many fields as the header.",
            f"{path.name} 无法按 {path.suffix.lower()[1:]} 读取:格式有误;"
            "请重新保存,并确认每行字段数与表头一致。",
        ) from reason
    repeated = sorted({n for n in table.column_names if table.column_names.count(n) > 1})
    if repeated:
        raise TableError(
            f"{path.name} has the column {repeated[0]} twice; rename one.",
            f"{path.name} 中列 {repeated[0]} 重复;请改名。",
        )
    if table.num_rows == 0:
        raise TableError(f"{path.name} has no rows.", f"{path.name} 没有数据行。")
    return table


def _read_csv(path: Path) -> pa.Table:
    # pyarrow does not check: a GB18030 text would come back as bytes that are no text.
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        encoding = "gb18030"
    else:
        encoding = "utf-8"
    return pacsv.read_csv(path, read_options=pacsv.ReadOptions(encoding=encoding))


def check_columns(table: pa.Table, columns: Sequence[str]) -> None:
    """Raise TableError unless the table has all of `columns`."""
    unknown = [column for column in columns if column not in table.column_names]
    if unknown:
        there = ", ".join(table.column_names)
        raise TableError(
            f"the table has no column {', '.join(unknown)}; it has: {there}.",
            f"数据表中没有列 {'、'.join(unknown)};现有列:{there}。",
        )


def label_column(table: pa.Table, label: str) -> npt.NDArray[np.int8]:
    """Return the label of every row, 0 or 1 (1 is bad); TableError where it is anything else."""
    column = table.column(label)
    if column.null_count:
        raise TableError(
            f"{column.null_count} rows have no value in the label {label};"
            " remove them or fill them in.",
            f"标签 {label} 有 {column.null_count} 行缺失;请删除或补全。",
        )
    try:
        values = np.asarray(pc.cast(column, pa.float64()))
    except pa.ArrowException as reason:
        raise _bad_label(label) from reason
    if not np.isin(values, (0.0, 1.0)).all():
        raise _bad_label(label)
    if len(np.unique(values)) < 2:
        raise TableError(
            f"every row has the same label {label}; there is nothing to learn.",
            f"所有行的标签 {label} 相同;无可学习。",
        )
    return values.astype(np.int8)


def _bad_label(label: str) -> TableError:
    return TableError(
        f"the label {label} must be 0 or 1 in every row (1 is bad); convert it first.",
        f"标签 {label} 每行须为 0 或 1(1 为违约);请先转换。",
    )


def groups_by(table: pa.Table, column: str) -> tuple[Group, ...]:
    """Return one group per value of `column`, sorted by value.

    raises   TableError for missing values and for too few or too many groups
    """
    values = table.column(column)
    if values.null_count:
        raise TableError(
            f"{values.null_count} rows have no value in {column}; fill them in or remove them.",
            f"列 {column} 有 {values.null_count} 行缺失;请补全或删除。",
        )
    encoded = pc.dictionary_encode(pc.cast(values, pa.string()).combine_chunks())
    names: list[str] = encoded.dictionary.to_pylist()
    if not FEWEST_NODES <= len(names) <= MOST_NODES:
        raise TableError(
            f"{column} has {len(names)} different values; a sandbox takes {FEWEST_NODES} to"
            f" {MOST_NODES} nodes. Merge groups, or use --nodes N --split dirichlet.",
            f"列 {column} 有 {len(names)} 个不同取值;沙箱支持 {FEWEST_NODES} 至"
            f" {MOST_NODES} 个节点。请合并分组,或使用 --nodes N --split dirichlet。",
        )
    codes = np.asarray(encoded.indices)
    order = sorted(range(len(names)), key=names.__getitem__)
    ids = _ids([names[i] for i in order])
    return tuple(
        Group(ids[place], Text(names[i], names[i]), np.flatnonzero(codes == i).astype(np.int64))
        for place, i in enumerate(order)
    )


def dirichlet_groups(labels: npt.NDArray[np.int8], nodes: int, seed: int) -> tuple[Group, ...]:
    """Return `nodes` groups of uneven size and bad rate; the same seed, the same groups.

    The rows of each class are dealt out in proportions drawn from Dirichlet(1, ..., 1)
    (Hsu, Qi and Brown 2019, arXiv:1909.06335), drawn again until each node has a fair minimum.

    raises   TableError for too few or too many nodes, or fewer than 20 rows a node
    """
    if not FEWEST_NODES <= nodes <= MOST_NODES:
        raise TableError(
            f"a sandbox takes {FEWEST_NODES} to {MOST_NODES} nodes, not {nodes}.",
            f"沙箱支持 {FEWEST_NODES} 至 {MOST_NODES} 个节点,而非 {nodes} 个。",
        )
    rows = len(labels)
    if rows < 20 * nodes:
        raise TableError(
            f"{rows} rows are too few for {nodes} nodes; at least {20 * nodes} are needed.",
            f"{rows} 行不足以分给 {nodes} 个节点;至少需要 {20 * nodes} 行。",
        )
    rng = np.random.default_rng(seed)
    # A tenth of an even share: at 32 nodes a draw meets it about once in 30.
    fewest = rows // (10 * nodes)
    while True:
        home = np.empty(rows, dtype=np.int64)
        for kind in (0, 1):
            members = rng.permutation(np.flatnonzero(labels == kind))
            cuts = np.cumsum(rng.dirichlet(np.ones(nodes)))[:-1] * len(members)
            home[members] = np.searchsorted(np.rint(cuts), np.arange(len(members)), side="right")
        sizes = np.bincount(home, minlength=nodes)
        if sizes.min() >= fewest:
            break
    return tuple(
        Group(
            f"node-{i + 1:02d}",
            Text(f"Node {i + 1}", f"节点 {i + 1}"),
            np.flatnonzero(home == i).astype(np.int64),
        )
        for i in range(nodes)
    )


def _ids(names: Sequence[str]) -> list[str]:
    """Return a different member id for each name, readable where the name is ASCII."""
    ids: list[str] = []
    for number, name in enumerate(names, 1):
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_ID_LENGTH].strip("-")
        ascii_name = name.isascii() and slug
        wanted = slug if ascii_name else f"node-{number:02d}"
        taken = wanted in (BANK, REGULATOR, *ids)
        ids.append(f"{wanted}-{number:02d}" if taken else wanted)
    return ids
