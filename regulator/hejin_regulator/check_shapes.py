"""V8: a sum's shape and bound are those that the plan's feature view gives the statistic."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from hejin_models.errors import UnknownStatisticError
from hejin_models.features import FeatureView
from hejin_models.network_statistics import MAX_WEIGHTS
from hejin_models.statistics import State, Statistic, statistic
from hejin_privacy.mechanism import Mechanism, delta_squared
from hejin_trust.text import Text

_STATELESS: State = {}


def shape_fault(mechanism: Mechanism, view: FeatureView | None) -> Text | None:
    """Return why a mechanism is not one of its statistic over a view, or None.

    view  None where it is missing, a finding by itself: then only the sensitivity is looked at

    An export holds no query's public state. It decides nothing about the bound of a statistic but
    `label_histogram`, which may be over some of the features: their number must fit the dimension.
    """
    try:
        entry = statistic(mechanism.statistic, mechanism.version)
    except UnknownStatisticError as reason:
        return reason.text
    least = delta_squared(mechanism.bound_squared, mechanism.nonzeros, entry.counts)
    if mechanism.delta_squared < least:
        return Text("the sensitivity is below that of the statistic", "敏感度低于该统计量应有的值")
    if view is not None and not _fits(entry, mechanism, view):
        return Text(
            "the bound or the dimension is not that which the catalogue gives the statistic over "
            "the plan's feature view",
            "所列的界或维数不是统计目录为该统计量在计划特征视图上规定的值",
        )
    return None


def _fits(entry: Statistic, mechanism: Mechanism, view: FeatureView) -> bool:
    features, cells, dimension = len(view.features), view.total_cells, mechanism.dimension
    if entry.name == "label_histogram":
        chosen = mechanism.nonzeros
        sizes = tuple(feature.grid.cells for feature in view.features)
        return (
            mechanism.bound_squared == chosen
            and dimension % 2 == 0
            and 1 <= chosen <= features
            and bool(_totals(sizes)[chosen] >> (dimension // 2) & 1)
        )
    if entry.name == "bin_counts":
        told = (mechanism.bound_squared, mechanism.nonzeros)
        return told == (Fraction(features), features) and features <= dimension <= cells
    if entry.name == "network_gradient":
        # One number for each input, and one more: the smallest network there is.
        told = (mechanism.bound_squared, mechanism.nonzeros)
        return told == (Fraction(1), dimension) and features + 3 <= dimension <= MAX_WEIGHTS
    return (mechanism.bound_squared, mechanism.nonzeros, dimension) == (
        entry.bound_squared(view, _STATELESS),
        entry.nonzeros(view, _STATELESS),
        entry.dimension(view, _STATELESS),
    )


@lru_cache(maxsize=64)
def _totals(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return, for each k, the sums that some k of the sizes have: as the ones of a number."""
    found = [1, *(0 for _ in sizes)]
    for number, size in enumerate(sizes, start=1):
        for chosen in range(number, 0, -1):
            found[chosen] |= found[chosen - 1] << size
    return tuple(found)
