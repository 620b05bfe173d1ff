"""Snapshots: who is in, which cells, the root; and no refusal that depends on a value."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import itertools
import math
import struct
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hejin_models.features import FeatureView
from hejin_models.uscc import make_code
from hejin_node.errors import QueryError, ViewFailedError
from hejin_node.labels import COLUMNS, label_spec
from hejin_node.snapshot import LabelSpec, Snapshot, no_rows, take_snapshot
from hejin_trust.database import writing

CODES = [make_code(n) for n in range(8)]
SALT = b"s" * 32
LABEL = label_spec("bank-1", "bad-1")
VIEW = """
name = "test"
version = 1
source = "{source}"
[label]
en = "Test"
zh = "测试"
[datasets.firms]
category = "production"
columns = {{ staff = "number", kind = "text", grade = "integer" }}
[[features]]
name = "staff"
en = "Staff"
zh = "人数"
unit = {{ en = "persons", zh = "人" }}
grid = {{ kind = "linear", low = 0, high = 100, cells = 4 }}
[[features]]
name = "kind"
en = "Kind"
zh = "类别"
unit = {{ en = "category", zh = "类别" }}
grid = {{ kind = "categories", values = ["a", "b"] }}
[[features]]
name = "grade"
en = "Grade"
zh = "等级"
unit = {{ en = "category", zh = "类别" }}
grid = {{ kind = "categories", values = ["1", "2"] }}
"""
ALL = "SELECT * FROM firms"
COLUMNS_OF_FIRMS = {"enterprise": "text", "staff": "number", "kind": "text", "grade": "integer"}
_numbers = itertools.count()

Firm = tuple[str, float | None, str | None, int | None]


def view(source: str = ALL, name: str = "firms") -> FeatureView:
    text = VIEW.replace("datasets.firms", f"datasets.{name}").format(source=source)
    return FeatureView.parse(text.replace("FROM firms", f"FROM {name}").encode())


def fill(data, firms: list[Firm], labels: dict[str, int], name: str = "firms") -> LabelSpec:
    columns = list(zip(*firms, strict=True)) or [[]] * 4
    kinds = (pa.string(), pa.float64(), pa.string(), pa.int64())
    arrays = [
        pa.array(one, kind, from_pandas=False) for one, kind in zip(columns, kinds, strict=True)
    ]
    batch = pa.table(arrays, list(COLUMNS_OF_FIRMS)).to_batches()
    source = f"{next(_numbers):064x}"
    data.warehouse.append(name, COLUMNS_OF_FIRMS, batch, source)
    spec = LabelSpec("bank-1", name)
    with data.warehouse.loading("labels", spec.dataset, source) as work:
        work.writer("labels", spec.dataset, COLUMNS).write(
            pa.table({"enterprise": list(labels), "label": pa.array(labels.values(), pa.int64())})
        )
        work.complete()
        with writing(data.database) as connection:
            work.publish(connection)
    return spec


def slow_root(snapshot: Snapshot, salt_key: bytes) -> bytes:
    """RFC 6962 section 2.1, by its recursive definition; first of all a salt."""

    def root(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return hashlib.sha256(b"\0" + leaves[0]).digest()
        half = 1
        while half * 2 < len(leaves):
            half *= 2
        return hashlib.sha256(b"\1" + root(leaves[:half]) + root(leaves[half:])).digest()

    rows = [hmac.new(salt_key, b"", hashlib.sha256).digest()[:16]]
    for code, cells, label in zip(snapshot.codes, snapshot.cells, snapshot.labels, strict=True):
        salt = hmac.new(salt_key, code.encode(), hashlib.sha256).digest()[:16]
        row = b"".join(struct.pack("<i", int(cell)) for cell in cells)
        rows.append(salt + code.encode() + b"\0" + row + struct.pack("b", int(label)))
    return root(rows)


def slow_cells(firm: Firm) -> list[int]:
    """The cells of the view above, one firm at a time: below, 4 cells, above, missing."""
    _, staff, kind, grade = firm
    if staff is None or not math.isfinite(staff):
        first = 6
    else:
        first = 0 if staff < 0 else 5 if staff >= 100 else 1 + int(staff // 25)
    second = 3 if kind is None or not kind.strip() else {"a": 0, "b": 1}.get(kind.strip(), 2)
    third = 3 if grade is None else {1: 0, 2: 1}.get(grade, 2)
    return [first, second, third]


_FIRM = st.tuples(
    st.sampled_from(CODES),
    st.none() | st.floats(width=32) | st.integers(-10, 110).map(float),
    st.none() | st.sampled_from(["a", "b", " b ", "c", ""]),
    st.none() | st.integers(0, 3),
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    firms=st.lists(_FIRM, unique_by=lambda firm: firm[0]),
    labels=st.dictionaries(st.sampled_from(CODES), st.integers(0, 1)),
    entitled=st.sets(st.sampled_from(CODES)),
)
def test_a_snapshot_is_what_one_would_write_by_hand(
    data, firms: list[Firm], labels: dict[str, int], entitled: set[str]
) -> None:
    name = f"d{next(_numbers)}"
    spec = fill(data, firms, labels, name)
    snapshot = take_snapshot(data.warehouse, view(name=name), spec, entitled, SALT)
    chosen = sorted(firm for firm in firms if firm[0] in labels and firm[0] in entitled)
    assert snapshot.codes == tuple(firm[0] for firm in chosen)
    assert snapshot.cells.tolist() == [slow_cells(firm) for firm in chosen]
    assert snapshot.labels.tolist() == [labels[firm[0]] for firm in chosen]
    assert (snapshot.cells.dtype, snapshot.labels.dtype) == (np.int32, np.int8)
    assert snapshot.root == slow_root(snapshot, SALT)
    assert snapshot.replaced == sum(
        (value is None) or (isinstance(value, float) and not math.isfinite(value))
        for firm in chosen
        for value in firm[1:]
    )


def firm(place: int, staff: float | None = 30.0) -> Firm:
    return (CODES[place], staff, "a", 1)


ONE_CLASS = dict.fromkeys(CODES, 1)


def test_nobody_authorised_is_an_empty_snapshot(data) -> None:
    spec = fill(data, [firm(0), firm(1)], ONE_CLASS)
    snapshot = take_snapshot(data.warehouse, view(), spec, (), SALT)
    assert snapshot.codes == ()
    assert snapshot.cells.shape == (0, 3)
    assert snapshot.root == slow_root(snapshot, SALT)
    assert snapshot.root != slow_root(snapshot, b"t" * 32)
    assert snapshot.root == no_rows(view(), spec, SALT).root
    assert snapshot.schema == no_rows(view(), spec, SALT).schema


def test_a_node_without_any_data_gives_an_empty_snapshot(data) -> None:
    snapshot = take_snapshot(data.warehouse, view(), LABEL, CODES, SALT)
    assert snapshot.cells.shape == (0, 3)


def test_one_class_alone_is_no_reason_to_refuse(data) -> None:
    spec = fill(data, [firm(0), firm(1)], ONE_CLASS)
    assert take_snapshot(data.warehouse, view(), spec, CODES, SALT).labels.tolist() == [1, 1]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_a_feature_that_is_missing_everywhere_is_all_in_its_missing_cell(
    data, value: float | None
) -> None:
    spec = fill(data, [firm(0, value), firm(1, value)], ONE_CLASS)
    snapshot = take_snapshot(data.warehouse, view(), spec, CODES, SALT)
    assert snapshot.cells[:, 0].tolist() == [6, 6]
    assert snapshot.replaced == 2


def test_a_constant_feature_is_a_feature(data) -> None:
    spec = fill(data, [firm(0), firm(1)], ONE_CLASS)
    source = "SELECT enterprise, 50 AS staff, NULL AS kind, true AS grade FROM firms"
    snapshot = take_snapshot(data.warehouse, view(source), spec, CODES, SALT)
    assert snapshot.cells.tolist() == [[3, 3, 0]] * 2


def test_an_enterprise_with_several_rows_has_every_feature_missing(data) -> None:
    spec = fill(data, [firm(0, 10.0), firm(1), firm(0, 90.0)], ONE_CLASS)
    snapshot = take_snapshot(data.warehouse, view(), spec, CODES, SALT)
    assert snapshot.codes == tuple(sorted(CODES[:2]))
    assert snapshot.cells[snapshot.codes.index(CODES[0])].tolist() == [6, 3, 3]
    assert snapshot.cells[snapshot.codes.index(CODES[1])].tolist() == [2, 0, 0]
    assert snapshot.replaced == 3


def test_the_sql_never_sees_an_enterprise_that_is_not_authorised(data) -> None:
    spec = fill(data, [firm(place) for place in range(4)], ONE_CLASS)
    source = "SELECT enterprise, count(*) OVER () AS staff, kind, grade FROM firms"
    snapshot = take_snapshot(data.warehouse, view(source), spec, CODES[:1], SALT)
    assert snapshot.cells[:, 0].tolist() == [1]  # it counted one row, not four


def test_the_root_depends_on_every_cell_label_code_and_the_salt(data) -> None:
    roots = set()
    for place, (firms, labels, salt) in enumerate(
        [
            ([firm(0), firm(1)], {CODES[0]: 0, CODES[1]: 1}, SALT),
            ([firm(0, 60.0), firm(1)], {CODES[0]: 0, CODES[1]: 1}, SALT),
            ([firm(0), firm(1)], {CODES[0]: 1, CODES[1]: 1}, SALT),
            ([firm(0), firm(2)], {CODES[0]: 0, CODES[2]: 1}, SALT),
            ([firm(0), firm(1)], {CODES[0]: 0, CODES[1]: 1}, b"t" * 32),
        ]
    ):
        spec = fill(data, firms, labels, f"case{place}")
        found = take_snapshot(data.warehouse, view(name=f"case{place}"), spec, CODES, salt)
        roots.add(found.root)
    assert len(roots) == 5


def test_the_schema_hash_names_view_and_label(data) -> None:
    def schema(one: FeatureView, label: LabelSpec) -> str:
        return take_snapshot(data.warehouse, one, label, (), SALT).schema

    same = schema(view(), LABEL)
    assert same == schema(view(), LABEL)
    assert len(bytes.fromhex(same)) == 32
    assert same != schema(view("SELECT *, 1 AS one FROM firms"), LABEL)
    assert same != schema(view(), LabelSpec("bank-1", "bad-2"))


def test_a_view_may_look_back_from_a_day(data) -> None:
    spec = fill(data, [firm(0)], ONE_CLASS)
    days = "date_diff('day', DATE '2025-01-01', $as_of)"
    source = f"SELECT enterprise, {days} AS staff, kind, grade FROM firms"
    found = take_snapshot(data.warehouse, view(source), spec, CODES, SALT, dt.date(2025, 1, 31))
    assert found.cells[:, 0].tolist() == [2]
    with pytest.raises(QueryError, match=r"\$as_of"):
        take_snapshot(data.warehouse, view(source), spec, CODES, SALT)


def test_sql_without_enterprise_or_a_feature_is_refused(data) -> None:
    for source in (
        "SELECT staff, kind, grade FROM firms",
        "SELECT enterprise, kind, grade FROM firms",
    ):
        with pytest.raises(ViewFailedError, match="gives no column"):
            take_snapshot(data.warehouse, view(source), LABEL, CODES, SALT)


def test_six_thousand_enterprises_with_25_features_take_well_under_a_second(data) -> None:
    codes = [make_code(n) for n in range(6000)]
    rng = np.random.default_rng(1)
    names = [f"f{i}" for i in range(25)]
    table = pa.table({"enterprise": codes, **{name: rng.normal(size=6000) for name in names}})
    data.warehouse.append(
        "wide",
        {"enterprise": "text", **dict.fromkeys(names, "number")},
        table.to_batches(),
        "1" * 64,
    )
    spec = fill(data, [], dict.fromkeys(codes, 0))
    grid = '{ kind = "linear", low = -3, high = 3, cells = 60 }'
    unit = f'unit = {{ en = "-", zh = "-" }}\ngrid = {grid}\n'
    wide = FeatureView.parse(
        (
            'name = "wide"\nversion = 1\nsource = "FROM wide"\n[label]\nen = "w"\nzh = "w"\n'
            '[datasets.wide]\ncategory = "trade"\ncolumns = { '
            + ", ".join(f'{name} = "number"' for name in names)
            + " }\n"
            + "".join(f'[[features]]\nname = "{n}"\nen = "{n}"\nzh = "{n}"\n{unit}' for n in names)
        ).encode()
    )
    began = time.process_time()
    snapshot = take_snapshot(data.warehouse, wide, spec, codes, SALT)
    assert time.process_time() - began < 2  # about 0.2 s on an idle core
    assert snapshot.cells.shape == (6000, 25)
