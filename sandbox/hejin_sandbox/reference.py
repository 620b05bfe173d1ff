"""What only a sandbox can know: the truth on the hold-out, and models without privacy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hejin_models.errors import TrainingError
from hejin_models.evaluation import exact_auc, exact_ks
from hejin_models.features import FeatureView
from hejin_models.grids import Cells
from hejin_models.scorecard import Scorecard
from hejin_models.statistics import statistic
from hejin_models.sums import NoisySum, SumRequest
from hejin_models.training import TrainingResult, train
from hejin_node.duck import Rewindable, locked_down, select
from hejin_privacy.contribution import quantised_sum
from hejin_privacy.holdout import in_holdout
from hejin_privacy.mechanism import SCALE, delta_squared
from hejin_sandbox.errors import RunError
from hejin_sandbox.inputs import NodeData, only_dataset

_MEMORY_MB = 2048  # the sandbox sees all nodes' rows; a node allows its queries far less


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Enterprises as a model sees them: cells int32[n, F], labels int8[n], hold-out bool[n]."""

    cells: Cells
    labels: npt.NDArray[np.int8]
    holdout: npt.NDArray[np.bool_]

    def part(self, *, holdout: bool) -> tuple[Cells, npt.NDArray[np.int8]]:
        """Return the cells and labels of the hold-out part or of the training part."""
        chosen = self.holdout if holdout else ~self.holdout
        return self.cells[chosen], self.labels[chosen]


def rows_of(
    view: FeatureView, node: NodeData, as_of: dt.date | None, key: bytes, share: Fraction
) -> Rows:
    """Return the rows that this node's snapshot has, computed here a second time.

    key, share   split key and hold-out share of the plan
    """
    given: dict[str, object] = {} if as_of is None else {"as_of": as_of}
    source = Rewindable(node.records.schema, lambda: iter(node.records.to_batches()))
    with locked_down(_MEMORY_MB) as connection:
        found = select(connection, view.source, {only_dataset(view).name: source}, given)
    codes: list[str] = found.column("enterprise").to_pylist()
    label_of = dict(zip(node.codes, node.labels.tolist(), strict=True))
    return Rows(
        view.cells({f.name: _column(found.column(f.name)) for f in view.features}),
        np.array([label_of[code] for code in codes], dtype=np.int8),
        in_holdout(codes, key, share),
    )


def together(nodes: Sequence[Rows]) -> Rows:
    """Return the rows of all nodes as one."""
    return Rows(
        np.concatenate([rows.cells for rows in nodes]),
        np.concatenate([rows.labels for rows in nodes]),
        np.concatenate([rows.holdout for rows in nodes]),
    )


def exact_sum(view: FeatureView, request: SumRequest, rows: Rows) -> NoisySum:
    """Answer a training run's request from `rows`, as nodes do, but without noise."""
    entry = statistic(request.statistic, request.version)
    entry.check_state(view, request.state)
    cells, labels = rows.part(holdout=request.part == "holdout")
    bound = delta_squared(
        entry.bound_squared(view, request.state),
        entry.nonzeros(view, request.state),
        entry.counts,
    )
    total = quantised_sum(
        entry.contribute(view, cells, labels, request.state),
        bound,
        SCALE,
        entry.dimension(view, request.state),
    )
    return NoisySum(total / SCALE, 0.0)


def scorecard_without_noise(view: FeatureView, rows: Rows) -> Scorecard:
    """Train by the same code as the bank, from exact sums over `rows`.

    raises   TrainingError where they hold no model, such as a single class
    """
    training = train(view)
    request = next(training)
    while True:
        try:
            request = training.send(exact_sum(view, request, rows))
        except StopIteration as done:
            result: TrainingResult = done.value
            return result.scorecard


@dataclass(frozen=True, slots=True)
class Truth:
    """How models do on the same hold-out enterprises of all nodes, by their true labels.

    alone_auc_mean   mean over the nodes whose own data make a model; None if none does
    """

    test_auc: float
    test_ks: float
    pooled_auc: float
    alone_auc_mean: float | None


def compare(view: FeatureView, private: Scorecard, nodes: Sequence[Rows]) -> Truth:
    """Compare the private scorecard with the models that there would be without privacy.

    raises   RunError unless the hold-out has both classes
    """
    everything = together(nodes)
    cells, labels = everything.part(holdout=True)
    if len(np.unique(labels)) < 2:
        raise RunError(
            f"the {len(labels)} hold-out enterprises are all of one class; use more data.",
            f"{len(labels)} 家留出企业均属同一类;请使用更多数据。",
        )

    def auc(scorecard: Scorecard) -> float:
        return exact_auc(scorecard.points(cells), labels)

    alone = []
    for rows in nodes:
        with suppress(TrainingError):
            alone.append(auc(scorecard_without_noise(view, rows)))
    return Truth(
        test_auc=auc(private),
        test_ks=exact_ks(private.points(cells), labels),
        pooled_auc=auc(scorecard_without_noise(view, everything)),
        alone_auc_mean=fmean(alone) if alone else None,
    )


def _column(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers: npt.NDArray[np.float64] = pc.cast(column, pa.float64(), safe=False).to_numpy()
        return numbers
    texts: npt.NDArray[np.generic] = column.to_numpy(zero_copy_only=False)
    return texts
