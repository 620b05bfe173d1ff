"""What no ledger can go below: one fsync, one Ed25519 signature made or checked, two hashes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, cpu_seconds, median_of
from bench.floor import bare_fsync
from hejin_trust.keys import SigningKey, verify
from hejin_trust.merkle import leaf_hash, node_hash

SECTION = "ledger"
LEAF_BYTES = 1000
"""About what a `reserve` entry weighs."""
_NOTE_BYTES = 150
_CALLS = 500


@dataclass(frozen=True, slots=True)
class Bare:
    """Medians of this run: a 4 KB fsync, seconds of wall clock; the others, CPU seconds."""

    fsync: float
    sign: float
    verify: float
    hashes: float

    def limit(self, signatures: int, leaves: int) -> float:
        """Return the CPU seconds of checking so many signatures and hashing so many leaves.

        A tree has one inner node less than leaves: each leaf costs its own hash and one of these.
        """
        return signatures * self.verify + leaves * self.hashes

    def figures(self) -> list[Figure]:
        """Return them in the units that people read."""
        return [
            Figure(SECTION, "bare fsync of 4 KB", 1e3 * self.fsync, "ms"),
            Figure(SECTION, "bare Ed25519 signature", 1e6 * self.sign, "CPU us"),
            Figure(SECTION, "bare Ed25519 check", 1e6 * self.verify, "CPU us"),
            Figure(SECTION, "bare SHA-256, leaf and node", 1e6 * self.hashes, "CPU us"),
        ]


def measure(folder: Path, quick: bool) -> Bare:
    """Measure them, with the library as `hejin_trust.keys` and `merkle` call it."""
    repeats = 5 if quick else 21
    key, note, leaf = SigningKey.generate(), os.urandom(_NOTE_BYTES), os.urandom(LEAF_BYTES)
    signature, hashed = key.sign(note), leaf_hash(leaf)

    def hash_both() -> None:
        leaf_hash(leaf)
        node_hash(hashed, hashed)

    return Bare(
        fsync=bare_fsync(folder / "fsync", 20 if quick else 300) / 1e3,
        sign=_one(repeats, lambda: key.sign(note)),
        verify=_one(repeats, lambda: verify(key.public, note, signature)),
        hashes=_one(repeats, hash_both),
    )


def _one(repeats: int, work: Callable[[], object]) -> float:
    def many() -> None:
        for _ in range(_CALLS):
            work()

    return median_of(repeats, lambda: cpu_seconds(many)) / _CALLS
