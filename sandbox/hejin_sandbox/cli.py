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
from hejin_trust.commands import wrong_usage

#: Of one call of `sandbox data`: all of it is held in memory, some 40 kB an enterprise.
MOST_ENTERPRISES = 20_000

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
demo_app = typer.Typer(add_completion=False)


class Split(StrEnum):
    """How `--nodes N` deals out the rows."""

    dirichlet = "dirichlet"


class Mode(StrEnum):
    """Who adds the noise: every node all of it, or all nodes together."""

    node = "node"
    shared = "shared"


@app.callback()
def _sandbox() -> None:
    """A whole consortium on this machine 在本机运行一个完整联盟."""


_Epsilon = Annotated[
    float, typer.Option(min=0.01, max=100, help="Privacy of every enterprise, for the whole plan.")
]
_Delta = Annotated[float, typer.Option(min=1e-15, max=1e-6, help="Delta of the guarantee.")]
_Seed = Annotated[int, typer.Option(min=0, help="Fixes data and partition; noise is never seeded.")]
_Mode = Annotated[
    Mode | None,
    typer.Option(help="Noise: each node all of it, or shared under masks (from 5 nodes on)."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object; the story to stderr.")]
_Keep = Annotated[
    Path | None,
    typer.Option(
        file_okay=False, help="Keep homes, ledgers, logs, pictures and report in this new folder."
    ),
]


@app.command("run")
def run(
    table: Annotated[Path, typer.Option(help="Parquet or CSV file, one row per enterprise.")],
    label: Annotated[str, typer.Option(help="Column with the outcome: 0, or 1 for bad.")],
    epsilon: _Epsilon,
    node_by: Annotated[str | None, typer.Option(help="Column whose values are the nodes.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Column not to use; repeat.")] = None,
    delta: _Delta = 1e-6,
    view: Annotated[
        str | None, typer.Option(help="Feature view: a file, or a shipped one (sba-loans-v1).")
    ] = None,
    seed: _Seed = 1,
    nodes: Annotated[int | None, typer.Option(help="Split into so many nodes instead.")] = None,
    split: Annotated[Split | None, typer.Option(help="How --nodes splits.")] = None,
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
def data(
    out: Annotated[Path, typer.Option(file_okay=False, help="New folder for the files.")],
    cluster: Annotated[
        str, typer.Option(help="anping, yongnian, jingxian, ningjin or gaoyang.")
    ] = "anping",
    enterprises: Annotated[int, typer.Option(min=1, max=MOST_ENTERPRISES)] = 200,
    first: Annotated[
        int, typer.Option(min=0, max=MOST_SYNTHETIC - MOST_ENTERPRISES, help="Number of the first.")
    ] = 0,
    bank: Annotated[str, typer.Option(help="The bank that all enterprises authorise.")] = "bank-1",
    seed: _Seed = 1,
    as_json: _Json = False,
) -> None:
    """Write a cluster's synthetic data as its platform would have them 生成合成示例数据.

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
def demo(
    epsilon: _Epsilon = 2.0,
    delta: _Delta = 1e-6,
    seed: _Seed = 1,
    mode: _Mode = None,
    as_json: _Json = False,
    keep: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Keep all in this new folder, not in hejin-runs/."),
    ] = None,
    no_keep: Annotated[bool, typer.Option("--no-keep", help="Remove all at the end.")] = False,
) -> None:
    """Run the five pilot clusters on synthetic data 五个试点集群（合成数据）."""
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
