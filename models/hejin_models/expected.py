"""What a plan's noise will do to its model, simulated before anything is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hejin_models.errors import NoiseError, TrainingError
from hejin_models.evaluation import exact_auc
from hejin_models.families import FamilyResult, family
from hejin_models.features import FeatureView
from hejin_models.grids import Cells
from hejin_models.plan import Plan
from hejin_models.pricing import mechanism_for
from hejin_models.statistics import Labels, statistic
from hejin_models.sums import NoisySum, SumRequest
from hejin_privacy.contribution import quantised_sum
from hejin_privacy.mechanism import SCALE, delta_squared

_Floats = npt.NDArray[np.float64]

BAD_RATE = 0.15
"""Share of bads in the synthetic population."""

# Larger populations are simulated at this size, with noise scaled down in proportion.
_SIMULATED = 12_000
_REPLICATES = 3
_MISSING = 0.03
# Standard deviation of the true log-odds: gives an AUC of about .8, as credit data do.
_LOGIT_SPREAD = 1.7
# Each further feature carries that much of the one before.
_DECAY = 0.85
# How much of its rank a feature shares with all others.
_COMMON = 0.4


@dataclass(frozen=True, slots=True)
class Outlook:
    """What to expect from a plan, by simulation on a synthetic population of the declared size.

    auc            of the model without noise, 0..1
    auc_loss       AUC that the noise takes from it, >= 0
    holdout_error  standard error that noise adds to the hold-out AUC
    reportable     whether the hold-out AUC will stand out of its noise far enough to be quoted
    """

    auc: float
    auc_loss: float
    holdout_error: float
    reportable: bool


def expected_loss(view: FeatureView, plan: Plan, enterprises: int, r: int) -> Outlook:
    """Return what the plan's noise should do; takes a few seconds and reads no data.

    enterprises  sum of the nodes' declared sizes
    r            charter's most nodes an enterprise may be in
    raises       NoiseError where the noise takes half of what the model could tell;
                 MissingExtraError where the plan's family cannot be trained here
    """
    if enterprises < 1:
        raise NoiseError(
            "the nodes declare no enterprises: ask them for their size bands",
            "各节点未申报企业数：请向其索取规模区间",
        )
    size = min(enterprises, _SIMULATED)
    # A fixed seed: the outlook of a plan is the same whoever computes it.
    random = np.random.default_rng(20260101)
    population = _Population.draw(view, max(size, 200), random)
    clean = _simulate(view, plan, population, random, size, r, noise=0.0)
    noisy = [
        _simulate(view, plan, population, random, size, r, noise=size / enterprises)
        for _ in range(_REPLICATES)
    ]
    trained = [run for run in noisy if run is not None]
    if clean is None or len(trained) < len(noisy):
        raise _refusal(plan, enterprises, "the bads do not stand out of it", "违约企业无法从中辨识")
    auc, with_noise = clean.auc, float(np.mean([run.auc for run in trained]))
    if with_noise - 0.5 < 0.5 * (auc - 0.5):
        raise _refusal(
            plan,
            enterprises,
            f"on synthetic data the AUC falls from {auc:.3f} to {with_noise:.3f}",
            f"在合成数据上 AUC 由 {auc:.3f} 降至 {with_noise:.3f}",
        )
    evaluations = [run.result.evaluation for run in trained]
    return Outlook(
        auc=auc,
        auc_loss=max(auc - with_noise, 0.0),
        holdout_error=float(np.mean([found.auc.noise_error for found in evaluations])),
        reportable=all(found.reportable for found in evaluations),
    )


def _refusal(plan: Plan, enterprises: int, en: str, zh: str) -> NoiseError:
    return NoiseError(
        f"the plan's noise exceeds its signal: {len(plan.nodes)} nodes, {enterprises} enterprises,"
        f" rho={float(plan.rho_once):.4f}; {en}. Plan a larger epsilon or more enterprises a node",
        f"计划的噪声超过信号：{len(plan.nodes)} 个节点、{enterprises} 家企业、"
        f"rho={float(plan.rho_once):.4f}；{zh}。请提高 epsilon 或增加每个节点的企业数",
    )


@dataclass(frozen=True, slots=True)
class _Run:
    result: FamilyResult
    auc: float


@dataclass(frozen=True, slots=True)
class _Population:
    """Synthetic enterprises; the hold-out is as large as the training part, for a steady AUC."""

    cells: Cells
    labels: Labels
    fresh_cells: Cells
    fresh_labels: Labels

    @classmethod
    def draw(cls, view: FeatureView, size: int, random: np.random.Generator) -> _Population:
        # Half of the rows train; the other half is only scored.
        cells, logit = _draw(view, 2 * size, random)
        logit += _intercept(logit)
        labels = (random.random(2 * size) < 1.0 / (1.0 + np.exp(-logit))).astype(np.int8)
        return cls(cells[:size], labels[:size], cells[size:], labels[size:])


def _draw(view: FeatureView, n: int, random: np.random.Generator) -> tuple[Cells, _Floats]:
    common = random.standard_normal(n)
    columns, total = [], np.zeros(n)
    for place, feature in enumerate(view.features):
        own = random.standard_normal(n)
        standing = math.sqrt(_COMMON) * common + math.sqrt(1.0 - _COMMON) * own
        inner = feature.grid.cells - 1
        # Most values lie in the middle half of a generous public range.
        cell = np.clip(inner * (0.5 + standing / 8.0), 0, inner - 1).astype(np.int32)
        # Every third feature is worst in the middle, the others are monotone.
        effect = 1.0 - standing**2 if place % 3 == 2 else standing
        total += _DECAY**place * effect
        cell[random.random(n) < _MISSING] = inner
        columns.append(cell)
    return np.stack(columns, axis=1), _LOGIT_SPREAD * total / float(total.std())


def _intercept(logit: _Floats) -> float:
    """Return the shift of the log-odds that gives BAD_RATE, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        if float(np.mean(1.0 / (1.0 + np.exp(-logit - middle)))) < BAD_RATE:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _simulate(
    view: FeatureView,
    plan: Plan,
    population: _Population,
    random: np.random.Generator,
    size: int,
    r: int,
    noise: float,
) -> _Run | None:
    """Return a training run on the population, or None where the noise leaves no model."""
    training = family(plan.family).train(view)
    request = next(training)
    cut = round(size * (1.0 - float(plan.holdout)))
    try:
        while True:
            rows = slice(0, cut) if request.part == "train" else slice(cut, size)
            request = training.send(
                _answer(
                    view,
                    plan,
                    request,
                    population.cells[rows],
                    population.labels[rows],
                    r,
                    noise,
                    random,
                )
            )
    except StopIteration as done:
        result: FamilyResult = done.value
        scores = result.model.points(population.fresh_cells)
        return _Run(result, exact_auc(scores, population.fresh_labels))
    except TrainingError:
        return None


def _answer(
    view: FeatureView,
    plan: Plan,
    request: SumRequest,
    cells: Cells,
    labels: Labels,
    r: int,
    noise: float,
    random: np.random.Generator,
) -> NoisySum:
    entry = statistic(request.statistic, request.version)
    bound = entry.bound_squared(view, request.state)
    values = quantised_sum(
        entry.contribute(view, cells, labels, request.state),
        delta_squared(bound, entry.nonzeros(view, request.state), entry.counts),
        SCALE,
        entry.dimension(view, request.state),
    )
    mechanism = mechanism_for(plan, plan.sums[request.index], view, request.state, r)
    # In either mode every node adds noise of this sigma, and all of it is in the total.
    noise_std = noise * math.sqrt(len(plan.nodes)) * float(mechanism.sigma) / SCALE
    return NoisySum(values / SCALE + noise_std * random.standard_normal(len(values)), noise_std)
