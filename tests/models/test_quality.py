"""Quality rules, scores and gates: read from schema files, computed exactly, refused by name."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_models.errors import SchemaError
from hejin_models.features import shipped_views
from hejin_models.quality import (
    DEFAULT_GATE,
    DIMENSION_NAMES,
    DIMENSIONS,
    KeyRule,
    MonthsRule,
    NewestRule,
    RowRule,
    Rule,
    Tally,
    columns_read,
    concerning,
    gate_of,
    rules_digest,
    rules_of,
    rules_without_schema,
    scores,
    shortfalls,
)
from hejin_models.schemas import Schema, parse_schema, shipped_schemas
from hejin_trust.text import Text

HEAD = """
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
allowed = ["a", "it's"]
grade = "general"
[columns.paid]
en = "Paid on"
zh = "付款日"
type = "date"
grade = "general"
known_on = "paid"
[columns.note]
en = "Note"
zh = "备注"
type = "text"
grade = "general"
"""
RULE = """
[[quality]]
id = "used.some"
dimension = "consistency"
en = "Something is used"
zh = "有用量"
holds = "used > 0"
"""


def schema(more: str = "") -> Schema:
    return parse_schema((HEAD + more).encode())


def rule(name: str, dimension: str = "validity", columns: tuple[str, ...] = ()) -> Rule:
    return Rule(name, dimension, Text(name, name), RowRule("true"), columns)  # type: ignore[arg-type]


def test_every_column_has_rules_of_its_own() -> None:
    found = {one.id: one for one in rules_of(schema())}
    assert list(found) == [
        "enterprise.valid",
        "day.present", "day.valid",
        "used.present", "used.valid",
        "kind.present", "kind.valid",
        "paid.valid",  # it is known later than its row: that it is missing is no fault
        "note.present",  # any text will do
    ]  # fmt: skip
    assert found["used.valid"].form == RowRule(
        '"used" IS NOT NULL AND "used" >= (0.0) AND "used" <= (100.0)', '"used" IS NOT NULL'
    )
    kind = found["kind.valid"].form
    assert isinstance(kind, RowRule)
    assert kind.holds == "\"kind\" IS NOT NULL AND \"kind\" IN ('a', 'it''s')"
    assert found["used.present"].quarantine == ("used.required",)
    assert found["used.valid"].quarantine == ("used.type", "used.range", "used.allowed")
    assert found["enterprise.valid"].quarantine == ("enterprise.code",)


def test_stated_rules_are_read_in_their_four_forms() -> None:
    text = (
        RULE
        + """
when = "kind = 'a'"
[[quality]]
id = "once"
dimension = "uniqueness"
en = "Once"
zh = "唯一"
key = ["day", "kind"]
[[quality]]
id = "all"
dimension = "completeness"
en = "All"
zh = "全部"
months = "day"
[[quality]]
id = "new"
dimension = "timeliness"
en = "New"
zh = "新"
newest = "day"
within_days = 31
"""
    )
    stated = rules_of(schema(text))[-4:]
    assert [one.form for one in stated] == [
        RowRule("used > 0", "kind = 'a'"),
        KeyRule(("day", "kind")),
        MonthsRule("day"),
        NewestRule("day", 31),
    ]
    assert [one.columns for one in stated] == [
        ("used", "kind"),
        ("day", "kind"),
        ("day",),
        ("day",),
    ]
    assert stated[1].quarantine == ("enterprise.duplicate",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('id = "used.some"', 'id = "Used"', "id"),
        ('id = "used.some"', "", "id"),
        ('"consistency"', '"beauty"', "must be one of completeness"),
        ('zh = "有用量"', "", "zh"),
        ('holds = "used > 0"', "", "must have one of"),
        ('holds = "used > 0"', 'holds = "used > 0"\nmonths = "day"', "must have one of"),
        ('holds = "used > 0"', 'holds = "1 > 0"', "must name a column"),
        ('holds = "used > 0"', f'holds = "used > {"0" * 1000}"', "1000 characters"),
        ('holds = "used > 0"', 'months = "used"', "must name a date column"),
        ('holds = "used > 0"', 'months = "gone"', "no column of meters"),
        ('holds = "used > 0"', 'newest = "day"', "within_days"),
        ('holds = "used > 0"', 'newest = "day"\nwithin_days = 0', "from 1 to"),
        ('holds = "used > 0"', 'key = ["day"]', "is uniqueness"),
        ('"consistency"', '"uniqueness"', "is uniqueness"),
        ('holds = "used > 0"', 'holds = "used > 0"\nweight = 2', "weight"),
        ('id = "used.some"', 'id = "used.valid"', "two quality rules used.valid"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_its_field(old: str, new: str, said: str) -> None:
    with pytest.raises(SchemaError, match=said) as refused:
        rules_of(schema(RULE.replace(old, new)))
    assert refused.value.text.zh != refused.value.text.en


def test_a_wrong_rule_is_named_by_its_id() -> None:
    with pytest.raises(SchemaError, match=r"`quality\[used\.some\]\.holds` must name a column"):
        rules_of(schema(RULE.replace("used > 0", "usedd > 0")))


@pytest.mark.parametrize("key", ["[]", '["day", "day"]', '["gone"]'])
def test_a_key_names_columns_each_once(key: str) -> None:
    text = RULE.replace('"consistency"', '"uniqueness"').replace('holds = "used > 0"', f"key={key}")
    with pytest.raises(SchemaError, match="key"):
        rules_of(schema(text))


def test_there_is_an_end_to_the_rules_of_a_data_set() -> None:
    many = "".join(RULE.replace("used.some", f"r{number}") for number in range(200))
    with pytest.raises(SchemaError, match="more than 100"):
        rules_of(schema(many))


def test_a_gate_is_the_default_with_what_the_schema_states() -> None:
    assert gate_of(schema()) == DEFAULT_GATE
    stated = gate_of(schema("[gate]\nuniqueness = 0.5\n"))
    assert stated == {**DEFAULT_GATE, "uniqueness": 0.5}


@pytest.mark.parametrize(
    "gate", ["beauty = 1", "validity = 1.1", "validity = -0.1", "validity = 'x'"]
)
def test_a_gate_that_cannot_be_is_refused(gate: str) -> None:
    with pytest.raises(SchemaError, match="gate"):
        gate_of(schema(f"[gate]\n{gate}\n"))


def test_a_score_is_the_mean_over_rules_and_absent_where_none_applied() -> None:
    rules = [rule("a"), rule("b"), rule("c"), rule("d", "timeliness"), rule("e", "uniqueness")]
    tallies = {"a": Tally(4, 3), "b": Tally(1000, 500), "c": Tally(0, 0), "d": Tally(0, 0)}
    found = scores(rules, tallies)
    assert found["validity"] == Fraction(5, 8)  # (3/4 + 1/2) / 2
    assert found["timeliness"] is None
    assert found["uniqueness"] is None


def test_a_gate_lets_its_own_least_pass_and_no_less() -> None:
    gate = dict.fromkeys(DIMENSIONS, 0.9)
    found = dict.fromkeys(DIMENSIONS, Fraction(9, 10)) | {"validity": None}
    assert shortfalls(found, gate) == ()
    found["timeliness"] = Fraction(9, 10) - Fraction(1, 10**9)
    (below,) = shortfalls(found, gate)
    assert (below.dimension, below.least) == ("timeliness", 0.9)


def test_only_rules_about_what_a_view_reads_concern_it() -> None:
    rules = [rule("a", columns=("x", "y")), rule("b", columns=("z",)), rule("c")]
    assert [one.id for one in concerning(rules, ["y"])] == ["a", "c"]
    view = shipped_views()["trade-v1"]
    assert columns_read(view, "invoices") == (
        "direction", "counterparty", "date", "net", "tax", "status"
    )  # fmt: skip
    assert columns_read(view, "orders") == ()


def test_the_digest_changes_with_what_is_counted_alone() -> None:
    before = rules_digest(rules_of(schema(RULE)))
    assert rules_digest(rules_of(schema(RULE.replace("Something", "Anything")))) == before
    assert rules_digest(rules_of(schema(RULE.replace("> 0", "> 1")))) != before
    assert rules_digest(rules_of(schema())) != before


def test_a_data_set_without_schema_asks_only_that_values_are_there() -> None:
    found = rules_without_schema(["enterprise", "x"])
    assert [(one.id, one.dimension) for one in found] == [("x.present", "completeness")]


def test_a_tally_cannot_hold_more_often_than_it_applied() -> None:
    with pytest.raises(ValueError, match="2 times of 1"):
        Tally(1, 2)


def test_shipped_schemas_have_rules_in_every_dimension_that_they_can_have() -> None:
    for one in shipped_schemas().values():
        found = rules_of(one)
        assert {rule.dimension for rule in found} >= set(DIMENSIONS) - {"consistency"}, one.dataset
        assert gate_of(one).keys() == set(DIMENSIONS)
        for stated in found:
            assert stated.text.en != stated.text.zh
    assert set(DIMENSION_NAMES) == set(DIMENSIONS)


@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_scores_lie_between_0_and_1_and_equal_a_slow_reference(
    counts: dict[str, tuple[int, int]],
) -> None:
    tallies = {name: Tally(held + more, held) for name, (held, more) in counts.items()}
    rules = [rule(name, DIMENSIONS[ord(name) % 2]) for name in "abcd"]
    for dimension, score in scores(rules, tallies).items():
        shares = []
        for one in rules:
            if one.dimension == dimension and one.id in counts:
                held, more = counts[one.id]
                if held + more:
                    shares.append(held / (held + more))
        if shares:
            assert score is not None
            assert 0 <= score <= 1
            assert float(score) == pytest.approx(sum(shares) / len(shares))
        else:
            assert score is None
