"""Whether the data that a view reads stand ready, as manifest and stored checks say."""

from __future__ import annotations

from collections.abc import Iterator

from hejin_models.features import Dataset, FeatureView
from hejin_models.plan_rules import Problem
from hejin_node.errors import QueryError
from hejin_node.home import NodeHome
from hejin_node.quality_check import gate_problems
from hejin_node.warehouse import check_columns
from hejin_trust.database import reading
from hejin_trust.text import Text


def data_problems(home: NodeHome, view: FeatureView) -> list[Problem]:
    """Return why plans over a view cannot be approved as the warehouse stands.

    They are decided before a plan is approved; no query of a run is ever refused for them.
    """
    with reading(home.database) as connection:
        quality = gate_problems(connection, home.schemas(), view)
    return [
        *(problem for item in view.datasets for problem in _missing(home, item)),
        *(problem for item in view.datasets for problem in _unfit(home, item)),
        *quality,
    ]


def _missing(home: NodeHome, item: Dataset) -> Iterator[Problem]:
    if home.warehouse.columns("data", item.name) is None:
        said = Text(
            f"data set {item.name} has no rows: load it with `hejin node ingest`",
            f"数据集 {item.name} 没有数据：请用 `hejin node ingest` 载入",
        )
        yield Problem("data-missing", said)


def _unfit(home: NodeHome, item: Dataset) -> Iterator[Problem]:
    present = home.warehouse.columns("data", item.name)
    if present is None:
        return
    try:
        check_columns(item.name, {"enterprise": "text", **item.columns}, present)
    except QueryError as reason:
        yield Problem("data-columns", reason.text)
