"""Sensitivity grades (数据分级) of data: an order, and their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from hejin_trust.text import Text

Grade = Literal["general", "important", "core"]

#: From the least to the most sensitive.
GRADES: Final[tuple[Grade, ...]] = get_args(Grade)

GRADE_NAMES: Final[Mapping[Grade, Text]] = {
    "general": Text("general", "一般"),
    "important": Text("important", "重要"),
    "core": Text("core", "核心"),
}


def highest(grades: Iterable[Grade]) -> Grade:
    """Return the most sensitive of some grades; "general" of none."""
    return max(grades, key=GRADES.index, default="general")
