"""One trained plan of `bench.accuracy`, and the file that keeps all of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

POINTS = Path(__file__).parent / "accuracy.jsonl"
Carrier = Literal["memory", "processes"]


@dataclass(frozen=True, slots=True)
class Point:
    """One plan, carried out: AUC on its hold-out enterprises, by their true labels.

    seed      of the split into nodes; noise and hold-out are never seeded
    carrier   in one process, or `hejin sandbox run` with a process a member
    pooled    the same scorecard from the exact sums over all nodes' data
    lightgbm  boosted trees on all nodes' data; None where it was not trained
    """

    table: str
    seed: int
    mode: str
    epsilon: float
    carrier: Carrier
    auc: float
    pooled: float
    lightgbm: float | None
    seconds: float


def keep(path: Path, point: Point) -> None:
    """Add a point to the file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(point)) + "\n")


def read(path: Path) -> list[Point]:
    """Return the points of an earlier run; none where there was none."""
    if not path.exists():
        return []
    return [Point(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]
