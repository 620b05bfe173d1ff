"""A bank that lies to real nodes with a colluder's help opens one total a round, no part."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hostile_bank import HostileBank
from hostile_checks import (
    NODES,
    ONE,
    THREE,
    TWO,
)
from hostile_lies import lie
from sqlalchemy.dialects.sqlite import insert

from hejin_node.masking import Masking
from hejin_privacy.secure_sum import masks
from hejin_privacy.secure_sum import node as masking_node


def lies(random: Random) -> Iterator[dict[str, tuple[str, ...]]]:
    """Yield what to tell each of four honest nodes: the truth, two stories, then anything."""
    whole, honest = NODES, NODES[:4]
    fewer = [tuple(n for n in NODES if n != gone) for gone in NODES]
    yield dict.fromkeys(honest, whole)
    yield {n: fewer[3] if n in (ONE, TWO, THREE) else whole for n in honest}
    yield {n: fewer[3] if n in (ONE, TWO) else fewer[0] for n in honest}
    yield dict.fromkeys(honest, fewer[4])
    while True:
        yield {n: random.choice([whole, *(s for s in fewer if n in s)]) for n in honest}


def search(
    bank: HostileBank, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> list[list[tuple[str, ...]]]:
    """Lie for some rounds to four real nodes with the fifth's help; return what opened in each."""
    true: dict[tuple[int, int], np.ndarray] = {}
    now = 0

    def kept(vector: np.ndarray, keys: object) -> None:
        if np.any(vector):  # a colluder's is of zeros
            true[now, len([k for k in true if k[0] == now])] = vector.copy()
        masks.add_masks(vector, keys)  # type: ignore[arg-type]

    monkeypatch.setattr(masking_node, "add_masks", kept)
    attack = bank.begin(
        NODES[:4],
        rho=Fraction(1, 10),
        sums=[("label_histogram", "train")] * 12,
    )
    found = []
    for number, told in enumerate(itertools.islice(lies(Random(7)), rounds), start=1):
        now = number
        attack.collect(number)
        known = lie(attack, number, told)
        opened = known.openable()
        for chosen in opened:
            vectors = [true[number, NODES.index(node)].view("<i8") for node in chosen]
            expected = np.sum(np.array(vectors, "<i8"), axis=0, dtype="<i8")
            assert np.array_equal(known.open(chosen), expected)
        found.append(opened)
    return found


def test_a_lying_bank_with_a_colluder_opens_one_total_a_round_and_no_part_of_it(
    bank: HostileBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = search(bank, monkeypatch, 8)
    # The truth opens, and so does the one story that all survivors were told.
    assert found[0] == [NODES[:4]]
    assert found[3] == [NODES[:4]]
    for opened in found:
        assert len(opened) <= 1
        # Beside the colluder's own vector, three honest ones at least: m - t.
        assert all(len(chosen) >= 3 for chosen in opened)


def test_the_same_lies_open_parts_of_nodes_that_vote_twice(
    bank: HostileBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the search above is known to find what there is."""
    vote = masking_node.vote
    monkeypatch.setattr(Masking, "_known_vote", lambda *_: None)
    monkeypatch.setattr(
        "hejin_node.masking.vote",
        lambda state, *rest: vote(replace(state, voted=None, shares=()), *rest),
    )
    monkeypatch.setattr("hejin_node.masking.insert", _upsert)
    assert any(len(opened) > 1 for opened in search(bank, monkeypatch, 2))


def _upsert(table: object) -> object:
    return insert(table).prefix_with("OR REPLACE")  # type: ignore[arg-type]
