"""A hundred threads of two banks at the last of a budget: exactly one gets it."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

from attack_checks import last_refusal, logged, spent
from node_world import approved, fill, found_world
from witnessed_node import code

from hejin_node.home import open_home
from hejin_node.session import Session

BANKS = ("bank-1", "bank-2")
THREADS = 100
CAP, SUM = Fraction(1, 2), Fraction(1, 3)  # one sum fits, a second does not


def test_of_a_hundred_threads_at_the_last_of_a_budget_exactly_one_wins(tmp_path: Path) -> None:
    world = found_world(tmp_path, rho_cap=CAP, banks=BANKS)
    with open_home(world.nodes["node-1"], world.clock) as home:
        fill(home, world, 20)
        witness, asked = world.witness(home), []
        for number in range(THREADS):
            bank = world.seen_by(BANKS[number % 2])
            plan, digest = approved(home, bank, rho=SUM, sums=[("histogram", "train")])
            # A session answers one query at a time; these wait for nobody but the account.
            session = Session(home, bank.bank.member, witness, bank.receipts(home))
            asked.append((session, bank.query(plan, digest, run=f"{number:032x}")))
        gate = threading.Barrier(THREADS)

        def ask(place: int) -> str:
            session, query = asked[place]
            gate.wait()
            return code(session.answer(query), home)

        with ThreadPoolExecutor(THREADS) as pool:
            told = Counter(pool.map(ask, range(THREADS)))
        assert told == {"masked": 1, "budget-exhausted": THREADS - 1}
        assert (logged(home).count("reserve"), logged(home).count("release")) == (1, 1)
        assert CAP / 2 < spent(home) <= SUM
        assert last_refusal(home).body["code"] == "budget-exhausted"
