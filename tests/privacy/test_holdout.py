"""The split: a keyed coin for each enterprise, the same for ever."""

from __future__ import annotations

import hashlib
import hmac
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_privacy.holdout import in_holdout, part_of, split_key

PLAN, NONCE = "ab" * 32, bytes(range(32))
FIFTH = Fraction(1, 5)


def test_the_split_key_is_the_hash_of_plan_and_nonce() -> None:
    assert split_key(PLAN, NONCE) == hashlib.sha256(b"\xab" * 32 + NONCE).digest()
    assert split_key("ac" * 32, NONCE) != split_key(PLAN, NONCE)


@given(code=st.text(max_size=18), share=st.fractions(0, 1))
def test_a_part_follows_from_code_and_key_alone(code: str, share: Fraction) -> None:
    key = split_key(PLAN, NONCE)
    coin = hmac.new(key, code.encode(), hashlib.sha256).hexdigest()[:16]
    expected = Fraction(int(coin, 16)) < share * 2**64 - (share * 2**64) % 1
    assert part_of(code, key, share) == ("holdout" if expected else "train")


def test_many_codes_get_what_each_gets_alone_in_about_the_asked_share() -> None:
    key, codes = split_key(PLAN, NONCE), [f"{i:018d}" for i in range(20_000)]
    found = in_holdout(codes, key, FIFTH)
    assert [part_of(c, key, FIFTH) == "holdout" for c in codes[:200]] == found[:200].tolist()
    # Fixed codes and key: no chance. 5 standard deviations of a fair coin are 283.
    assert abs(int(found.sum()) - 4000) < 283


def test_all_or_none_can_be_held_out_and_nobody_may_be_missing() -> None:
    key = split_key(PLAN, NONCE)
    assert not in_holdout(["x", "y"], key, Fraction(0)).any()
    assert in_holdout(["x", "y"], key, Fraction(1)).all()
    assert in_holdout([], key, FIFTH).shape == (0,)


@pytest.mark.parametrize("share", [Fraction(-1, 5), Fraction(6, 5)])
def test_an_impossible_share_is_refused(share: Fraction) -> None:
    with pytest.raises(ValueError):
        part_of("x", split_key(PLAN, NONCE), share)


@pytest.mark.parametrize(("plan", "nonce"), [("ab", NONCE), (PLAN, b""), ("zz" * 32, NONCE)])
def test_a_split_key_of_other_lengths_is_refused(plan: str, nonce: bytes) -> None:
    with pytest.raises(ValueError):
        split_key(plan, nonce)
