"""A masked plan carried out over sessions of this process: totals, drop-outs, burned rounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bank_world import Bank, open_world

from hejin_coordinator import store
from hejin_trust.database import reading


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    with ExitStack() as stack:
        yield open_world(tmp_path, stack, nodes=5)


def test_a_masked_plan_ends_with_a_model(bank: Bank) -> None:
    digest = bank.propose(epsilon=20.0)
    run = bank.run(digest)
    run.carry_out()
    with reading(bank.home.database) as connection:
        rounds = store.rounds(connection, run.run)
    assert [r.survivors for r in rounds] == [5] * len(rounds)
