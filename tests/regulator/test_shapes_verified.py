"""V8: a statistic's bound and dimension, told from the feature view without the public state."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_lies import Build, found, mechanism, reasons
from ledger_papers import VIEW
from ledger_world import Body

from hejin_models.features import FeatureView
from hejin_models.state import State
from hejin_models.statistics import CATALOGUE, Statistic, statistic
from hejin_privacy.mechanism import Mechanism, delta_squared, node_sigma
from hejin_regulator.check_shapes import shape_fault
from hejin_trust.canonical import fraction_body, fraction_from

FIRMS = FeatureView.parse(VIEW)
SIZES = [feature.grid.cells for feature in FIRMS.features]


def mechanism_of(entry: Statistic, state: State) -> Mechanism:
    entry.check_state(FIRMS, state)
    return Mechanism.planned(
        statistic=entry.name,
        version=entry.version,
        dimension=entry.dimension(FIRMS, state),
        bound_squared=entry.bound_squared(FIRMS, state),
        nonzeros=entry.nonzeros(FIRMS, state),
        counts=entry.counts,
        rho=Fraction(1, 10),
        n=3,
        r=1,
    )


def states(draw: st.DrawFn) -> dict[tuple[str, int], State]:
    """Return a public state of every statistic, as a bank might send it."""
    chosen = sorted(draw(st.sets(st.integers(0, len(SIZES) - 1), min_size=1)))
    values, constant = np.zeros(FIRMS.total_cells), np.zeros(1)
    merged = [draw(st.integers(1, size)) for size in SIZES]
    starts = np.cumsum([0, *merged])
    bins = np.concatenate(
        [
            np.minimum(np.arange(size), k - 1) + a
            for size, k, a in zip(SIZES, merged, starts[:-1], strict=True)
        ]
    )
    hidden = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    widths = [len(SIZES), *hidden, 1]
    weights = sum((a + 1) * b for a, b in pairwise(widths))
    network = {
        "values": values,
        "hidden": np.array(hidden, dtype=float),
        "weights": np.zeros(weights),
    }
    return {
        ("histogram", 1): {},
        ("label_histogram", 1): {"features": np.array(chosen, dtype=float)},
        ("bin_counts", 1): {"bins": bins.astype(float)},
        ("gram", 1): {"values": values, "constant": constant},
        ("logistic_gradient", 1): {
            "values": values, "constant": constant, "weights": np.zeros(len(SIZES) + 1),
        },
        ("score_histogram", 1): {"values": values, "edges": np.zeros(63)},
        ("network_gradient", 1): {**network, "clip": np.ones(1)},
        ("score_histogram", 2): {**network, "edges": np.zeros(63)},
    }  # fmt: skip


@given(data=st.data())
def test_every_statistic_of_the_catalogue_has_the_shape_that_its_view_gives_it(
    data: st.DataObject,
) -> None:
    every = states(data.draw)
    assert every.keys() == CATALOGUE.keys()
    for key, state in every.items():
        assert shape_fault(mechanism_of(CATALOGUE[key], state), FIRMS) is None, key


@pytest.mark.parametrize("key", sorted(CATALOGUE))
@given(data=st.data())
def test_another_bound_or_dimension_is_found(key: tuple[str, int], data: st.DataObject) -> None:
    honest = mechanism_of(CATALOGUE[key], states(data.draw)[key])
    bound = honest.bound_squared * data.draw(st.sampled_from((Fraction(1, 2), Fraction(2))))
    squared = delta_squared(bound, honest.nonzeros, CATALOGUE[key].counts)
    lie = replace(
        honest, bound_squared=bound, delta_squared=squared, sigma=node_sigma(squared, Fraction(1))
    )
    assert shape_fault(lie, FIRMS) is not None
    if key[0] not in ("bin_counts", "network_gradient", "label_histogram"):
        assert shape_fault(replace(honest, dimension=honest.dimension + 1), FIRMS) is not None
    else:
        beyond = 2 * FIRMS.total_cells + 1 if key[0] != "network_gradient" else 70_000
        nonzeros = beyond if key[0] == "network_gradient" else honest.nonzeros
        squared = delta_squared(honest.bound_squared, nonzeros, CATALOGUE[key].counts)
        lie = replace(
            honest,
            dimension=beyond,
            nonzeros=nonzeros,
            delta_squared=squared,
            sigma=node_sigma(squared, Fraction(1)),
        )
        assert shape_fault(lie, FIRMS) is not None


@pytest.mark.parametrize("claimed", [1, 2])
def test_a_histogram_over_more_features_than_it_is_charged_for_is_found(claimed: int) -> None:
    """All three features are summed; the sensitivity is that of one or two."""
    honest = mechanism_of(statistic("label_histogram", 1), {})
    squared = delta_squared(Fraction(claimed), claimed, counts=True)
    lie = replace(
        honest,
        nonzeros=claimed,
        bound_squared=Fraction(claimed),
        delta_squared=squared,
        sigma=node_sigma(squared, Fraction(1)),
    )
    fault = shape_fault(lie, FIRMS)
    assert fault is not None
    assert "feature view" in fault.en


def test_without_a_view_the_sensitivity_alone_is_looked_at() -> None:
    honest = mechanism_of(statistic("gram", 1), {"values": np.zeros(40), "constant": np.zeros(1)})
    assert shape_fault(replace(honest, dimension=11), None) is None
    least = delta_squared(Fraction(1, 2), 10, counts=True)
    fault = shape_fault(replace(honest, delta_squared=least), None)
    assert fault is not None
    assert "sensitivity" in fault.en


def test_a_bank_and_all_nodes_that_agree_on_too_few_features_are_found(build: Build) -> None:
    """The query and every node's log say that an enterprise fills one cell of three."""

    def shrink(_: str, what: str, body: Body) -> Body | None:
        inner = body.get("mechanism")
        if what not in ("reserve", "signed query") or not isinstance(inner, dict):
            return body
        if inner["statistic"] != "histogram":
            return body
        squared = delta_squared(Fraction(1), 1, counts=True)
        sigma = node_sigma(squared, fraction_from({"num": "9", "den": "1000"}))
        return mechanism(
            nonzeros=1,
            bound_squared=fraction_body(Fraction(1)),
            delta_squared=str(squared),
            sigma=fraction_body(sigma),
        )(body)

    verification = build(shrink).verify()
    assert {check for check, _ in found(verification)} == {"V8"}
    assert "over the plan's feature view" in reasons(verification, "V8")
