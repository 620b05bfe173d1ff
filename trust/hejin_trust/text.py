"""User-visible text in Chinese and English, and the choice between them."""

from __future__ import annotations

import locale
import os
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


def current_language() -> Language:
    """Return the language to speak: HEJIN_LANG if set to en or zh, else the locale's."""
    chosen = os.environ.get("HEJIN_LANG", "")
    if chosen in ("en", "zh"):
        return "zh" if chosen == "zh" else "en"
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "zh" if (locale.getlocale()[0] or "").lower().startswith("zh") else "en"


@dataclass(frozen=True, slots=True)
class Text:
    """One sentence or label in both languages; `str()` gives the current one."""

    en: str
    zh: str

    def __str__(self) -> str:
        return self.zh if current_language() == "zh" else self.en

    def body(self) -> dict[str, str]:
        """Return it as signed documents and `--json` have it."""
        return {"en": self.en, "zh": self.zh}
