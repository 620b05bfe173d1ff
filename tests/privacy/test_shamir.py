"""Secret sharing: any threshold of shares gives the secret, fewer fit every secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_secure_sum import opened, share_of

from hejin_privacy.shamir import FIELD, combine, split, weights_at_zero

elements = st.one_of(st.sampled_from([0, 1, FIELD - 1]), st.integers(0, FIELD - 1))


def test_known_answer() -> None:
    """f(x) = 42 + 3 x + 5 x^2, by hand; f(0) = 3 f(1) - 3 f(2) + f(3)."""
    assert split(42, [3, 5], 4) == (50, 68, 96, 134)
    assert weights_at_zero([1, 2, 3]) == (3, FIELD - 3, 1)
    assert combine(weights_at_zero([1, 2, 3]), [50, 68, 96]) == 42
    assert combine(weights_at_zero([4, 2, 1]), [134, 68, 50]) == 42


def test_values_wrap_around_the_field() -> None:
    assert split(FIELD - 1, [FIELD - 1], 3) == (FIELD - 2, FIELD - 3, FIELD - 4)


@st.composite
def shared(draw: st.DrawFn) -> tuple[int, list[int], int, list[int]]:
    """Return a secret, coefficients, a number of shares and points, as many as are needed."""
    threshold = draw(st.integers(1, 9))
    points = draw(st.integers(threshold, 12))
    coefficients = draw(st.lists(elements, min_size=threshold - 1, max_size=threshold - 1))
    chosen = draw(st.permutations(range(1, points + 1)))[:threshold]
    return draw(elements), coefficients, points, chosen


@given(case=shared())
def test_any_threshold_of_shares_gives_the_secret(
    case: tuple[int, list[int], int, list[int]],
) -> None:
    secret, coefficients, points, chosen = case
    shares = split(secret, coefficients, points)
    assert list(shares) == [share_of(secret, coefficients, x) for x in range(1, points + 1)]
    held = {point: shares[point - 1] for point in chosen}
    assert combine(weights_at_zero(chosen), list(held.values())) == secret == opened(held)


@given(case=shared(), other=elements)
def test_one_share_less_fits_every_secret(
    case: tuple[int, list[int], int, list[int]], other: int
) -> None:
    """Put another secret in the missing share's place: one polynomial goes through all."""
    secret, coefficients, points, chosen = case
    shares = split(secret, coefficients, points)
    held, missing = chosen[:-1], chosen[-1]
    weights = dict(zip(chosen, weights_at_zero(chosen), strict=True))
    rest = other - sum(weights[point] * shares[point - 1] for point in held)
    share = rest * pow(weights[missing], -1, FIELD) % FIELD
    assert combine(weights_at_zero(chosen), [*(shares[p - 1] for p in held), share]) == other


@pytest.mark.parametrize(
    ("secret", "coefficients", "points", "said"),
    [
        pytest.param(-1, [1], 3, "lie in the field", id="negative-secret"),
        pytest.param(FIELD, [1], 3, "lie in the field", id="secret-of-p"),
        pytest.param(1, [FIELD], 3, "lie in the field", id="coefficient-of-p"),
        pytest.param(1, [-1], 3, "lie in the field", id="negative-coefficient"),
        pytest.param(1, [1, 2], 2, "3 shares are needed, only 2 are made", id="too-few-shares"),
        pytest.param(1, [], 0, "1 shares are needed", id="no-shares"),
        pytest.param(1, [1], FIELD, "shares are needed", id="more-points-than-the-field"),
    ],
)
def test_a_secret_that_cannot_be_shared_is_refused(
    secret: int, coefficients: list[int], points: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        split(secret, coefficients, points)


@pytest.mark.parametrize("points", [[], [1, 1], [0, 1], [-1, 2], [FIELD, 1]])
def test_points_that_do_not_belong_to_shares_are_refused(points: list[int]) -> None:
    with pytest.raises(ValueError, match="distinct and lie in the field"):
        weights_at_zero(points)


def test_a_weight_for_each_share() -> None:
    with pytest.raises(ValueError):
        combine(weights_at_zero([1, 2]), [3])
