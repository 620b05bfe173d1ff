"""What is kept encrypted: it comes back whole with key and purpose, and with nothing else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from hejin_trust.at_rest import NotOpenedError, decrypted, encrypted

KEY, OTHER = bytes(range(32)), bytes(32)


@given(data=st.binary(max_size=200), purpose=st.binary(max_size=40))
def test_what_was_encrypted_comes_back_and_never_looks_the_same_twice(
    data: bytes, purpose: bytes
) -> None:
    kept = encrypted(KEY, data, purpose)
    assert decrypted(KEY, kept, purpose) == data
    assert AESGCM(KEY).decrypt(kept[:12], kept[12:], purpose) == data
    assert encrypted(KEY, data, purpose) != kept


@given(data=st.binary(min_size=1, max_size=40), choose=st.data())
def test_nothing_opens_with_another_key_or_purpose_or_when_changed_or_cut(
    data: bytes, choose: st.DataObject
) -> None:
    kept = encrypted(KEY, data, b"run 1")
    place = choose.draw(st.integers(0, len(kept) - 1))
    changed = bytearray(kept)
    changed[place] ^= 1 << choose.draw(st.integers(0, 7))
    for key, told, purpose in (
        (OTHER, kept, b"run 1"),
        (KEY, kept, b"run 2"),
        (KEY, bytes(changed), b"run 1"),
        (KEY, kept[:place], b"run 1"),
    ):
        with pytest.raises(NotOpenedError, match="put back"):
            decrypted(key, told, purpose)
