"""The public state of a query: one canonical form, strictly read."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hejin_models.errors import StateError
from hejin_models.state import MAX_ARRAYS, decode_state, encode_state, state_digest

finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.from_regex(r"[a-z][a-z_]{0,9}", fullmatch=True)


@settings(deadline=None)
@given(st.dictionaries(names, st.lists(finite, max_size=9), max_size=MAX_ARRAYS))
def test_a_state_comes_back_as_it_went_and_has_one_encoding(state: dict[str, list[float]]) -> None:
    arrays = {name: np.array(values, dtype=np.float64) for name, values in state.items()}
    data = encode_state(arrays)
    back = decode_state(data)
    assert {name: values.tolist() for name, values in back.items()} == state
    assert encode_state(back) == data
    assert encode_state(dict(reversed(arrays.items()))) == data


def test_the_byte_form_is_fixed() -> None:
    data = encode_state({"w": np.array([1.5]), "constant": np.array([-0.0])})
    assert data == (
        b"hejin-state-1\n\x02"
        b"\x08\x01\x00\x00\x00constant" + bytes(8) +
        b"\x01\x01\x00\x00\x00w" + b"\x00\x00\x00\x00\x00\x00\xf8\x3f"
    )  # fmt: skip
    assert state_digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({"a": np.array([math.nan])}, "not finite"),
        ({"a": np.array([math.inf])}, "not finite"),
        ({"a": np.zeros((2, 2))}, "2 dimensions"),
        ({"A": np.zeros(1)}, "malformed name"),
        ({"a" * 40: np.zeros(1)}, "malformed name"),
        ({"a": np.zeros((1 << 17) + 1)}, "at most 131072"),
        ({"a" * (i + 1): np.zeros(1) for i in range(9)}, "at most 8"),
        ({"ab"[i] * 3: np.zeros(1 << 17) for i in range(2)}, "bytes"),
    ],
)
def test_a_state_that_may_not_travel_is_refused(
    state: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]], complaint: str
) -> None:
    with pytest.raises(StateError, match=complaint):
        encode_state(state)


GOOD = encode_state({"a": np.array([1.0, 2.0]), "b": np.array([3.0])})


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not a hejin-state-1"),
        (GOOD[:14], "not a hejin-state-1"),
        (GOOD[:-1], "cut short"),
        (GOOD[:16], "cut short"),
        (GOOD + b"\x00", "1 bytes follow"),
        (GOOD.replace(b"\x00b", b"\x00a"), "there twice"),
        (GOOD.replace(b"\x00a", b"\x00c"), "canonical"),
        (GOOD[:-8] + bytes(7) + b"\x80", "canonical"),
        (GOOD[:-8] + b"\xff" * 8, "not finite"),
    ],
)
def test_bytes_that_are_no_state_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(StateError, match=complaint):
        decode_state(data)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    for attempt in (data, b"hejin-state-1\n" + data):
        with contextlib.suppress(StateError):
            assert encode_state(decode_state(attempt)) == attempt
