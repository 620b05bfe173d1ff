"""Social credit codes: published ones, and the check digit against the standard's formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hejin_models.errors import CodeError
from hejin_models.uscc import ALPHABET, MOST_SYNTHETIC, check_code, make_code, valid_codes


def slow_is_code(text: str) -> bool:
    """GB 32100-2015 read aloud: C18 = 31 - sum(Ci * 3^(i-1)) mod 31."""
    if len(text) != 18 or any(character not in ALPHABET for character in text):
        return False
    total = sum(ALPHABET.index(character) * 3**place for place, character in enumerate(text[:17]))
    return ALPHABET[(31 - total % 31) % 31] == text[17]


# Codes that these companies print on their own public web sites.
@pytest.mark.parametrize(
    "code", ["91440300708461136T", "914403001922038216", "91330100799655058B", "91110000802100433B"]
)
def test_codes_of_well_known_companies_are_right(code: str) -> None:
    assert slow_is_code(code)
    check_code(code)


@given(st.integers(0, MOST_SYNTHETIC - 1))
def test_a_synthetic_code_is_right_and_of_no_real_place(n: int) -> None:
    code = make_code(n)
    assert slow_is_code(code)
    assert code[2:8] == "999999"
    check_code(code)


def test_synthetic_codes_differ() -> None:
    assert len({make_code(n) for n in range(2000)}) == 2000


@settings(deadline=None)  # the first example pays numpy's start
@given(st.lists(st.text(alphabet=ALPHABET + "IOSVZa", min_size=18, max_size=18), max_size=20))
def test_many_codes_are_judged_as_one_by_one(codes: list[str]) -> None:
    codes = [*codes, make_code(1)]
    octets = np.frombuffer("".join(codes).encode(), dtype=np.uint8).reshape(-1, 18)
    assert valid_codes(octets).tolist() == [slow_is_code(code) for code in codes]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "91440300708461136",
        "91440300708461136A",
        "91440300708461136t",
        "9144030070846113６T",
        "é" * 9,
    ],
)
def test_anything_else_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(CodeError) as caught:
        check_code(text)
    assert not text or text not in str(caught.value)


def test_a_number_out_of_range_makes_no_code() -> None:
    with pytest.raises(ValueError, match="must be in"):
        make_code(MOST_SYNTHETIC)
