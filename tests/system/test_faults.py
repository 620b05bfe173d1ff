"""What is wrong with a file is said in both languages and without what was written, for every fault
that a settings, policy, notice or plan file can have."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, PositiveInt, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from hejin_models.errors import ViewError
from hejin_models.features import FeatureView
from hejin_trust.faults import FAULTS, field_fault
from hejin_trust.settings import SettingsError, read_settings

ROOT = Path(__file__).parents[2]
HAN = re.compile(r"[\u4e00-\u9fff]")
SECRET = "91350100M000100Y43"

# Of pydantic's core schema, what each kind can raise on what TOML can hold (a text, a number, a
# date or time, a truth value, a list, a table). Kinds without an entry raise nothing themselves.
RAISES: dict[str, set[str]] = {
    "model": {"model_type"},
    "model-fields": {"missing", "extra_forbidden"},
    "str": {"string_type"},
    "int": {"int_type", "int_parsing", "int_parsing_size", "int_from_float", "finite_number"},
    "float": {"float_type", "float_parsing"},
    "date": {
        "date_type",
        "date_parsing",
        "date_from_datetime_parsing",
        "date_from_datetime_inexact",
    },
    "literal": {"literal_error"},
    "tuple": {"tuple_type", "missing", "too_long"},
    "dict": {"dict_type"},
}
SILENT = {"model-field", "default", "nullable", "definitions", "definition-ref", "no-info"}
LIMITS = {
    "gt": "greater_than",
    "ge": "greater_than_equal",
    "le": "less_than_equal",
    "pattern": "string_pattern_mismatch",
    "allow_inf_nan": "finite_number",
}
LENGTHS = {
    ("str", "min_length"): "string_too_short",
    ("str", "max_length"): "string_too_long",
    ("tuple", "min_length"): "too_short",
    ("tuple", "max_length"): "too_long",
    ("dict", "min_length"): "too_short",
    ("dict", "max_length"): "too_long",
}


def models() -> list[type[BaseModel]]:
    """Return every model of the packages: the modules that speak of BaseModel are imported."""
    found = []
    for path in sorted(ROOT.glob("*/hejin_*/**/*.py")):
        if "BaseModel" not in path.read_text():
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])
        module = importlib.import_module(name)
        found += [
            one
            for one in vars(module).values()
            if isinstance(one, type) and issubclass(one, BaseModel) and one.__module__ == name
        ]
    return found


def nodes(schema: object) -> Iterator[dict[str, Any]]:
    """Yield every node of a core schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from nodes(value)


def possible(model: type[BaseModel]) -> set[str]:
    """Return the error types that the model's schema can raise; fails on a kind not known here."""
    types = set()
    for node in nodes(model.__pydantic_core_schema__):
        kind = node["type"]
        if kind == "function-after":  # raises what is written in the code: see own_types
            continue
        assert kind in RAISES or kind in SILENT, f"{model.__name__}: say what a {kind} can raise"
        types |= RAISES.get(kind, set())
        types |= {LIMITS[key] for key in node if key in LIMITS and node[key] is not None}
        types |= {LENGTHS[kind, key] for key in node if (kind, key) in LENGTHS}
    return types


@cache
def own_types() -> set[str]:
    """Return the types of this project's own validators, as its source names them."""
    named = set()
    for path in ROOT.glob("*/hejin_*/**/*.py"):
        named |= set(re.findall(r'PydanticCustomError\(\s*"([^"]+)"', path.read_text()))
    return named


def test_every_error_type_that_a_model_can_raise_is_said_in_both_languages() -> None:
    found = models()
    assert {"PlanFile", "Policy", "NodeSettings", "Notice"} <= {one.__name__ for one in found}
    types = set().union(*map(possible, found)) | own_types()
    assert len(own_types()) > 2
    assert types == set(FAULTS), "a type without its words, or words without their type"
    for text in FAULTS.values():
        assert HAN.search(text.zh)
        assert not HAN.search(text.en)


def test_no_validator_of_a_model_raises_words_of_one_language() -> None:
    for path in ROOT.glob("*/hejin_*/**/*.py"):
        source = path.read_text()
        if "Validator(" in source or "_validator" in source:
            assert "raise ValueError" not in source, path
            assert "assert " not in source, path


WRONG: list[object] = [
    *(SECRET, "", SECRET * 200, f"x{SECRET}", "9" * 5000),
    *(913501.25, 91350100000.0, -913501, float("inf"), float("nan"), -0.5, True),
    *([SECRET], [SECRET, SECRET], [], [913501, 913500], [1, 2, 913501], [913501]),
    *({}, {SECRET: SECRET}, {"xy": 913501}, {"91" * 40: {}}),
    datetime(2025, 6, 7, 8, 9, tzinfo=UTC),
]


def filled(model: type[BaseModel]) -> Iterator[dict[str, object]]:
    """Yield tables for the model: each field in turn with each wrong value."""
    for name in model.model_fields:
        for value in WRONG:
            yield {name: value}


def test_no_fault_repeats_what_was_written() -> None:
    seen = set()
    for model in models():
        for table in filled(model):
            with pytest.raises(ValidationError) as refused:
                model.model_validate({**table, "none_such": SECRET})
            for one in refused.value.errors():
                error = ValidationError.from_exception_data(
                    "one",
                    [{**one, "type": _as_raised(one)}],  # type: ignore[list-item,typeddict-unknown-key]
                )
                field = ".".join(str(part) for part in one["loc"])
                text = field_fault(error)
                seen.add(one["type"])
                for said in (text.en, text.zh):
                    assert field in said
                    rest = said.replace(field, "")
                    assert "91350" not in rest, (model.__name__, one["type"])
                    assert "{" not in rest.replace(str(one.get("ctx", {}).get("pattern")), "")
                assert HAN.search(text.zh)
                assert not HAN.search(text.en)
    assert seen >= {"missing", "int_parsing", "literal_error", "unknown-name", "size-band"}


def _as_raised(one: Any) -> object:
    if one["type"] in own_types():
        return PydanticCustomError(one["type"], one["msg"], one.get("ctx"))
    return one["type"]


def test_a_type_that_is_not_in_the_table_still_names_the_field_in_both_languages() -> None:
    class Odd(BaseModel):
        model_config = ConfigDict(extra="forbid")
        wait: timedelta

    with pytest.raises(ValidationError) as refused:
        Odd.model_validate({"wait": SECRET})
    text = field_fault(refused.value)
    assert text.en.startswith("field wait: its value is none")
    assert text.zh.startswith("字段 wait：该字段不接受此值")
    assert SECRET not in text.en + text.zh


def test_a_fault_of_the_whole_file_needs_no_field() -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(PositiveInt).validate_python(0)
    assert field_fault(refused.value).en == "it must be greater than 0"


@pytest.mark.parametrize(
    ("written", "en", "zh"),
    [
        (b"member = \n", "at line 1, column 10", "第 1 行第 10 列有语法错误"),
        (b'member = "a', "at end of document", "末尾处不完整"),
        (b"# \xff", "no UTF-8 text from byte 2", "自第 2 字节起不是 UTF-8 文本"),
        (b"a = " + b"9" * 5000, "a number of too many digits", "某个数字位数过多"),
        (b"a = " + b"[" * 100_000, "nested too deeply", "嵌套层数过多"),
    ],
    ids=["value", "end", "bytes", "digits", "nested"],
)
def test_what_is_no_toml_is_told_by_its_place_in_both_languages(
    written: bytes, en: str, zh: str, tmp_path: Path
) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(written)
    with pytest.raises(SettingsError) as refused:
        read_settings(path, BaseModel)
    assert en in refused.value.text.en
    assert zh in refused.value.text.zh
    with pytest.raises(ViewError) as of_a_view:
        FeatureView.parse(written)
    assert en in of_a_view.value.text.en
    assert zh in of_a_view.value.text.zh
