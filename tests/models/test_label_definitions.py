"""Label definitions: the shipped one, an operator's own, and what cannot be one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_models.errors import DefinitionError
from hejin_models.label_definitions import LabelDefinition, definition_file
from hejin_trust.text import Text

OWN = """
name = "overdue30-6m"
version = 2
days_overdue = 30
window_months = 6
[text]
en = "30 days within 6 months"
zh = "6个月内逾期30天"
"""


def test_the_shipped_definition_is_ninety_days_within_twelve_months(tmp_path: Path) -> None:
    data = definition_file("overdue90-12m-v1", tmp_path)
    found = LabelDefinition.parse(data)
    assert (found.id, found.days_overdue, found.window_months) == ("overdue90-12m-v1", 90, 12)
    assert found.digest == hashlib.sha256(data).hexdigest()
    assert found.text.en
    assert found.text.zh
    assert [found.label(days) for days in (0, 89, 90, 400)] == [0, 0, 1, 1]


def test_the_page_on_labels_shows_the_shipped_definition(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "labels.md").read_text("utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```", page, re.M | re.S)
    shown = LabelDefinition.parse(block.encode())
    shipped = LabelDefinition.parse(definition_file("overdue90-12m-v1", tmp_path))
    assert replace(shown, digest=shipped.digest) == shipped


def test_an_operator_adds_a_definition_as_a_file_without_code(tmp_path: Path) -> None:
    (tmp_path / "overdue30-6m-v2.toml").write_text(OWN)
    found = LabelDefinition.parse(definition_file("overdue30-6m-v2", tmp_path))
    assert (found.days_overdue, found.text) == (
        30,
        Text("30 days within 6 months", "6个月内逾期30天"),
    )


def test_a_file_of_the_name_of_a_shipped_definition_does_not_replace_it(tmp_path: Path) -> None:
    shipped = definition_file("overdue90-12m-v1", tmp_path)
    (tmp_path / "overdue90-12m-v1.toml").write_text(OWN)
    assert definition_file("overdue90-12m-v1", tmp_path) == shipped


@pytest.mark.parametrize("named", ["overdue1-v1", "", "../overdue30-6m-v2", "/etc/passwd"])
def test_an_unknown_name_is_told_what_there_is(tmp_path: Path, named: str) -> None:
    folder = tmp_path / "definitions"
    folder.mkdir()
    (tmp_path / "overdue30-6m-v2.toml").write_text(OWN)
    with pytest.raises(DefinitionError, match="overdue90-12m-v1") as refused:
        definition_file(named, folder)
    assert refused.value.code == "bad-definition"


def test_a_file_that_defines_something_else_than_its_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "overdue30-6m-v3.toml").write_text(OWN)
    with pytest.raises(DefinitionError, match=r"defines overdue30-6m-v2"):
        definition_file("overdue30-6m-v3", tmp_path)


def test_a_definition_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "overdue30-6m-v2.toml").mkdir()
    with pytest.raises(DefinitionError, match="cannot be read"):
        definition_file("overdue30-6m-v2", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('name = "overdue30-6m"', 'name = "Overdue 30"', "name"),
        ("version = 2", "version = 0", "version"),
        ("days_overdue = 30", "days_overdue = 0", "days_overdue"),
        ("days_overdue = 30", "days_overdue = 3651", "days_overdue"),
        ("days_overdue = 30", "days_overdue = 30.0", "days_overdue"),
        ("window_months = 6", "window_months = true", "window_months"),
        ("window_months = 6", "", "window_months"),
        ('zh = "6个月内逾期30天"', "", "text.zh"),
        ('zh = "6个月内逾期30天"', 'zh = "6个月\\u001b[2J"', "text.zh"),
        ("[text]", "note = 1\n[text]", "note"),
        ("[text]", "[texts]", "text"),
    ],
)
def test_what_is_no_definition_is_refused_and_the_field_is_named(
    old: str, new: str, field: str
) -> None:
    with pytest.raises(DefinitionError, match=f"`{field}`"):
        LabelDefinition.parse(OWN.replace(old, new).encode())


@given(st.binary(max_size=200))
def test_no_bytes_lead_to_anything_but_a_definition_or_a_refusal(data: bytes) -> None:
    with pytest.raises(DefinitionError):
        LabelDefinition.parse(data)
