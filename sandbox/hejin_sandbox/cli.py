"""`hejin sandbox` and `hejin demo`: a whole consortium on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hejin_sandbox.errors import RunError
from hejin_sandbox.run import run_consortium
from hejin_sandbox.specs import Request, TableRequest, demo_spec, table_spec
from hejin_sandbox.story import Result, Story

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
_Mode = Annotated[Mode, typer.Option(help="Noise: each node all of it, or shared by masking.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object; the story to stderr.")]
_Keep = Annotated[
    Path | None,
    typer.Option(file_okay=False, help="Keep homes, ledgers and logs in this new folder."),
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
        str | None, typer.Option(help="Feature view: a file, or a shipped one (sba-loans-1).")
    ] = None,
    seed: _Seed = 1,
    nodes: Annotated[int | None, typer.Option(help="Split into so many nodes instead.")] = None,
    split: Annotated[Split | None, typer.Option(help="How --nodes splits.")] = None,
    mode: _Mode = Mode.node,
    as_json: _Json = False,
    keep: _Keep = None,
) -> None:
    """Run a regulator, a bank and one node per group on TABLE, to a verified scorecard."""
    if (node_by is None) == (nodes is None):
        raise typer.BadParameter("give either --node-by COL or --nodes N --split dirichlet")
    if (nodes is None) != (split is None):
        raise typer.BadParameter("--nodes N and --split dirichlet go together")
    story = _story(as_json)
    request = Request(epsilon=epsilon, delta=delta, mode=mode.value, seed=seed)
    asked = TableRequest(table, label, node_by, nodes, tuple(exclude or ()), view)
    spec = table_spec(request, asked, story)
    _report(run_consortium(spec, story, keep), story, as_json)


@demo_app.command("demo")
def demo(
    epsilon: _Epsilon = 2.0,
    delta: _Delta = 1e-6,
    seed: _Seed = 1,
    mode: _Mode = Mode.node,
    as_json: _Json = False,
    keep: _Keep = None,
) -> None:
    """Run the five pilot clusters on synthetic data 五个试点集群(合成数据)."""
    story = _story(as_json)
    spec = demo_spec(Request(epsilon=epsilon, delta=delta, mode=mode.value, seed=seed), story)
    _report(run_consortium(spec, story, keep), story, as_json)


def _story(as_json: bool) -> Story:
    return Story(Console(file=sys.stderr if as_json else sys.stdout, highlight=False))


def _report(result: Result, story: Story, as_json: bool) -> None:
    story.finish(result)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(result)))
    if not result.verified:
        raise RunError(
            "the ledgers did not verify; the regulator's report above says why.",
            "账本核验未通过;原因见上方监管端报告。",
        )
