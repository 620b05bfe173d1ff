"""Noise-aware binning: what it finds, and that nothing breaks it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_world import VIEW

from hejin_models.binning import MAX_BINS, BaseRate, Counts, base_rate, bin_feature
from hejin_models.errors import TrainingError
from hejin_models.features import FeatureView
from hejin_models.grids import CategoryGrid, Grid, linear

THE_VIEW = FeatureView.parse(VIEW.encode())


def effects(grid: Grid, counts: Counts, base: BaseRate) -> list[float]:
    """Return the effect of every cell, after checking that each is in exactly one bin."""
    bins = bin_feature(grid, counts, base)
    found: dict[int, float] = {}
    for made in bins:
        assert math.isfinite(made.effect)
        assert made.count >= 0
        for first, last in made.ranges:
            for cell in range(first, last + 1):
                assert cell not in found
                found[cell] = made.effect
    assert sorted(found) == list(range(grid.cells))
    assert len(bins) <= MAX_BINS + 1
    return [found[cell] for cell in range(grid.cells)]


def test_a_step_in_the_bad_rate_is_found_through_noise() -> None:
    random = np.random.default_rng(1)
    grid = linear(0, 50, 50)
    size = np.full(grid.cells, 200.0)
    size[[0, -2, -1]] = 0
    rate = np.where(np.arange(grid.cells) <= 20, 0.1, 0.3)
    noise = 20.0
    counts = Counts(
        size * rate + noise * random.standard_normal(grid.cells),
        size * (1 - rate) + noise * random.standard_normal(grid.cells),
        noise,
    )
    base = BaseRate(2200.0, 7800.0)
    found = effects(grid, counts, base)
    low = math.log(0.1 / 0.9) - base.logit
    high = math.log(0.3 / 0.7) - base.logit
    assert found[5:15] == pytest.approx([low] * 10, abs=0.25)
    assert found[30:45] == pytest.approx([high] * 15, abs=0.25)


def test_without_noise_the_effect_of_a_bin_is_its_weight_of_evidence() -> None:
    grid = CategoryGrid(("a", "b"))
    counts = Counts(np.array([3000.0, 1000.0, 0.0, 0.0]), np.array([2000.0, 4000.0, 0.0, 0.0]), 0.0)
    found = effects(grid, counts, BaseRate(4000.0, 6000.0))
    assert found[0] == pytest.approx(math.log(3000 / 2000 * 6000 / 4000), abs=0.01)
    assert found[1] == pytest.approx(math.log(1000 / 4000 * 6000 / 4000), abs=0.01)
    assert found[2:] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_pure_noise_gives_effects_near_zero() -> None:
    random = np.random.default_rng(2)
    grid = linear(0, 50, 50)
    largest = []
    for _ in range(20):
        counts = Counts(
            20 + 100 * random.standard_normal(grid.cells),
            80 + 100 * random.standard_normal(grid.cells),
            100.0,
        )
        largest.append(np.abs(effects(grid, counts, BaseRate(1060.0, 4240.0))).max())
    # Each cell alone would be off by about 4.
    assert np.mean(largest) < 0.3
    assert max(largest) < 1


@settings(max_examples=40, deadline=None)
@given(
    place=st.integers(0, 3),
    kind=st.sampled_from(["zero", "negative", "huge", "spike", "random"]),
    noise=st.sampled_from([0.0, 1e-6, 1.0, 1e3, 1e9]),
    rate=st.sampled_from([1e-6, 0.01, 0.5, 0.999]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_counts_give_finite_bins_that_cover_the_grid(
    place: int, kind: str, noise: float, rate: float, seed: int
) -> None:
    grid = THE_VIEW.features[place].grid
    random = np.random.default_rng(seed)
    shape = {
        "zero": np.zeros(grid.cells),
        "negative": np.full(grid.cells, -50.0),
        "huge": np.full(grid.cells, 1e12),
        "spike": np.where(np.arange(grid.cells) == 2, 1e5, 0.0),
        "random": random.normal(10, 1000, grid.cells),
    }[kind]
    counts = Counts(
        shape * rate + noise * random.standard_normal(grid.cells),
        shape * (1 - rate) + noise * random.standard_normal(grid.cells),
        noise,
    )
    effects(grid, counts, BaseRate(1e5 * rate, 1e5 * (1 - rate)))


def test_the_base_rate_averages_the_features_by_their_precision() -> None:
    fine = Counts(np.full(100, 1.5), np.full(100, 3.0), 10.0)
    coarse = Counts(np.full(4, 25.0), np.full(4, 100.0), 5.0)
    weights = np.array([1 / (100 * 100), 1 / (4 * 25)])
    base = base_rate([fine, coarse])
    assert base.bads == pytest.approx(weights @ [150, 100] / weights.sum())
    assert base.goods == pytest.approx(weights @ [300, 400] / weights.sum())
    assert base.rate == pytest.approx(base.bads / (base.bads + base.goods))


@pytest.mark.parametrize(
    ("bads", "goods", "noise", "absent"),
    [(0, 900, 0, "bad"), (900, 0, 0, "good"), (40, 900, 10, "bad"), (900, -80, 10, "good")],
)
def test_a_class_that_is_absent_or_lost_in_noise_is_named(
    bads: float, goods: float, noise: float, absent: str
) -> None:
    counts = Counts(np.full(4, bads / 4), np.full(4, goods / 4), noise)
    with pytest.raises(TrainingError, match=f"{absent} enterprises are in the training part"):
        base_rate([counts])
