"""A scorecard over wide-area links, beside the same without: real processes, proxies a node."""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from bench.figures import Figure
from bench.network import Run, carry_out, fill_all, names
from bench.population import VIEW_FILE
from hejin_sandbox.memory import found_homes
from hejin_sandbox.tables import BANK, REGULATOR

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the fault proxy is a test tool

from fault_proxy import FaultProxy

SECTION = "links"
MODES = ("node", "shared")
NODES = 8
BITS_PER_SECOND = 100e6
ROUND_TRIP = 0.05
"""Seconds; half of it each way."""

# Six plans of epsilon 8 on the same enterprises.
_EPSILON_CAP = 60.0


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return what links of 100 Mbit/s and 50 ms cost a scorecard, and what crosses them."""
    if quick:
        return compare(folder, "shared", 3, 1500, plans=1)
    figures = []
    for mode in MODES:
        (folder / mode).mkdir()
        figures += compare(folder / mode, mode, NODES, 6000, plans=3)
    return figures


def compare(folder: Path, mode: str, nodes: int, enterprises: int, plans: int) -> list[Figure]:
    """Train over direct connections, then again over links; each node has links of its own."""
    members = names(nodes)
    found_homes(folder, dict.fromkeys(members, enterprises), VIEW_FILE, epsilon_cap=_EPSILON_CAP)
    fill_all(folder, nodes, enterprises)
    direct = carry_out(folder, members, plans, records=folder / "direct", mode=mode)
    with ExitStack() as opened:
        proxies: dict[str, list[FaultProxy]] = {BANK: [], REGULATOR: []}

        def through(member: str, address: str) -> str:
            proxy = opened.enter_context(FaultProxy(address))
            proxy.delay(ROUND_TRIP / 2)
            proxy.throttle(BITS_PER_SECOND)
            proxies[member].append(proxy)
            return proxy.address

        def carried() -> tuple[int, int, int]:
            bank, office = ([p.seen() for p in proxies[member]] for member in (BANK, REGULATOR))
            up, down = sum(seen.up for seen in bank), sum(seen.down for seen in bank)
            return up, down, sum(seen.up + seen.down for seen in office)

        before = [(0, 0, 0)]
        linked = carry_out(
            folder,
            members,
            plans,
            records=folder / "linked",
            mode=mode,
            through=through,
            begun=lambda: before.append(carried()),
        )
        up, down, office = (now - then for now, then in zip(carried(), before[-1], strict=True))
    name = f"{nodes} nodes of {enterprises:,}, mode {mode}"
    return _figures(name, direct, linked, up / nodes, down / nodes, office / nodes)


def _figures(
    name: str, direct: Run, linked: Run, up: float, down: float, office: float
) -> list[Figure]:
    """Medians over the later sums of all plans.

    up, down   bytes of a node to and from the bank over all its sums; office: with the regulator
    """
    sums = len(linked.splits)
    over = f"over {BITS_PER_SECOND / 1e6:.0f} Mbit/s and {ROUND_TRIP * 1e3:.0f} ms"
    plain = _later(direct)
    return [
        _figure(f"{name}: a private sum, direct", plain),
        _figure(f"{name}: a private sum, {over}", _later(linked), plain, "direct"),
        _figure(f"{name}: engine, direct", _engine(direct)),
        _figure(f"{name}: engine, {over}", _engine(linked), ROUND_TRIP, "a round trip"),
        _figure(f"{name}: cosign, direct", _cosign(direct)),
        _figure(f"{name}: cosign, {over}", _cosign(linked), ROUND_TRIP, "a round trip"),
        _figure(f"{name}: a run's first sum, direct", _first(direct)),
        _figure(f"{name}: a run's first sum, {over}", _first(linked), _first(direct), "direct"),
        Figure(SECTION, f"{name}: a node sends", up / sums, "bytes a sum"),
        Figure(SECTION, f"{name}: a node receives", down / sums, "bytes a sum"),
        Figure(SECTION, f"{name}: a node and the regulator", office / sums, "bytes a sum"),
    ]  # fmt: skip


def _figure(name: str, seconds: float, to: float | None = None, against: str = "") -> Figure:
    return Figure(SECTION, name, seconds, "s", None if to is None else seconds / to, against)


def _later(run: Run) -> float:
    return statistics.median(split.total for split in run.splits if split.index > 0)


def _engine(run: Run) -> float:
    return statistics.median(split.engine for split in run.splits if split.index > 0)


def _cosign(run: Run) -> float:
    return statistics.median(split.cosign for split in run.splits if split.index > 0)


def _first(run: Run) -> float:
    return statistics.median(split.total for split in run.splits if split.index == 0)
