"""Labels: 0 and 1 only, one per enterprise, nothing contradictory, all or nothing."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hejin_models.uscc import make_code
from hejin_node.errors import IngestError, SegmentError
from hejin_node.labels import LabelFile, label_spec, labelled, load_labels
from hejin_trust.database import reading

A, B, C, D, E = (make_code(n) for n in range(5))
SPEC = label_spec("bank-1", "overdue90-12m-1")


def load(data, text: str, **more: object):
    path = data.file("labels.csv", text)
    return load_labels(data.warehouse, data.log, path, SPEC, **more)  # type: ignore[arg-type]


def held(data) -> dict[object, object]:
    return {row["enterprise"]: row["label"] for row in data.rows(SPEC.dataset, "labels")}


def test_labels_are_kept_encrypted_and_logged(data) -> None:
    report = load(data, f"enterprise,label\n{A},0\n {B} , 1\n", period="2025")
    assert (report.loaded, report.quarantined) == (2, {})
    assert held(data) == {A: 0, B: 1}
    assert labelled(data.warehouse, SPEC) == 2
    (file,) = (data.folder / "warehouse").glob("*.parquet")
    assert A.encode() not in file.read_bytes()
    with reading(data.database) as connection:
        entry = data.log.entry(connection, 0)
    assert (entry.type, entry.body) == (
        "labels",
        {"bank": "bank-1", "definition": "overdue90-12m-1", "period": "2025",
         "source": report.source},
    )  # fmt: skip


def test_each_bad_row_is_quarantined_with_its_reason(data) -> None:
    load(data, f"enterprise,label\n{A},0\n{B},1\n")
    lines = {
        f"{A},0": "label.duplicate",
        f"{B},0": "label.conflict",
        f"{C},1": "",
        f"{C}, 1.0": "label.duplicate",
        f"{D},0": "label.conflict",
        f"{D},1": "label.conflict",
        f"{D},2": "label.range",
        f"{E},": "label.required",
        f"{E},yes": "label.type",
        f"{E},0.5": "label.type",
        f"{E},nan": "label.required",
        "nobody,1": "enterprise.code",
    }
    report = load(data, "enterprise,label\n" + "\n".join(lines) + "\n")
    assert report.loaded == 1
    assert held(data) == {A: 0, B: 1, C: 1}
    kept = data.rows(SPEC.dataset, "quarantine")
    assert [(row["row"], row["rule"]) for row in kept] == [
        (place, rule) for place, rule in enumerate(lines.values(), start=1) if rule
    ]
    assert data.warehouse.datasets()[0].quarantined == 11


def test_the_same_label_file_again_changes_nothing(data) -> None:
    text = f"enterprise,label\n{A},0\n"
    load(data, text)
    assert load(data, text).already
    with reading(data.database) as connection:
        assert data.log.size(connection) == 1


def test_labels_of_one_class_are_labels(data) -> None:
    assert load(data, f"enterprise,label\n{A},1\n{B},1\n").loaded == 2


def test_another_definition_is_another_label(data) -> None:
    load(data, f"enterprise,label\n{A},0\n")
    other = label_spec("bank-1", "overdue30-12m-1")
    path = data.file("other.csv", f"enterprise,label\n{A},1\n")
    assert load_labels(data.warehouse, data.log, path, other).loaded == 1
    assert held(data) == {A: 0}
    assert labelled(data.warehouse, other) == 1


def test_parquet_and_other_column_names_serve_too(data) -> None:
    path = data.folder / "labels.parquet"
    pq.write_table(pa.table({"企业": [A, B], "是否违约": [0.0, 1.0]}), path)
    layout = LabelFile("企业", "是否违约")
    assert load_labels(data.warehouse, data.log, path, SPEC, layout=layout).loaded == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("enterprise,label\n", "no rows"),
        (f"enterprise,outcome\n{A},1\n", "no column label"),
        (f"enterprise,label\n{A},2\n{B},x\n", "label.range 1, label.type 1"),
        (f"enterprise,label\n{A},1\n{B}\n", "line 3 has 1 values"),
    ],
)
def test_a_file_without_a_label_is_refused_and_nothing_is_logged(
    data, text: str, said: str
) -> None:
    with pytest.raises(IngestError, match=said):
        load(data, text)
    assert held(data) == {}
    assert data.warehouse.segments() == ()
    with reading(data.database) as connection:
        assert data.log.size(connection) == 0


@pytest.mark.parametrize(
    ("bank", "definition"), [("Bank", "x"), ("bank-1", ""), ("bank-1", "a/b"), ("bank-1", "a b")]
)
def test_names_that_cannot_be_are_refused(bank: str, definition: str) -> None:
    with pytest.raises(IngestError, match="member id"):
        label_spec(bank, definition)


def test_labels_cannot_be_read_as_another_banks(data) -> None:
    load(data, f"enterprise,label\n{A},0\n")
    with data.database.begin() as connection:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        connection.exec_driver_sql("UPDATE segment SET dataset='bank-2/overdue90-12m-1'")
    with pytest.raises(SegmentError):
        data.rows("bank-2/overdue90-12m-1", "labels")
