"""Rule P1 admits the design's examples and no unsafe neighbour of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_privacy.errors import ThresholdError
from hejin_privacy.secure_sum.thresholds import check_thresholds


@pytest.mark.parametrize(
    ("n", "tau", "m", "t"),
    [
        pytest.param(5, 4, 4, 2, id="five-nodes"),
        pytest.param(10, 7, 7, 3, id="ten-nodes"),
        pytest.param(30, 20, 20, 9, id="thirty-nodes"),
        pytest.param(2, 2, 2, 0, id="the-least"),
        pytest.param(128, 103, 103, 12, id="the-most"),
    ],
)
def test_the_examples_of_the_design_hold(n: int, tau: int, m: int, t: int) -> None:
    check_thresholds(n, tau, m, t)


@pytest.mark.parametrize(
    ("n", "tau", "m", "t", "said"),
    [
        pytest.param(5, 4, 4, 3, "two different", id="one-colluder-more-than-five-bear"),
        pytest.param(10, 7, 7, 4, "at least 8", id="two-quorums"),
        pytest.param(10, 5, 8, 0, "at least 6", id="half-is-no-quorum"),
        pytest.param(5, 5, 5, 4, "at least 6", id="one-honest-survivor"),
        pytest.param(6, 5, 5, 3, "holds 2 honest", id="two-honest-of-six"),
        pytest.param(5, 5, 4, 0, "quorum 5", id="survivors-below-the-quorum"),
        pytest.param(5, 4, 6, 0, "minimum 6", id="more-survivors-than-nodes"),
        pytest.param(1, 1, 1, 0, "quorum 1", id="a-single-node"),
        pytest.param(5, 4, 4, -1, "-1 colluders", id="negative-colluders"),
        pytest.param(129, 104, 104, 12, "at most 128", id="more-than-messages-hold"),
    ],
)
def test_unsafe_thresholds_are_refused(n: int, tau: int, m: int, t: int, said: str) -> None:
    with pytest.raises(ThresholdError, match=said) as refused:
        check_thresholds(n, tau, m, t)
    assert refused.value.code == "thresholds-unsafe"


def _holds(n: int, tau: int, m: int, t: int) -> bool:
    try:
        check_thresholds(n, tau, m, t)
    except ThresholdError:
        return False
    return True


@given(n=st.integers(0, 12), tau=st.integers(0, 13), m=st.integers(0, 13), t=st.integers(-1, 8))
def test_it_is_the_rule_as_it_is_written(n: int, tau: int, m: int, t: int) -> None:
    rule = 2 * tau > n + t and tau <= m <= n and m - t >= (2 if n <= 5 else 3)
    assert _holds(n, tau, m, t) == (rule and t >= 0 and tau >= 2)


@given(n=st.integers(6, 40), tau=st.integers(2, 40), m=st.integers(2, 40), t=st.integers(0, 20))
def test_a_smaller_roster_of_a_safe_plan_is_safe(n: int, tau: int, m: int, t: int) -> None:
    if _holds(n, tau, m, t):
        assert all(_holds(roster, tau, m, t) for roster in range(m, n + 1))
