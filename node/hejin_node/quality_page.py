"""The printable quality report (数据集质量报告): one HTML file in Chinese and English."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

from hejin_console.page import render
from hejin_models.quality import DIMENSION_NAMES, DIMENSIONS
from hejin_node import quality_store, quality_words
from hejin_node.home import NodeHome
from hejin_node.quality import months_of
from hejin_node.quality_check import check, gate_problems
from hejin_node.quality_view import Page, Sheet, page_of
from hejin_node.views import installed_views
from hejin_trust.database import reading
from hejin_trust.files import replace_file
from hejin_trust.text import Language

_MOST_RESULTS = 60
"""Of a trend: more dots would run into each other."""


def measure_all(home: NodeHome, tell: Callable[[str], None]) -> Page:
    """Check every data set of a node and return what its report shows.

    tell    is called with the name of each data set before it is read
    raises  what `quality_check.check` raises
    """
    at = home.now()
    sheets = []
    for item in home.warehouse.datasets():
        if item.columns:
            tell(item.name)
            sheets.append(_sheet(home, item.name))
    with reading(home.database) as connection:
        views = [
            (view.id, view.text, gate_problems(connection, home.schemas(), view))
            for view in installed_views(home.views_folder)
        ]
    return page_of(home.member_id, importlib.metadata.version("hejin"), at, sheets, views)


def render_page(page: Page, language: Language) -> str:
    """Return the report as HTML; `language` is the one that it opens in."""
    return render(
        "hejin_node",
        "quality.html.jinja",
        "quality.css",
        language,
        page=page,
        w=quality_words,
        dimensions=[DIMENSION_NAMES[dimension] for dimension in DIMENSIONS],
        names=DIMENSION_NAMES,
    )


def write_page(page: Page, language: Language, file: Path) -> None:
    """Write the report for its owner's eyes alone (0600): it names enterprises; FileError."""
    replace_file(file, render_page(page, language).encode(), mode=0o600)


def _sheet(home: NodeHome, dataset: str) -> Sheet:
    checked = check(home.warehouse, home.schemas(), dataset, home.now())
    schema = checked.measured.schema
    months = () if schema is None else months_of(home.warehouse, schema)
    with reading(home.database) as connection:
        history = quality_store.history(connection, dataset, _MOST_RESULTS)
    covered = set(checked.result.loads)
    loads = [load for load in home.warehouse.loads(dataset) if load.id in covered]
    return Sheet(checked, months, history, loads)
