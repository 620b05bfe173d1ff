"""Quality over the warehouse: counts by hand, a slow reference, gates, and what is refused."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hejin_models.errors import SchemaError
from hejin_models.features import Dataset, FeatureView, shipped_views
from hejin_models.quality import DIMENSIONS, Tally, scores
from hejin_models.schemas import load_schemas, shipped_schemas
from hejin_node import quality_store
from hejin_node.errors import QualityRuleError, QueryError
from hejin_node.ingest import ingest
from hejin_node.manifest import Counts
from hejin_node.mapping import find_mapping
from hejin_node.quality import Measured, Month, measure, months_of
from hejin_node.quality_check import NoDatasetError, check, gate_problems, told
from hejin_node.segments import arrow_schema
from hejin_node.warehouse import Warehouse
from hejin_trust.database import reading, writing

if TYPE_CHECKING:
    from conftest import Data

KEY = bytes(range(32))  # of the `data` fixture
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
TODAY = NOW.date()
COLUMNS = {"enterprise": "text", "day": "date", "used": "number", "kind": "text"}
SCHEMA = """
dataset = "meters"
category = "production"
time = "day"
[label]
en = "Meters"
zh = "电表"
[columns.day]
en = "Day"
zh = "日期"
type = "date"
required = true
grade = "general"
[columns.used]
en = "Used"
zh = "用量"
type = "number"
minimum = 0
maximum = 100
grade = "general"
[columns.kind]
en = "Kind"
zh = "种类"
type = "text"
allowed = ["a", "b"]
grade = "general"
[[quality]]
id = "used.of-kind"
dimension = "consistency"
en = "Kind a uses more than 10"
zh = "甲类用量大于 10"
when = "kind = 'a'"
holds = "used > 10"
[[quality]]
id = "day.past"
dimension = "validity"
en = "Not in the future"
zh = "不在将来"
holds = "day <= $as_of"
[[quality]]
id = "day.once"
dimension = "uniqueness"
en = "A day once"
zh = "每天一次"
key = ["day", "kind"]
[[quality]]
id = "months.all"
dimension = "completeness"
en = "All months"
zh = "无缺月"
months = "day"
[[quality]]
id = "rows.recent"
dimension = "timeliness"
en = "Recent"
zh = "及时"
newest = "day"
within_days = 31
"""
Row = tuple[str, dt.date, float | None, str | None]
_sources = itertools.count()


@dataclass
class Node:
    """The data side of a node, with a folder of schema files."""

    data: Data
    schemas: Path

    def load(self, rows: Sequence[Row], bad: Sequence[tuple[str, str | None]] = ()) -> None:
        """Load rows, and rows in quarantine as (rule, enterprise)."""
        source = hashlib.sha256(str(next(_sources)).encode()).hexdigest()
        with self.data.warehouse.loading("data", "meters", source) as work:
            table = pa.Table.from_pylist(
                [dict(zip(COLUMNS, row, strict=True)) for row in rows],
                arrow_schema(COLUMNS),  # type: ignore[arg-type]
            )
            work.writer("data", "meters", COLUMNS).write(table)  # type: ignore[arg-type]
            if bad:
                broken = pa.table(
                    {
                        "row": pa.array(range(len(bad)), pa.int64()),
                        "rule": pa.array([rule for rule, _ in bad], pa.string()),
                        "enterprise": pa.array([code for _, code in bad], pa.string()),
                    }
                )
                columns = {"row": "integer", "rule": "text", "enterprise": "text"}
                work.writer("quarantine", "meters", columns).write(broken)  # type: ignore[arg-type]
            work.complete(Counts(read=len(rows) + len(bad), loaded=len(rows)))
            with writing(self.data.database) as connection:
                work.publish(connection)

    def measure(self) -> Measured:
        schema = load_schemas(self.schemas)["meters"]
        return measure(self.data.warehouse, schema, "meters", TODAY)

    def problems(self, view: FeatureView) -> list[str]:
        with reading(self.data.database) as connection:
            return [one.code for one in gate_problems(connection, load_schemas(self.schemas), view)]


@pytest.fixture
def node(data: Data, tmp_path: Path) -> Node:
    folder = tmp_path / "schemas"
    folder.mkdir()
    (folder / "meters.toml").write_text(SCHEMA, "utf-8")
    return Node(data, folder)


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


# -- counts --------------------------------------------------------------------------------

ROWS: list[Row] = [
    ("A", day("2026-01-05"), 20.0, "a"),
    ("A", day("2026-01-05"), 20.0, "a"),  # twice
    ("A", day("2026-02-10"), 5.0, "a"),  # kind a uses more than 10
    ("B", day("2025-09-01"), None, "b"),  # nothing used; old
    ("B", day("2025-12-31"), 1.0, None),  # no kind; October and November are missing
    ("C", day("2026-05-01"), 50.0, "c"),  # in the future; no such kind
]
#: (applied, held) by rule, counted by hand.
BY_HAND = {
    "enterprise.valid": (6, 6),
    "day.present": (6, 6),
    "day.valid": (6, 6),
    "used.present": (6, 5),
    "used.valid": (5, 5),
    "kind.present": (6, 5),
    "kind.valid": (5, 4),
    "used.of-kind": (3, 2),
    "day.past": (6, 5),
    "day.once": (6, 5),
    "months.all": (2 + 4 + 1, 2 + 2 + 1),
    "rows.recent": (3, 1),  # of days until today the newest is 2026-02-10: A alone is near it
}


def test_every_rule_counts_what_was_counted_by_hand(node: Node) -> None:
    node.load(ROWS)
    found = node.measure()
    assert found.tallies == {name: Tally(*counts) for name, counts in BY_HAND.items()}
    assert (found.rows, found.newest, found.quarantined) == (6, day("2026-02-10"), {})
    place = found.codes.index("B")
    assert found.of_rows[place] == 2
    assert found.enterprise_tallies(place)["months.all"] == Tally(4, 2)
    mine = dict(zip(DIMENSIONS, found.enterprise_scores()[place], strict=True))
    assert mine["completeness"] == pytest.approx((1 + 1 / 2 + 1 / 2 + 2 / 4) / 4)
    assert np.isnan(mine["consistency"])  # no row of kind a
    assert (mine["uniqueness"], mine["timeliness"]) == (1.0, 0.0)


def test_rows_in_quarantine_count_against_the_rule_that_keeps_them_there(node: Node) -> None:
    node.load(
        [("A", day("2026-01-05"), 20.0, "a")],
        [
            ("day.required", "A"),
            ("used.range", "A"),
            ("used.type", "D"),
            ("enterprise.code", "no code"),
            ("enterprise.code", None),
            ("enterprise.duplicate", "A"),
        ],
    )
    found = node.measure()
    tallies = found.tallies
    assert tallies["day.present"] == Tally(2, 1)
    assert tallies["used.valid"] == Tally(3, 1)
    assert tallies["enterprise.valid"] == Tally(3, 1)
    assert tallies["day.once"] == Tally(2, 1)
    assert found.codes == (
        "A",
        "D",
    )  # one whose rows were all refused is there, what is no code not
    assert found.of_rows.tolist() == [1, 0]
    assert found.enterprise_tallies(1)["used.valid"] == Tally(1, 0)
    assert sum(found.quarantined.values()) == 6


def test_a_column_that_was_added_after_loading_counts_as_missing(node: Node) -> None:
    node.load(ROWS)
    (node.schemas / "more.toml").write_text(
        'extends = "meters"\n[columns.place]\nen = "Place"\nzh = "地点"\ntype = "text"\n'
        'grade = "general"\nrequired = true\n',
        "utf-8",
    )
    assert node.measure().tallies["place.present"] == Tally(6, 0)


def test_an_operator_adds_a_rule_without_code(node: Node) -> None:
    node.load(ROWS)
    (node.schemas / "more.toml").write_text(
        'extends = "meters"\n[[quality]]\nid = "used.little"\ndimension = "validity"\n'
        'en = "Little"\nzh = "少"\nholds = "used < 30"\n',
        "utf-8",
    )
    assert node.measure().tallies["used.little"] == Tally(5, 4)


def test_a_rule_that_fails_on_a_value_does_not_apply_to_its_row(node: Node) -> None:
    node.load(ROWS)
    (node.schemas / "more.toml").write_text(
        'extends = "meters"\n[[quality]]\nid = "kind.number"\ndimension = "validity"\n'
        'en = "Number"\nzh = "数"\nholds = "CAST(kind AS INTEGER) > 0"\n',
        "utf-8",
    )
    assert node.measure().tallies["kind.number"] == Tally(0, 0)


@pytest.mark.parametrize(
    "holds",
    [
        "used >",
        "used > usual",
        "sum(used) > 0",
        "row_number() OVER (ORDER BY used) > 0",
        "used > $limit",
        "used > (SELECT count(*) FROM read_csv('/etc/passwd'))",
    ],
)
def test_a_rule_that_does_not_run_is_refused_by_name(node: Node, holds: str) -> None:
    node.load(ROWS)
    (node.schemas / "more.toml").write_text(
        'extends = "meters"\n[[quality]]\nid = "used.odd"\ndimension = "validity"\n'
        f'en = "Odd"\nzh = "怪"\nholds = "{holds}"\n',
        "utf-8",
    )
    with pytest.raises(QualityRuleError, match=r"used\.odd") as refused:
        node.measure()
    assert "used.odd" in refused.value.text.zh


def test_a_column_of_another_type_than_the_schemas_is_refused(node: Node) -> None:
    columns = {**COLUMNS, "used": "text"}
    batch = pa.RecordBatch.from_pylist(
        [{"enterprise": "A", "day": TODAY, "used": "1", "kind": "a"}],
        arrow_schema(columns),  # type: ignore[arg-type]
    )
    node.data.warehouse.append("meters", columns, [batch], "ab" * 32)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="used"):
        node.measure()


def test_months_count_rows_and_enterprises(node: Node) -> None:
    node.load([*ROWS, ("D", day("2026-01-31"), 1.0, "a")])
    found = months_of(node.data.warehouse, load_schemas(node.schemas)["meters"])
    assert Month(day("2026-01-01"), 3, 2) in found
    assert [one.month for one in found] == sorted(one.month for one in found)
    assert sum(one.rows for one in found) == 7


_rows = st.lists(
    st.tuples(
        st.sampled_from("ABCD"),
        st.dates(day("2025-10-01"), day("2026-05-01")),
        st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 10.0, 10.5, 100.0, 101.0])),
        st.one_of(st.none(), st.sampled_from(["a", "b", "c"])),
    ),
    min_size=1,
    max_size=25,
)
BROKEN = {
    "day.required": "day.present",
    "used.type": "used.valid",
    "used.range": "used.valid",
    "kind.allowed": "kind.valid",
    "enterprise.duplicate": "day.once",
    "enterprise.code": "enterprise.valid",
}
_bad = st.lists(st.tuples(st.sampled_from(sorted(BROKEN)), st.sampled_from("ABE")), max_size=8)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)
@given(rows=_rows, bad=_bad)
def test_tallies_and_scores_equal_a_slow_reference(
    rows: list[Row], bad: list[tuple[str, str]], node: Node
) -> None:
    for file in node.data.folder.glob("warehouse/*.parquet"):
        file.unlink()
    with writing(node.data.database) as connection:
        connection.exec_driver_sql("DELETE FROM segment")
        connection.exec_driver_sql("DELETE FROM load")
    half = len(rows) // 2
    node.load(rows[:half], bad)
    node.load(rows[half:])
    found = node.measure()
    expected = {code: _reference([row for row in rows if row[0] == code], rows) for code in "ABCDE"}
    for rule, code in bad:
        owner = expected.setdefault("" if rule == "enterprise.code" else code, {})
        applied, held = owner.get(BROKEN[rule], (0, 0))
        owner[BROKEN[rule]] = (applied + 1, held)
    totals = {
        name: Tally(
            sum(one.get(name, (0, 0))[0] for one in expected.values()),
            sum(one.get(name, (0, 0))[1] for one in expected.values()),
        )
        for name in BY_HAND
    }
    assert found.tallies == totals
    per_enterprise = found.enterprise_scores()
    for place, code in enumerate(found.codes):
        mine = {name: Tally(*expected[code].get(name, (0, 0))) for name in BY_HAND}
        assert found.enterprise_tallies(place) == mine
        for number, score in enumerate(scores(found.rules, mine).values()):
            got = per_enterprise[place, number]
            assert np.isnan(got) if score is None else got == pytest.approx(float(score))


def _reference(mine: list[Row], everyone: list[Row]) -> dict[str, tuple[int, int]]:
    """Count one enterprise's rules row by row, in words of Python."""
    if not mine:
        return {}
    days, size = [row[1] for row in mine], len(mine)
    used = [row[2] for row in mine if row[2] is not None]
    kinds = [row[3] for row in mine if row[3] is not None]
    about = [row[2] for row in mine if row[3] == "a" and row[2] is not None]
    spans = [(one.year * 12 + one.month) for one in days]
    past = [row[1] for row in everyone if row[1] <= TODAY]
    recent = (0, 0)
    if past:
        own = [one for one in days if one <= TODAY]
        recent = (1, int(bool(own) and (max(past) - max(own)).days <= 31))
    return {
        "enterprise.valid": (size, size),
        "day.present": (size, size),
        "day.valid": (size, size),
        "used.present": (size, len(used)),
        "used.valid": (len(used), sum(0 <= one <= 100 for one in used)),
        "kind.present": (size, len(kinds)),
        "kind.valid": (len(kinds), sum(one in "ab" for one in kinds)),
        "used.of-kind": (len(about), sum(one > 10 for one in about)),
        "day.past": (size, sum(one <= TODAY for one in days)),
        "day.once": (size, len({(row[1], row[3]) for row in mine})),
        "months.all": (max(spans) - min(spans) + 1, len(set(spans))),
        "rows.recent": recent,
    }


def test_a_result_does_not_depend_on_how_rows_are_partitioned(node: Node) -> None:
    rows = [
        (f"E{number % 37}", TODAY - dt.timedelta(days=number % 400), float(number % 130), "a")
        for number in range(2000)
    ]
    node.load(rows)
    schema = load_schemas(node.schemas)["meters"]
    whole = node.measure()
    apart = Warehouse(
        node.data.folder / "warehouse", KEY, node.data.database, KEY, partition_rows=100
    )
    parts = measure(apart, schema, "meters", TODAY)
    assert parts.tallies == whole.tallies
    assert sorted(parts.codes) == sorted(whole.codes)
    assert parts.newest == whole.newest
    assert months_of(apart, schema) == months_of(node.data.warehouse, schema)


# -- results and gates ---------------------------------------------------------------------


def view(*columns: str, dataset: str = "meters") -> FeatureView:
    """Return a view that reads these columns; its SQL is not run here."""
    base = shipped_views()["trade-v1"]
    types = {name: COLUMNS[name] for name in columns}
    return FeatureView(
        base.name, base.version, base.text, base.source,
        (Dataset(dataset, "production", types),),  # type: ignore[arg-type]
        base.features, base.digest,
    )  # fmt: skip


GOOD: list[Row] = [
    (code, day(f"2026-{month:02}-05"), 20.0, "a") for code in "AB" for month in (1, 2)
]


def test_a_view_passes_once_its_data_set_was_checked_and_is_good(node: Node) -> None:
    asked = view("day", "used", "kind")
    assert node.problems(asked) == []  # nothing is there: `data-missing` says that
    node.load(GOOD)
    assert node.problems(asked) == ["quality-unknown"]  # nothing was checked
    found = check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW)
    assert found.result.passed
    assert node.problems(asked) == []


def test_more_rows_or_other_rules_make_a_result_out_of_date(node: Node) -> None:
    asked = view("used")
    node.load(GOOD)
    check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW)
    node.load([("C", TODAY, 20.0, "a")])
    assert node.problems(asked) == ["quality-unknown"]
    check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW)
    assert node.problems(asked) == []
    (node.schemas / "meters.toml").write_text(SCHEMA.replace("used > 10", "used > 11"), "utf-8")
    assert node.problems(asked) == ["quality-unknown"]
    check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW)
    assert node.problems(asked) == []


def test_a_gate_that_is_missed_is_told_in_shares_and_by_name(node: Node) -> None:
    node.load([*GOOD, ("A", day("2026-02-06"), 1.0, "a"), ("A", day("2026-02-07"), 1.0, "a")])
    found = check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW)
    assert not found.result.passed
    assert [one.dimension for one in found.below] == ["consistency"]
    assert told(found.below).en == "consistency 66.66 % (least 95 %)"
    assert told(found.below).zh == "一致性 66.66 %（下限 95 %）"
    assert node.problems(view("used")) == ["quality-gate-failed"]
    with reading(node.data.database) as connection:
        (problem,) = gate_problems(connection, load_schemas(node.schemas), view("used"))
    assert "consistency 66.66 %" in problem.text.en
    assert "hejin node quality check meters" in problem.text.zh


def test_a_view_that_does_not_read_what_is_bad_passes(node: Node) -> None:
    node.load([*GOOD, ("A", day("2026-02-06"), 1.0, "a"), ("A", day("2026-02-07"), 1.0, "a")])
    check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW)
    assert node.problems(view("used")) == ["quality-gate-failed"]
    assert node.problems(view("kind")) == ["quality-gate-failed"]  # the rule is about both
    assert node.problems(view("day")) == []


def test_an_operator_sets_the_gate(node: Node) -> None:
    node.load([*GOOD, ("A", day("2026-02-06"), 1.0, "a"), ("A", day("2026-02-07"), 1.0, "a")])
    check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW)
    (node.schemas / "gate.toml").write_text(
        'extends = "meters"\n[gate]\nconsistency = 0.5\n', "utf-8"
    )
    assert node.problems(view("used")) == []  # at once: results hold counts, not verdicts


def test_a_data_set_without_schema_has_no_gate(node: Node) -> None:
    assert node.problems(view(dataset="own_table")) == []


def test_a_rule_that_cannot_be_read_stops_the_gate(node: Node) -> None:
    node.load(GOOD)
    (node.schemas / "bad.toml").write_text('extends = "meters"\n[[quality]]\nid = "x"\n', "utf-8")
    with pytest.raises(SchemaError, match="quality"):
        node.problems(view("used"))


def test_a_data_set_that_is_not_there_is_refused(node: Node) -> None:
    with pytest.raises(NoDatasetError, match="no data set meters"):
        check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW)


def test_results_are_kept_in_order_and_say_what_was_counted(node: Node) -> None:
    node.load(ROWS)
    check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW)
    node.load(GOOD[:1])
    check(node.data.warehouse, load_schemas(node.schemas), "meters", NOW + dt.timedelta(days=1))
    with reading(node.data.database) as connection:
        first, second = quality_store.history(connection, "meters", 10)
        assert quality_store.history(connection, "meters", 1) == (second,)
        assert quality_store.latest(connection, "meters") == second
        assert quality_store.latest(connection, "other") is None
    assert (first.rows, second.rows) == (6, 7)
    assert first.checked == "2026-03-01T12:00:00Z"
    assert first.tallies == {name: Tally(*counts) for name, counts in BY_HAND.items()}
    assert first.newest == "2026-02-10"
    assert first.scores["timeliness"] == pytest.approx(1 / 3)
    assert not first.passed


def test_a_row_that_is_only_merged_with_others_keeps_its_result(node: Node) -> None:
    """The coverage of a result names loads and rows, not segment files."""
    node.load(GOOD)
    node.load(ROWS)
    with reading(node.data.database) as connection:
        before = quality_store.coverage(connection, "meters")
    with writing(node.data.database) as connection:
        connection.exec_driver_sql("UPDATE segment SET sha256 = sha256 || 'x'")
    with reading(node.data.database) as connection:
        assert quality_store.coverage(connection, "meters") == before
    node.load([], [("used.range", "A")])
    with reading(node.data.database) as connection:
        assert quality_store.coverage(connection, "meters") != before


def test_a_data_set_without_schema_is_measured_by_what_is_there(node: Node) -> None:
    batch = pa.RecordBatch.from_pylist(
        [{"enterprise": "A", "x": 1.0}, {"enterprise": "A", "x": None}],
        arrow_schema({"enterprise": "text", "x": "number"}),
    )
    node.data.warehouse.append("own", {"enterprise": "text", "x": "number"}, [batch], "cd" * 32)
    found = check(node.data.warehouse, load_schemas(node.schemas), "own", NOW)
    assert found.measured.tallies == {"x.present": Tally(2, 1)}
    assert (found.result.passed, found.gate) == (True, {})


# -- real invoices -------------------------------------------------------------------------

REAL = Path(os.environ.get("HEJIN_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason="no real data: set HEJIN_DATA to its folder")
def test_real_invoices_pass_the_gate_with_known_counts(data: Data) -> None:
    """CUMCM 2020 C, all 373,431 invoices of 123 enterprises; counted with pandas as well."""
    for file, name in (
        ("procurement_invoices", "cumcm-purchases"),
        ("sales_invoices", "cumcm-sales"),
    ):
        ingest(data.warehouse, REAL / "cumcm_invoices" / f"{file}.parquet", find_mapping(name))
    found = check(data.warehouse, shipped_schemas(), "invoices", NOW)
    tallies = found.result.tallies
    assert (found.result.rows, found.result.enterprises, found.result.quarantined) == (
        373_431, 123, 0
    )  # fmt: skip
    table = pa.Table.from_batches(data.warehouse.read("data", "invoices")).to_pandas()
    assert tallies["invoice.once"].held == len(table.drop_duplicates())
    assert tallies["tax.sign"].held == int((table.tax * table.net >= 0).sum())
    newest = table.groupby("enterprise").date.max()
    recent = newest >= newest.max() - dt.timedelta(days=92)
    assert tallies["rows.recent"] == Tally(123, int(recent.sum()))
    assert found.result.passed
    assert found.result.scores["completeness"] == found.result.scores["validity"] == 1.0
