"""Compare segments with what was written: their bytes, and every row that they decrypt to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hejin_node.errors import SegmentError
from hejin_node.loading import SegmentFiles
from hejin_node.manifest import Segment
from hejin_node.segments import BUCKET, BUCKETS, LOAD, missing
from hejin_node.sources import Progress, Tally
from hejin_trust.text import Text


@dataclass(frozen=True, slots=True)
class Damage:
    """One segment that is not what was written, and why."""

    dataset: str
    kind: str
    file: str
    rows: int
    reason: Text


def check_all(
    files: SegmentFiles,
    parts: Sequence[Segment],
    is_listed: Callable[[str], bool],
    progress: Progress,
) -> tuple[Damage, ...]:
    """Return the damaged ones among segments.

    is_listed  tells whether a file that is missing is still the manifest's: if not, others took
               its place meanwhile
    progress   called with (bytes read, bytes in all)
    """
    sizes = [files.size(part.file) for part in parts]
    found: list[Damage] = []
    told = Tally(progress, sum(sizes))
    for part, size in zip(parts, sizes, strict=True):
        try:
            check_segment(files, part)
        except SegmentError as reason:
            if files.path(part.file).exists() or is_listed(part.file):
                found.append(Damage(part.dataset, part.kind, part.file, part.rows, reason.text))
        told(size)
    return tuple(found)


def check_segment(files: SegmentFiles, part: Segment) -> None:
    """Raise SegmentError unless a segment is what was written."""
    if not is_as_written(files.path(part.file), part.sha256):
        if not files.path(part.file).exists():
            raise missing(part.file, part.dataset)
        raise _not_as_listed(part)
    buckets = np.zeros(BUCKETS, np.int64)
    try:
        with files.open(part) as reader:
            for batch in reader.batches([*part.columns, BUCKET, LOAD]):
                buckets += np.bincount(batch.column(BUCKET).to_numpy(), minlength=BUCKETS)
    except FileNotFoundError:
        raise missing(part.file, part.dataset) from None
    if not np.array_equal(buckets, part.buckets) or int(buckets.sum()) != part.rows:
        raise _not_as_listed(part)


def is_as_written(path: Path, sha256: str) -> bool:
    """Tell whether a file is there and has this hex SHA-256."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _not_as_listed(part: Segment) -> SegmentError:
    return SegmentError(
        f"Segment {part.file} of data set {part.dataset} is not the one that was written: "
        "put it back with `hejin node data restore`.",
        f"数据集 {part.dataset} 的分段文件 {part.file} 与写入时不符："
        "请执行 `hejin node data restore` 恢复。",
    )
