"""Unified social credit codes (统一社会信用代码): the check digit of GB 32100-2015."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hejin_models.errors import CodeError

LENGTH = 18
ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""GB 32100-2015 table 3: a character's place is its value; I, O, S, V and Z are not used."""

#: GB 32100-2015: weight of place i is 3^(i-1) mod 31.
_WEIGHTS = tuple(pow(3, place, 31) for place in range(LENGTH - 1))
#: GB 11714-1997: weights of the organisation code inside places 9 to 17.
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
#: Registered by 市场监管, enterprise; 999999 is no administrative division, so never a real firm.
_SYNTHETIC_PREFIX = "91999999"
MOST_SYNTHETIC = 10**8

_NOT_A_CHARACTER = 255
_VALUES = np.full(256, _NOT_A_CHARACTER, dtype=np.uint8)
_VALUES[np.frombuffer(ALPHABET.encode("ascii"), dtype=np.uint8)] = np.arange(31, dtype=np.uint8)


def valid_codes(octets: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell which rows of uint8[n, 18] (ASCII) are codes with a right check digit, bool[n].

    GB 32100-2015 section 4: the sum of value * weight over all places, the check digit
    with weight 1, is a multiple of 31.
    """
    values = _VALUES[octets]
    known = (values != _NOT_A_CHARACTER).all(axis=1)
    sums = values[:, :-1].astype(np.int32) @ np.array(_WEIGHTS, dtype=np.int32)
    right: npt.NDArray[np.bool_] = known & ((sums + values[:, -1]) % 31 == 0)
    return right


def check_code(code: str) -> None:
    """Raise CodeError unless `code` has 18 allowed characters and a right check digit."""
    octets = np.frombuffer(code.encode("utf-8"), dtype=np.uint8)
    if len(octets) != LENGTH or not valid_codes(octets.reshape(1, LENGTH))[0]:
        raise CodeError(
            "A text is no unified social credit code: 18 characters (0-9, A-Y without I, O, S, V) "
            "ending in the check digit of GB 32100. Correct it at its source.",
            "文本不是统一社会信用代码：应为 18 位（数字及除 I、O、S、V、Z 外的大写字母），"
            "末位须符合 GB 32100 校验码。请在源头更正。",
        )


def make_code(n: int) -> str:
    """Return the n-th synthetic code, 0 <= n < 10^8: valid check digits, no real enterprise.

    Its administrative division is 999999, which does not exist; the organisation code in it
    has its own right check digit (GB 11714-1997).
    """
    if not 0 <= n < MOST_SYNTHETIC:
        raise ValueError(f"n must be in 0..{MOST_SYNTHETIC - 1}, got {n}")
    digits = f"{n:08d}"
    organisation = sum(
        int(digit) * weight for digit, weight in zip(digits, _ORGANISATION_WEIGHTS, strict=True)
    )
    body = f"{_SYNTHETIC_PREFIX}{digits}{'0123456789X0'[11 - organisation % 11]}"
    total = sum(
        ALPHABET.index(character) * weight for character, weight in zip(body, _WEIGHTS, strict=True)
    )
    return body + ALPHABET[-total % 31]
