"""Schemas: what the shipped ones say, what an operator may add, and every refusal by name."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_world import VIEW

from hejin_models.errors import SchemaError, ViewError
from hejin_models.features import Category, FeatureView, shipped_views
from hejin_models.grades import GRADES, highest
from hejin_models.schemas import load_schemas, parse_schema, shipped_schemas, view_grade

OWN = """
dataset = "visits"
category = "fulfilment"
time = "day"

[label]
en = "Visits"
zh = "拜访"

[columns.day]
en = "Day"
zh = "日期"
type = "date"
required = true
minimum = "2000-01-01"
grade = "general"

[columns.minutes]
en = "Length"
zh = "时长"
type = "integer"
unit = { en = "minutes", zh = "分钟" }
minimum = 0
maximum = 1440
grade = "important"
"""

KIND = """
extends = "invoices"

[columns.kind]
en = "Kind of invoice"
zh = "发票种类"
type = "text"
allowed = ["special", "general"]
grade = "core"
"""


def test_five_categories_are_shipped_in_both_languages_with_units_ranges_and_grades() -> None:
    schemas = shipped_schemas()
    assert list(dict.fromkeys(one.category for one in schemas.values())) == list(get_args(Category))
    for schema in schemas.values():
        assert schema.columns[schema.time].required
        for column in schema.columns.values():
            where = f"{schema.dataset}.{column.name}"
            assert any("一" <= letter <= "鿿" for letter in column.text.zh), where
            assert not any("一" <= letter <= "鿿" for letter in column.text.en), where
            if column.type in ("number", "integer"):
                assert column.unit is not None, where
            if column.type != "text":
                assert column.minimum is not None, where
                assert column.maximum is not None, where


def test_what_a_shipped_view_reads_of_a_shipped_data_set_is_in_its_schema() -> None:
    schemas = shipped_schemas()
    for view in shipped_views().values():
        for dataset in view.datasets:
            if dataset.name in schemas:
                schema = schemas[dataset.name]
                assert schema.category == dataset.category
                for name, kind in dataset.columns.items():
                    assert schema.columns[name].type == kind


def test_an_operator_adds_a_column_and_a_data_set_without_code(tmp_path: Path) -> None:
    (tmp_path / "kind.toml").write_text(KIND, "utf-8")
    (tmp_path / "visits.toml").write_text(OWN, "utf-8")
    schemas = load_schemas(tmp_path)
    assert list(schemas["invoices"].columns)[-1] == "kind"
    assert schemas["invoices"].columns["kind"].allowed == ("special", "general")
    assert schemas["visits"].columns["day"].minimum == dt.date(2000, 1, 1)
    assert schemas["visits"].columns["minutes"].maximum == 1440
    assert "kind" not in shipped_schemas()["invoices"].columns


def test_an_extension_may_come_before_the_data_set_that_it_extends(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        KIND.replace('"invoices"', '"visits"') + '[grades]\nminutes = "core"\n', "utf-8"
    )
    (tmp_path / "b.toml").write_text(OWN, "utf-8")
    visits = load_schemas(tmp_path)["visits"]
    assert list(visits.columns) == ["day", "minutes", "kind"]
    assert visits.columns["minutes"].grade == "core"


def test_without_a_folder_there_are_the_shipped_schemas(tmp_path: Path) -> None:
    assert load_schemas(None) == load_schemas(tmp_path / "nothing") == shipped_schemas()


def test_quality_rules_of_an_extension_come_after_the_shipped_ones(tmp_path: Path) -> None:
    rule = '\n[[quality]]\nid = "{}"\n[gate]\nvalidity = {}\n'
    (tmp_path / "a.toml").write_text(OWN + rule.format("first", 0.9), "utf-8")
    (tmp_path / "b.toml").write_text('extends = "visits"\n' + rule.format("second", 0.8), "utf-8")
    visits = load_schemas(tmp_path)["visits"]
    assert [one["id"] for one in visits.quality] == ["first", "second"]
    assert visits.gate == {"validity": 0.8}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('dataset = "visits"', 'dataset = "Visits"', "`dataset` must match"),
        ('category = "fulfilment"', 'category = "gossip"', "`category` must be one of production"),
        ('time = "day"', 'time = "minutes"', "`time` must name a column of type date"),
        ('time = "day"', 'time = "week"', "`time` must name a column of type date"),
        ('time = "day"', "", None),
        ('time = "day"', 'period = "month"', "`period` goes with `time`"),
        ('time = "day"', 'time = "day"\nperiod = "year"', "`period` must be one of day, month"),
        ("required = true", "", "`time` must name a required column"),
        ("required = true", 'required = "yes"', "`columns.day.required` must be true or false"),
        ('zh = "时长"', "", "`columns.minutes.zh` is missing"),
        ('type = "integer"', 'type = "float"', "`columns.minutes.type` must be one of text"),
        ('grade = "important"', 'grade = "secret"', "`columns.minutes.grade` must be one of"),
        ('grade = "important"', "", "`columns.minutes.grade` is missing"),
        ("minimum = 0", "minimum = 0.5", "`columns.minutes.minimum` must be a whole number"),
        ("minimum = 0", "minimum = 2000", "`columns.minutes.minimum` is above `maximum`"),
        ("minimum = 0", "least = 0", "`columns.minutes.least` is not a field of a schema"),
        ("minimum = 0", 'known_on = "minutes"', "known_on` must name a column of type date"),
        ('"2000-01-01"', '"2000-13-01"', "`columns.day.minimum` must be a date such as"),
        ('"2000-01-01"', "7", "`columns.day.minimum` must be a date such as"),
        ('"2000-01-01"', "2000-01-01", None),
        ("minimum = 0", 'allowed = ["a"]', "allowed` is for columns of type text"),
        ('minimum = "2000-01-01"', 'unit = { en = "d", zh = "日" }', "unit` is for numbers"),
        ("[columns.minutes]", "[columns.enterprise]", "lower-case name other than `enterprise`"),
        ("[columns.minutes]", "[columns.Minutes]", "lower-case name other than `enterprise`"),
        ("[label]", "quality = 1\n[label]", r"`quality` must be written as \[\[quality\]\]"),
        ("[label]", "gate = 1\n[label]", "`gate` must be a table"),
    ],
)
def test_a_mistake_in_a_schema_is_named_by_its_field(
    old: str, new: str, complaint: str | None
) -> None:
    assert old in OWN
    data = OWN.replace(old, new, 1).encode()
    if complaint is None:
        assert parse_schema(data).dataset == "visits"
        return
    with pytest.raises(SchemaError, match=complaint):
        parse_schema(data)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (KIND.replace('"invoices"', '"nothing"'), "no data set nothing to extend: known are"),
        (KIND.replace("columns.kind", "columns.net"), "`columns.net` is a column of invoices"),
        (KIND + 'known_on = "net"', "kind.known_on` must name a column of type date"),
        (KIND + '[grades]\nprice = "core"', "`grades.price` is not a column of invoices"),
        (KIND + '[grades]\nnet = "general"', "net` is below the schema's important"),
        (KIND + 'type = "text"', "not valid TOML"),
        (KIND.replace('"text"', '"number"'), "allowed` is for columns of type text"),
        (KIND.replace("allowed", "minimum = 1\nallowed"), "minimum` is for numbers and dates"),
        (KIND.replace('["special", "general"]', "[]"), "must list texts, each once"),
        (KIND.replace('"special"', '"general"'), "must list texts, each once"),
        ("time = 'x'\n" + KIND, "`time` is not a field of a schema"),
        (OWN.replace("visits", "invoices"), 'invoices is declared already: write extends = "inv'),
    ],
)
def test_what_an_operator_may_not_add_is_refused_with_the_file_named(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "mine.toml").write_text(text, "utf-8")
    with pytest.raises(SchemaError, match=complaint) as refused:
        load_schemas(tmp_path)
    assert str(refused.value).startswith("mine.toml: ")
    assert refused.value.text.zh.startswith("mine.toml：")


def test_two_files_that_add_the_same_column_are_refused(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(KIND, "utf-8")
    with pytest.raises(SchemaError, match=r"b\.toml: .*columns\.kind` is a column of invoices"):
        load_schemas(tmp_path)


def test_a_schema_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(SchemaError, match=r"mine\.toml cannot be read"):
        load_schemas(tmp_path)


@given(
    st.text(max_size=60) | st.sampled_from([OWN, KIND]), st.integers(0, 400), st.text(max_size=5)
)
def test_any_text_is_a_schema_or_a_refusal(text: str, place: int, added: str) -> None:
    with suppress(SchemaError):
        parse_schema((text[:place] + added + text[place:]).encode())


@given(st.lists(st.sampled_from(GRADES)))
def test_the_highest_grade_is_core_before_important_before_general(grades: list[str]) -> None:
    expected = next((one for one in ("core", "important") if one in grades), "general")
    assert highest(grades) == expected  # type: ignore[arg-type]


def test_a_view_is_graded_by_the_columns_that_it_reads(tmp_path: Path) -> None:
    trade = shipped_views()["trade-v1"]
    assert view_grade(trade, shipped_schemas()) == "important"
    (tmp_path / "mine.toml").write_text('extends = "invoices"\n[grades]\ntax = "core"\n', "utf-8")
    assert view_grade(trade, load_schemas(tmp_path)) == "core"
    (tmp_path / "mine.toml").write_text(KIND, "utf-8")  # core, and the view does not read it
    assert view_grade(trade, load_schemas(tmp_path)) == "important"


def test_a_column_that_nobody_graded_is_core() -> None:
    assert view_grade(FeatureView.parse(VIEW.encode()), shipped_schemas()) == "core"


def test_a_view_file_may_grade_its_columns_but_not_below_a_schema() -> None:
    text = VIEW.replace("[[features]]", "[datasets.loans.grades]\n{}\n[[features]]", 1)
    columns = FeatureView.parse(VIEW.encode()).datasets[0].columns
    grades = "\n".join(f'{name} = "general"' for name in columns)
    view = FeatureView.parse(text.replace("{}", grades).encode())
    assert view_grade(view, shipped_schemas()) == "general"
    schema = parse_schema(
        OWN.replace('"visits"', '"loans"').replace("columns.minutes", "columns.amount").encode()
    )
    assert view_grade(view, {"loans": schema}) == "important"


@pytest.mark.parametrize(
    ("grades", "complaint"),
    [
        ('nothing = "core"', "`datasets.loans.grades.nothing` is not a field of a view"),
        ('amount = "secret"', "`datasets.loans.grades.amount` must be one of general"),
    ],
)
def test_a_mistake_in_a_views_grades_is_named(grades: str, complaint: str) -> None:
    text = VIEW.replace("[[features]]", f"[datasets.loans.grades]\n{grades}\n[[features]]", 1)
    with pytest.raises(ViewError, match=complaint):
        FeatureView.parse(text.encode())
