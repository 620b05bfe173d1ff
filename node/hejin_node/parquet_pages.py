"""How much a Parquet column's pages unpack to, as each says itself: the footer's sums may be lies.

A page header is Thrift in its compact form. What pyarrow would leave out of one, as a number of
another width than it wants, is left out here; what no page header has is refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

_FEW: Final = 4096
_MOST: Final = 4 << 20
"""Bytes of a page's header. It may have the least and the greatest of its values."""

_DEEPEST: Final = 8
_VALUES_IN: Final = {0: 5, 3: 8}
"""Kind of a page, of version 1 or 2 -> the field that tells of its values."""

Fields = dict[int, "int | Fields"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A column's pages in one row group, as the footer tells. Offset and length in bytes."""

    start: int
    length: int
    values: int


def unpacked(file: int, chunk: Chunk, most: int) -> int:
    """Return how many bytes a chunk's pages have once unpacked; it may stop beyond `most`.

    raises   ValueError: a header is none
    """
    at, end = chunk.start, chunk.start + chunk.length
    seen = total = 0
    while seen < chunk.values and at < end and total <= most:
        fields, size = _header(file, at, end)
        plain, packed = _number(fields, 2), _number(fields, 3)
        total += plain
        at += size + packed
        told = fields.get(_VALUES_IN.get(_number(fields, 1), 0))
        seen += _number(told, 1) if isinstance(told, dict) else 0
    return total


def _number(fields: Fields, key: int) -> int:
    found = fields.get(key)
    if not isinstance(found, int) or found < 0:
        raise ValueError(key)
    return found


def _header(file: int, at: int, end: int) -> tuple[Fields, int]:
    """Return a header's numbers by field, and its length."""
    for size in (_FEW, _MOST):
        try:
            reader = _Reader(os.pread(file, min(size, end - at), at))
            return reader.struct(), reader.at
        except IndexError:
            continue
    raise ValueError(at)


class _Reader:
    """Reads one structure; raises IndexError where it goes on after the bytes, or ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, depth: int = 0) -> Fields:
        if depth > _DEEPEST:
            raise ValueError(depth)
        fields: Fields = {}
        key = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            key = _wrapped(key + step if step else _signed(self._varint()), 16)
            match kind:
                case 1 | 2:  # true, false
                    pass
                case 4 | 6:  # 16 or 64 bits
                    self._varint()
                case 5:  # 32 bits
                    fields[key] = _signed(self._varint())
                case 8:  # bytes
                    self._skip(self._varint())
                case 12:
                    fields[key] = self.struct(depth + 1)
                case _:
                    raise ValueError(kind)
        return fields

    def _byte(self) -> int:
        found = self._data[self.at]
        self.at += 1
        return found

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise IndexError(self.at)

    def _varint(self) -> int:
        found = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
        raise ValueError(found)


def _signed(zigzag: int) -> int:
    """Return a number of 32 bits; higher ones are dropped, as pyarrow does."""
    found = zigzag & 0xFFFF_FFFF
    return _wrapped((found >> 1) ^ -(found & 1), 32)


def _wrapped(number: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (number + half) % (2 * half) - half
