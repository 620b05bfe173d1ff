"""GB a CPU-second of masking and opening, beside a bare AES-256-CTR key stream and Flower."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from bench.figures import Figure, cpu_seconds, wall_seconds
from hejin_privacy.messages import Commitments
from hejin_privacy.secure_sum.bank import BankRound, open_total
from hejin_privacy.secure_sum.documents import SurvivorSet
from hejin_privacy.secure_sum.keys import PairKeys, Roster, Seat
from hejin_privacy.secure_sum.masks import add_masks
from hejin_privacy.secure_sum.node import Party, RoundSecret, mask, secret_commitment
from hejin_privacy.shamir import combine, split, weights_at_zero

SECTION = "masks"
NODES = (5, 30, 100)
DIMENSIONS = (10_000, 100_000, 1_000_000)
FAR = 100_000
"""Coordinates from which masking is to reach 60 % of the key stream."""
AIM = 0.6
STREAM = "AES-256-CTR"
LOOP = "masks added"

_ROUND = bytes(32)
_KEYSTREAM_BUFFER = 128 * 1024
_MOST_KEYSTREAM = 1 << 28
_MEASURED = 2_000_000_000  # bytes that a measurement goes over, repeats included
_LONG = 100_000_000  # coordinates times masks: Flower takes seconds for them
_FLOWER_RANGE = 1 << 32


@dataclass(frozen=True, slots=True)
class _Size:
    """So many nodes and coordinates; the thresholds are what a plan sets by itself."""

    nodes: int
    dimension: int

    @property
    def least(self) -> int:
        """Return m, which is tau as well."""
        return -(-4 * self.nodes // 5)

    @property
    def gone(self) -> int:
        """Return the most nodes that may drop out."""
        return self.nodes - self.least

    def __str__(self) -> str:
        return f"n {self.nodes}, d {self.dimension:,}"


@dataclass(frozen=True, slots=True)
class _Work:
    """One call that adds or removes so many masks."""

    masks: int
    call: Callable[[], object]
    beside_flower: bool = False


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return masking, opening and secret sharing for every size."""
    del folder
    nodes, dimensions = (NODES[:1], DIMENSIONS[:1]) if quick else (NODES, DIMENSIONS)
    figures: list[Figure] = []
    far: list[Figure] = []
    for n in nodes:
        for d in dimensions:
            found = _masking(_Size(n, d), quick)
            figures += found
            far += [figure for figure in found if d >= FAR and figure.against == STREAM]
        figures += _sharing(_Size(n, 0), quick)
    loops = [figure for figure in far if figure.name.endswith(LOOP)]
    figures += _verdict(LOOP, loops)
    figures += _verdict("whole calls", [figure for figure in far if figure not in loops])
    return figures


def _verdict(what: str, figures: Sequence[Figure]) -> list[Figure]:
    """Say how near the slowest of `figures` comes to the key stream."""
    if not figures:
        return []
    least = min(figure.ratio or 0.0 for figure in figures)
    said = f"of {STREAM}" if least >= AIM else f"of {STREAM}: LESS THAN {AIM:g}"
    return [Figure(SECTION, f"{what}, least from d {FAR:,} on", least, said)]


def _masking(size: _Size, quick: bool) -> list[Figure]:
    """Count 8 bytes a coordinate and mask, for Flower too, whose masks hold 32 bits."""
    d, works = size.dimension, _works(size)
    stream, seconds = 0.0, dict.fromkeys(works, math.inf)
    # In turns, so that a busy moment does not hit one of them alone.
    for _ in range(1 if quick else max(3, min(200, _MEASURED // (8 * d * size.nodes)))):
        stream = max(stream, _keystream(8 * d * size.nodes))
        for name, work in works.items():
            seconds[name] = min(seconds[name], cpu_seconds(work.call))
    figures = [Figure(SECTION, f"{size}: {STREAM} key stream", stream, "GB/CPU s")]
    for name, work in works.items():
        speed = 8 * d * work.masks / seconds[name] / 1e9
        figures.append(
            Figure(SECTION, f"{size}: {name}", speed, "GB/CPU s", speed / stream, STREAM)
        )
        if work.beside_flower:
            once = quick or work.masks * d > _LONG
            flower = _flower_masks(work.masks, d, 1 if once else 3)
            figures.append(
                Figure(SECTION, f"{size}: {name}, Flower", 8 * d * work.masks / flower / 1e9,
                       "GB/CPU s", seconds[name] / flower, "ours")
            )  # fmt: skip
    return figures


def _works(size: _Size) -> dict[str, _Work]:
    """Return what is measured for a size: the loop over masks alone, and the whole calls."""
    n = size.nodes
    roster = Roster(
        "00" * 16,
        "00" * 32,
        size.least,
        size.least,
        tuple(Seat(f"node-{i:03}", "00" * 32, bytes(32)) for i in range(1, n + 1)),
    )
    pairs = {j: PairKeys(_seed(), _seed()) for j in range(2, n + 1)}
    party, secret = Party(roster, 1, pairs), RoundSecret.draw(roster.tau)
    vector = np.random.default_rng(1).integers(-(2**40), 2**40, size.dimension)
    keys = [(_seed(), 1 if i % 2 else -1) for i in range(n)]
    late = size.least * (size.gone + 1)
    return {
        LOOP: _Work(n, lambda: add_masks(vector.view(np.uint64), keys)),
        "a node masks": _Work(n, lambda: mask(party, _ROUND, vector, secret), beside_flower=True),
        "the bank opens, all there": _Work(n, _opening(roster, size, 0)),
        f"the bank opens, {size.gone} gone": _Work(
            late, _opening(roster, size, size.gone), beside_flower=True
        ),
    }


def _sharing(size: _Size, quick: bool) -> list[Figure]:
    """One secret of 32 bytes: n shares of it, and the secret again from tau of them.

    By the wall clock, for Flower uses threads.
    """
    n, tau = size.nodes, size.least

    def ours() -> None:
        secret = RoundSecret.draw(tau)
        shares = split(secret.value, secret.coefficients, n)
        points = range(n - tau + 1, n + 1)
        opened = combine(weights_at_zero(points), [shares[point - 1] for point in points])
        assert opened == secret.value

    def flower() -> None:
        secret = _seed()
        assert combine_shares(create_shares(secret, tau, n)[n - tau :]) == secret

    mine = min(wall_seconds(ours) for _ in range(1 if quick else 20))
    theirs = min(wall_seconds(flower) for _ in range(1 if quick or n > 30 else 3))
    name = f"n {n}: a secret shared and opened"
    return [
        Figure(SECTION, name, 1e3 * mine, "ms"),
        Figure(SECTION, f"{name}, Flower", 1e3 * theirs, "ms", theirs / mine, "ours"),
    ]


def _seed() -> bytes:
    return secrets.token_bytes(32)


def _keystream(size: int) -> float:
    """Return the GB a CPU-second of about `size` bytes of key stream into one reused buffer."""
    encryptor = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()
    zeros, buffer = bytes(_KEYSTREAM_BUFFER), bytearray(_KEYSTREAM_BUFFER + 15)
    times = max(1, min(size, _MOST_KEYSTREAM) // _KEYSTREAM_BUFFER)

    def work() -> None:
        for _ in range(times):
            encryptor.update_into(zeros, buffer)

    return times * _KEYSTREAM_BUFFER / cpu_seconds(work) / 1e9


def _flower_masks(masks: int, dimension: int, repeats: int) -> float:
    """Return the seconds in which secaggplus_mod adds so many masks to one vector."""
    seeds = [_seed() for _ in range(masks)]
    start = [np.zeros(dimension, dtype=np.int64)]

    def work() -> None:
        vector = start
        for place, seed in enumerate(seeds):
            drawn = pseudo_rand_gen(seed, _FLOWER_RANGE, [(dimension,)])
            turn = parameters_addition if place % 2 else parameters_subtraction
            vector = turn(vector, drawn)
        parameters_mod(vector, _FLOWER_RANGE)

    return min(cpu_seconds(work) for _ in range(repeats))


def _opening(roster: Roster, size: _Size, gone: int) -> Callable[[], object]:
    """Return a call that opens a round from which the last `gone` nodes dropped out."""
    survivors = roster.nodes[: roster.size - gone]
    dropped = roster.size - len(survivors)
    made: dict[str, Commitments] = {}
    given = []
    for index, node in enumerate(survivors, start=1):
        secret = RoundSecret.draw(roster.tau)
        given.append(split(secret.value, secret.coefficients, roster.size))
        committed = secret_commitment(_ROUND, index, secret.value)
        made[node] = Commitments(index=index, shares=(), secret=committed, ciphertexts=())
    held = {
        taker: tuple(shares[place] for shares in given)
        for place, taker in enumerate(survivors[: roster.tau])
    }
    seeds = {node: tuple(_seed() for _ in range(dropped)) for node in survivors}
    asked = SurvivorSet(roster.run, 1, _ROUND.hex(), survivors, "00" * 32)
    masked = np.random.default_rng(2).integers(0, 2**63, size.dimension).astype(np.uint64)
    return partial(open_total, BankRound(roster, asked, made, masked), held, seeds)
