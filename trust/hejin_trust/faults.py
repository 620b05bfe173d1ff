"""What is wrong with a TOML file that a person wrote, said in both languages without its values."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hejin_trust.text import Text

_WHOLE: Final = Text("it must be a whole number", "应为整数")
_NUMBER: Final = Text("it must be a number", "应为数字")
_DATE: Final = Text("it must be a date, YYYY-MM-DD", "应为日期 YYYY-MM-DD")

#: By pydantic's error type (https://docs.pydantic.dev/2/errors/validation_errors/), with its
#: context; `names-once`, `unknown-name` and `size-band` are this project's own.
FAULTS: Final[Mapping[str, Text]] = {
    "missing": Text("it is missing", "缺失"),
    "extra_forbidden": Text(
        "there is no such field: correct its spelling, or remove it",
        "没有该字段：请更正拼写或删除",
    ),
    "model_type": Text("it must be a table", "应为表"),
    "dict_type": Text("it must be a table", "应为表"),
    "tuple_type": Text("it must be a list in [ ]", "应为用 [ ] 括起的列表"),
    "too_short": Text(
        "it must hold at least {min_length}, not {actual_length}",
        "至少应有 {min_length} 项，现有 {actual_length} 项",
    ),
    "too_long": Text(
        "it must hold at most {max_length}, not {actual_length}",
        "至多应有 {max_length} 项，现有 {actual_length} 项",
    ),
    "string_type": Text("it must be a text in quotation marks", "应为加引号的文本"),
    "string_too_short": Text(
        "it must have at least {min_length} character(s)", "至少应有 {min_length} 个字符"
    ),
    "string_too_long": Text(
        "it must have at most {max_length} characters", "至多应有 {max_length} 个字符"
    ),
    "string_pattern_mismatch": Text("it must match {pattern}", "应符合 {pattern}"),
    "literal_error": Text("it must be {expected}", "应为以下之一：{expected}"),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": Text("it must be a finite number", "应为有限数字"),
    "greater_than": Text("it must be greater than {gt}", "应大于 {gt}"),
    "greater_than_equal": Text("it must be at least {ge}", "应不小于 {ge}"),
    "less_than_equal": Text("it must be at most {le}", "应不大于 {le}"),
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": Text(
        "it must be a date without a time, YYYY-MM-DD", "应为不带时刻的日期 YYYY-MM-DD"
    ),
    "names-once": Text(
        'names must stand once each, or "*" alone', '各名称只能出现一次，或仅写 "*"'
    ),
    "unknown-name": Text(
        "name {place} must be one of {names}", "第 {place} 个名称应为以下之一：{names}"
    ),
    "size-band": Text(
        "it must be [LOW, HIGH], 1 <= LOW <= HIGH <= {most}",
        "应为 [下限, 上限]，1 <= 下限 <= 上限 <= {most}",
    ),
}

_OTHER: Final = Text(
    "its value is none that this field takes: see the documentation", "该字段不接受此值：请查阅文档"
)
_PLACE: Final = re.compile(r"\(at line (\d+), column (\d+)\)")


def field_fault(error: ValidationError) -> Text:
    """Return the first fault and the field that has it; never what was written there."""
    # A misspelt field is also a missing one: the name that was written says more.
    first = min(
        error.errors(include_input=False, include_url=False),
        key=lambda one: one["type"] != "extra_forbidden",
    )
    field = ".".join(str(part) for part in first["loc"])
    said = _said(first)
    if not field:  # the file as a whole
        return said
    return Text(f"field {field}: {said.en}", f"字段 {field}：{said.zh}")


def syntax_fault(reason: ValueError | RecursionError) -> Text:
    """Return why `tomllib` could not read a file, and where."""
    match reason:
        case RecursionError():
            return Text(
                "it is nested too deeply, write it with fewer brackets",
                "嵌套层数过多，请减少括号",
            )
        case UnicodeDecodeError():
            return Text(
                f"it is no UTF-8 text from byte {reason.start} on",
                f"自第 {reason.start} 字节起不是 UTF-8 文本",
            )
        case tomllib.TOMLDecodeError():
            place = _PLACE.search(str(reason))
            zh = "末尾处不完整" if place is None else f"第 {place[1]} 行第 {place[2]} 列有语法错误"
            return Text(str(reason), zh)
        case _:  # Python's own limit
            return Text("it has a number of too many digits", "其中某个数字位数过多")


def _said(fault: ErrorDetails) -> Text:
    text, context = FAULTS.get(fault["type"], _OTHER), fault.get("ctx", {})
    spoken = dict(context)
    if "expected" in context:  # pydantic writes "'a', 'b' or 'c'"
        spoken["expected"] = context["expected"].replace(" or ", ", ").replace(", ", "、")
    return Text(text.en.format_map(context), text.zh.format_map(spoken))
