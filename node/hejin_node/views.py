"""Feature views installed at the node: checked before they are kept, found by their hash."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

from hejin_models.features import Dataset, FeatureView
from hejin_node import duck
from hejin_node.errors import QueryError
from hejin_node.segments import arrow_schema
from hejin_trust.files import replace_file

_SOME_DAY: Final = dt.date(2000, 1, 1)


def install_view(folder: Path, data: bytes) -> FeatureView:
    """Check a view file's bytes, keep them in `folder`, and return the view.

    Another file with the same name and version is kept beside it: plans name the hash.
    raises  ViewError, QueryError (its SQL does not run, or gives not all features), FileError
    """
    view = FeatureView.parse(data)
    check_sql(view)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(folder / f"{view.id}.{view.digest[:12]}.toml", data)
    return view


def installed_views(folder: Path) -> tuple[FeatureView, ...]:
    """Return the installed views, by name."""
    return tuple(FeatureView.load(path) for path in sorted(folder.glob("*.toml")))


def check_sql(view: FeatureView) -> None:
    """Run a view's SQL over empty data sets; QueryError unless it gives all that it declares."""
    with duck.locked_down() as connection:
        result = duck.select(
            connection,
            view.source,
            {item.name: _empty(item) for item in view.datasets},
            {"as_of": _SOME_DAY},
        )
    declared = ("enterprise", *(feature.name for feature in view.features))
    absent = [name for name in declared if name not in result.column_names]
    if absent:
        names = ", ".join(absent)
        raise QueryError(
            f"The SQL of view {view.id} gives no column {names}: add it to `source`.",
            f"特征视图 {view.id} 的 SQL 未给出列 {names}：请在 `source` 中补上。",
        )


def _empty(item: Dataset) -> duck.Rewindable:
    return duck.Rewindable(arrow_schema({"enterprise": "text", **item.columns}), lambda: iter(()))
