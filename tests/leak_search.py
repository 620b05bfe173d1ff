"""Look for planted values in bytes, however they may be written, packed or wrapped.

A value is searched as text (UTF-8, UTF-16, UTF-32, JSON escapes), numbers also as binary
(float64, float32, int64, int32, the protocol's fixed point; both byte orders), each of these also
in base64 at its three alignments and in hex; then everything again inside what base64 or hex runs
and zlib or gzip members decode to, nested up to four deep.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

Canary = str | float | int

_FIXED_POINT = 1 << 20
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
# Base64 in lines of 64 or 76, also where the line ends are JSON escapes.
_LINE_END = re.compile(rb"([A-Za-z0-9+/]{60})(?:\r?\n|\\n)")
_HEX = re.compile(rb"(?:[0-9a-f]{2}){16,}|(?:[0-9A-F]{2}){16,}")
_PACKED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
_DEEPEST = 4
_MOST_UNPACKED = 1 << 26
# Four bytes turn up by chance: once in some ten runs, among all the hashes and noise. They count
# when two different canaries are in the same message.
_SHORT = 4


@dataclass(frozen=True, slots=True)
class Hit:
    """A canary that was found: in which source, and how it was written."""

    source: str
    canary: Canary
    form: str


class Search:
    """Knows every way to write the canaries; `in_bytes` finds them."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._patterns: dict[bytes, tuple[Canary, str]] = {}
        self._by_begin: dict[bytes, list[bytes]] = defaultdict(list)
        self._begins = np.zeros(1 << 24, np.bool_)
        for canary in canaries:
            for form, written in _forms(canary):
                self._add(written, canary, form)
                self._add(written.hex().encode(), canary, f"{form}, hex")
                self._add(written.hex().upper().encode(), canary, f"{form}, hex")
                for start, part in enumerate(_base64(written)):
                    self._add(part, canary, f"{form}, base64 from byte {start}")
                    urlsafe = part.translate(bytes.maketrans(b"+/", b"-_"))
                    self._add(urlsafe, canary, f"{form}, base64 from byte {start}")

    def _add(self, pattern: bytes, canary: Canary, form: str) -> None:
        if len(pattern) < _SHORT or pattern in self._patterns:
            return
        self._patterns[pattern] = (canary, form)
        self._by_begin[pattern[:3]].append(pattern)
        self._begins[int.from_bytes(pattern[:3], "big")] = True

    def in_bytes(self, source: str, data: bytes) -> list[Hit]:
        """Return the canaries found in one message or file."""
        found: list[Hit] = []
        short: dict[str, set[Canary]] = defaultdict(set)
        for view in _views(data):
            for pattern, canary, form in self._matches(view):
                if len(pattern) > _SHORT:
                    found.append(Hit(source, canary, form))
                else:
                    short[form].add(canary)
        for form, canaries in short.items():
            if len(canaries) > 1:
                found += [Hit(source, canary, form) for canary in canaries]
        return found

    def _matches(self, view: bytes) -> Iterator[tuple[bytes, Canary, str]]:
        """Yield the patterns in `view`: looked up by their first three bytes, then compared."""
        data = np.frombuffer(view, np.uint8).astype(np.uint32)
        starts = data[:-2] << 16 | data[1:-1] << 8 | data[2:]
        for place in np.flatnonzero(self._begins[starts]).tolist():
            for pattern in self._by_begin[view[place : place + 3]]:
                if view.startswith(pattern, place):
                    yield (pattern, *self._patterns[pattern])


def _forms(canary: Canary) -> Iterator[tuple[str, bytes]]:
    if isinstance(canary, str):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "gb18030"):
            yield encoding, canary.encode(encoding)
        yield "json", json.dumps(canary)[1:-1].encode()
        return
    yield "decimal", repr(canary).encode()
    fixed = round(canary * _FIXED_POINT)
    for order in "<>":
        yield f"float64 {order}", struct.pack(f"{order}d", canary)
        yield f"float32 {order}", struct.pack(f"{order}f", canary)
        if abs(fixed) < 1 << 63:
            yield f"fixed point {order}", struct.pack(f"{order}q", fixed)
        if isinstance(canary, int):
            yield f"int64 {order}", struct.pack(f"{order}q", canary)
            if abs(canary) < 1 << 31:
                yield f"int32 {order}", struct.pack(f"{order}i", canary)


def _base64(written: bytes) -> Iterator[bytes]:
    """Yield what every base64 text holds that has `written` at offset 0, 1 or 2 mod 3."""
    for start in range(3):
        whole = base64.b64encode(bytes(start) + written)
        first = (0, 2, 3)[start]
        last = (start + len(written)) * 8 // 6
        # Of few bytes so little is left whole that it would be found by chance.
        if last - first >= 8:
            yield whole[first:last]


def _views(data: bytes, depth: int = 0) -> Iterator[bytes]:
    yield data
    if depth == _DEEPEST:
        return
    for match in _BASE64.finditer(_LINE_END.sub(rb"\1", data)):
        run = match.group().rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        if len(run) % 4 == 1:
            run = run[:-1]
        yield from _views(base64.b64decode(run + b"=" * (-len(run) % 4)), depth + 1)
    for match in _HEX.finditer(data):
        yield from _views(binascii.unhexlify(match.group()), depth + 1)
    for match in _PACKED.finditer(data):
        try:
            unpacked = zlib.decompressobj(wbits=47).decompress(
                data[match.start() :], _MOST_UNPACKED
            )
        except zlib.error:
            continue
        if unpacked:
            yield from _views(unpacked, depth + 1)
