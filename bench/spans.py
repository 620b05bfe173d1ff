"""Stretches of time, and what they have in common: which process waited for what, and how long."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

Stretch = tuple[float, float]
"""(begin, end), seconds of the machine's monotonic clock, which all processes share."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What one process did, as `bench.traced` wrote it.

    waits    for answers (the bank), for receipts (a node)
    cosigns  for a checkpoint that the regulator has cosigned, from asking to checking it
    """

    sums: tuple[tuple[int, Stretch], ...]
    waits: tuple[Stretch, ...]
    answers: tuple[Stretch, ...]
    fsyncs: tuple[Stretch, ...]
    cosigns: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Where the wall clock of one private sum went, seconds; the four parts make the whole.

    compute  some process was computing; fsync: none was, some waited for its disk;
    cosign   neither, some waited for the regulator to mirror, sync and cosign its log;
    engine   none of these: messages were on their way, or waited to be fetched
    """

    index: int
    compute: float
    fsync: float
    cosign: float
    engine: float

    @property
    def total(self) -> float:
        """The sum's wall-clock time."""
        return self.compute + self.fsync + self.cosign + self.engine


def read_trace(path: Path) -> Trace:
    """Return the trace in a file of JSON lines."""
    found: dict[str, list[tuple[int, Stretch]]] = {}
    for line in path.read_text().splitlines():
        kind, index, begin, end = json.loads(line)
        found.setdefault(kind, []).append((index, (begin, end)))
    plain = {kind: tuple(stretch for _, stretch in spans) for kind, spans in found.items()}
    return Trace(
        tuple(found.get("sum", ())),
        plain.get("wait", ()),
        plain.get("answer", ()),
        plain.get("fsync", ()),
        plain.get("cosign", ()),
    )


def split_sums(bank: Trace, nodes: Sequence[Trace]) -> list[Split]:
    """Return where the time of each of the bank's sums went."""
    return [_split(index, within, bank, nodes) for index, within in bank.sums]


def _split(index: int, within: Stretch, bank: Trace, nodes: Sequence[Trace]) -> Split:
    traces = (bank, *nodes)
    busy = [without([within], clip(bank.waits, within))]
    busy += [without(clip(node.answers, within), clip(node.waits, within)) for node in nodes]
    syncing = [clip(trace.fsyncs, within) for trace in traces]
    asking = [clip(trace.cosigns, within) for trace in traces]
    computing = union(
        stretch
        for mine, disk, witness in zip(busy, syncing, asking, strict=True)
        for stretch in without(mine, [*disk, *witness])
    )
    waiting = union(
        stretch
        for mine, disk in zip(busy, syncing, strict=True)
        for stretch in without(mine, without(mine, disk))
    )
    compute, fsync = length(computing), length(without(waiting, computing))
    cosign = length(without((s for found in asking for s in found), [*computing, *waiting]))
    return Split(index, compute, fsync, cosign, within[1] - within[0] - compute - fsync - cosign)


def clip(stretches: Iterable[Stretch], within: Stretch) -> list[Stretch]:
    """Return the parts of `stretches` inside `within`."""
    low, high = within
    return [(max(a, low), min(b, high)) for a, b in stretches if b > low and a < high]


def union(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return the same moments as disjoint stretches in order."""
    found: list[Stretch] = []
    for begin, end in sorted(stretches):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def without(stretches: Iterable[Stretch], others: Iterable[Stretch]) -> list[Stretch]:
    """Return the moments of `stretches` that are in none of `others`."""
    found = union(stretches)
    for low, high in union(others):
        found = [
            piece
            for begin, end in found
            for piece in ((begin, min(end, low)), (max(begin, high), end))
            if piece[0] < piece[1]
        ]
    return found


def length(stretches: Iterable[Stretch]) -> float:
    """Return the seconds that disjoint stretches last."""
    return sum(end - begin for begin, end in stretches)
