"""A page to read and print: one HTML file in Chinese and English, with no script.

Both languages are in the file, and a switch without script shows and prints one of them: one file,
with one hash, is the record. Its content security policy forbids everything but its own style.

A room that writes pages has a folder `templates`: a template that extends `page.html.jinja`
(blocks `title`, `language` and `main`) and a style of its own beside `page.css`.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hejin_console import chart
from hejin_trust.text import Language, Text


def render(package: str, template: str, style: str, language: Language, **values: object) -> str:
    """Return a page as HTML.

    package   import name of the room whose `templates` hold `template` and `style`
    language  the one that the page opens in
    values    what the template writes; every text of them is escaped
    """
    environment = _environment(package)
    assert environment.loader is not None
    css = "".join(
        environment.loader.get_source(environment, file)[0] for file in ("page.css", style)
    )
    return environment.get_template(template).render(
        language=language,
        style=Markup(css),  # noqa: S704 - our own files, which no value reaches
        style_hash=base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii"),
        **values,
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
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("hejin_console")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["both"] = both
    environment.globals["size"] = chart
    return environment
