"""Options that many of the node's commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hejin_trust.text import Text

Home = Annotated[
    Path,
    typer.Option("--home", envvar="HEJIN_HOME", file_okay=False),
    Text("The node's folder.", "节点的目录。"),
]
AsJson = Annotated[
    bool, typer.Option("--json"), Text("Print one JSON object.", "输出一个 JSON 对象。")
]
Code = Annotated[str, typer.Argument(), Text("Unified social credit code.", "统一社会信用代码。")]
CsvEncoding = Annotated[
    Literal["utf-8", "gb18030"], typer.Option(), Text("Of a CSV file.", "CSV 文件的编码。")
]

# As hejin_models.grades.Grade, which would load all of numpy for `--help`.
Highest = Annotated[
    Literal["general", "important", "core"],
    typer.Option(),
    Text("Highest grade of the columns that a plan may touch.", "计划可读列的最高数据分级。"),
]
ApproveUpTo = Annotated[
    float | None,
    typer.Option(),
    Text(
        "Approve plans of at most this epsilon without the operator.",
        "epsilon 不超过此值的计划无需运营方即可批准。",
    ),
]
