"""Lineage: from an enterprise or a quality check back to the sources that were loaded."""

from __future__ import annotations

from dataclasses import dataclass

from hejin_node import quality_store
from hejin_node.errors import NodeError
from hejin_node.manifest import Load
from hejin_node.quality_store import Result
from hejin_node.warehouse import Warehouse
from hejin_trust.database import reading


class NoReportError(NodeError):
    """There is no quality report with that number."""

    code = "no-report"


@dataclass(frozen=True, slots=True)
class Origin:
    """A load, and how many of its rows there are now.

    They may have been erased, corrected or withdrawn: a load that was withdrawn is told without
    rows, so that an older check still traces back to it.

    quarantined  those of its rows that are in quarantine now
    """

    load: Load
    rows: int
    quarantined: int


def origins(
    warehouse: Warehouse, dataset: str | None = None, enterprise: str | None = None
) -> tuple[Origin, ...]:
    """Return where data and labels come from, oldest load first.

    dataset     of one data set; None for all, labels as well
    enterprise  only loads that hold rows of this enterprise, and only its rows
    raises      SegmentError
    """
    found = []
    loads = [load for load in warehouse.loads(dataset) if load.state == "complete"]
    gone = warehouse.withdrawn(dataset)
    named = list(dict.fromkeys((load.kind, load.dataset) for load in loads))
    held = {(kind, name): warehouse.rows_by_load(kind, name, enterprise) for kind, name in named}
    refused = {
        name: warehouse.rows_by_load("quarantine", name, enterprise)
        for name in dict.fromkeys(name for _, name in named)
    }
    for load in loads:
        rows = held[load.kind, load.dataset].get(load.id, 0)
        quarantined = refused[load.dataset].get(load.id, 0)
        if rows or quarantined or enterprise is None:
            found.append(Origin(load, rows, quarantined))
    if enterprise is None:
        found += [Origin(load, 0, 0) for load in gone]
    return tuple(sorted(found, key=lambda one: one.load.id))


def report(warehouse: Warehouse, number: int) -> tuple[Result, tuple[Origin, ...]]:
    """Return a stored quality check and the loads that it covers; NoReportError."""
    with reading(warehouse.database) as connection:
        result = quality_store.find(connection, number)
    if result is None:
        raise NoReportError(
            f"There is no quality check {number}: `hejin node quality check` tells its number.",
            f"没有编号为 {number} 的质量检查：`hejin node quality check` 会给出编号。",
        )
    return result, tuple(
        origin
        for origin in origins(warehouse, result.dataset)
        if origin.load.kind == "data" and origin.load.id in result.loads
    )
