"""What a grant covers: "*" is all but the outcome, and no purpose."""

from __future__ import annotations

import pytest

from hejin_trust.authorisation import ANY, OUTCOME, SCOPES, Scope, covers


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_named_is_covered_and_nothing_else(scope: Scope) -> None:
    assert covers(scope, ["a", "b"], ["a"])
    assert covers(scope, ["a", "b"], ["b", "a"])
    assert covers(scope, ["a"], [])
    assert not covers(scope, ["a"], ["a", "b"])
    assert not covers(scope, [], ["a"])


@pytest.mark.parametrize(
    ("scope", "everything"),
    [("purposes", False), ("banks", True), ("categories", True), ("features", True)],
)
def test_a_star_is_everything_but_no_purpose(scope: Scope, everything: bool) -> None:
    assert covers(scope, [ANY], ["a", "b"]) is everything


def test_no_star_covers_the_category_outcome() -> None:
    assert not covers("categories", [ANY], [OUTCOME])
    assert not covers("categories", [ANY], ["trade", OUTCOME])
    assert covers("categories", [ANY, OUTCOME], ["trade", OUTCOME])
    assert covers("categories", [OUTCOME], [OUTCOME])
    assert not covers("categories", [OUTCOME], ["trade"])


def test_a_bank_or_feature_that_happens_to_be_called_outcome_is_like_any_other() -> None:
    assert covers("banks", [ANY], [OUTCOME])
    assert covers("features", [ANY], [OUTCOME])
