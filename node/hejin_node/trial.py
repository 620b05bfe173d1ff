"""A mapping tried on the first rows of a file: nothing is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.compute as pc

from hejin_node import duck
from hejin_node.mapping import SourceMapping
from hejin_node.quarantine import count_rules
from hejin_node.rules import Checker
from hejin_node.source_files import open_file
from hejin_node.sources import rows_before, silent

_ENOUGH: Final = 10_000
"""Rows after which a mapping has shown what it does."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How many of a file's first rows would be loaded, and how many not, by rule."""

    good: int
    bad: Mapping[str, int]


def try_mapping(path: Path, mapping: SourceMapping) -> Trial:
    """Check the first rows of a file under a mapping; raises IngestError."""
    source = open_file(path, mapping.sources, mapping.layout)
    good, bad = 0, Counter[str]()
    with closing(source.blocks(None, silent)) as blocks, duck.locked_down() as connection:
        checker = Checker(mapping, connection)
        for block in blocks:
            rules = checker.check(block.table)["_rule"]
            good += pc.count(rules, mode="only_null").as_py()
            bad.update(count_rules(rules))
            if rows_before(block.place) >= _ENOUGH:
                break
    return Trial(good, dict(bad))
