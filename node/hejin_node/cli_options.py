"""Options that many of the node's commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Home = Annotated[
    Path, typer.Option("--home", envvar="HEJIN_HOME", help="The node's folder.", file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Code = Annotated[str, typer.Argument(help="Unified social credit code.")]
CsvEncoding = Annotated[Literal["utf-8", "gb18030"], typer.Option(help="Of a CSV file.")]

# As hejin_models.grades.Grade, which would load all of numpy for `--help`.
Highest = Annotated[
    Literal["general", "important", "core"],
    typer.Option(help="Highest grade of the columns that a plan may touch."),
]
ApproveUpTo = Annotated[
    float | None,
    typer.Option(help="Approve plans of at most this epsilon without the operator."),
]
