"""What a sandbox run is about: the nodes and their data, the view, the privacy asked for."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from pathlib import Path

from hejin_coordinator.proposal import default_mode, shared_defaults
from hejin_models.features import FeatureView, view_file
from hejin_privacy.accounting import rho_for
from hejin_sandbox.errors import TableError
from hejin_sandbox.generator import AS_OF, CLUSTERS, SYNTHETIC, generate
from hejin_sandbox.inputs import NodeData, from_cluster, from_table, match_columns, only_dataset
from hejin_sandbox.proposal import NOT_PRIVATE, propose_view
from hejin_sandbox.story import Story
from hejin_sandbox.tables import (
    check_columns,
    dirichlet_groups,
    groups_by,
    label_column,
    read_table,
)
from hejin_trust.text import Text

#: Enterprises of each cluster in `hejin demo`; the programme begins with 20.
DEMO_ENTERPRISES = 4000
_PROGRAMME_ENTERPRISES = 20


@dataclass(frozen=True, slots=True)
class Request:
    """The guarantee asked for, per enterprise and plan; `seed` never seeds noise.

    mode   noise mode, None: the bank's default for so many nodes
    """

    epsilon: float
    delta: float
    mode: str | None
    seed: int


@dataclass(frozen=True, slots=True)
class Spec:
    """One consortium to run.

    note       what its data is, in a few words for pictures and reports
    view_file  the bytes whose hash the plan names
    """

    title: Text
    note: Text
    request: Request
    view: FeatureView
    view_file: bytes
    nodes: tuple[NodeData, ...]
    as_of: dt.date | None

    @property
    def mode(self) -> str:
        """The plan's noise mode."""
        return self.request.mode or default_mode(len(self.nodes))

    @property
    def enterprises(self) -> int:
        """The number of enterprises of all nodes."""
        return sum(len(node.codes) for node in self.nodes)


@dataclass(frozen=True, slots=True)
class TableRequest:
    """A table to run on: `node_by` names the nodes' column, else `nodes` says how many."""

    path: Path
    label: str
    node_by: str | None
    nodes: int | None
    exclude: tuple[str, ...]
    view: str | None


def table_spec(request: Request, asked: TableRequest, story: Story) -> Spec:
    """Return the consortium that a user's table makes; TableError says why it makes none."""
    table = read_table(asked.path)
    named = [asked.label, *([] if asked.node_by is None else [asked.node_by]), *asked.exclude]
    check_columns(table, named)
    if asked.node_by == asked.label:
        raise TableError(
            "the label cannot also name the nodes; choose another --node-by.",
            "标签列不能同时用于划分节点；请更换 --node-by。",
        )
    labels = label_column(table, asked.label)
    groups = (
        groups_by(table, asked.node_by)
        if asked.node_by is not None
        else dirichlet_groups(labels, asked.nodes or 0, request.seed)
    )
    title = Text(
        f"{asked.path.name}: {len(groups)} nodes, one bank, one regulator",
        f"{asked.path.name}：{len(groups)} 个节点、一家银行、一个监管端",
    )
    story.title(title)
    if asked.view is None:
        proposal = propose_view(table, exclude=set(named))
        data = proposal.toml.encode()
        sources = {column.name: column.source for column in proposal.columns}
        view = FeatureView.parse(data)
        story.warn(NOT_PRIVATE)
        for column, reason in proposal.left_out:
            story.say(Text(f"left out {column}: {reason.en}", f"未使用列 {column}:{reason.zh}"))
    else:
        data = view_file(asked.view)
        view = FeatureView.parse(data)
        sources = match_columns(table, only_dataset(view), forbidden=_forbidden(asked))
    nodes = from_table(table, labels, groups, only_dataset(view), sources)
    note = Text(f"data of {asked.path.name}", f"数据来自 {asked.path.name}")
    return Spec(title, note, request, view, data, tuple(nodes), None)


def demo_spec(request: Request, story: Story, enterprises: int = DEMO_ENTERPRISES) -> Spec:
    """Return the five pilot clusters with synthetic trade events."""
    data = view_file("trade-v1")
    view = FeatureView.parse(data)
    title = Text(
        f"Five pilot clusters ({SYNTHETIC.en}), one bank, one regulator",
        f"五个试点集群（{SYNTHETIC.zh}）、一家银行、一个监管端",
    )
    story.title(title)
    story.say(
        Text(
            f"Enterprises, invoices and outcomes are {SYNTHETIC.en}: no real firm is described.",
            f"所有企业、发票与违约结果均为{SYNTHETIC.zh}，不描述任何真实企业。",
        )
    )
    for sentence in too_few(request, len(view.features)):
        story.say(sentence)
    nodes = tuple(
        from_cluster(generate(cluster, enterprises, request.seed), first_code=i * enterprises)
        for i, cluster in enumerate(CLUSTERS)
    )
    note = Text(f"{SYNTHETIC.en} data", SYNTHETIC.zh)
    return Spec(title, note, request, view, data, nodes, AS_OF.astype(dt.date))


def too_few(request: Request, features: int) -> tuple[Text, ...]:
    """Say why the programme's first 20 enterprises a cluster cannot train a private model.

    The noise of one count when half of rho pays for the bins (PRIVATE_SUM section 5):
    sqrt(features / (2 rho / 2)) if it is added once, here by every node, or by each 1/h of it.
    """
    nodes = len(CLUSTERS)
    rho = float(rho_for(request.epsilon, request.delta))
    least, colluders = shared_defaults(nodes)
    shared = (request.mode or default_mode(nodes)) == "shared"
    noise = math.sqrt(nodes / (least - colluders if shared else 1) * features / rho)
    few = nodes * _PROGRAMME_ENTERPRISES
    return (
        Text(
            f"Why not 20 enterprises a cluster, as the programme begins? At epsilon"
            f" {request.epsilon:g} each count of defaults carries noise of about"
            f" ±{noise:.0f} enterprises, and {few} enterprises have about {round(0.15 * few)}"
            " defaults: the model would be made of noise.",
            f"为何不按项目起步时每集群 20 家企业演示？在 epsilon {request.epsilon:g} 下，"
            f"每个违约计数的噪声约为 ±{noise:.0f} 家，而 {few} 家企业"
            f"仅约 {round(0.15 * few)} 家违约：所得模型将只是噪声。",
        ),
        Text(
            "Privacy hides each enterprise in a crowd; with thousands, the pattern outweighs the"
            f" noise. So this demo uses {DEMO_ENTERPRISES:,} a cluster. Until clusters have grown"
            " or enough of them have joined, a private model must wait.",
            "隐私保护依靠众多企业相互掩护；企业达到数千家时，规律才会超过噪声。因此本演示每集群使用"
            f" {DEMO_ENTERPRISES:,} 家企业。在企业数量足够或更多集群加入之前，不宜训练隐私模型。",
        ),
    )


def _forbidden(asked: TableRequest) -> dict[str, Text]:
    excluded = Text("excluded by --exclude", "被 --exclude 排除的列")
    return {
        **dict.fromkeys(asked.exclude, excluded),
        asked.label: Text("the label itself", "标签本身"),
    }
