"""Seconds of a private set intersection, beside as many bare multiplications on ristretto255."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.figures import Figure, cpu_seconds
from hejin_models.uscc import make_code
from hejin_privacy.set_intersection import Answer, Asking, answer, ask, open_answer
from hejin_privacy.sodium import rbcl

SECTION = "private set intersection"
SIZES = (1_000, 10_000, 100_000)
QUICK = (200,)
BARE = "bare multiplications"
_CONTEXT = hashlib.sha256(b"bench").digest()


def measure(folder: Path, quick: bool) -> list[Figure]:  # noqa: ARG001 - writes no file
    """Return the figures for sets of equal size of which half is common to both."""
    return [figure for size in (QUICK if quick else SIZES) for figure in _sized(size)]


def _sized(size: int) -> list[Figure]:
    members = [make_code(n) for n in range(size)]
    held = {make_code(n): n % 2 for n in range(size // 2, size // 2 + size)}
    sides: dict[str, object] = {}

    def asked() -> None:
        asking = ask(members, size)
        sides["asking"], sides["question"] = asking, asking.question()

    def answered() -> None:
        sides["answer"] = answer(_bytes(sides["question"]), size, held, size, _CONTEXT)

    def opened() -> None:
        asking, given = sides["asking"], sides["answer"]
        assert isinstance(asking, Asking)
        assert isinstance(given, Answer)
        sides["found"] = open_answer(asking, given, size, _CONTEXT)

    bare = cpu_seconds(lambda: _multiply(4 * size))
    seconds = {name: cpu_seconds(step) for name, step in
               (("asking", asked), ("answering", answered), ("opening", opened))}  # fmt: skip
    if sides["found"] != {code: held[code] for code in members if code in held}:
        raise RuntimeError("the intersection is not the plain one")
    given = sides["answer"]
    assert isinstance(given, Answer)
    sent = len(_bytes(sides["question"])) + len(given.points) + len(given.items)
    whole = sum(seconds.values())
    return [
        *(Figure(SECTION, f"{size:,} x {size:,}, {name}", cpu, "CPU s")
          for name, cpu in seconds.items()),
        Figure(SECTION, f"{size:,} x {size:,}, both sides", whole, "CPU s", whole / bare, BARE),
        Figure(SECTION, f"{size:,} x {size:,}, sent both ways", sent / 1e6, "MB"),
    ]  # fmt: skip


def _multiply(times: int) -> None:
    """Multiply as often as a session does: each slot three times, each of the holder's once."""
    scalar = rbcl.crypto_core_ristretto255_scalar_reduce(bytes(range(64)))
    point = rbcl.crypto_core_ristretto255_from_hash(bytes(range(64)))
    for _ in range(times):
        rbcl.crypto_scalarmult_ristretto255(scalar, point)


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
