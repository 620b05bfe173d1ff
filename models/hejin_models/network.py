"""The family `network`: a torch perceptron that a bank trains from private sums of gradients.

The one module that imports torch, and Opacus within it; the rest reaches it by `families`.
Nodes and the scoring of a trained network need neither: they compute the closed form of
`perceptron`. `opacus_gradients` is the reference that it must agree with.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hejin_models.binning import BaseRate, Counts, base_rate, bin_feature
from hejin_models.contributions import SCORE_BINS
from hejin_models.evaluation import Evaluation, evaluate
from hejin_models.features import FeatureView
from hejin_models.grids import Grid
from hejin_models.network_model import Network, NetworkInput, score_edges
from hejin_models.scorecard import points_of, rounded
from hejin_models.sums import NoisySum, PlannedSum, SumRequest

_Floats = npt.NDArray[np.float64]

# All chosen on synthetic enterprises (tests/models_world.py and the population of expected.py),
# at epsilon 0.5, 2 and without noise: one set for every data set.
HIDDEN = (16,)
STEPS = 30
_HISTOGRAM_SHARE = Fraction(1, 5)
_STEP_SHARE = (1 - _HISTOGRAM_SHARE) / STEPS
# A clip of 1 costs less noise and gives the same AUC, but cuts bads, whose gradients are long,
# more than goods: probabilities came out at half the truth. At 3 they are within a few percent.
_CLIP = 3.0
_RATE = 1.0
_MOMENTUM = 0.9
# The model is the mean of the last half of the iterates: their noise averages out.
_AVERAGED = STEPS // 2
# Where the walk begins, for everybody: a public number, no secret.
_SEED = 20261122
# An input is the distance from the mean in units of two standard deviations, cut off at +-1;
# a grid's length is 2, and no spread is taken for less than a 20th of it.
_SPREADS = 2.0
_LEAST_SPREAD = 0.1
# A category's input is its log-odds over 2, cut off at +-1.
_LARGEST_EFFECT = 2.0
# The hold-out bins reach so far to both sides of the base rate's log-odds.
_SCORE_REACH = 4.0


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """The model, and how well it separates the hold-out enterprises."""

    model: Network
    evaluation: Evaluation


def plan_sums(view: FeatureView) -> tuple[PlannedSum, ...]:
    """Return the sums that `train` will ask for, in order; they are the same for every view."""
    del view
    return (
        PlannedSum("label_histogram", 1, "train", _HISTOGRAM_SHARE),
        *(PlannedSum("network_gradient", 1, "train", _STEP_SHARE),) * STEPS,
        PlannedSum("score_histogram", 2, "holdout", Fraction(1)),
    )


def train(view: FeatureView) -> Generator[SumRequest, NoisySum, NetworkResult]:
    """Yield the requests of `plan_sums` in order, get each noisy total, return the result.

    Deterministic on one machine: the same totals give the same requests and the same model,
    so that a run can go on after a restart. A step is the noisy sum of clipped gradients over
    the number of enterprises that the noisy histogram tells, and so over a public number:
    Opacus' own, the exact size of the batch, would give away the size of the data.
    raises   TrainingError where the totals hold no model (one class only, pure noise)
    """
    total = yield SumRequest(0, "label_histogram", 1, "train", {})
    counts = _counts(view, total)
    base = base_rate(counts)
    inputs = tuple(
        NetworkInput(feature.name, feature.text, _values(feature.grid, found, base))
        for feature, found in zip(view.features, counts, strict=True)
    )
    public = {
        "values": np.concatenate([entry.values for entry in inputs]),
        "hidden": np.array(HIDDEN, dtype=np.float64),
    }
    model = build(len(inputs), HIDDEN, base.logit)
    optimiser = torch.optim.SGD(model.parameters(), lr=_RATE, momentum=_MOMENTUM)
    iterates = []
    for step in range(STEPS):
        state = {**public, "weights": flat_weights(model), "clip": np.array([_CLIP])}
        gradient = yield SumRequest(1 + step, "network_gradient", 1, "train", state)
        mean = gradient.checked(len(state["weights"])) * (_CLIP / (base.bads + base.goods))
        _set_gradient(model, mean)
        optimiser.step()
        iterates.append(flat_weights(model))
    weights = np.mean(iterates[-_AVERAGED:], axis=0)
    network = Network(
        view.id, view.digest, inputs, HIDDEN, tuple(rounded(weight) for weight in weights.tolist())
    )
    edges = score_edges(base.logit, _SCORE_REACH)
    state = {**network.state, "edges": edges}
    holdout = yield SumRequest(1 + STEPS, "score_histogram", 2, "holdout", state)
    holdout.checked(2 * SCORE_BINS)
    in_points = points_of(0.0) + (points_of(1.0) - points_of(0.0)) * edges
    return NetworkResult(network, evaluate(holdout, in_points))


def build(inputs: int, hidden: Sequence[int], log_odds: float) -> nn.Sequential:
    """Return the untrained network, float64: Xavier's weights from a public seed.

    log_odds  where its output starts, of bad
    """
    generator = torch.Generator().manual_seed(_SEED)
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise([inputs, *hidden, 1]):
        layer = nn.Linear(a, b, dtype=torch.float64)
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        parts += [layer, nn.Tanh()]
    nn.init.constant_(parts[-2].bias, log_odds)
    return nn.Sequential(*parts[:-1])


def flat_weights(model: nn.Module) -> _Floats:
    """Return a network's weights in one row, as `Perceptron.of` takes them."""
    found: _Floats = nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()
    return found


def opacus_gradients(model: nn.Module, x: _Floats, shares: _Floats, labels: _Floats) -> _Floats:
    """Return `Perceptron.gradients`, unclipped, as Opacus' GradSampleModule finds them.

    Opacus takes the first axis for the sample, so that of [enterprises, records, features] it
    sums a parameter's gradient over the records; `shares` makes that a mean. Its default, a
    loss that is a mean over the batch, would multiply by the number of enterprises in it.
    """
    # Two seconds more than torch, which only this reference needs.
    from opacus import GradSampleModule

    sampled = GradSampleModule(copy.deepcopy(model), batch_first=True, loss_reduction="sum")
    # Opacus' hooks want inputs of which a gradient is asked.
    logits = sampled(torch.from_numpy(x).requires_grad_())[..., 0]
    targets = torch.from_numpy(labels)[:, None].expand_as(logits)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    (losses * torch.from_numpy(shares)).sum().backward()
    parts = [parameter.grad_sample.flatten(1) for parameter in sampled.parameters()]
    found: _Floats = torch.cat(parts, dim=1).numpy()
    return found


def _set_gradient(model: nn.Module, gradient: _Floats) -> None:
    start = 0
    for parameter in model.parameters():
        part = gradient[start : start + parameter.numel()]
        parameter.grad = torch.from_numpy(part.copy()).reshape(parameter.shape)
        start += parameter.numel()


def _counts(view: FeatureView, total: NoisySum) -> list[Counts]:
    sides = total.checked(2 * view.total_cells).reshape(2, -1)
    goods, bads = (np.split(side, view.offsets[1:-1]) for side in sides)
    return [Counts(b, g, total.noise_std) for b, g in zip(bads, goods, strict=True)]


def _values(grid: Grid, counts: Counts, base: BaseRate) -> tuple[float, ...]:
    """Return the input that each cell stands for, within +-1; 0, the mean, where it is missing.

    The place of a cell in its public grid, or of a category its noisy log-odds; both moved and
    stretched by what the histogram says, which is released and costs nothing more.
    """
    table = np.zeros(grid.cells)
    if grid.ordered:
        places = np.linspace(-1.0, 1.0, grid.cells - 1)
        sizes = (counts.bads + counts.goods)[:-1]
        total = max(float(sizes.sum()), 1.0)
        mean = min(max(float(sizes @ places) / total, -1.0), 1.0)
        spread = math.sqrt(max(float(sizes @ (places - mean) ** 2) / total, 0.0))
        table[:-1] = (places - mean) / (_SPREADS * min(max(spread, _LEAST_SPREAD), 1.0))
    else:
        for made in bin_feature(grid, counts, base):
            for first, last in made.ranges:
                table[first : last + 1] = made.effect / _LARGEST_EFFECT
    return tuple(rounded(value) for value in np.clip(table, -1.0, 1.0).tolist())
