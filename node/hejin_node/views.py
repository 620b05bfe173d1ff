"""Feature views installed at the node: checked before they are kept, found by their hash."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from hejin_models.features import FeatureView
from hejin_models.published import check_unchanged
from hejin_models.schemas import Schema
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
    check_unchanged(view, installed_views(folder))
    passed = check_view(view, schemas, today)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(folder / f"{view.id}.{view.digest[:12]}.toml", data)
    return view, passed


def installed_views(folder: Path) -> tuple[FeatureView, ...]:
    """Return the installed views, by name."""
    return tuple(FeatureView.load(path) for path in sorted(folder.glob("*.toml")))
