"""How cost grows with nodes and with enterprises: same session and rounds, carried in memory."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.figures import Figure, exponent
from bench.network import EPSILON, EPSILON_CAP, fill_all, names
from bench.population import VIEW_FILE
from hejin_sandbox.memory import found_homes, open_consortium

SECTION = "growth"
LINEAR = 1.1
"""Largest exponent that is called linear; the rest is the noise of the clock."""

# Small consortia carry out several plans: their sums are short, and so are soon disturbed.
_PLANS, _SMALL = 3, 50_000


@dataclass(frozen=True, slots=True)
class Point:
    """One consortium; CPU seconds of one process that plays the bank and all nodes.

    first  of a run's first sum, which reads the warehouse; later: of the other sums; medians
    """

    nodes: int
    enterprises: int
    first: float
    later: float


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return cost against nodes, and against enterprises over 5 nodes."""
    each = 1500 if quick else 2000
    by_nodes = [(1, each), (2, each)] if quick else [(5, each), (10, each), (20, each)]
    by_enterprises = [] if quick else [(5, 20_000), (5, 200_000)]
    points = {}
    for nodes, size in (*by_nodes, *by_enterprises):
        points[nodes, size] = _point(folder / f"{nodes}-{size}", nodes, size)
    found = [points[key] for key in by_nodes]
    figures = [
        Figure(SECTION, f"{p.nodes} x {each:,} enterprises: CPU a sum", p.later, "CPU s",
               p.later / p.nodes * 1e3, "ms a node")
        for p in found
    ]  # fmt: skip
    figures += _verdict("nodes", [p.nodes for p in found], [p.later for p in found])
    if by_enterprises:
        found = [points[key] for key in (by_nodes[0], *by_enterprises)]
        figures += _enterprises(found)
    return figures


def _enterprises(points: Sequence[Point]) -> list[Figure]:
    sizes = [point.enterprises for point in points]
    figures = []
    for name, costs in (
        ("a sum", [point.later for point in points]),
        ("a run's first sum", [point.first for point in points]),
    ):
        figures += [
            Figure(SECTION, f"{size:,} enterprises: CPU {name}", cost, "CPU s",
                   cost / size * 1e6, "us an enterprise")
            for size, cost in zip(sizes, costs, strict=True)
        ]  # fmt: skip
        figures += _verdict(f"enterprises, {name}", sizes, costs)
        # The fixed cost of a sum flattens the small end; the last decade tells the slope.
        figures += _verdict(f"enterprises, {name}, last decade", sizes[-2:], costs[-2:])
    return figures


def _verdict(what: str, sizes: Sequence[float], costs: Sequence[float]) -> list[Figure]:
    found = exponent(sizes, costs)
    said = "linear or less" if found <= LINEAR else "MORE THAN LINEAR"
    return [Figure(SECTION, f"exponent in {what}", found, said)]


def _point(folder: Path, nodes: int, size: int) -> Point:
    members = names(nodes)
    found_homes(folder, dict.fromkeys(members, size), VIEW_FILE, epsilon_cap=EPSILON_CAP)
    fill_all(folder, nodes, size)
    first: list[float] = []
    later: list[float] = []
    with open_consortium(folder, members) as consortium:
        for _ in range(_PLANS if nodes * size <= _SMALL else 1):
            marks: list[float] = []
            plan = consortium.propose(EPSILON)
            consortium.train(plan, lambda *_, marks=marks: marks.append(time.process_time()))
            marks.append(time.process_time())
            costs = [after - before for before, after in pairwise(marks)]
            first.append(costs[0])
            later += costs[1:]
    shutil.rmtree(folder)
    return Point(nodes, nodes * size, statistics.median(first), statistics.median(later))
