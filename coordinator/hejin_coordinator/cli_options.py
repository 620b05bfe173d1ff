"""Options that many of the bank's commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hejin_trust.text import Text

Home = Annotated[
    Path,
    typer.Option("--home", envvar="HEJIN_HOME", file_okay=False),
    Text("The bank's folder.", "银行的目录。"),
]
AsJson = Annotated[
    bool, typer.Option("--json"), Text("Print one JSON object.", "输出一个 JSON 对象。")
]
