"""The ledger: entries made durable, mirrored, cosigned and verified, beside what is unavoidable."""

from __future__ import annotations

from pathlib import Path

from bench import ledger_append, ledger_bare, ledger_round, ledger_verify
from bench.figures import Figure


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return the ledger's figures: writing, one round, the mirror, verification."""
    bare = ledger_bare.measure(folder, quick)
    return [
        *bare.figures(),
        *ledger_append.measure(folder / "append", quick, bare),
        *ledger_round.measure(folder / "round"),
        *ledger_verify.measure(folder / "verify", quick, bare),
    ]
