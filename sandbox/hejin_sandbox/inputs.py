"""What each node of a sandbox is given: records, mapping, labels and authorisations, as files."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hejin_models.features import ColumnType, Dataset, FeatureView
from hejin_models.uscc import MOST_SYNTHETIC, make_code
from hejin_node.bulk import CSV_COLUMNS
from hejin_sandbox.errors import TableError
from hejin_sandbox.generator import SYNTHETIC, ClusterData
from hejin_sandbox.tables import Group
from hejin_trust.text import Text


@dataclass(frozen=True, slots=True)
class NodeData:
    """All that one node knows: `labels[i]` (1 is bad) is the outcome of enterprise `codes[i]`.

    records   the columns of the view's one data set, `enterprise` first
    """

    id: str
    name: Text
    codes: tuple[str, ...]
    labels: npt.NDArray[np.int8]
    records: pa.Table


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files of one node, as its operator would have them."""

    records: Path
    mapping: Path
    labels: Path
    authorisations: Path


def only_dataset(view: FeatureView) -> Dataset:
    """Return the one data set of a view; TableError if it reads several."""
    if len(view.datasets) != 1:
        raise TableError(
            f"view {view.id} reads {len(view.datasets)} data sets; a table is one. Use another"
            " view, or none.",
            f"视图 {view.id} 读取 {len(view.datasets)} 个数据集,而一张表只是一个。"
            "请换用其他视图或不指定。",
        )
    return view.datasets[0]


def match_columns(
    table: pa.Table, dataset: Dataset, *, forbidden: Mapping[str, Text]
) -> dict[str, str]:
    """Return the table's column for each column of the data set: the same name, case aside.

    forbidden  columns that no view may read here, and why (the label, excluded ones)
    raises     TableError for a column that is absent, ambiguous or forbidden
    """
    found = {}
    for name in dataset.columns:
        exact = [column for column in table.column_names if column == name]
        alike = exact or [c for c in table.column_names if c.lower() == name]
        if len(alike) != 1:
            raise TableError(
                f"the view needs the column {name}, and the table has {len(alike)} of that name;"
                " choose a view made for this table, or none.",
                f"视图需要列 {name},而数据表中该名称的列有 {len(alike)} 个;"
                "请选用为本表编写的视图,或不指定视图。",
            )
        if alike[0] in forbidden:
            reason = forbidden[alike[0]]
            raise TableError(
                f"the view reads the column {alike[0]}, which is {reason.en}; choose another view.",
                f"视图读取列 {alike[0]},而该列为{reason.zh};请更换视图。",
            )
        found[name] = alike[0]
    return found


def from_table(
    table: pa.Table,
    labels: npt.NDArray[np.int8],
    groups: Sequence[Group],
    dataset: Dataset,
    sources: Mapping[str, str],
) -> list[NodeData]:
    """Return each group's data; row i of the table becomes the synthetic enterprise number i."""
    if table.num_rows > MOST_SYNTHETIC:
        raise TableError(
            f"the table has {table.num_rows} rows, at most {MOST_SYNTHETIC} are taken.",
            f"数据表有 {table.num_rows} 行,最多支持 {MOST_SYNTHETIC} 行。",
        )
    columns = {
        name: _typed(table.column(sources[name]), kind, sources[name])
        for name, kind in dataset.columns.items()
    }
    typed = pa.table(columns)
    nodes = []
    for group in groups:
        codes = tuple(make_code(int(row)) for row in group.rows)
        records = typed.take(pa.array(group.rows)).add_column(0, "enterprise", pa.array(codes))
        nodes.append(NodeData(group.id, group.name, codes, labels[group.rows], records))
    return nodes


def from_cluster(data: ClusterData, first_code: int) -> NodeData:
    """Return a generated cluster as a node's data, its name marked as synthetic."""
    invoices, cluster = data.invoices, data.cluster
    codes = tuple(make_code(first_code + i) for i in range(len(data.labels)))
    parties = range(int(invoices.counterparty.max(initial=-1)) + 1)
    partner = pa.array([f"SYN-{cluster.id}-{number}" for number in parties], pa.string())
    records = pa.table(
        {
            "enterprise": pa.array(codes).take(pa.array(invoices.enterprise)),
            "direction": pa.array(["in", "out"]).take(pa.array(invoices.sale.astype(np.int8))),
            "counterparty": partner.take(pa.array(invoices.counterparty)),
            "date": pa.array(invoices.date, pa.date32()),
            "net": invoices.net,
            "tax": invoices.tax,
            "status": pa.array(["valid", "void"]).take(pa.array(invoices.void.astype(np.int8))),
        }
    )
    name = Text(
        f"{cluster.name.en} ({SYNTHETIC.en})",
        f"{cluster.name.zh}({SYNTHETIC.zh})",
    )
    note = {"hejin": f"{SYNTHETIC.zh} {SYNTHETIC.en}".encode()}
    return NodeData(cluster.id, name, codes, data.labels, records.replace_schema_metadata(note))


def write_inputs(
    node: NodeData, view: FeatureView, bank: str, folder: Path, today: dt.date
) -> InputFiles:
    """Write a node's files into `folder` (created); every enterprise authorises `bank`."""
    dataset = only_dataset(view)
    folder.mkdir(parents=True, exist_ok=True)
    files = InputFiles(
        records=folder / f"{dataset.name}.parquet",
        mapping=folder / "mapping.toml",
        labels=folder / "labels.csv",
        authorisations=folder / "authorisations.csv",
    )
    pq.write_table(node.records, files.records)
    files.mapping.write_text(_mapping(dataset), "utf-8")
    write_labels(node.codes, node.labels, files.labels)
    write_authorisations(
        node.codes,
        files.authorisations,
        bank=bank,
        categories=[dataset.category],
        features=[feature.name for feature in view.features],
        today=today,
    )
    return files


def _mapping(dataset: Dataset) -> str:
    lines = [f'dataset = "{dataset.name}"', "", "[enterprise]", 'column = "enterprise"']
    for name, kind in dataset.columns.items():
        lines += ["", f"[columns.{name}]", f'type = "{kind}"']
    return "\n".join(lines) + "\n"


def _typed(column: pa.ChunkedArray, kind: ColumnType, source: str) -> pa.ChunkedArray:
    """Return a column in the data set's type; TableError where it is of another nature."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    try:
        if kind == "text":
            return pc.cast(column, pa.string())
        if kind == "date":
            return pc.cast(column, pa.date32())
        if kind == "number":
            return pc.cast(column, pa.float64(), safe=False)
        if pa.types.is_floating(column.type):  # whole numbers with gaps come as floats
            column = pc.if_else(pc.is_finite(column), column, None)
        return pc.cast(column, pa.int64())
    except pa.ArrowException as reason:
        raise TableError(
            f"the view takes column {source} as {kind}, and the table has {column.type} there;"
            " choose another view, or convert the column.",
            f"视图将列 {source} 视为 {kind},而表中为 {column.type};请更换视图或转换该列。",
        ) from reason


def write_authorisations(
    codes: Sequence[str],
    path: Path,
    *,
    bank: str,
    categories: Sequence[str],
    features: Sequence[str],
    today: dt.date,
) -> None:
    """Write a bulk file: every enterprise lets `bank` train, from yesterday for a year."""
    scope = (
        "B",
        "model-training",
        bank,
        ";".join(categories),
        ";".join(features),
        (today - dt.timedelta(days=1)).isoformat(),
        (today + dt.timedelta(days=365)).isoformat(),
    )
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for code in codes:
            # There is no signed document in a sandbox; its hash is that of a stand-in text.
            document = hashlib.sha256(f"sandbox authorisation of {code}".encode()).hexdigest()
            writer.writerow([code, document, *scope])


def write_labels(codes: Sequence[str], labels: npt.NDArray[np.int8], path: Path) -> None:
    """Write outcomes, one row an enterprise: 1 is bad."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["enterprise", "label"])
        writer.writerows(zip(codes, labels.tolist(), strict=True))
