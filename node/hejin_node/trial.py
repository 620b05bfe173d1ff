"""A mapping tried on the first rows of a file: nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from hejin_node import duck
from hejin_node.mapping import SourceMapping
from hejin_node.quarantine import count_rules
from hejin_node.rules import Checker
from hejin_node.source_files import open_file
from hejin_node.sources import silent


@dataclass(frozen=True, slots=True)
class Trial:
    """How many rows of a file's first block would be loaded, and how many not, by rule."""

    good: int
    bad: Mapping[str, int]


def try_mapping(path: Path, mapping: SourceMapping) -> Trial:
    """Check the first rows of a file under a mapping; raises IngestError."""
    source = open_file(path, mapping.sources, mapping.layout)
    with closing(source.blocks(None, silent)) as blocks, duck.locked_down() as connection:
        rules = Checker(mapping, connection).check(next(blocks).table)["_rule"]
    bad = count_rules(rules)
    return Trial(pc.count(rules, mode="only_null").as_py(), bad)
