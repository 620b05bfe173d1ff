"""What a bad outcome is: label definitions, versioned TOML files that are told apart by hash."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from hejin_models.errors import DefinitionError
from hejin_models.toml_table import read_toml
from hejin_trust.text import Text

MOST_DAYS: Final = 3650
MOST_MONTHS: Final = 120

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,55}")
_WHAT: Final = Text("label definition", "标签定义")


@dataclass(frozen=True, slots=True)
class LabelDefinition:
    """Which outcomes are bad; `digest` (hex SHA-256 of the file) tells two apart for sure.

    days_overdue   a loan this many days overdue, or more, is bad
    window_months  if it was so at any time within so many months after the observation date
    """

    name: str
    version: int
    days_overdue: int
    window_months: int
    text: Text
    digest: str

    @property
    def id(self) -> str:
        """The name that plans, files and people use: `name-vVERSION`."""
        return f"{self.name}-v{self.version}"

    def label(self, days_overdue: int) -> int:
        """Return 1, bad, or 0, good, for the most days that a loan was overdue in the window."""
        return int(days_overdue >= self.days_overdue)

    @classmethod
    def parse(cls, data: bytes) -> LabelDefinition:
        """Return what a TOML file's bytes define; raises DefinitionError."""
        table = read_toml(data, _WHAT, DefinitionError)
        name = table.name("name", _NAME)
        version = table.integer("version", 1, 9999)
        days = table.integer("days_overdue", 1, MOST_DAYS)
        months = table.integer("window_months", 1, MOST_MONTHS)
        written = table.table("text")
        text = written.both()
        written.close()
        table.close()
        return cls(name, version, days, months, text, hashlib.sha256(data).hexdigest())


def definition_file(named: str, folder: Path) -> bytes:
    """Return the bytes of the definition with an id: `folder`/ID.toml, or the one that is shipped.

    raises   DefinitionError if there is neither, or a file defines another id than its name says
    """
    shipped = resources.files("hejin_models") / "definitions"
    known = sorted(file.name.removesuffix(".toml") for file in shipped.iterdir()
                   if file.name.endswith(".toml"))  # fmt: skip
    own = sorted(path.stem for path in folder.glob("*.toml"))
    if named in known:
        # A shipped one means the same everywhere: no file of the same name replaces it.
        return (shipped / f"{named}.toml").read_bytes()
    if named not in own:
        listed = ", ".join([*known, *own])
        raise DefinitionError(
            f"there is no label definition of that name; there are {listed}. Write"
            f" ID.toml in {folder} to define another one.",
            f"没有该名称的标签定义；现有 {listed}。可在 {folder} 中编写 ID.toml 定义。",
        )
    try:
        data = (folder / f"{named}.toml").read_bytes()
    except OSError as reason:
        raise DefinitionError(
            f"{folder / named}.toml cannot be read ({reason.strerror}): check its rights",
            f"无法读取 {folder / named}.toml（{reason.strerror}）：请检查权限",
        ) from reason
    defined = LabelDefinition.parse(data).id
    if defined != named:
        raise DefinitionError(
            f"{named}.toml defines {defined}: name the file as it says, NAME-vVERSION.toml",
            f"{named}.toml 定义的是 {defined}：文件名应为 NAME-vVERSION.toml",
        )
    return data
