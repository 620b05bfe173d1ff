"""A plan of real processes over slow links that break at random moments and heal: it ends well."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from books import Books
from fault_proxy import FaultProxy
from member_process import impatient
from node_world import BANK
from process_world import Members, prepared
from typer.testing import CliRunner

from hejin_coordinator import registry
from hejin_coordinator.home import open_home as open_bank
from hejin_regulator.cli import app as regulator

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DONE = re.compile(r"event=run-done\b")

ONE_WAY = 0.04
"""Seconds of delay: a sum takes some ten round trips, so that faults meet all its stages."""

ROUNDS = 3
"""Times that each kind of fault is tried; a run of six sums meets most of them."""

ANSWER = 1500
"""Bytes, fewer than any answer takes."""


class Trouble:
    """Breaks a link of one node after the other, and heals it, while a plan is carried out."""

    def __init__(self, members: Members, seed: int) -> None:
        self._members = members
        self._random = random.Random(seed)
        self._books = {node: Books(members, node) for node in members.nodes}
        self.met: Counter[str] = Counter()

    def until_done(self) -> None:
        for link in self._members.links.values():
            link.delay(ONE_WAY)
        faults = {"reset": self._reset, "cut": self._cut, "black hole": self._black_hole}
        for _ in range(ROUNDS):
            # Each kind in turn, so that a short run meets all.
            for name in self._random.sample(sorted(faults), len(faults)):
                time.sleep(self._random.uniform(0.0, 0.4))
                node = self._random.choice(self._members.nodes)
                link = self._members.links[node]
                faults[name](node, link)
                link.heal()
                link.delay(ONE_WAY)
                self.met[name] += not self._done()
                self.check()
        self._members.wait_for(BANK, DONE)

    def check(self) -> None:
        for book in self._books.values():
            book.check()

    def repeated(self) -> int:
        """Return how many answers left a node once more."""
        return sum(len(book.sent()) - len(book.left()) for book in self._books.values())

    def _done(self) -> bool:
        return DONE.search(self._members.said(BANK)) is not None

    def _reset(self, _: str, link: FaultProxy) -> None:
        link.reset()

    def _cut(self, node: str, link: FaultProxy) -> None:
        """Cut the link in the middle of the node's next answer, which is on its way by then."""
        sent, cuts = len(self._books[node].sent()), link.seen().cuts
        self._wait(lambda: len(self._books[node].sent()) > sent)
        link.cut(self._random.randrange(1, ANSWER), "up")
        self._wait(lambda: link.seen().cuts > cuts)

    def _black_hole(self, _: str, link: FaultProxy) -> None:
        link.black_hole(self._random.choice(["up", "down", None]))
        time.sleep(self._random.uniform(0.2, 1.5))

    def _wait(self, what: Callable[[], bool]) -> None:
        until = time.monotonic() + 5
        while not (what() or self._done()) and time.monotonic() < until:
            time.sleep(0.005)


def test_a_plan_ends_with_a_model_over_links_that_break_at_random_moments(tmp_path: Path) -> None:
    members = prepared(tmp_path)
    members.plants.update(dict.fromkeys(members.nodes, impatient))
    trouble = Trouble(members, seed=4)
    with members:
        members.start_all(proxied=True)
        trouble.until_done()
        cuts = sum(link.seen().cuts for link in members.links.values())
        members.stop_all()
    trouble.check()
    assert min(trouble.met[name] for name in ("reset", "cut", "black hole")) > 0
    assert cuts > 0
    assert trouble.repeated() > 0
    with open_bank(members.folder / BANK) as bank:
        assert len(registry.models(bank)) == 1
    told = CliRunner().invoke(
        regulator,
        ["verify", str(members.export()), "--regulator-key", members.regulator_key.hex()],
        catch_exceptions=False,
    )
    assert told.exit_code == 0, told.output
