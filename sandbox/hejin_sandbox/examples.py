"""Example files of a synthetic cluster (合成数据), as its platform would have them.

The headers are what Chinese systems export; the mapping beside each file says what they mean.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from hejin_sandbox.errors import ExamplesError
from hejin_sandbox.generator import CLUSTERS, generate
from hejin_sandbox.inputs import from_cluster, write_authorisations, write_labels
from hejin_sandbox.operations import operations

_SCOPE: Final = ("production", "equipment", "trade", "logistics", "fulfilment", "outcome")


def _csv(table: pa.Table, path: Path, encoding: str = "utf-8") -> None:
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink, pa_csv.WriteOptions(quoting_style="needed"))
    path.write_bytes(sink.getvalue().to_pybytes().decode("utf-8").encode(encoding))


def _gb18030(table: pa.Table, path: Path) -> None:
    _csv(table, path, "gb18030")


def _excel(table: pa.Table, path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet("月报")
    sheet.append(table.column_names)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        sheet.append(row)
    book.save(path)


def _parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path)


@dataclass(frozen=True, slots=True)
class _Example:
    """How one data set leaves its system: which file, and what its columns are called there."""

    file: str
    write: Callable[[pa.Table, Path], None]
    headers: Mapping[str, str]


_ENTERPRISE: Final = "统一社会信用代码"
_EXAMPLES: Final[Mapping[str, _Example]] = {
    "invoices": _Example(
        "invoices.csv",
        _gb18030,
        {
            "direction": "发票方向",
            "counterparty": "对方单位",
            "date": "开票日期",
            "net": "金额",
            "tax": "税额",
            "status": "发票状态",
        },
    ),
    "output": _Example(
        "output.xlsx",
        _excel,
        {
            "month": "月份",
            "product": "产品",
            "quantity": "产量",
            "output_value": "产值",
            "energy": "用电量",
            "headcount": "从业人数",
            "quality_rate": "合格率",
        },
    ),
    "machines": _Example(
        "machines.parquet",
        _parquet,
        {
            "month": "月份",
            "machine": "设备",
            "planned_hours": "计划时长",
            "run_hours": "运行时长",
            "stop_hours": "停机时长",
            "stops": "停机次数",
            "failures": "故障次数",
        },
    ),
    "stock": _Example(
        "stock.csv",
        _csv,
        {"month": "月份", "item": "物料", "stock_value": "库存金额", "issued_value": "出库金额"},
    ),
    "shipments": _Example(
        "shipments.csv",
        _gb18030,
        {
            "sent": "发货日期",
            "destination": "目的地",
            "weight": "重量",
            "freight": "运费",
            "due": "应到日期",
            "arrived": "到货日期",
        },
    ),
    "orders": _Example(
        "orders.parquet",
        _parquet,
        {
            "ordered": "下单日期",
            "customer": "客户",
            "amount": "订单金额",
            "promised": "承诺交付日期",
            "delivered": "实际交付日期",
            "returned": "退货日期",
            "returned_amount": "退货金额",
        },
    ),
}

_WORDS: Final = {"out": "销项", "in": "进项", "valid": "有效发票", "void": "作废发票"}


def write_examples(
    folder: Path,
    cluster: str,
    enterprises: int,
    seed: int,
    *,
    first: int = 0,
    bank: str = "bank-1",
    today: dt.date,
) -> tuple[Path, ...]:
    """Write a cluster's files into `folder`, which is made, and return their paths.

    first   number of the first enterprise's synthetic code: clusters should not share any
    today   every authorisation holds from the day before it for a year
    raises  ExamplesError for a cluster that is not there, or a folder that is
    """
    found = [one for one in CLUSTERS if one.id == cluster]
    if not found:
        names = ", ".join(one.id for one in CLUSTERS)
        raise ExamplesError(
            f"there is no pilot cluster {cluster}: choose one of {names}.",
            f"没有试点集群 {cluster}：请从 {names} 中选择。",
        )
    data = generate(found[0], enterprises, seed)
    node = from_cluster(data, first)
    tables = {"invoices": _in_words(node.records), **operations(data, node.codes, seed)}
    _make(folder)
    written = []
    for dataset, example in _EXAMPLES.items():
        table, path = tables[dataset], folder / example.file
        headers = [_ENTERPRISE, *(example.headers[name] for name in table.column_names[1:])]
        example.write(table.rename_columns(headers), path)
        mapping = folder / f"{dataset}.toml"
        shipped = resources.files("hejin_sandbox") / "example_mappings" / mapping.name
        mapping.write_bytes(shipped.read_bytes())
        written += [path, mapping]
    authorisations, outcomes = folder / "authorisations.csv", folder / "outcomes.csv"
    write_authorisations(
        node.codes, authorisations, bank=bank, categories=_SCOPE, features=["*"], today=today
    )
    write_labels(node.codes, node.labels, outcomes)
    return (*written, authorisations, outcomes)


def _in_words(invoices: pa.Table) -> pa.Table:
    """Return invoices with direction and status in the words of a tax system's export."""
    for name in ("direction", "status"):
        place, column = invoices.column_names.index(name), invoices.column(name)
        for code, word in _WORDS.items():
            column = pc.if_else(pc.equal(column, code), word, column)
        invoices = invoices.set_column(place, name, column)
    return invoices


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError as reason:
        raise ExamplesError(
            f"{folder} is there already: name a new folder.", f"{folder} 已存在：请指定新文件夹。"
        ) from reason
    except OSError as reason:
        raise ExamplesError(
            f"{folder} cannot be made ({reason.strerror}): name another folder.",
            f"无法创建 {folder}（{reason.strerror}）：请指定其他文件夹。",
        ) from reason
