"""From what enterprises contribute to one bounded integer sum; the guard here is the proof."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hejin_privacy.mechanism import MAX_DELTA_SQUARED, MAX_DIMENSION, SCALE

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK = 1 << 18  # matrix elements worked on at once: a few MB of scratch, whatever n and d are
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class OneHots:
    """Counts: every enterprise adds a 1 at each of at most k distinct coordinates.

    indices    signed integers [n, k], 0..dimension-1, or -1 for "none"
    dimension  d
    raises     ValueError for another shape or dtype. What the entries hold is data and is
               never refused: an index out of range counts as none, a row that repeats an
               index meets the guard
    """

    indices: npt.NDArray[np.signedinteger]
    dimension: int

    def __post_init__(self) -> None:
        if self.indices.ndim != 2 or self.indices.dtype.kind != "i":
            raise ValueError(
                f"indices must be signed integers [n, k], got {self.indices.dtype}"
                f" {self.indices.ndim}-d"
            )


@dataclass(frozen=True, slots=True)
class Dense:
    """Real values: one row of d coordinates an enterprise.

    values   float64 [n, d]; a value that is not finite counts as 0
    raises   ValueError for another shape or dtype
    """

    values: Floats

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float64:
            raise ValueError(
                f"values must be float64 [n, d], got {self.values.dtype} {self.values.ndim}-d"
            )

    @property
    def dimension(self) -> int:
        """d, the number of coordinates."""
        return int(self.values.shape[1])


Contribution = OneHots | Dense


def quantised_sum(
    contribution: Contribution | Iterable[Contribution],
    delta_sq: int,
    scale: int,
    dimension: int,
) -> Integers:
    """Return the sum over enterprises of u_e, where sum(u_e^2) <= delta_sq for every one.

    contribution  all enterprises at once, or in chunks; no chunk at all gives zeros
    delta_sq      Delta_sq of the mechanism, 1..2^60
    scale         S, a power of two up to 2^20
    dimension     d of the mechanism
    returns       int64 [d], in steps of 1/scale, before any noise: never to be sent
    raises        ValueError for parameters out of range or a chunk of another dimension;
                  never because of what the data hold

    u_e = S count for OneHots, rint(S v_e) for Dense, then 0 wherever sum(u_e^2) > delta_sq,
    decided in exact integers (PRIVATE_SUM section 2).
    """
    if not 1 <= delta_sq <= MAX_DELTA_SQUARED:
        raise ValueError("delta_sq must lie between 1 and 2^60")
    if not 1 <= scale <= SCALE or scale & (scale - 1):
        raise ValueError("scale must be a power of two from 1 to 2^20")
    if not 1 <= dimension <= MAX_DIMENSION:
        raise ValueError(f"dimension must lie between 1 and {MAX_DIMENSION}")
    chunks = [contribution] if isinstance(contribution, OneHots | Dense) else contribution
    # No overflow: delta_sq <= 2^60 bounds every |u_j| by 2^30, so the first 2^32 enterprises
    # stay below 2^62; mechanism.check_overflow has held the declared sizes to less than that.
    total = np.zeros(dimension, dtype=np.int64)
    for chunk in chunks:
        if chunk.dimension != dimension:
            raise ValueError(f"a chunk has dimension {chunk.dimension}, expected {dimension}")
        if isinstance(chunk, OneHots):
            total += scale * _count(chunk, delta_sq // (scale * scale))
        else:
            for block in _blocks(chunk.values):
                total += _guarded(_quantised(block, scale), delta_sq).sum(axis=0)
    return total


def _blocks(matrix: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the rows of a matrix in views of about _BLOCK elements."""
    rows = max(1, _BLOCK // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], rows):
        yield matrix[start : start + rows]


def _count(chunk: OneHots, most: int) -> Integers:
    """Return int64 [d]: the rows' ones, without rows whose sum of squared counts exceeds `most`.

    S^2 x > delta_sq  <=>  x > delta_sq // S^2 for integers, so nothing is multiplied out.
    """
    counts = np.zeros(chunk.dimension, dtype=np.int64)
    for block in _blocks(chunk.indices):
        ordered = np.sort(block, axis=1).astype(np.int64, copy=False)
        valid = (ordered >= 0) & (ordered < chunk.dimension)
        # A coordinate met c times has square c^2 = 1 + 3 + ... + (2c - 1). After sorting, its
        # occurrences are neighbours: `before` counts the ones already passed. All of it is at
        # most k^2, and k fits into memory: no overflow.
        squares = np.zeros(len(ordered), dtype=np.int64)
        before = np.zeros(len(ordered), dtype=np.int64)
        for column in range(ordered.shape[1]):
            if column:
                before = np.where(ordered[:, column] == ordered[:, column - 1], before + 1, 0)
            squares += np.where(valid[:, column], 2 * before + 1, 0)
        kept = ordered[valid & (squares <= most)[:, None]]
        counts += np.bincount(kept, minlength=chunk.dimension)
    return counts


def _quantised(values: npt.NDArray[np.generic], scale: int) -> Integers:
    """Return rint(scale v) as int64; a value that is not finite gives 0.

    Clipping at 2^31 keeps scale v below 2^51, so that the product, rint and the conversion are
    exact for a scale of a power of two. It never hides a breach: isqrt(delta_sq) <= 2^30, and a
    clipped coordinate is still at least 2^31.
    """
    finite = np.where(np.isfinite(values), values, 0.0)
    limit = float(1 << 31)
    steps: Integers = np.rint(np.clip(finite, -limit, limit) * scale).astype(np.int64)
    return steps


def _guarded(steps: Integers, delta_sq: int) -> Integers:
    """Return the rows [n, d], |u_j| < 2^51, with every row of sum(u^2) > delta_sq set to 0."""
    root = math.isqrt(delta_sq)
    # A row with |u_j| > isqrt(delta_sq) breaks the bound by that coordinate alone. With those
    # gone every square is <= delta_sq <= 2^60 and cannot overflow.
    steps[(np.abs(steps) > root).any(axis=1)] = 0
    # Squares are added `width` columns at a time and cut off at delta_sq + 1 in between:
    # delta_sq + 1 + width delta_sq <= 2^63 - 1. For delta_sq = 2^40 that is 2^23 - 2 columns.
    width = (_LARGEST - delta_sq - 1) // delta_sq
    squares = np.zeros(len(steps), dtype=np.int64)
    for start in range(0, steps.shape[1], width):
        part = steps[:, start : start + width]
        squares = np.minimum(squares + np.einsum("ij,ij->i", part, part), delta_sq + 1)
    steps[squares > delta_sq] = 0
    return steps
