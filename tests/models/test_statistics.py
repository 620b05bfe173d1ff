"""The catalogue: known sums, and bounds that hold for any input and any accepted state."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_world import VIEW, Enterprises

from hejin_models import contributions
from hejin_models.errors import StateError, UnknownStatisticError
from hejin_models.features import FeatureView, shipped_views
from hejin_models.perceptron import sigmoid, weights_of
from hejin_models.state import State
from hejin_models.statistics import CATALOGUE, SCORE_BINS, Statistic, statistic
from hejin_privacy.contribution import Dense, OneHots, quantised_sum
from hejin_privacy.mechanism import SCALE, delta_squared

THE_VIEW = FeatureView.parse(VIEW.encode())
F, M = len(THE_VIEW.features), THE_VIEW.total_cells
EXTREMES = [0.0, 1e-300, -1e-9, 0.3, 1.0, -7.5, 1e3, -1e6, 1e6]

numbers = st.sampled_from(EXTREMES) | st.floats(-1e6, 1e6)


def arrays(size: int) -> st.SearchStrategy[npt.NDArray[np.float64]]:
    """Tables that are all over the place, or the same value throughout."""
    return (
        st.lists(numbers, min_size=size, max_size=size)
        | numbers.map(lambda value: [value] * size)
    ).map(lambda values: np.array(values, dtype=np.float64))  # fmt: skip


BINS = np.concatenate([np.zeros(33), np.ones(23), np.full(5, 2.0), np.arange(16) % 2 + 3.0])


def network(**other: npt.NDArray[np.float64]) -> State:
    weights = np.ones(weights_of(F, [2]))
    return {"values": np.ones(M), "hidden": np.array([2.0]), "weights": weights, **other}


@st.composite
def networks(draw: st.DrawFn, name: str) -> State:
    hidden = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    state = {
        "values": np.clip(draw(arrays(M)), -1.0, 1.0),
        "hidden": np.array(hidden, dtype=np.float64),
        "weights": draw(arrays(weights_of(F, hidden))),
    }
    if name == "network_gradient":
        return state | {"clip": np.array([draw(st.floats(1e-3, 1e3))])}
    return state | {"edges": np.sort(draw(arrays(SCORE_BINS - 1)))}


def states(name: str, version: int) -> st.SearchStrategy[State]:
    if (name, version) in {("network_gradient", 1), ("score_histogram", 2)}:
        return networks(name)
    if name == "label_histogram":
        chosen = st.sets(st.integers(0, F - 1), min_size=1).map(
            lambda places: {"features": np.array(sorted(places), dtype=np.float64)}
        )
        return chosen | st.just({})
    if name == "bin_counts":
        return st.just({"bins": BINS})
    if name == "gram":
        return st.fixed_dictionaries({"values": arrays(M), "constant": arrays(1)})
    if name == "logistic_gradient":
        return st.fixed_dictionaries(
            {"values": arrays(M), "constant": arrays(1), "weights": arrays(F + 1)}
        )
    if name == "score_histogram":
        edges = arrays(SCORE_BINS - 1).map(np.sort)
        return st.fixed_dictionaries({"values": arrays(M), "edges": edges})
    return st.just({})


def gather(
    entry: Statistic,
    view: FeatureView,
    cells: npt.NDArray[np.int32],
    labels: npt.NDArray[np.int8],
    state: State,
) -> npt.NDArray[np.float64]:
    """Return all contributions as a dense matrix [n, d]."""
    rows = []
    for chunk in entry.contribute(view, cells, labels, state):
        if isinstance(chunk, Dense):
            rows.append(chunk.values)
            continue
        assert isinstance(chunk, OneHots)
        dense = np.zeros((len(chunk.indices), chunk.dimension))
        for row, places in zip(dense, chunk.indices, strict=True):
            np.add.at(row, places[places >= 0], 1.0)
        rows.append(dense)
    return np.concatenate(rows) if rows else np.zeros((0, entry.dimension(view, state)))


ROWS = st.lists(
    st.tuples(
        st.lists(
            st.integers(-(2**31), 2**31 - 1) | st.integers(0, 32), min_size=F, max_size=F
        ),
        st.integers(-128, 127) | st.integers(0, 1),
    ),
    max_size=12,
)  # fmt: skip


@pytest.mark.parametrize(("name", "version"), sorted(CATALOGUE))
@settings(max_examples=30, deadline=None)
@given(data=st.data(), rows=ROWS)
def test_no_input_and_no_state_breaks_a_bound(
    name: str, version: int, data: st.DataObject, rows: list[tuple[list[int], int]]
) -> None:
    entry, state = statistic(name, version), data.draw(states(name, version))
    entry.check_state(THE_VIEW, state)
    cells = np.array([row for row, _ in rows], dtype=np.int32).reshape(-1, F)
    labels = np.array([label for _, label in rows], dtype=np.int8)
    vectors = gather(entry, THE_VIEW, cells, labels, state)
    dimension = entry.dimension(THE_VIEW, state)
    assert vectors.shape == (len(rows), dimension)
    assert np.isfinite(vectors).all()
    assert (np.count_nonzero(vectors, axis=1) <= entry.nonzeros(THE_VIEW, state)).all()
    bound = entry.bound_squared(THE_VIEW, state)
    if entry.counts:
        assert np.isin(vectors, (0.0, 1.0)).all()
        assert ((vectors**2).sum(axis=1) <= bound).all()
    else:
        assert ((vectors**2).sum(axis=1) <= float(bound) * (1 + 1e-12)).all()
    # In exact integers: nothing is dropped by the guard, so the float bound was the true one.
    squared = delta_squared(bound, entry.nonzeros(THE_VIEW, state), entry.counts)
    exact = np.rint(vectors * SCALE).astype(np.int64)
    for row in exact.tolist():
        assert sum(value * value for value in row) <= squared
    summed = quantised_sum(
        entry.contribute(THE_VIEW, cells, labels, state), squared, SCALE, dimension
    )
    assert summed.tolist() == exact.sum(axis=0).tolist()


@pytest.mark.parametrize(("name", "version"), sorted(CATALOGUE))
def test_only_labels_of_0_and_1_count_where_labels_matter(name: str, version: int) -> None:
    entry = statistic(name, version)
    state = {
        "gram": {"values": np.ones(M), "constant": np.ones(1)},
        "logistic_gradient": {
            "values": np.ones(M), "constant": np.ones(1), "weights": np.ones(F + 1),
        },
        "score_histogram": {"values": np.ones(M), "edges": np.arange(63.0)},
        "bin_counts": {"bins": BINS},
        "network_gradient": network(clip=np.ones(1)),
    }.get(name, {})  # fmt: skip
    if (name, version) == ("score_histogram", 2):
        state = network(edges=np.arange(63.0))
    cells = np.zeros((4, F), dtype=np.int32)
    vectors = gather(entry, THE_VIEW, cells, np.array([0, 1, 2, -1], dtype=np.int8), state)
    assert vectors[:2].any(axis=1).all()
    assert vectors[2:].any() == (name in ("histogram", "bin_counts"))


def test_histograms_count_every_feature_by_label(enterprises: Enterprises) -> None:
    cells, labels = enterprises.cells[:500], enterprises.labels[:500]
    both = gather(statistic("label_histogram", 1), THE_VIEW, cells, labels, {}).sum(axis=0)
    goods, bads = both.reshape(2, -1)
    for place, feature in enumerate(THE_VIEW.features):
        start = THE_VIEW.offsets[place]
        for cell in range(feature.grid.cells):
            here = cells[:, place] == cell
            assert goods[start + cell] == np.sum(here & (labels == 0))
            assert bads[start + cell] == np.sum(here & (labels == 1))
    plain = gather(statistic("histogram", 1), THE_VIEW, cells, labels, {}).sum(axis=0)
    assert plain.tolist() == (goods + bads).tolist()
    some = {"features": np.array([1.0, 3.0])}
    part = gather(statistic("label_histogram", 1), THE_VIEW, cells, labels, some).sum(axis=0)
    picked = np.r_[33:56, 61:77]
    assert part.tolist() == np.concatenate([goods[picked], bads[picked]]).tolist()
    assert statistic("label_histogram", 1).bound_squared(THE_VIEW, some) == Fraction(2)


def test_gram_and_gradient_are_what_the_formulas_say(enterprises: Enterprises) -> None:
    random = np.random.default_rng(3)
    values, weights = random.normal(0, 0.5, M), random.normal(0, 2, F + 1)
    state = {"values": values, "constant": np.array([0.4])}
    cells, labels = enterprises.cells[:40], enterprises.labels[:40]
    gram = gather(statistic("gram", 1), THE_VIEW, cells, labels, state)
    gradient = gather(
        statistic("logistic_gradient", 1), THE_VIEW, cells, labels, {**state, "weights": weights}
    )
    for i in range(40):
        x = [values[THE_VIEW.offsets[j] + cells[i, j]] for j in range(F)] + [0.4]
        norm = max(1.0, math.sqrt(sum(value * value for value in x)))
        x = [value / norm for value in x]
        triangle = [
            x[a] * x[b] / (math.sqrt(2) if a == b else 1)
            for a in range(F + 1) for b in range(a, F + 1)
        ]  # fmt: skip
        assert gram[i] == pytest.approx(triangle, abs=1e-12)
        chance = 1 / (1 + math.exp(-sum(w * v for w, v in zip(weights, x, strict=True))))
        assert gradient[i] == pytest.approx([(chance - labels[i]) * v for v in x], abs=1e-12)


def test_bins_of_scores_and_drift_are_counted(enterprises: Enterprises) -> None:
    cells, labels = enterprises.cells[:300], enterprises.labels[:300]
    values = np.random.default_rng(1).normal(0, 10, M)
    edges = np.linspace(-30, 30, 63)
    state = {"values": values, "edges": edges}
    total = gather(statistic("score_histogram", 1), THE_VIEW, cells, labels, state).sum(axis=0)
    score = values[cells + THE_VIEW.offsets[:-1]].sum(axis=1)
    for label in (0, 1):
        bins = [sum(edge <= one for edge in edges) for one in score[labels == label]]
        assert (
            total[64 * label : 64 * label + 64].tolist() == np.bincount(bins, minlength=64).tolist()
        )
    drift = gather(statistic("bin_counts", 1), THE_VIEW, cells, labels, {"bins": BINS}).sum(axis=0)
    assert drift[:3].tolist() == [300, 300, 300]
    assert drift[3:].sum() == 300


def test_chunks_make_no_difference(
    enterprises: Enterprises, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"values": np.linspace(-1, 1, M), "constant": np.array([0.3])}
    cells, labels = enterprises.cells[:100], enterprises.labels[:100]
    whole = gather(statistic("gram", 1), THE_VIEW, cells, labels, state)
    monkeypatch.setattr(contributions, "_CHUNK_NUMBERS", 70)
    chunks = list(statistic("gram", 1).contribute(THE_VIEW, cells, labels, state))
    assert len(chunks) > 10
    assert gather(statistic("gram", 1), THE_VIEW, cells, labels, state).tolist() == whole.tolist()


def test_a_gram_of_many_enterprises_stays_within_fifty_megabytes() -> None:
    view = shipped_views()["sba-loans-v1"]
    cells = np.zeros((60_000, len(view.features)), dtype=np.int32)
    labels = np.zeros(60_000, dtype=np.int8)
    state = {"values": np.full(view.total_cells, 0.1), "constant": np.array([0.3])}
    tracemalloc.start()
    for _ in statistic("gram", 1).contribute(view, cells, labels, state):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


def test_the_sigmoid_never_overflows() -> None:
    chance = sigmoid(np.array([-1e300, -800.0, 0.0, 800.0, 1e300]))
    assert chance.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_an_unknown_statistic_or_version_is_refused() -> None:
    for name, version in (("medians", 1), ("gram", 2)):
        with pytest.raises(UnknownStatisticError, match=f"'{name}' version {version}"):
            statistic(name, version)


def table(**changed: npt.NDArray[np.float64]) -> State:
    return {"values": np.zeros(M), "constant": np.zeros(1), "weights": np.zeros(F + 1)} | changed


_WRONG_NETWORKS = [
    (network(), "must hold values, hidden, weights"),
    (network(extra=np.zeros(1)), "must hold values, hidden, weights"),
    ({**network(), "values": np.full(M, 1.5)}, "`values` must lie within \\+-1$"),
    ({**network(), "values": np.full(M, math.nan)}, "`values` must lie within"),
    ({**network(), "values": np.zeros(M - 1)}, "`values` must be 77"),
    ({**network(), "hidden": np.zeros(0)}, "1 to 3 layers"),
    ({**network(), "hidden": np.ones(4)}, "1 to 3 layers"),
    ({**network(), "hidden": np.ones((1, 1))}, "1 to 3 layers"),
    ({**network(), "hidden": np.array([2.5])}, "whole numbers"),
    ({**network(), "hidden": np.array([0.0])}, "whole numbers"),
    ({**network(), "hidden": np.array([math.nan])}, "whole numbers"),
    ({**network(), "hidden": np.array([1e300])}, "whole numbers"),
    ({**network(), "hidden": np.array([300.0, 300.0])}, "92101 weights, at most 65536"),
    ({**network(), "hidden": np.array([3.0])}, "`weights` must be 19 numbers"),
    ({**network(), "weights": np.full(13, math.nan)}, "`weights` must lie within"),
    ({**network(), "weights": np.full(13, 2e6)}, "`weights` must lie within"),
]


@pytest.mark.parametrize(("state", "complaint"), _WRONG_NETWORKS)
def test_a_malformed_network_is_refused_by_both_of_its_statistics(
    state: State, complaint: str
) -> None:
    own = {
        ("network_gradient", 1): {"clip": np.ones(1)},
        ("score_histogram", 2): {"edges": np.arange(63.0)},
    }
    for (name, version), other in own.items():
        # The first case lacks what only one of the two needs.
        given = state if complaint.startswith("must hold") else {**state, **other}
        with pytest.raises(StateError, match=complaint):
            statistic(name, version).check_state(THE_VIEW, given)


@pytest.mark.parametrize("clip", [0.0, -1.0, 1e-4, 1e4, math.nan, math.inf])
def test_a_clip_out_of_range_is_refused(clip: float) -> None:
    with pytest.raises(StateError, match="`clip` must"):
        statistic("network_gradient", 1).check_state(THE_VIEW, network(clip=np.array([clip])))


def test_scores_of_a_network_fall_into_their_bins(enterprises: Enterprises) -> None:
    random = np.random.default_rng(8)
    weights, edges = random.normal(0, 1, weights_of(F, [3])), np.linspace(-1, 1, 63)
    values = random.uniform(-1, 1, M)
    state = {"values": values, "hidden": np.array([3.0]), "weights": weights, "edges": edges}
    cells, labels = enterprises.cells[:200], enterprises.labels[:200]
    found = gather(statistic("score_histogram", 2), THE_VIEW, cells, labels, state)
    for row, cell, label in zip(found, cells, labels, strict=True):
        x = values[cell + THE_VIEW.offsets[:-1]]
        hidden = np.tanh(weights[: 3 * F].reshape(3, F) @ x + weights[3 * F : 3 * F + 3])
        good = -(weights[-4:-1] @ hidden + weights[-1])
        assert np.flatnonzero(row).tolist() == [64 * label + sum(edge <= good for edge in edges)]


def test_a_gradient_of_many_enterprises_stays_within_fifty_megabytes() -> None:
    view = shipped_views()["sba-loans-v1"]
    cells = np.zeros((60_000, len(view.features)), dtype=np.int32)
    size = weights_of(len(view.features), [16])
    state = {
        "values": np.full(view.total_cells, 0.1), "hidden": np.array([16.0]),
        "weights": np.full(size, 0.1), "clip": np.ones(1),
    }  # fmt: skip
    tracemalloc.start()
    for _ in statistic("network_gradient", 1).contribute(
        view, cells, np.zeros(60_000, dtype=np.int8), state
    ):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize(
    ("name", "state", "complaint"),
    [
        ("histogram", {"bins": BINS}, "must hold nothing"),
        ("label_histogram", {"bins": BINS}, "must hold features"),
        ("label_histogram", {"features": np.array([1.0, 1.0])}, "ascending"),
        ("label_histogram", {"features": np.array([0.5])}, "ascending"),
        ("label_histogram", {"features": np.array([4.0])}, "from 0 to 3"),
        ("label_histogram", {"features": np.array([math.nan])}, "ascending"),
        ("label_histogram", {"features": np.zeros(0)}, "ascending"),
        ("gram", table(), "must hold values, constant"),
        ("logistic_gradient", table(weights=np.zeros(F)), "`weights` must be 5 numbers"),
        ("logistic_gradient", table(values=np.zeros(M + 1)), "`values` must be 77"),
        ("logistic_gradient", table(values=np.zeros((M, 1))), "`values` must be 77"),
        ("logistic_gradient", table(constant=np.array([math.nan])), "must lie within"),
        ("logistic_gradient", table(constant=np.array([math.inf])), "must lie within"),
        ("logistic_gradient", table(weights=np.full(F + 1, 2e6)), "must lie within"),
        ("score_histogram", {"values": np.zeros(M), "edges": np.zeros(64)}, "`edges` must be 63"),
        ("score_histogram", {"values": np.zeros(M), "edges": -np.arange(63.0)}, "must ascend"),
        ("bin_counts", {"bins": BINS + 0.5}, "whole numbers"),
        ("bin_counts", {"bins": BINS - 1}, "whole numbers"),
        ("bin_counts", {"bins": BINS + 1}, "without gaps"),
        ("bin_counts", {"bins": np.zeros(M)}, "each of one feature"),
    ],
)
def test_a_malformed_state_is_refused_before_any_data_is_read(
    name: str, state: State, complaint: str
) -> None:
    with pytest.raises(StateError, match=complaint):
        statistic(name, 1).check_state(THE_VIEW, state)
