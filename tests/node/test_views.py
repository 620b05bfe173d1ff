"""Views at the node: every shipped one passes the self-check, and every way to cheat is refused."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hejin_models.errors import ViewError, ViewTakenError
from hejin_models.features import FeatureView, shipped_views, view_file
from hejin_models.schemas import parse_schema, shipped_schemas
from hejin_node import duck
from hejin_node.errors import (
    CrossesEnterprisesError,
    LooksAheadError,
    QueryError,
    RepeatsError,
    SlowViewError,
    VariesError,
    ViewFailedError,
)
from hejin_node.view_check import Trial, check_view
from hejin_node.view_worlds import KINDS, World
from hejin_node.views import install_view, installed_views

TODAY = dt.date(2026, 3, 1)
HEAD = 'name = "try"\nversion = 1\n[label]\nen = "Try"\nzh = "试"\n'
FEATURE = """
[[features]]
name = "x"
en = "x"
zh = "x"
unit = { en = "-", zh = "-" }
grid = { kind = "linear", low = 0, high = 1, cells = 10 }
"""
INVOICES = """
[datasets.invoices]
category = "trade"
columns = { direction = "text", date = "date", net = "number", status = "text" }
"""
ORDERS = """
[datasets.orders]
category = "fulfilment"
columns = { ordered = "date", amount = "number", promised = "date", delivered = "date", \
returned = "date", returned_amount = "number" }
"""
OUTPUT = """
[datasets.output]
category = "production"
columns = { month = "date", output_value = "number" }
"""
LOANS = """
[datasets.loans]
category = "trade"
columns = { begun = "date", due = "date", kind = "text", amount = "number" }
"""


def view(source: str, datasets: str = INVOICES) -> FeatureView:
    text = HEAD.replace("[label]", f'source = """{source}"""\n[label]') + datasets + FEATURE
    return FeatureView.parse(text.encode())


def check(one: FeatureView) -> tuple[str, ...]:
    return check_view(one, shipped_schemas(), TODAY).unmoved


PAST = "date <= CAST($as_of AS DATE)"
BEFORE = "ordered <= CAST($as_of AS DATE)"


@pytest.mark.parametrize("name", sorted(shipped_views()))
def test_every_shipped_view_passes_and_every_feature_of_it_is_tried(name: str) -> None:
    assert check(shipped_views()[name]) == ()


@pytest.mark.parametrize(
    ("source", "datasets"),
    [
        (f"SELECT enterprise, avg(net) AS x FROM invoices WHERE {PAST} GROUP BY 1", INVOICES),
        (
            "SELECT enterprise, count(*) AS x FROM output"
            " WHERE last_day(month) <= $as_of GROUP BY 1",
            OUTPUT,
        ),
        (
            f"SELECT enterprise, avg(CASE WHEN delivered <= promised THEN 1 ELSE 0 END) AS x"
            f" FROM orders WHERE {BEFORE} AND promised <= $as_of GROUP BY 1",
            ORDERS,
        ),
        ("SELECT enterprise, amount AS x FROM loans", LOANS),  # a table of one row each, no dates
        ("SELECT enterprise, CAST(kind AS INTEGER) AS x FROM loans", LOANS),
        (
            "SELECT enterprise, sum(amount) FILTER (kind = 'paid''s') AS x FROM loans"
            " WHERE begun <= $as_of AND due <= $as_of GROUP BY 1",
            LOANS,
        ),
        ("SELECT enterprise, date_diff('day', begun, due) AS x FROM loans", LOANS),
    ],
)
def test_an_honest_view_passes(source: str, datasets: str) -> None:
    assert check(view(source, datasets)) == ()


LOOKS_AHEAD = [
    ("SELECT enterprise, sum(net) AS x FROM invoices GROUP BY 1", INVOICES),
    (
        "SELECT enterprise, sum(net) AS x FROM invoices WHERE date <= CAST($as_of AS DATE) + 1"
        " GROUP BY 1",
        INVOICES,
    ),
    (
        "SELECT enterprise, sum(net) AS x FROM invoices WHERE date <= current_date GROUP BY 1",
        INVOICES,
    ),
    (  # who will be there is known as little as what
        f"SELECT enterprise, sum(net) FILTER ({PAST}) AS x FROM invoices GROUP BY 1",
        INVOICES,
    ),
    (
        "SELECT enterprise, count(*) AS x FROM output WHERE month <= $as_of GROUP BY 1",
        OUTPUT,
    ),
    (  # without its day a row's time is not known to the view
        "SELECT enterprise, avg(net) AS x FROM invoices GROUP BY 1",
        '[datasets.invoices]\ncategory = "trade"\ncolumns = { net = "number" }\n',
    ),
    (
        f"SELECT enterprise, avg(CASE WHEN delivered IS NULL THEN 1 ELSE 0 END) AS x"
        f" FROM orders WHERE {BEFORE} GROUP BY 1",
        ORDERS,
    ),
    (
        f"SELECT enterprise, sum(returned_amount) AS x FROM orders WHERE {BEFORE} GROUP BY 1",
        ORDERS,
    ),
    (
        "SELECT enterprise, sum(amount) AS x FROM loans WHERE begun <= $as_of GROUP BY 1"
        " HAVING max(due) > $as_of",
        LOANS,
    ),
]


@pytest.mark.parametrize(("source", "datasets"), LOOKS_AHEAD)
def test_a_view_that_looks_ahead_is_refused(source: str, datasets: str) -> None:
    with pytest.raises(LooksAheadError, match="View try-v1 looks ahead: its column") as refused:
        check(view(source, datasets))
    assert refused.value.code == "view-looks-ahead"
    assert "越过截止日" in refused.value.text.zh


@pytest.mark.parametrize(
    "source",
    [
        f"SELECT enterprise, sum(net) / (SELECT sum(net) FROM invoices WHERE {PAST}) AS x"
        f" FROM invoices WHERE {PAST} GROUP BY 1",
        f"SELECT enterprise, rank() OVER (ORDER BY sum(net)) AS x FROM invoices WHERE {PAST}"
        " GROUP BY 1",
        f"SELECT enterprise, (SELECT count(DISTINCT enterprise) FROM invoices WHERE {PAST}) AS x"
        f" FROM invoices WHERE {PAST} GROUP BY 1",
        f"SELECT enterprise, count(*) AS x FROM invoices WHERE {PAST} GROUP BY 1"
        " ORDER BY 2 DESC, 1 LIMIT 3",
    ],
)
def test_a_view_that_looks_across_enterprises_is_refused(source: str) -> None:
    with pytest.raises(CrossesEnterprisesError, match="across enterprises") as refused:
        check(view(source))
    assert refused.value.code == "view-crosses-enterprises"


@pytest.mark.parametrize(
    "source",
    [
        f"SELECT enterprise, random() AS x FROM invoices WHERE {PAST} GROUP BY 1",
        f"SELECT enterprise, first(net) AS x FROM invoices WHERE {PAST} GROUP BY 1",
        f"SELECT enterprise, sum(net) AS x FROM (SELECT * FROM invoices WHERE {PAST}"
        " USING SAMPLE 20 ROWS) GROUP BY 1",
    ],
)
def test_a_view_whose_values_are_not_in_the_rows_alone_is_refused(source: str) -> None:
    with pytest.raises(VariesError, match="varies") as refused:
        check(view(source))
    assert refused.value.code == "view-varies"


@pytest.mark.parametrize(
    "source",
    [
        f"SELECT enterprise, net AS x FROM invoices WHERE {PAST}",
        f"SELECT 'me' AS enterprise, sum(net) AS x FROM invoices WHERE {PAST}",
        f"SELECT CAST(NULL AS VARCHAR) AS enterprise, sum(net) AS x FROM invoices WHERE {PAST}",
    ],
)
def test_a_view_that_gives_no_enterprise_once_is_refused(source: str) -> None:
    with pytest.raises(RepeatsError, match="each enterprise once") as refused:
        check(view(source))
    assert refused.value.code == "view-repeats"


def test_a_feature_that_random_rows_never_move_is_said_not_to_be_covered() -> None:
    source = f"SELECT enterprise, max(net) > 1e12 AS x FROM invoices WHERE {PAST} GROUP BY 1"
    passed = check_view(view(source), shipped_schemas(), TODAY)
    assert passed.unmoved == ("x",)
    assert "it says nothing about x" in passed.text.en
    assert "x 在随机数据上从未变化" in passed.text.zh


def test_a_view_that_fails_on_plausible_rows_is_refused() -> None:
    with pytest.raises(ViewFailedError, match="try_cast"):
        check(view(f"SELECT enterprise, max(CAST(status AS INTEGER)) AS x FROM invoices"
                   f" WHERE {PAST} GROUP BY 1"))  # fmt: skip


def test_a_view_that_declares_another_category_or_type_than_the_schema_is_refused() -> None:
    source = f"SELECT enterprise, sum(net) AS x FROM invoices WHERE {PAST} GROUP BY 1"
    with pytest.raises(ViewError, match=r"invoices\.category` says logistics.*schema says trade"):
        check(view(source, INVOICES.replace('"trade"', '"logistics"')))
    with pytest.raises(ViewError, match=r"columns\.net` says text, and the schema says number"):
        check(view(source, INVOICES.replace('net = "number"', 'net = "text"')))


def test_an_operator_declares_which_dates_of_an_own_data_set_are_events() -> None:
    source = "SELECT enterprise, avg(due - begun) AS x FROM loans WHERE begun <= $as_of GROUP BY 1"
    with pytest.raises(LooksAheadError, match=r"declare the data set in schemas/"):
        check(view(source, LOANS))
    column = '[columns.{0}]\nen = "{0}"\nzh = "{0}"\ntype = "{1}"\ngrade = "general"\n{2}\n'
    schema = parse_schema(
        (
            'dataset = "loans"\ncategory = "trade"\ntime = "begun"\n[label]\nen = "L"\nzh = "L"\n'
            + column.format("begun", "date", "required = true")
            + column.format("due", "date", "")
            + column.format("kind", "text", "")
            + column.format("amount", "number", "")
        ).encode()
    )
    passed = check_view(view(source, LOANS), {"loans": schema}, TODAY)
    assert passed.unmoved == ()


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["trade-v1", "operations-v1", "full-v1"]),
    st.dates(dt.date(2000, 1, 1), dt.date(2090, 1, 1)),
    st.integers(10, 2**32),
)
def test_shipped_views_pass_on_any_day_and_any_rows(name: str, day: dt.date, seed: int) -> None:
    one = shipped_views()[name]
    with duck.locked_down() as connection:
        trial = Trial(one, shipped_schemas(), connection)
        trial.world(World(one, shipped_schemas(), day, seed, KINDS[0]), day)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(LOOKS_AHEAD), st.dates(dt.date(2000, 1, 1), dt.date(2090, 1, 1)))
def test_what_a_world_knew_on_a_day_has_nothing_later(bad: tuple[str, str], day: dt.date) -> None:
    world = World(view(*bad), shipped_schemas(), day, 7, KINDS[0])
    known = world.tables(known=True)
    for name, table in known.items():
        assert table.num_rows < world.tables()[name].num_rows
        for column in {"date", "ordered", "delivered", "returned"} & {*table.column_names}:
            assert all(value is None or value <= day for value in table[column].to_pylist())
    for value in known["output"]["month"].to_pylist() if "output" in known else ():
        following = (value.replace(day=28) + dt.timedelta(4)).replace(day=1)
        assert following - dt.timedelta(1) <= day


def test_views_are_installed_as_they_are_and_found_by_hash(tmp_path: Path) -> None:
    folder, raw = tmp_path / "views", view_file("trade-v1")
    first, _ = install_view(folder, raw, shipped_schemas(), TODAY)
    assert install_view(folder, raw, shipped_schemas(), TODAY)[0] == first  # again: nothing new
    other, _ = install_view(folder, view_file("sba-loans-v1"), shipped_schemas(), TODAY)
    assert {one.digest for one in installed_views(folder)} == {first.digest, other.digest}
    assert hashlib.sha256(raw).hexdigest() == first.digest


def test_a_name_and_version_stand_for_the_same_bytes_for_ever(tmp_path: Path) -> None:
    folder, raw = tmp_path / "views", view_file("sba-loans-v1").replace(b"sba-loans", b"mine")
    first, _ = install_view(folder, raw, shipped_schemas(), TODAY)
    with pytest.raises(ViewTakenError, match="a changed view needs a new version") as refused:
        install_view(folder, raw + b"# changed\n", shipped_schemas(), TODAY)
    assert refused.value.code == "view-taken"
    assert [one.digest for one in installed_views(folder)] == [first.digest]
    later = raw.replace(b"version = 1", b"version = 2")
    assert install_view(folder, later, shipped_schemas(), TODAY)[0].id == "mine-v2"


def test_nobody_else_publishes_under_a_shipped_views_name(tmp_path: Path) -> None:
    with pytest.raises(ViewTakenError, match="view trade-v1 stands for other bytes"):
        install_view(
            tmp_path / "views", view_file("trade-v1") + b"# mine\n", shipped_schemas(), TODAY
        )


@pytest.mark.parametrize(
    "source",
    ["SELECT * FROM nowhere", "DROP TABLE invoices", "SELECT * FROM read_csv('x.csv')"],
)
def test_a_view_whose_sql_cannot_run_is_not_installed(tmp_path: Path, source: str) -> None:
    text = HEAD.replace("[label]", f'source = """{source}"""\n[label]') + INVOICES + FEATURE
    with pytest.raises(QueryError):
        install_view(tmp_path / "views", text.encode(), shipped_schemas(), TODAY)
    assert not (tmp_path / "views").exists()


def test_a_view_that_gives_not_all_that_it_declares_is_refused() -> None:
    with pytest.raises(QueryError, match="gives no column enterprise"):
        check(view("SELECT net AS x FROM invoices"))
    with pytest.raises(QueryError, match="gives no column x"):
        check(view("SELECT enterprise FROM invoices"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("SELECT net AS enterprise, net AS x FROM invoices", "`enterprise` that is no text"),
        ("SELECT enterprise, [net] AS x FROM invoices", "column x that is neither text"),
        ("SELECT enterprise, date AS x FROM invoices", "column x that is neither text"),
        ("SELECT enterprise, net AS x, 1 AS x FROM invoices", "column x 2 times"),
    ],
)
def test_a_view_whose_columns_cannot_be_used_is_refused(source: str, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        check(view(source))


def test_a_view_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hejin_node.view_check.LONGEST_SECONDS", 0.3)
    source = "SELECT enterprise, (SELECT sum(range) FROM range(10000000000000)) AS x FROM invoices"
    with pytest.raises(SlowViewError, match="without an end") as refused:
        check(view(source))
    assert refused.value.code == "view-slow"


def test_the_view_of_the_docs_passes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "feature-views.md").read_text("utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert check(FeatureView.parse(block.encode())) == ()


def test_the_docs_name_every_shipped_view_and_how_many_features_it_has() -> None:
    page = (Path(__file__).parents[2] / "docs" / "feature-views.md").read_text("utf-8")
    for name, one in shipped_views().items():
        row = next(
            line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line
        )
        assert str(len(one.features)) in row
