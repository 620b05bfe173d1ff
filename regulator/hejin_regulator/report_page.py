"""The printable report of a verification: one HTML file in Chinese and English."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from hejin_console.page import render
from hejin_regulator import report_words
from hejin_regulator.findings import Verification
from hejin_regulator.report_view import page_of
from hejin_trust.files import replace_file
from hejin_trust.text import Language, current_language


def write_page(verification: Verification, folder: Path, file: Path) -> None:
    """Write the report of a verification of `folder` as UTF-8, opening in the current language.

    raises  FileError where the file cannot be written
    """
    page = render_page(verification, str(folder.resolve()), current_language())
    replace_file(file, page.encode())


def render_page(verification: Verification, folder: str, language: Language) -> str:
    """Return the report as HTML; `language` is the one that it opens in."""
    return render(
        "hejin_regulator",
        "report.html.jinja",
        "report.css",
        language,
        page=page_of(verification, folder, importlib.metadata.version("hejin")),
        w=report_words,
    )
