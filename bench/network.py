"""Seconds per private sum over the network: real processes, mTLS gRPC on loopback, Flower."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from bench.figures import Figure
from bench.population import VIEW_FILE, one_node
from bench.spans import Split, read_trace, split_sums
from bench.start import NODE_READY, cpu_of, resident, tell_bank, tell_node
from bench.traced import program
from hejin_coordinator import desk
from hejin_coordinator.home import CoordinatorHome, open_home
from hejin_sandbox.memory import fill, found_homes, write_plan
from hejin_sandbox.supervisor import LISTENING, Service, Supervisor
from hejin_sandbox.tables import BANK, REGULATOR

SECTION = "network"
EPSILON, EPSILON_CAP = 8.0, 20.0
NODE_LIMIT = 300.0
"""MB that a node which trains scorecards may hold."""

Through = Callable[[str, str], str]
"""(member, its address) -> the address at which a node dials it."""

# Twenty nodes start at once on a machine that may be busy.
_START_SECONDS, _PLAN_SECONDS = 600.0, 1200.0


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen of the plans that one consortium carried out.

    splits   one a private sum; cpu: seconds of all processes over all of them
    nodes    (resident, peak) of every node afterwards, MB; bank: the coordinator's
    """

    splits: tuple[Split, ...]
    cpu: float
    nodes: tuple[tuple[float, float], ...]
    bank: tuple[float, float]


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return the figures of consortia of 1, 5 and 20 nodes, and of one large node."""
    if quick:
        return _figures(2, 1500, _carry_out(folder / "2", 2, 1500, plans=1))
    figures = []
    for nodes in (1, 5, 20):
        run = _carry_out(folder / str(nodes), nodes, 6000, plans=3)
        figures += _figures(nodes, 6000, run)
    large = _carry_out(folder / "large", 1, 50_000, plans=1)
    return [*figures, *_memory("node of 50,000 enterprises", large)]


def fill_all(folder: Path, nodes: int, enterprises: int) -> None:
    """Give every node in `folder` its enterprises, two nodes at a time."""
    # Fresh processes: what they hold does not count as this one's, and no thread is forked.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(_fill, folder, place, enterprises) for place in range(nodes)]:
            done.result()


def names(nodes: int) -> list[str]:
    """Return the node ids of a consortium."""
    return [f"node-{place + 1:02d}" for place in range(nodes)]


def _fill(folder: Path, place: int, enterprises: int) -> None:
    fill(folder, one_node(place, enterprises))


def _carry_out(folder: Path, nodes: int, enterprises: int, plans: int) -> Run:
    members = names(nodes)
    found_homes(folder, dict.fromkeys(members, enterprises), VIEW_FILE, epsilon_cap=EPSILON_CAP)
    fill_all(folder, nodes, enterprises)
    return carry_out(folder, members, plans, records=folder)


def carry_out(
    folder: Path,
    members: Sequence[str],
    plans: int,
    *,
    records: Path,
    mode: str = "node",
    through: Through = lambda _, address: address,
    begun: Callable[[], None] = lambda: None,
) -> Run:
    """Serve a consortium whose homes lie filled in `folder`, and train scorecards over it.

    records   folder for logs and traces, which must be new
    mode      noise mode of the plans
    through   what each node dials instead of the bank and the regulator
    begun     called when all serve and no plan is made yet
    """
    traces = records / "traces"
    traces.mkdir(parents=True)
    with Supervisor(records / "logs", program=program(traces)) as supervisor:
        services = _start(folder, supervisor, members, through)
        begun()
        before = sum(cpu_of(service.pid) for service in services)
        for _ in range(plans):
            _train(folder, services, mode)
        cpu = sum(cpu_of(service.pid) for service in services) - before
        held = {service.name: resident(service.pid) for service in services}
    bank = read_trace(traces / f"{BANK}.jsonl")
    splits = split_sums(bank, [read_trace(traces / f"{node}.jsonl") for node in members])
    return Run(tuple(splits), cpu, tuple(held[node] for node in members), held[BANK])


def _start(
    folder: Path, supervisor: Supervisor, members: Sequence[str], through: Through
) -> list[Service]:
    """Start everyone; nodes and bank are told the addresses that were free."""
    regulator = supervisor.serve(
        REGULATOR, ["regulator", "serve", "--listen", "127.0.0.1:0"], folder / REGULATOR
    )
    office = regulator.wait_for(LISTENING, _START_SECONDS).group(1)
    tell_bank(folder / BANK, office)
    bank = supervisor.serve(
        BANK, ["coordinator", "serve", "--listen", "127.0.0.1:0"], folder / BANK
    )
    desk_address = bank.wait_for(LISTENING, _START_SECONDS).group(1)
    nodes = []
    for node in members:
        tell_node(folder / node, through(REGULATOR, office), {BANK: through(BANK, desk_address)})
        nodes.append(supervisor.serve(node, ["node", "serve"], folder / node))
    for service in nodes:
        service.wait_for(NODE_READY, _START_SECONDS)
    return [regulator, bank, *nodes]


def _train(folder: Path, services: Sequence[Service], mode: str) -> None:
    """Propose a plan that starts when every node has approved it, and wait for its model."""
    plan = write_plan(folder / "plan.toml", EPSILON, mode=mode)
    with open_home(folder / BANK) as home:
        digest = desk.propose(home, plan, start_when_answered=True).digest
        end = time.monotonic() + _PLAN_SECONDS
        while (state := _state(home, digest)).state != "done":
            for service in services:
                service.check()
            if state.state == "failed" or time.monotonic() > end:
                raise RuntimeError(f"the plan is {state.state}: {state.error}; {state}")
            time.sleep(0.25)


def _state(home: CoordinatorHome, digest: str) -> desk.PlanOverview:
    return next(found for found in desk.overview(home) if found.digest == digest)


def _figures(nodes: int, enterprises: int, run: Run) -> list[Figure]:
    """Medians over the sums of all plans; a plan's first sum also takes the snapshot."""
    name = f"{nodes} node{'s' if nodes > 1 else ''} of {enterprises:,}"
    later = [split for split in run.splits if split.index > 0]
    first = [split for split in run.splits if split.index == 0]
    total = statistics.median(split.total for split in later)

    def part(what: str, value: float) -> Figure:
        return Figure(SECTION, f"{name}: {what}", value, "s", value / total, "the sum")

    return [
        Figure(SECTION, f"{name}: a private sum", total, "s"),
        part("compute", statistics.median(split.compute for split in later)),
        part("fsync", statistics.median(split.fsync for split in later)),
        part("cosign", statistics.median(split.cosign for split in later)),
        part("engine", statistics.median(split.engine for split in later)),
        part("a run's first sum", statistics.median(split.total for split in first)),
        Figure(SECTION, f"{name}: CPU a sum, everyone", run.cpu / len(run.splits), "CPU s"),
        *_memory(name, run),
    ]


def _memory(name: str, run: Run) -> list[Figure]:
    held, peak = (max(node[part] for node in run.nodes) for part in (0, 1))
    return [
        Figure(
            SECTION, f"{name}: a node after training, resident", held, "MB",
            held / NODE_LIMIT, "limit of 300 MB",
        ),
        Figure(
            SECTION, f"{name}: a node's peak", peak, "MB", peak / NODE_LIMIT, "limit of 300 MB"
        ),
        Figure(SECTION, f"{name}: the bank's peak", run.bank[1], "MB"),
    ]  # fmt: skip
