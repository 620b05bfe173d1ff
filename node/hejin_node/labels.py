"""Labels: a bank's outcomes for its borrowers, loaded by the operator from a file."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from hejin_node import duck
from hejin_node.errors import IngestError
from hejin_node.ingest import IngestReport
from hejin_node.manifest import Counts
from hejin_node.mapping import ColumnRule, Encoding, SourceMapping
from hejin_node.quarantine import describe_rules, quarantine
from hejin_node.rules import Checker
from hejin_node.segments import Columns
from hejin_node.snapshot import LabelSpec
from hejin_node.source_files import FileSource, open_file
from hejin_node.sources import Progress, silent
from hejin_node.warehouse import Warehouse
from hejin_trust.database import writing
from hejin_trust.log import Log

COLUMNS: Final[Columns] = {"enterprise": "text", "label": "integer"}
_BANK = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DEFINITION = re.compile(r"[^\s/\x00-\x1f]{1,64}")

#: A label may neither change nor contradict itself: whose word would count?
_RULES = """
SELECT _row, enterprise, given.label AS label, _odd, CASE
    WHEN _rule IS NOT NULL THEN _rule
    WHEN held.label <> given.label
      OR min(given.label) OVER same <> max(given.label) OVER same THEN 'label.conflict'
    WHEN held.label IS NOT NULL OR row_number() OVER same_in_order > 1 THEN 'label.duplicate'
    END AS _rule
FROM given LEFT JOIN held USING (enterprise)
WINDOW same AS (PARTITION BY enterprise, _rule IS NULL),
       same_in_order AS (PARTITION BY enterprise, _rule IS NULL ORDER BY _row)
ORDER BY _row
"""


@dataclass(frozen=True, slots=True)
class LabelFile:
    """How a label file is written: the names of its two columns, and the CSV's encoding."""

    enterprise: str = "enterprise"
    label: str = "label"
    encoding: Encoding = "utf-8"


def label_spec(bank: str, definition: str) -> LabelSpec:
    """Return whose labels are meant; IngestError if a name cannot be one."""
    if not _BANK.fullmatch(bank) or not _DEFINITION.fullmatch(definition):
        raise IngestError(
            "A bank is named by its member id, a definition by 1 to 64 characters without "
            "spaces and slashes, such as overdue90-12m-v1.",
            "银行须为其成员编号；标签定义为 1 至 64 个字符，不含空格与斜杠，如 overdue90-12m-v1。",
        )
    return LabelSpec(bank, definition)


def labelled(warehouse: Warehouse, spec: LabelSpec) -> int:
    """Return how many enterprises have an outcome under a definition."""
    return warehouse.rows("labels", spec.dataset)


def load_labels(
    warehouse: Warehouse,
    log: Log,
    path: Path,
    spec: LabelSpec,
    *,
    period: str = "",
    layout: LabelFile = LabelFile(),
    progress: Progress | None = None,
) -> IngestReport:
    """Load a bank's outcomes from CSV or Parquet: one row per enterprise, 1 bad, 0 good.

    log     the node's internal log; its `labels` entry joins the manifest's transaction
    period  what months the outcomes cover, in words
    raises  IngestError, as for `ingest`; the same file again changes nothing

    Quarantined: anything but 0 and 1 (`label.range`, `.type`, `.required`), the same outcome
    again (`label.duplicate`), and every row of an enterprise whose outcomes differ from each
    other or from what is known (`label.conflict`).
    """
    began = time.monotonic()
    mapping = SourceMapping(
        dataset="labels",
        enterprise=layout.enterprise,
        columns=(
            ColumnRule("label", layout.label, "integer", required=True, minimum=0, maximum=1),
        ),
        encoding=layout.encoding,
    )
    opened = open_file(path, mapping.sources, mapping.layout)
    source = opened.digest
    with warehouse.loading("labels", spec.dataset, source, opened.name) as work:
        if work.already:
            return IngestReport(spec.dataset, source, True, 0, {}, 0, time.monotonic() - began)
        raw, typed = _read(opened, mapping, progress or silent)
        checked = judged(warehouse, spec, typed)
        good = checked.filter(pc.is_null(checked["_rule"]))
        if not good.num_rows:
            rules = describe_rules(
                {
                    one["values"]: one["counts"]
                    for one in pc.value_counts(checked["_rule"]).to_pylist()
                }
            )
            raise IngestError(
                f"{opened.name}: none of its {checked.num_rows} rows is a new label ({rules}); "
                "correct the file. Nothing was loaded.",
                f"{opened.name}：{checked.num_rows} 行均不是新标签（{rules}），"
                "请更正文件。未载入任何数据。",
            )
        taken = work.writer("labels", spec.dataset, COLUMNS).write(good)
        counts = quarantine(work, spec.dataset, raw, checked)
        replaced = pc.sum(taken["_odd"]).as_py() or 0
        work.complete(Counts(checked.num_rows, taken.num_rows, counts, replaced))
        with writing(warehouse.database) as connection:
            work.publish(connection)
            log_labels(log, connection, spec, period, source)
    return IngestReport(
        spec.dataset,
        source,
        False,
        taken.num_rows,
        work.counts.quarantined,
        replaced,
        time.monotonic() - began,
    )


def log_labels(log: Log, connection: Connection, spec: LabelSpec, period: str, source: str) -> None:
    """Log labels that are published in the same transaction.

    source   hex SHA-256 of the file, or of the transcript of the private set intersection
    """
    body = {"bank": spec.bank, "definition": spec.definition, "period": period, "source": source}
    log.append(connection, "labels", body)


def judged(warehouse: Warehouse, spec: LabelSpec, given: pa.Table) -> pa.Table:
    """Return the rows, in order, with the rule that a label breaks against others and known ones.

    given   _row, enterprise, label, _odd, and _rule where one is broken already
    """
    held = pa.Table.from_batches(
        warehouse.read("labels", spec.dataset),
        pa.schema([("enterprise", pa.string()), ("label", pa.int64())]),
    )
    with duck.locked_down() as connection:
        connection.register("given", given)
        connection.register("held", held)
        return connection.sql(_RULES).to_arrow_table()


def _read(
    opened: FileSource, mapping: SourceMapping, progress: Progress
) -> tuple[pa.Table, pa.Table]:
    """Return a file's rows as they came and, in the same order, typed and checked one by one."""
    with duck.locked_down() as connection:
        checker = Checker(mapping, connection)
        raw = [block.table for block in opened.blocks(None, progress)]
        return pa.concat_tables(raw), pa.concat_tables([checker.check(table) for table in raw])
