"""Feature views installed at the node: checked before they are kept, found by their hash."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from hejin_models.features import FeatureView
from hejin_models.schemas import Schema
from hejin_node.errors import ViewTakenError
from hejin_node.view_check import SelfCheck, check_view
from hejin_trust.files import replace_file


def install_view(
    folder: Path, data: bytes, schemas: Mapping[str, Schema], today: dt.date
) -> tuple[FeatureView, SelfCheck]:
    """Check a view file's bytes, keep them in `folder`, and return the view.

    A name and version stand for the same bytes for ever: other bytes need another version.
    raises  ViewError, QueryError and ViewRefusedError as `check_view`, ViewTakenError, FileError
    """
    view = FeatureView.parse(data)
    for other in installed_views(folder):
        if other.id == view.id and other.digest != view.digest:
            raise ViewTakenError(
                f"View {view.id} is installed here with other bytes (hash {other.digest[:12]}): the"
                " publisher must give the changed view a new version.",
                f"视图 {view.id} 已安装且内容不同（哈希 {other.digest[:12]}）："
                "发布者须为修改后的视图使用新版本号。",
            )
    passed = check_view(view, schemas, today)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(folder / f"{view.id}.{view.digest[:12]}.toml", data)
    return view, passed


def installed_views(folder: Path) -> tuple[FeatureView, ...]:
    """Return the installed views, by name."""
    return tuple(FeatureView.load(path) for path in sorted(folder.glob("*.toml")))
