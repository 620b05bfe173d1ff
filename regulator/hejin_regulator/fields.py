"""Fields of entries' bodies: `entries.parse` has checked kind and range of each already."""

from __future__ import annotations

import base64
import binascii
import hashlib
from fractions import Fraction
from functools import lru_cache
from typing import cast

from hejin_trust import canonical
from hejin_trust.entries import Body


def text(body: Body, key: str) -> str:
    """Return a text of an entry's body."""
    return cast("str", body[key])


def number(body: Body, key: str) -> int:
    """Return an integer of an entry's body."""
    return cast("int", body[key])


def rational(body: Body, key: str) -> Fraction:
    """Return a rational of an entry's body."""
    told = cast("dict[str, str]", body[key])
    return fraction(told["num"], told["den"])


@lru_cache(maxsize=4096)
def fraction(num: str, den: str) -> Fraction:
    """Return num/den; what was charged for one sum recurs at every node."""
    return Fraction(int(num), int(den))


def digest_of(body: Body) -> str:
    """Return the SHA-256 of a body's canonical form, hex."""
    return hashlib.sha256(canonical.encode(body)).hexdigest()


def envelope_of(receipt: str) -> bytes:
    """Return the bytes, or none where it is not base64: then no signature fits either."""
    try:
        return base64.b64decode(receipt, validate=True)
    except (binascii.Error, ValueError):
        return b""
