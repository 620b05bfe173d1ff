"""Masks: AES-256-CTR key streams, added to or taken from a vector mod 2^64, in place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

CHUNK: Final = 1 << 14
"""Words a step: key stream (128 KiB) and vector together stay in a core's second-level cache."""

_ZEROS: Final = memoryview(bytes(8 * CHUNK))
_BLOCK: Final = 16
_FROM_ZERO: Final = modes.CTR(bytes(_BLOCK))


def add_masks(vector: npt.NDArray[np.uint64], keys: Iterable[tuple[bytes, int]]) -> None:
    """Add sign x PRG(key) to `vector`, in place, mod 2^64.

    vector   uint64[d], contiguous and writable
    keys     (32 bytes, +1 or -1); a key must never mask two vectors
    raises   ValueError for another sign or key length

    SECURE_SUM section 2: PRG(k) is the AES-256-CTR key stream (NIST SP 800-38A section 6.5)
    from an all-zero counter block, read as little-endian u64.
    """
    streams = [_Stream(key, sign) for key, sign in keys]
    # update_into wants room for one block less a byte beyond what it writes.
    room = np.empty(8 * CHUNK + _BLOCK, np.uint8)
    writable = room.data
    words = room[: 8 * CHUNK].view("<u8")
    for start in range(0, vector.size, CHUNK):
        part = vector[start : start + CHUNK]
        size = 8 * part.size
        zeros, target, mask = _ZEROS[:size], writable[: size + _BLOCK - 1], words[: part.size]
        for stream in streams:
            stream.fill(zeros, target)
            stream.combine(part, mask, out=part)
    room.fill(0)


class _Stream:
    """One key's stream, read on from chunk to chunk, and what is done with it."""

    def __init__(self, key: bytes, sign: int) -> None:
        if len(key) != 32 or sign not in (1, -1):
            raise ValueError(f"a mask needs 32 bytes and a sign, got {len(key)} and {sign}")
        self._encryptor = Cipher(algorithms.AES(key), _FROM_ZERO).encryptor()
        self.fill = self._encryptor.update_into
        self.combine = np.add if sign > 0 else np.subtract
