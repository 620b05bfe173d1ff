"""What a training run asks for and gets: planned sums, requests and noisy totals."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from hejin_models.errors import TrainingError
from hejin_models.state import State

Part = Literal["train", "holdout"]


@dataclass(frozen=True, slots=True)
class PlannedSum:
    """One sum of a plan, fixed before anything is read.

    share  the part of the plan's rho for `part` that this sum costs; the shares of the
           sums of each part add to 1 (train and hold-out compose in parallel)
    """

    statistic: str
    version: int
    part: Part
    share: Fraction


@dataclass(frozen=True, slots=True)
class SumRequest:
    """The next sum to ask for: number `index` of the planned sums, with its public state."""

    index: int
    statistic: str
    version: int
    part: Part
    state: State


@dataclass(frozen=True, slots=True)
class NoisySum:
    """The opened total of a request, divided by the integer scale S.

    values     float64[d], in units of one enterprise's contribution
    noise_std  standard deviation of the noise on each coordinate of the total, >= 0;
               0 only for the non-private reference
    """

    values: npt.NDArray[np.float64]
    noise_std: float

    def checked(self, length: int) -> npt.NDArray[np.float64]:
        """Return the values; TrainingError unless they are `length` finite numbers."""
        if self.values.shape != (length,) or not np.all(np.isfinite(self.values)):
            raise TrainingError(
                f"a total must be {length} finite numbers, it has shape {self.values.shape}",
                f"总和应为 {length} 个有限数值，实际形状为 {self.values.shape}",
            )
        return self.values
