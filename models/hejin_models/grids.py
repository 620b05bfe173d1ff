"""Public grids: the cells into which a feature's values fall, declared before any data is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hejin_trust.text import Text

MAX_CELLS = 400

Cells = npt.NDArray[np.int32]
Column = npt.NDArray[np.generic] | Sequence[object]

_MISSING = Text("missing", "缺失")


@dataclass(frozen=True, slots=True)
class NumericGrid:
    """Half-open intervals between ascending edges, and one cell for missing values.

    Cell 0 is everything below edges[0], cell i is edges[i-1] <= value < edges[i], cell
    len(edges) is everything from the last edge up, and the last cell (len(edges) + 1)
    holds missing and non-finite values.
    """

    kind: Literal["linear", "log", "signed_log"]
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.edges or not all(math.isfinite(edge) for edge in self.edges):
            raise ValueError("a grid needs at least one finite edge")
        if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("a grid's edges must ascend")
        if self.cells > MAX_CELLS:
            raise ValueError(f"a grid may have {MAX_CELLS} cells, this one has {self.cells}")

    @property
    def cells(self) -> int:
        """The number of cells, the missing one included."""
        return len(self.edges) + 2

    @property
    def ordered(self) -> bool:
        """Whether neighbouring cells (the missing one apart) hold neighbouring values."""
        return True

    def index(self, values: npt.NDArray[np.float64]) -> Cells:
        """Return the cell of each value, int32[n]; anything not finite is missing."""
        found = np.searchsorted(np.array(self.edges), values, side="right").astype(np.int32)
        found[~np.isfinite(values)] = self.cells - 1
        return found

    def index_column(self, column: Column) -> Cells:
        """Return the cell of each entry of a table's column; what is no number is missing."""
        return self.index(_numbers(column))

    def describe(self, first: int, last: int | None = None) -> Text:
        """Return the range of values of cells first..last (inclusive) in words."""
        last = first if last is None else last
        missing = self.cells - 1
        if first == missing:
            return _MISSING
        low = "" if first == 0 else _show(self.edges[first - 1])
        high = "" if min(last, missing - 1) == missing - 1 else _show(self.edges[last])
        if not low and not high:
            return Text("any value", "任意值")
        if not low:
            return Text(f"< {high}", f"< {high}")
        if not high:
            return Text(f">= {low}", f">= {low}")
        return Text(f"{low} to < {high}", f"{low} 至 < {high}")


@dataclass(frozen=True, slots=True)
class CategoryGrid:
    """One cell per declared value, one for any other value, and a last one for missing."""

    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise ValueError("categories must be given, each once")
        if any(not value or value != value.strip() for value in self.values):
            raise ValueError("a category may not be empty or padded with spaces")
        if self.cells > MAX_CELLS:
            raise ValueError(f"a grid may have {MAX_CELLS} cells, this one has {self.cells}")

    @property
    def kind(self) -> Literal["categories"]:
        """The name of this kind of grid in a view file."""
        return "categories"

    @property
    def cells(self) -> int:
        """The number of cells, `other` and missing included."""
        return len(self.values) + 2

    @property
    def ordered(self) -> bool:
        """Categories have no order."""
        return False

    def index_text(self, values: Sequence[str | None]) -> Cells:
        """Return the cell of each string, int32[n]; spaces around it do not count."""
        return self.index_column(values)

    def index_column(self, column: Column) -> Cells:
        """Return the cell of each entry; whole numbers match their decimal digits ("1")."""
        cell_of = {value: cell for cell, value in enumerate(self.values)}
        other, missing = len(self.values), len(self.values) + 1
        texts = (_category(entry) for entry in np.asarray(column, dtype=object))
        found = (missing if text is None else cell_of.get(text, other) for text in texts)
        return np.fromiter(found, dtype=np.int32, count=len(column))

    def describe(self, first: int, last: int | None = None) -> Text:
        """Return the category of a cell (or those of cells first..last) in words."""
        last = first if last is None else last
        parts = [self._one(cell) for cell in range(first, last + 1)]
        return Text(", ".join(part.en for part in parts), "、".join(part.zh for part in parts))

    def _one(self, cell: int) -> Text:
        if cell < len(self.values):
            return Text(self.values[cell], self.values[cell])
        return Text("other", "其他") if cell == len(self.values) else _MISSING


Grid = NumericGrid | CategoryGrid


def linear(low: float, high: float, cells: int) -> NumericGrid:
    """Return `cells` equal cells from low to high, and those below, above and missing."""
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}")
    return NumericGrid("linear", _rounded(np.linspace(low, high, cells + 1)))


def log(low: float, high: float, cells: int) -> NumericGrid:
    """Return `cells` cells in equal ratios from low > 0 to high; zero falls below."""
    if not 0 < low < high:
        raise ValueError(f"a log grid needs 0 < low < high, got {low} and {high}")
    return NumericGrid("log", _rounded(np.geomspace(low, high, cells + 1)))


def signed_log(smallest: float, largest: float, cells: int) -> NumericGrid:
    """Return log cells from smallest to largest on each side and one cell around zero."""
    side = log(smallest, largest, cells).edges
    return NumericGrid("signed_log", tuple(-edge for edge in reversed(side)) + side)


def _rounded(edges: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Round to 6 significant digits: pow() may differ in its last bit between machines."""
    return tuple(float(f"{edge:.6g}") + 0.0 for edge in edges.tolist())


def _show(edge: float) -> str:
    return f"{edge:,.6g}" if abs(edge) < 1e6 else f"{edge:,.0f}"


def _numbers(column: Column) -> npt.NDArray[np.float64]:
    """Return a column as float64[n]; an entry that is no number becomes NaN."""
    try:
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([_number(entry) for entry in column], dtype=np.float64)


def _number(entry: object) -> float:
    try:
        return float(entry)  # type: ignore[arg-type]  # whatever float() takes is a number here
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _category(entry: object) -> str | None:
    """Return an entry as the text that categories are matched on; None when missing."""
    if entry is None:
        return None
    if isinstance(entry, (float, np.floating)):
        if not math.isfinite(entry):
            return None
        return str(int(entry)) if float(entry).is_integer() else repr(float(entry))
    if isinstance(entry, (bool, np.bool_)):
        return str(int(entry))
    return str(entry).strip() or None
