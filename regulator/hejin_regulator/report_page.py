"""The printable report of a verification: one HTML file in Chinese and English, with no script.

Both languages are in the file, and a switch without script shows and prints one of them: one file,
with one hash, is the record. Its content security policy forbids everything but its own style.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hejin_regulator import report_chart, report_words
from hejin_regulator.findings import Verification
from hejin_regulator.report_view import page_of
from hejin_trust.errors import HejinError
from hejin_trust.text import Language, Text, current_language


class ReportError(HejinError):
    """The report cannot be written."""

    code = "report-not-written"


def write_page(verification: Verification, folder: Path, file: Path) -> None:
    """Write the report of a verification of `folder` as UTF-8, opening in the current language.

    raises  ReportError where the file cannot be written
    """
    page = render_page(verification, str(folder.resolve()), current_language())
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as reason:
        raise ReportError(
            f"The report cannot be written to {file} ({reason.strerror}): name a file in a folder "
            "that exists and that you may write to.",
            f"无法将报告写入 {file}（{reason.strerror}）：请指定一个存在且可写的文件夹中的文件。",
        ) from reason


def render_page(verification: Verification, folder: str, language: Language) -> str:
    """Return the report as HTML; `language` is the one that it opens in."""
    environment, style = _environment()
    return environment.get_template("report.html.jinja").render(
        page=page_of(verification, folder, importlib.metadata.version("hejin")),
        language=language,
        style=Markup(style),  # noqa: S704 - our own file, which no value reaches
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii"),
        w=report_words,
        size=report_chart,
    )


def both(text: Text, **values: object) -> Markup:
    """Return a text in both languages, escaped; `values` fill its {places}."""
    en, zh = text.en, text.zh
    if values:
        en, zh = en.format_map(values), zh.format_map(values)
    if en == zh:
        return Markup.escape(en)
    return Markup(
        '<span class="zh" lang="zh-CN">{zh}</span><span class="en" lang="en">{en}</span>'
    ).format(zh=zh, en=en)


@cache
def _environment() -> tuple[Environment, str]:
    environment = Environment(
        loader=PackageLoader("hejin_regulator"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["both"] = both
    assert environment.loader is not None
    return environment, environment.loader.get_source(environment, "report.css")[0]
