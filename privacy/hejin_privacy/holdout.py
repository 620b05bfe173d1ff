"""Which enterprises evaluate a model: a keyed coin for each, no ranking and no look at others."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from hejin_privacy.budget import Part


def split_key(plan_digest: str, nonce: bytes) -> bytes:
    """Return the 32-byte key of a plan's split: SHA-256(plan hash | charter nonce).

    plan_digest  64 hex digits
    nonce        32 bytes, fixed in the charter before any plan: no bank can choose its split
    raises       ValueError for other lengths

    Source: PRIVATE_SUM section 3.
    """
    plan = bytes.fromhex(plan_digest)
    if len(plan) != 32 or len(nonce) != 32:
        raise ValueError(f"need a 32-byte hash and nonce, got {len(plan)} and {len(nonce)} bytes")
    return hashlib.sha256(plan + nonce).digest()


def part_of(code: str, key: bytes, holdout: Fraction) -> Part:
    """Return the part that the enterprise `code` is in, for ever, under this split key.

    holdout   expected share of the hold-out part, 0..1
    raises    ValueError if holdout is out of range
    """
    return "holdout" if in_holdout([code], key, holdout)[0] else "train"


def in_holdout(codes: Sequence[str], key: bytes, holdout: Fraction) -> npt.NDArray[np.bool_]:
    """Return bool [n]: True where the enterprise is in the hold-out part.

    The first 8 bytes of HMAC-SHA-256(key, code in UTF-8), big-endian, < holdout 2^64.
    raises    ValueError if holdout is out of range
    """
    if not 0 <= holdout <= 1:
        raise ValueError(f"the hold-out share must lie between 0 and 1, got {holdout}")
    threshold = math.floor(holdout * 2**64)
    coins = (hmac.digest(key, code.encode(), "sha256")[:8] for code in codes)
    return np.fromiter(
        (int.from_bytes(coin, "big") < threshold for coin in coins),
        dtype=np.bool_,
        count=len(codes),
    )
