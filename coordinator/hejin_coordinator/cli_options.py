"""Options that many of the bank's commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path, typer.Option("--home", envvar="HEJIN_HOME", help="The bank's folder.", file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
