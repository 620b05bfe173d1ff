"""Whether the data that a view reads stand ready, as manifest and stored checks say."""

from __future__ import annotations

from hejin_models.features import Dataset, FeatureView
from hejin_models.plan_rules import Problem
from hejin_node.errors import QueryError
from hejin_node.home import NodeHome
from hejin_node.manifest import check_columns
from hejin_node.quality_check import gate_problems
from hejin_node.segments import Columns
from hejin_trust.database import reading
from hejin_trust.text import Text


def data_problems(home: NodeHome, view: FeatureView) -> list[Problem]:
    """Return why plans over a view cannot be approved as the warehouse stands.

    They are decided before a plan is approved; no query of a run is ever refused for them.
    """
    with reading(home.database) as connection:
        quality = gate_problems(connection, home.schemas(), view)
    found = (_unready(item, home.warehouse.columns("data", item.name)) for item in view.datasets)
    return [*(problem for problem in found if problem is not None), *quality]


def _unready(item: Dataset, present: Columns | None) -> Problem | None:
    if present is None:
        said = Text(
            f"data set {item.name} has no rows: load it with `hejin node ingest`",
            f"数据集 {item.name} 没有数据：请用 `hejin node ingest` 载入",
        )
        return Problem("data-missing", said)
    try:
        check_columns(item.name, {"enterprise": "text", **item.columns}, present)
    except QueryError as reason:
        return Problem("data-columns", reason.text)
    return None
