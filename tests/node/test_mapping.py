"""Mapping files: what they say, and a clear word on each mistake."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from hejin_node.errors import MappingError
from hejin_node.mapping import SourceMapping

WHOLE = """
dataset = "invoices"
encoding = "gb18030"
delimiter = ";"
missing = ["", "NULL"]
unique = true

[enterprise]
column = "企业代号"

[columns.net]
source = "金额"
type = "number"
required = true
minimum = -5
maximum = 1e9

[columns.date]
type = "date"
minimum = "2017-01-01"
maximum = 2020-12-31
formats = ["%Y/%m/%d"]

[columns.status]
type = "text"
strip = false
allowed = ["valid"]
translate = { "有效" = "valid" }

[columns.direction]
type = "text"
constant = "out"
"""
LEAST = 'dataset = "d"\n[enterprise]\ncolumn = "e"\n[columns.a]\ntype = "text"\n'


def test_a_mapping_says_what_its_file_says() -> None:
    mapping = SourceMapping.parse(WHOLE.encode())
    assert (mapping.dataset, mapping.encoding, mapping.delimiter) == ("invoices", "gb18030", ";")
    assert (mapping.missing, mapping.unique, mapping.check) == (("", "NULL"), True, "uscc")
    assert mapping.sources == ("企业代号", "金额", "date", "status")
    assert mapping.schema == {
        "enterprise": "text", "net": "number", "date": "date", "status": "text",
        "direction": "text",
    }  # fmt: skip
    net, date, status, direction = mapping.columns
    assert (net.required, net.minimum, net.maximum) == (True, -5, 1e9)
    assert (date.minimum, date.maximum) == (dt.date(2017, 1, 1), dt.date(2020, 12, 31))
    assert (status.strip, status.translate) == (False, {"有效": "valid"})
    assert (direction.source, direction.constant) == (None, "out")


def test_what_is_left_out_has_a_default() -> None:
    mapping = SourceMapping.parse(LEAST.encode())
    assert (mapping.encoding, mapping.delimiter, mapping.missing) == ("utf-8", ",", ("",))
    assert not mapping.unique
    (column,) = mapping.columns
    assert (column.source, column.required, column.strip) == ("a", False, True)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('dataset = "d"', "", "dataset"),
        ('dataset = "d"', 'dataset = "Bad Name"', "dataset"),
        ('dataset = "d"', 'dataset = "d"\nencodign = "utf-8"', "encodign"),
        ('dataset = "d"', 'dataset = "d"\nencoding = "latin-1"', "encoding"),
        ('dataset = "d"', 'dataset = "d"\ndelimiter = "ab"', "delimiter"),
        ('dataset = "d"', 'dataset = "d"\ndelimiter = "\\n"', "delimiter"),
        ('dataset = "d"', 'dataset = "d"\nmissing = "NULL"', "missing"),
        ('dataset = "d"', 'dataset = "d"\nunique = "yes"', "unique"),
        ('column = "e"', "", "enterprise.column"),
        ('column = "e"', 'column = "e"\ncheck = "none"', "enterprise.check"),
        ("[columns.a]", "[columns.A]", "columns.A"),
        ("[columns.a]", "[columns.enterprise]", "columns.enterprise"),
        ('type = "text"', "", "columns.a.type"),
        ('type = "text"', 'type = "float"', "columns.a.type"),
        ('type = "text"', 'type = "text"\nminimum = 1', "columns.a.minimum"),
        ('type = "text"', 'type = "number"\nminimum = true', "columns.a.minimum"),
        ('type = "text"', 'type = "number"\nminimum = inf', "columns.a.minimum"),
        ('type = "text"', 'type = "number"\nminimum = 2\nmaximum = 1', "columns.a.minimum"),
        ('type = "text"', 'type = "date"\nminimum = "yesterday"', "columns.a.minimum"),
        ('type = "text"', 'type = "number"\nallowed = ["a"]', "columns.a.allowed"),
        ('type = "text"', 'type = "number"\nformats = ["%Y"]', "columns.a.formats"),
        ('type = "text"', 'type = "text"\ntranslate = { a = 1 }', "columns.a.translate"),
        ('type = "text"', 'type = "text"\ntranslate = "a"', "columns.a.translate"),
        ('type = "text"', 'type = "text"\nconstant = "x"\nsource = "y"', "columns.a.constant"),
        ('type = "text"', 'type = "number"\nconstant = "1"', "columns.a.constant"),
        ('type = "text"', 'type = "text"\nrequird = true', "columns.a.requird"),
        ('[columns.a]\ntype = "text"', "", "columns"),
    ],
)
def test_a_mistake_is_named_by_its_field(old: str, new: str, field: str) -> None:
    assert old in LEAST
    with pytest.raises(MappingError, match=f"`{field}`"):
        SourceMapping.parse(LEAST.replace(old, new).encode())


@pytest.mark.parametrize("data", [b"\xff\xfe", b"dataset = ", b"[a\n"])
def test_what_is_no_toml_is_refused(data: bytes) -> None:
    with pytest.raises(MappingError, match="TOML"):
        SourceMapping.parse(data)


def test_a_missing_mapping_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="No such file"):
        SourceMapping.load(tmp_path / "absent.toml")
    (tmp_path / "m.toml").write_text(LEAST, "utf-8")
    assert SourceMapping.load(tmp_path / "m.toml").dataset == "d"
