"""A small view, synthetic enterprises and a federation in memory, for tests of the models room."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import cast

import numpy as np
import numpy.typing as npt

from hejin_models.card import CardFacts
from hejin_models.families import FamilyResult, family
from hejin_models.features import FeatureView
from hejin_models.plan import Deadlines, LabelReference, Plan, PricedSum, ViewReference
from hejin_models.statistics import statistic
from hejin_models.sums import NoisySum
from hejin_models.training import TrainingResult
from hejin_privacy.accounting import rho_for, round_down
from hejin_privacy.contribution import quantised_sum
from hejin_privacy.mechanism import SCALE, delta_squared

VIEW = """
name = "test-view"
version = 3
source = "SELECT enterprise, amount, share, kind, change FROM loans"
[label]
en = "Test"
zh = "测试"
[datasets.loans]
category = "production"
columns = { amount = "number", share = "number", kind = "text", change = "number" }
[[features]]
name = "amount"
en = "Amount"
zh = "金额"
unit = { en = "CNY", zh = "元" }
grid = { kind = "log", low = 1, high = 1e6, cells = 30 }
[[features]]
name = "share"
en = "Share"
zh = "比例"
unit = { en = "share", zh = "比例" }
grid = { kind = "linear", low = 0, high = 1, cells = 20 }
[[features]]
name = "kind"
en = "Kind"
zh = "类型"
unit = { en = "code", zh = "代码" }
grid = { kind = "categories", values = ["a", "b", "c"] }
[[features]]
name = "change"
en = "Change"
zh = "变化"
unit = { en = "CNY", zh = "元" }
grid = { kind = "signed_log", smallest = 1, largest = 1000, cells = 6 }
"""

FACTS = CardFacts(
    run="ab" * 16,
    plan="cd" * 32,
    consortium="hebei",
    bank="bank-a",
    product="Wire | mesh\nloan",
    purpose="model-training",
    label="default",
    definition="90 days overdue within 12 months",
    nodes=("anping", "yongnian"),
    mode="node",
    rho=Fraction(1, 11),
    epsilon=1.99999999,
    epsilon_once=1.99999999,
    delta=Fraction(1, 10**6),
    trained="2026-11-22T20:00:00Z",
)


class Enterprises:
    """Synthetic enterprises whose bad rate depends on their features in a known way."""

    def __init__(self, view: FeatureView, n: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        amount = np.exp(random.normal(6, 2, n))
        share = random.random(n)
        kind = random.choice(np.array(["a", "b", "c", "other", None], dtype=object), n)
        change = random.normal(0, 100, n)
        share[random.random(n) < 0.05] = np.nan
        logit = 0.5 * (np.log(amount) - 6) - 3 * np.nan_to_num(share, nan=0.2)
        logit += 1.5 * (kind == "b") - 0.5
        self.labels = (random.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int8)
        self.cells = view.cells({"amount": amount, "share": share, "kind": kind, "change": change})
        self.holdout: npt.NDArray[np.bool_] = random.random(n) < 0.2


def run_training(
    view: FeatureView,
    cells: npt.NDArray[np.int32],
    labels: npt.NDArray[np.int8],
    holdout: npt.NDArray[np.bool_],
    rho: float | None,
    nodes: int,
    seed: int,
) -> TrainingResult:
    """Train a scorecard with the sums of a federation; see `run_family`."""
    found = run_family("scorecard", view, cells, labels, holdout, rho, nodes, seed)
    return cast("TrainingResult", found)


def run_family(
    name: str,
    view: FeatureView,
    cells: npt.NDArray[np.int32],
    labels: npt.NDArray[np.int8],
    holdout: npt.NDArray[np.bool_],
    rho: float | None,
    nodes: int,
    seed: int,
) -> FamilyResult:
    """Drive `train` with the sums of a federation in mode `node`; rho None is without noise."""
    random = np.random.default_rng(seed)
    planned_sums = family(name).plan_sums(view)
    training = family(name).train(view)
    request = next(training)
    while True:
        planned = planned_sums[request.index]
        asked = (request.statistic, request.version, request.part)
        assert asked == (planned.statistic, planned.version, planned.part)
        entry = statistic(request.statistic, request.version)
        entry.check_state(view, request.state)
        assert all(np.isfinite(values).all() for values in request.state.values())
        rows = holdout if request.part == "holdout" else ~holdout
        bound = entry.bound_squared(view, request.state)
        total = quantised_sum(
            entry.contribute(view, cells[rows], labels[rows], request.state),
            delta_squared(bound, entry.nonzeros(view, request.state), entry.counts),
            SCALE,
            entry.dimension(view, request.state),
        )
        noise = math.sqrt(nodes * float(bound / planned.share) / (2 * rho)) if rho else 0.0
        values = total / SCALE + noise * random.standard_normal(len(total))
        try:
            request = training.send(NoisySum(values, noise))
        except StopIteration as done:
            result: FamilyResult = done.value
            return result


def plan(view: FeatureView, epsilon: float, nodes: int, name: str = "scorecard") -> Plan:
    """Return a plan of the family `name` in mode `node`."""
    rho = rho_for(epsilon, 1e-6)
    made = datetime(2026, 1, 1, tzinfo=UTC)
    return Plan(
        bank="bank",
        consortium="consortium",
        charter="00" * 32,
        purpose="model-training",
        product="loans",
        view=ViewReference(view.name, view.version, view.digest),
        grade="core",
        as_of=None,
        label=LabelReference("default", "90 days overdue", "bank"),
        family=name,
        mode="node",
        nodes=tuple(f"node-{place:03d}" for place in range(nodes)),
        minimum_nodes=nodes,
        quorum=0,
        colluders=0,
        deadlines=Deadlines(),
        holdout=Fraction(1, 5),
        rho_train=rho,
        rho_holdout=rho,
        sums=tuple(
            PricedSum(one.statistic, one.version, one.part, round_down(rho * one.share))
            for one in family(name).plan_sums(view)
        ),
        created=made,
        expires=made + timedelta(days=30),
        nonce="00" * 16,
    )
