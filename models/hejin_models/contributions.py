"""What statistics share: chunks of cells and labels, and the checks of a query's state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hejin_models.errors import StateError
from hejin_models.features import FeatureView
from hejin_models.grids import Cells
from hejin_models.state import State

Labels = npt.NDArray[np.int8]
"""int8[n], 1 = bad, 0 = good; a row with any other label contributes nothing."""

SCORE_BINS = 64

# Numbers held at once by a dense chunk or a chunk of indices: 8 MB each, and a few copies.
_CHUNK_NUMBERS = 1 << 20
# Beyond this, tables are no WOE or weights of ours; it keeps every product finite.
_LARGEST = 1e6

_Floats = npt.NDArray[np.float64]


def chunks(
    view: FeatureView, cells: Cells, labels: Labels, width: int = 0
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield chunks of (places among all cells int64[m, F], labels int64[m]).

    width  numbers that the caller makes of one row, so that a chunk's memory is bounded
    A cell number that the grid does not have counts as missing: no input may break a bound.
    """
    offsets = view.offsets
    sizes = np.diff(offsets)
    step = max(1, _CHUNK_NUMBERS // max(len(sizes), width))
    for start in range(0, len(cells), step):
        part = cells[start : start + step].astype(np.int64)
        part = np.where((part >= 0) & (part < sizes), part, sizes - 1)
        yield part + offsets[:-1], labels[start : start + step].astype(np.int64)


def check_keys(state: State, *names: str) -> None:
    """Raise StateError unless the state holds exactly the arrays `names`."""
    if set(state) != set(names):
        wanted = ", ".join(names) or "nothing"
        raise StateError(
            f"the state must hold {wanted}, it holds {', '.join(sorted(state)) or 'nothing'}",
            f"状态应包含 {wanted}，实际为 {', '.join(sorted(state)) or '空'}",
        )


def sized(state: State, name: str, length: int, largest: float = _LARGEST) -> _Floats:
    """Return the array `name`; StateError unless it is `length` numbers within +-largest."""
    values = state[name]
    if values.dtype != np.float64 or values.shape != (length,):
        raise StateError(
            f"state `{name}` must be {length} numbers, it has shape {values.shape}",
            f"状态 `{name}` 应为 {length} 个数，实际形状为 {values.shape}",
        )
    if not np.all(np.abs(values) <= largest):  # also refuses NaN
        raise StateError(
            f"state `{name}` must lie within +-{largest:g}", f"状态 `{name}` 应在 ±{largest:g} 内"
        )
    return values
