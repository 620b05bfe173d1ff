"""Feature views: what their files may say, and the cells they give."""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_world import VIEW

from hejin_models.errors import ViewError
from hejin_models.features import FeatureView, shipped_views, view_file
from hejin_models.toml_table import MAX_FILE_BYTES


def test_a_view_is_known_by_its_bytes_and_lays_its_cells_out_in_a_row(view: FeatureView) -> None:
    assert view.id == "test-view-v3"
    assert view.digest == hashlib.sha256(VIEW.encode()).hexdigest()
    assert view.offsets.tolist() == [0, 33, 56, 61, 77]
    assert view.total_cells == 77
    assert not view.uses_as_of
    assert view.datasets[0].columns["kind"] == "text"


def test_columns_become_cells(view: FeatureView) -> None:
    cells = view.cells(
        {
            "change": np.array([0.0, math.nan]),
            "kind": ["b", None],
            "amount": np.array([0.5, math.inf]),
            "share": [None, 0.02],
        }
    )
    assert cells.tolist() == [[0, 22, 1, 7], [32, 1, 4, 15]]
    assert cells.dtype == np.int32


def test_no_enterprises_are_no_rows(view: FeatureView) -> None:
    assert view.cells(dict.fromkeys(("amount", "share", "kind", "change"), ())).shape == (0, 4)


def test_a_column_that_the_sql_does_not_give_is_named(view: FeatureView) -> None:
    with pytest.raises(ViewError, match="no column share, change"):
        view.cells({"amount": [1.0], "kind": ["a"]})


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "test-view"', 'name = "Test View"', "`name` must match"),
        ("version = 3", "version = true", "`version` must be a whole number from 1"),
        ("version = 3", "version = 3\nsecret = 1", "`secret` is not a field of a view"),
        ('zh = "测试"', "", "`label.zh` is missing"),
        ('en = "Test"', 'en = " "', "`label.en` must be a text"),
        # What an operator reads before installing a view is what the file holds.
        ('en = "Test"', 'en = "\\u001b[2JTest"', "`label.en` has control or format"),
        ('zh = "测试"', 'zh = "测\u202e试"', "`label.zh` has control or format"),
        ("SELECT", "/* \u202e */ SELECT", "`source` has control or format"),
        ("SELECT", "/* \u200b */ SELECT", "`source` has control or format"),
        ('category = "production"', 'category = "gossip"', "`datasets.loans.category` must be one"),
        ('amount = "number"', 'amount = "float"', "`datasets.loans.columns.amount` must be one"),
        ('amount = "number"', 'enterprise = "text"', "which is always there"),
        ("[datasets.loans]", "[datasets.LOANS]", "`datasets.LOANS` must match"),
        ('kind = "log", low = 1', 'kind = "log", low = 0', r"`features\[0\].grid.kind` cannot be"),
        (
            'kind = "log"',
            'kind = "logarithmic"',
            "grid.kind` must be one of linear",
        ),
        ("cells = 30", "cells = 3000", r"`features\[0\].grid.cells` must be a whole number"),
        ("cells = 30", 'cells = 30, colour = "red"', r"`features\[0\].grid.colour` is not a field"),
        ("low = 1, ", "", r"`features\[0\].grid.low` is missing"),
        ("high = 1e6", "high = inf", r"`features\[0\].grid.high` must be finite"),
        ("high = 1e6", 'high = "big"', r"`features\[0\].grid.high` must be a number"),
        ('["a", "b", "c"]', '["a", 1]', "must be a list of texts"),
        ('["a", "b", "c"]', '["a", "a"]', "cannot be built"),
        ('name = "share"', 'name = "amount"', "name amount twice"),
        ('name = "share"', 'name = "enterprise"', "may not be `enterprise`"),
        (
            'unit = { en = "CNY", zh = "元" }',
            'unit = "CNY"',
            "unit` must be a table",
        ),
    ],
)
def test_a_mistake_in_a_view_is_named_by_its_field(old: str, new: str, complaint: str) -> None:
    with pytest.raises(ViewError, match=complaint) as refused:
        FeatureView.parse(VIEW.replace(old, new, 1).encode())
    assert refused.value.code == "bad-view"


def test_a_view_without_features_or_data_sets_is_refused() -> None:
    head = VIEW[: VIEW.index("[[features]]")]
    with pytest.raises(ViewError, match="`features` is missing"):
        FeatureView.parse(head.encode())
    with pytest.raises(ViewError, match="must list 1 to"):
        FeatureView.parse(head.replace("version", "features = []\nversion").encode())
    start, end = VIEW.index("[datasets.loans]"), VIEW.index("[[features]]")
    with pytest.raises(ViewError, match="at least one data set"):
        FeatureView.parse((VIEW[:start] + "[datasets]\n" + VIEW[end:]).encode())


def test_too_many_cells_in_all_are_refused() -> None:
    feature = VIEW[VIEW.index("[[features]]") : VIEW.index("[[features]]", 300)]
    many = "".join(
        feature.replace('"amount"', f'"f{i}"').replace("cells = 30", "cells = 390")
        for i in range(60)
    )
    with pytest.raises(ViewError, match="cells together"):
        FeatureView.parse((VIEW + many).encode())


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\xff\xfe", "no UTF-8 text"),
        (b"name = ", "not valid TOML"),
        (b"#" * (MAX_FILE_BYTES + 1), "bytes"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"a = " + b"{a = " * 50_000, "nested too deeply"),
        (b"version = " + b"9" * 5000, "too many digits"),
        (b"a" + b".a" * 100_000 + b" = 1", "more than 200 dots"),
        (b"name = 'a'\nversion = 1\nlabel." + b"a" * 200_000 + b" = 1", "label.en` is missing"),
    ],
)
def test_a_file_that_is_no_view_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ViewError, match=complaint) as refused:
        FeatureView.parse(data)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("bound", ["9" * 400, "1e308", "-1e308", "nan", "1e-320"])
def test_a_bound_that_no_grid_can_be_built_from_is_refused(bound: str) -> None:
    with pytest.raises(ViewError, match=r"grid\.high` must be finite"):
        FeatureView.parse(VIEW.replace("high = 1e6", f"high = {bound}", 1).encode())


@given(
    st.sampled_from(["linear", "log"]),
    st.floats() | st.sampled_from([1e-100, 1e100, -1e100]),
    st.floats() | st.sampled_from([1e-100, 1e100, -1e100]),
)
def test_bounds_of_any_size_make_a_grid_or_a_refusal(kind: str, low: float, high: float) -> None:
    old = 'kind = "log", low = 1, high = 1e6'
    assert old in VIEW
    text = VIEW.replace(old, f'kind = "{kind}", low = {low!r}, high = {high!r}', 1)
    with suppress(ViewError):
        FeatureView.parse(text.encode())


def test_shipped_views_parse_and_use_nothing_that_is_known_only_afterwards() -> None:
    views = shipped_views()
    assert {"sba-loans-v1", "uci-credit-v1"} <= set(views)
    loans = views["sba-loans-v1"]
    columns = set(loans.datasets[0].columns)
    assert not {"term", "chgoff_date", "chgoff_prin_gr", "mis_status", "default"} & columns
    assert "term" not in loans.source
    assert not {"sex", "marriage", "default"} & set(views["uci-credit-v1"].datasets[0].columns)


def test_a_view_is_loaded_from_a_file(tmp_path: Path, view: FeatureView) -> None:
    path = tmp_path / "test-view-3.toml"
    path.write_bytes(VIEW.encode())
    assert FeatureView.load(path) == view


def test_a_view_is_found_beside_the_plan_or_by_its_shipped_name(tmp_path: Path) -> None:
    shipped = view_file("sba-loans-v1", tmp_path)
    (tmp_path / "mine.toml").write_bytes(shipped)
    assert view_file("mine.toml", tmp_path) == shipped


def test_a_view_that_is_nowhere_is_refused_with_the_shipped_names(tmp_path: Path) -> None:
    with pytest.raises(ViewError, match="sba-loans-v1"):
        view_file("nothing.toml", tmp_path)
