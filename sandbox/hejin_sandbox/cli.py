"""`hejin sandbox` and `hejin demo`: a whole consortium on this machine."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hejin_models.uscc import MOST_SYNTHETIC
from hejin_sandbox.errors import RunError
from hejin_sandbox.kept import new_folder
from hejin_sandbox.run import run_consortium
from hejin_sandbox.specs import Request, Spec, TableRequest, demo_spec, table_spec
from hejin_sandbox.story import Story
from hejin_trust.commands import group, says, wrong_usage
from hejin_trust.text import Text

#: Of one call of `sandbox data`: all of it is held in memory, some 40 kB an enterprise.
MOST_ENTERPRISES = 20_000

app = group(Text("A whole consortium on this machine.", "在本机运行一个完整联盟。"))
demo_app = typer.Typer(add_completion=False)


class Split(StrEnum):
    """How `--nodes N` deals out the rows."""

    dirichlet = "dirichlet"


class Mode(StrEnum):
    """Who adds the noise: every node all of it, or all nodes together."""

    node = "node"
    shared = "shared"


_Epsilon = Annotated[
    float,
    typer.Option(min=0.01, max=100),
    Text("Privacy of every enterprise, for the whole plan.", "整个计划对每家企业的隐私损耗。"),
]
_Delta = Annotated[
    float, typer.Option(min=1e-15, max=1e-6), Text("Delta of the guarantee.", "隐私保证的 delta。")
]
_Seed = Annotated[
    int,
    typer.Option(min=0),
    Text("Fixes data and partition; noise is never seeded.", "固定数据与划分；噪声从不使用种子。"),
]
_Mode = Annotated[
    Mode | None,
    typer.Option(),
    Text(
        "Noise: each node all of it, or shared under masks (from 5 nodes on).",
        "噪声：由各节点各自添加，或在掩码下共同添加（5 个节点起）。",
    ),
]
_Json = Annotated[
    bool,
    typer.Option("--json"),
    Text(
        "Print one JSON object; the story to stderr.", "输出一个 JSON 对象；过程说明写到标准错误。"
    ),
]
_Keep = Annotated[
    Path | None,
    typer.Option(file_okay=False),
    Text(
        "Keep homes, ledgers, logs, pictures and report in this new folder.",
        "把各方目录、账本、日志、图片与报告保存到该新目录。",
    ),
]


@app.command("run")
@says("以 TABLE 运行一个监管方、一家银行，每组一个节点，直至核验通过的评分卡。")
def run(
    table: Annotated[
        Path,
        typer.Option(),
        Text("Parquet or CSV file, one row per enterprise.", "Parquet 或 CSV 文件，每家企业一行。"),
    ],
    label: Annotated[
        str,
        typer.Option(),
        Text("Column with the outcome: 0, or 1 for bad.", "结果所在列：0 为正常，1 为违约。"),
    ],
    epsilon: _Epsilon,
    node_by: Annotated[
        str | None,
        typer.Option(),
        Text("Column whose values are the nodes.", "以其取值区分节点的列。"),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(), Text("Column not to use; repeat.", "不使用的列；可重复。")
    ] = None,
    delta: _Delta = 1e-6,
    view: Annotated[
        str | None,
        typer.Option(),
        Text(
            "Feature view: a file, or a shipped one (sba-loans-v1).",
            "特征视图：文件，或自带视图（sba-loans-v1）。",
        ),
    ] = None,
    seed: _Seed = 1,
    nodes: Annotated[
        int | None,
        typer.Option(),
        Text("Split into so many nodes instead.", "改为划分成若干个节点。"),
    ] = None,
    split: Annotated[
        Split | None, typer.Option(), Text("How --nodes splits.", "--nodes 的划分方式。")
    ] = None,
    mode: _Mode = None,
    as_json: _Json = False,
    keep: _Keep = None,
) -> None:
    """Run a regulator, a bank and one node per group on TABLE, to a verified scorecard."""
    if (node_by is None) == (nodes is None):
        raise wrong_usage(
            "give either --node-by COL or --nodes N --split dirichlet",
            "请在 --node-by 列名 与 --nodes 数量 --split dirichlet 中择一给出",
        )
    if (nodes is None) != (split is None):
        raise wrong_usage(
            "--nodes N and --split dirichlet go together",
            "--nodes 与 --split dirichlet 须同时给出",
        )
    story = _story(as_json)
    noise = None if mode is None else mode.value
    request = Request(epsilon=epsilon, delta=delta, mode=noise, seed=seed)
    asked = TableRequest(table, label, node_by, nodes, tuple(exclude or ()), view)
    spec = table_spec(request, asked, story)
    _run(spec, story, keep, as_json)


@app.command("data")
@says(
    "生成一个集群的合成示例数据，格式与其平台所有的一样。\n\n"
    "五个类别的 CSV、Parquet 与 Excel 文件，各自的映射，以及授权与标签："
    "即 `hejin node ingest`、`authorisation import` 与 `labels load` 所需。"
)
def data(
    out: Annotated[
        Path, typer.Option(file_okay=False), Text("New folder for the files.", "存放文件的新目录。")
    ],
    cluster: Annotated[
        str,
        typer.Option(),
        Text(
            "anping, yongnian, jingxian, ningjin or gaoyang.",
            "集群：anping、yongnian、jingxian、ningjin 或 gaoyang。",
        ),
    ] = "anping",
    enterprises: Annotated[
        int, typer.Option(min=1, max=MOST_ENTERPRISES), Text("How many enterprises.", "企业数。")
    ] = 200,
    first: Annotated[
        int,
        typer.Option(min=0, max=MOST_SYNTHETIC - MOST_ENTERPRISES),
        Text("Number of the first.", "第一家企业的序号。"),
    ] = 0,
    bank: Annotated[
        str,
        typer.Option(),
        Text("The bank that all enterprises authorise.", "所有企业所授权的银行。"),
    ] = "bank-1",
    seed: _Seed = 1,
    as_json: _Json = False,
) -> None:
    """Write a cluster's synthetic data as its platform would have them.

    Files of all five categories in CSV, Parquet and Excel, a mapping for each, authorisations and
    outcomes: what `hejin node ingest`, `authorisation import` and `labels load` take.
    """
    from hejin_sandbox.examples import write_examples

    today = dt.datetime.now(dt.UTC).date()
    files = write_examples(out, cluster, enterprises, seed, first=first, bank=bank, today=today)
    if as_json:
        typer.echo(json.dumps({"files": [str(file) for file in files]}))
        return
    for file in files:
        typer.echo(file)


@demo_app.command("demo")
@says("以合成数据运行五个试点集群。")
def demo(
    epsilon: _Epsilon = 2.0,
    delta: _Delta = 1e-6,
    seed: _Seed = 1,
    mode: _Mode = None,
    as_json: _Json = False,
    keep: Annotated[
        Path | None,
        typer.Option(file_okay=False),
        Text(
            "Keep all in this new folder, not in hejin-runs/.",
            "全部保存到该新目录，而不是 hejin-runs/。",
        ),
    ] = None,
    no_keep: Annotated[
        bool, typer.Option("--no-keep"), Text("Remove all at the end.", "结束时全部删除。")
    ] = False,
) -> None:
    """Run the five pilot clusters on synthetic data."""
    if no_keep and keep is not None:
        raise wrong_usage(
            "--keep DIR and --no-keep contradict each other", "--keep 与 --no-keep 相互矛盾"
        )
    story = _story(as_json)
    noise = None if mode is None else mode.value
    spec = demo_spec(Request(epsilon=epsilon, delta=delta, mode=noise, seed=seed), story)
    if keep is None and not no_keep:
        keep = new_folder("demo", dt.datetime.now().astimezone())
    _run(spec, story, keep, as_json)


def _story(as_json: bool) -> Story:
    return Story(Console(file=sys.stderr if as_json else sys.stdout, highlight=False))


def _run(spec: Spec, story: Story, keep: Path | None, as_json: bool) -> None:
    result, kept = run_consortium(spec, story, keep)
    story.finish(result)
    if kept is not None:
        story.guide(kept, _program())
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(result)))
    if not result.verified:
        raise RunError(
            "the ledgers did not verify; the regulator's report above says why.",
            "账本核验未通过；原因见上方监管端报告。",
        )


def _program() -> str:
    """Return what to type for `hejin`: it need not be on the PATH."""
    called = sys.argv[0]
    if Path(called).name != "hejin" or shutil.which("hejin") == shutil.which(called):
        return "hejin"
    return called
