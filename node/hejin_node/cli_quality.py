"""The node's commands about data quality: check, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hejin_node.cli_options import AsJson, Home
from hejin_trust.commands import group, says
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_node.quality_check import Checked

quality_app = group(Text("Quality of the data sets.", "数据集的质量。"))


_WORST = 5
"""Rules that are shown of a data set on the screen; the JSON has all."""


@quality_app.command("check")
@says("按规则与门槛检查数据集。退出码 0：全部通过；1：有未通过。")
def quality_check(
    home: Home,
    dataset: Annotated[
        str | None, typer.Argument(), Text("One data set; default: all.", "一个数据集；默认全部。")
    ] = None,
    enterprises: Annotated[
        int,
        typer.Option(min=0, max=1000),
        Text("Also show so many with the lowest scores.", "另列得分最低的若干家企业。"),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Check data sets against their rules and gates. Exit 0: all pass; 1: one does not."""
    from hejin_node.home import open_home
    from hejin_node.quality_check import check

    with open_home(home) as node, _progress(shown=not as_json) as tell:
        names = [item.name for item in node.warehouse.datasets() if item.columns]
        found = []
        for name in names if dataset is None else [dataset]:
            tell(name)
            found.append(check(node.warehouse, node.schemas(), name, node.now()))
    if as_json:
        told = [_checked_json(one, enterprises) for one in found]
        typer.echo(json.dumps({"datasets": told}, ensure_ascii=False))
    else:
        _show(found, enterprises)
    raise typer.Exit(1 if any(one.below for one in found) else 0)


@quality_app.command("report")
@says(
    "检查全部数据集并写出数据集质量报告：HTML，中英文，可打印。\n\n报告列有企业：仅供运营方自用。"
)
def quality_report(
    home: Home,
    out: Annotated[
        Path,
        typer.Option(dir_okay=False),
        Text("The HTML file to write, 0600.", "要写出的 HTML 文件，权限 0600。"),
    ],
    as_json: AsJson = False,
) -> None:
    """Check all data sets and write the quality report: HTML, zh/en, to print.

    It names enterprises: it is the operator's own.
    """
    from hejin_node.home import open_home
    from hejin_node.quality_page import measure_all, write_page
    from hejin_trust.text import current_language

    with open_home(home) as node, _progress(shown=not as_json) as tell:
        page = measure_all(node, tell)
    write_page(page, current_language(), out)
    datasets = [sheet.name for sheet in page.sections]
    failed = [sheet.name for sheet in page.sections if sheet.failed]
    if as_json:
        typer.echo(json.dumps({"report": str(out), "datasets": datasets, "failed": failed}))
        return
    typer.echo(
        Text(
            f"wrote {out}: {len(datasets)} data sets, {len(failed)} below their gate",
            f"已写入 {out}：{len(datasets)} 个数据集，{len(failed)} 个未通过门槛",
        )
    )


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[str], None]]:
    """Tell on stderr which data set is being read."""
    from rich.console import Console

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield lambda name: status.update(str(Text(f"checking {name}", f"正在检查 {name}")))


def _show(found: list[Checked], enterprises: int) -> None:
    from hejin_node.quality_check import summary
    from hejin_node.quality_view import share_text, weakest

    for one in found:
        typer.echo(f"{'✗' if one.below else '✓' if one.gate else ' '} {summary(one)}")
        for rule_id, share, text in _broken(one)[:_WORST]:
            typer.echo(f"    {rule_id} {share_text(share)}: {text}")
        for place, mean in weakest(one.measured, enterprises):
            typer.echo(f"    {one.measured.codes[place]} {share_text(mean)}")


def _broken(one: Checked) -> list[tuple[str, float, Text]]:
    """Return the rules that do not always hold, the worst first."""
    tallies = one.measured.tallies
    shares = [
        (rule.id, float(share), rule.text)
        for rule in one.measured.rules
        if (share := tallies[rule.id].share) is not None and share < 1
    ]
    return sorted(shares, key=lambda item: item[1])


def _checked_json(one: Checked, enterprises: int) -> Mapping[str, object]:
    import math

    from hejin_models.quality import DIMENSIONS
    from hejin_node.quality_view import weakest

    measured, result = one.measured, one.result
    scores = measured.enterprise_scores()
    return {
        "report": result.id,
        "dataset": result.dataset,
        "checked": result.checked,
        "rows": result.rows,
        "enterprises": result.enterprises,
        "newest": result.newest,
        "quarantined": dict(measured.quarantined),
        "scores": dict(result.scores),
        "gate": dict(one.gate),
        "passed": result.passed,
        "below": [item.dimension for item in one.below],
        "rules": [
            {
                "id": rule.id,
                "dimension": rule.dimension,
                "applied": result.tallies[rule.id].applied,
                "held": result.tallies[rule.id].held,
            }
            for rule in measured.rules
        ],
        "weakest": [
            {
                "enterprise": measured.codes[place],
                "rows": int(measured.of_rows[place]),
                "score": mean,
                "scores": {
                    dimension: None if math.isnan(score) else float(score)
                    for dimension, score in zip(DIMENSIONS, scores[place], strict=True)
                },
            }
            for place, mean in weakest(measured, enterprises)
        ],
    }
