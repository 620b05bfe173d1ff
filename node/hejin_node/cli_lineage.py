"""The node's command about lineage: which sources data, features and checks come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hejin_node.cli_options import AsJson, Home
from hejin_trust.commands import says, wrong_usage
from hejin_trust.listing import print_table
from hejin_trust.text import Text

if TYPE_CHECKING:
    from hejin_models.features import FeatureView
    from hejin_node.feature_lineage import FeatureOrigin, Reads
    from hejin_node.home import NodeHome
    from hejin_node.lineage import Origin


@says("将数据、特征或质量检查追溯到其来源。")
def data_lineage(
    home: Home,
    enterprise: Annotated[
        str | None, typer.Option(), Text("Only this enterprise's rows.", "仅该企业的行。")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(), Text("Only this data set.", "仅该数据集。")
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(),
        Text(
            "Also each feature of an installed view: trade-v1.",
            "另列已安装视图的各个特征，例如 trade-v1。",
        ),
    ] = None,
    report: Annotated[
        int | None,
        typer.Option(min=1),
        Text("What a quality check covers, by its number.", "按编号查看一次质量检查所涵盖的来源。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Trace data, features or a quality check back to the sources they come from."""
    from hejin_node import lineage
    from hejin_node.feature_lineage import feature_origins
    from hejin_node.home import open_home

    if report is not None and (enterprise, dataset, view) != (None, None, None):
        raise wrong_usage(
            "--report goes alone: it names its data set",
            "--report 须单独使用：它已指明数据集",
        )
    with open_home(home) as node:
        if report is not None:
            result, found = lineage.report(node.warehouse, report)
            title = Text(
                f"quality check {report} of {result.dataset}, {result.checked}",
                f"{result.dataset} 的第 {report} 号质量检查，{result.checked}",
            )
        else:
            code = None if enterprise is None else enterprise.strip()
            found = lineage.origins(node.warehouse, dataset, code)
            title = Text(f"{len(found)} sources", f"来源 {len(found)} 个")
        asked = None if view is None else _installed(node, view)
        features = () if asked is None else feature_origins(asked, node.schemas())
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "sources": [_source_json(one) for one in found],
                    "features": [_feature_json(one, found) for one in features],
                },
                ensure_ascii=False,
            )
        )
        return
    _show_sources(title, found)
    if features:
        _show_features(features, found)


def _installed(node: NodeHome, name: str) -> FeatureView:
    from hejin_node.home import ViewMissingError
    from hejin_node.views import installed_views

    for view in installed_views(node.views_folder):
        if view.id == name:
            return view
    raise ViewMissingError(
        f"no feature view {name} is installed here: `hejin node view list` shows those that are",
        f"本节点未安装特征视图 {name}：可用 `hejin node view list` 查看",
    )


def _loads_of(reads: Reads, found: Sequence[Origin]) -> list[int]:
    """Return the loads whose rows such columns come from."""
    return [
        one.load.id
        for one in found
        if one.load.kind == "data" and one.load.dataset in reads and one.rows
    ]


def _source_json(one: Origin) -> Mapping[str, object]:
    load = one.load
    return {
        "load": load.id,
        "kind": load.kind,
        "dataset": load.dataset,
        "name": load.name,
        "sha256": load.source,
        "mapping": load.mapping,
        "completed": load.completed,
        "withdrawn": load.withdrawn,
        "corrects": load.corrects,
        "loaded": load.counts.loaded,
        "rows": one.rows,
        "quarantined": one.quarantined,
    }


def _feature_json(one: FeatureOrigin, found: Sequence[Origin]) -> Mapping[str, object]:
    return {
        "feature": one.feature,
        "reads": {name: list(columns) for name, columns in one.reads.items()},
        "moved_by": {name: list(columns) for name, columns in one.moved_by.items()},
        "loads": _loads_of(one.told, found),
    }


def _show_sources(title: Text, found: Sequence[Origin]) -> None:
    typer.echo(title)
    for one in found:
        load = one.load
        corrects = "" if load.corrects is None else f" ({load.corrects} ←)"
        rows = Text(
            f"{one.rows:,} rows, {one.quarantined:,} in quarantine",
            f"{one.rows:,} 行，隔离 {one.quarantined:,} 行",
        )
        gone = Text(f"withdrawn {load.withdrawn}", f"已撤回 {load.withdrawn}")
        told = gone if load.withdrawn else load.completed
        typer.echo(f"{load.id:>6}{corrects}  {load.dataset}  {load.name}  {rows}  {told}")
        typer.echo(f"        {Text('content', '内容')} sha256 {load.source}")
        if load.mapping:
            typer.echo(f"        {Text('mapping', '映射')} sha256 {load.mapping}")


def _show_features(features: Sequence[FeatureOrigin], found: Sequence[Origin]) -> None:
    from rich.table import Table

    table = Table(title=str(Text("Features", "特征")))
    for head in (
        Text("feature", "特征"),
        Text("computed from", "计算所用列"),
        Text("loads", "导入"),
    ):
        table.add_column(str(head), overflow="fold")
    for one in features:
        told = one.told
        columns = "; ".join(f"{name}: {', '.join(listed)}" for name, listed in told.items())
        loads = ", ".join(map(str, _loads_of(told, found)))
        table.add_row(one.feature, columns, loads)
    print_table(table)
