"""Settings files as an operator writes them, mistakes included."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from hejin_trust.settings import SettingsError, read_settings


class Example(BaseModel):
    model_config = ConfigDict(extra="forbid")

    purposes: list[str]
    most: int = 1


@pytest.mark.parametrize(
    ("written", "en", "zh"),
    [
        ("most = 2", "field purposes: it is missing", "字段 purposes：缺失"),
        (
            'purpses = ["a"]',
            "field purpses: there is no such field: correct its spelling, or remove it",
            "字段 purpses：没有该字段：请更正拼写或删除",
        ),
    ],
)
def test_a_mistake_is_named_by_its_field_in_both_languages(
    written: str, en: str, zh: str, tmp_path: Path
) -> None:
    path = tmp_path / "node.toml"
    path.write_text(written)
    with pytest.raises(SettingsError) as refused:
        read_settings(path, Example)
    assert refused.value.text.en.endswith(en)
    assert refused.value.text.zh.endswith(zh)


def test_other_mistakes_are_told_without_the_value(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('purposes = ["a"]\nmost = "SECRET"')
    with pytest.raises(SettingsError, match="field most") as refused:
        read_settings(path, Example)
    assert "SECRET" not in str(refused.value.text.en)
