"""The printed report: complete in both languages, bounded, offline, and deaf to hostile names."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from ledger_world import NODES, Consortium
from report_world import ALONE_CAP, CAP, course, finding, spending, verification
from typer.testing import CliRunner

from hejin_regulator import report_words
from hejin_regulator.cli import app
from hejin_regulator.findings import Finding, LogHead, RefusalCount, Verification, VoidCount
from hejin_regulator.report_page import render_page, write_page
from hejin_trust.entries import ENTRY_TYPES
from hejin_trust.files import FileError
from hejin_trust.text import Text

_VOID = {"meta", "input", "br"}
_CHINESE = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}</title></svg>\u202e\x1b[31m"
_WORDS = {name for name in vars(report_words) if name.isupper()}


@dataclass
class _Element:
    tag: str
    attributes: dict[str, str]
    children: list[_Element | str] = field(default_factory=list)

    def walk(self) -> Iterator[_Element]:
        yield self
        for child in self.children:
            if isinstance(child, _Element):
                yield from child.walk()

    def all(self, tag: str) -> list[_Element]:
        return [element for element in self.walk() if element.tag == tag]

    def text(self, language: str | None = None) -> str:
        """Return the text, without what stands in the other language."""
        if language and self.attributes.get("class") == {"en": "zh", "zh": "en"}[language]:
            return ""
        told = (c if isinstance(c, str) else c.text(language) for c in self.children)
        return " ".join(" ".join(told).split())


class _Tree(HTMLParser):
    """Reads a page strictly: every element that opens is closed, in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [_Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = _Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def _parsed(page: str) -> _Element:
    tree = _Tree()
    tree.feed(page)
    tree.close()
    assert len(tree.open) == 1
    return tree.open[0]


def _shown(found: Verification, folder: str = "/srv/audit") -> _Element:
    return _parsed(render_page(found, folder, "zh"))


def _rows(page: _Element, language: str = "en") -> list[list[str]]:
    return [
        [cell.text(language) for cell in row.children if isinstance(cell, _Element)]
        for row in page.all("tr")
    ]


# -- what it says ------------------------------------------------------------------------


def test_the_header_says_what_was_verified_with_what() -> None:
    told = _shown(verification()).all("header")[0]
    for language in ("en", "zh"):
        words = told.text(language)
        for part in ("hebei", "3f" * 32, "/srv/audit", "ab" * 32, "anping, jing, bank", "0.1.0"):
            assert part in words
        assert "2026-01-11 00:00:00" in words
        assert "2026-01-11 08:00:00" in words  # Beijing
    assert "no. 4" in told.text("en")
    assert "第 4 号" in told.text("zh")
    assert "pinned" in told.text("en")


def test_a_verified_export_says_so_in_words_and_what_that_does_not_mean() -> None:
    page = _shown(verification())
    verdict = next(e for e in page.all("section") if "verdict" in e.attributes.get("class", ""))
    assert "VERIFIED All 10 checks hold" in verdict.text("en")
    assert "核验通过" in verdict.text("zh")
    assert "does not mean" in verdict.text("en")
    assert "NOT" not in verdict.text("en")


def test_a_failed_export_says_so_and_counts_its_findings() -> None:
    page = _shown(verification([finding(), finding("bank"), replace(finding(), check="V8")]))
    verdict = next(e for e in page.all("section") if "verdict" in e.attributes.get("class", ""))
    assert "NOT VERIFIED Of 10 checks, 2 failed. Findings: 3." in verdict.text("en")
    assert "核验未通过" in verdict.text("zh")
    rows = {row[0]: row for row in _rows(page)}
    assert rows["V1"][2:] == ["✗ failed", "2"]
    assert rows["V8"][2:] == ["✗ failed", "1"]
    assert rows["V9"][2:] == ["✓ holds", "0"]


def test_a_key_from_the_export_itself_is_an_alarm_even_if_all_holds() -> None:
    told = _shown(replace(verification(), pinned=False))
    assert "NOT pinned" in told.all("header")[0].text("en")
    verdict = next(e for e in told.all("section") if "verdict" in e.attributes.get("class", ""))
    assert verdict.attributes["class"] == "verdict unsure"
    assert "VERIFIED, but under a key that nobody confirmed" in verdict.text("en")
    assert "核验通过，但公钥未经确认" in verdict.text("zh")
    failed = replace(verification([finding()]), pinned=False)
    assert "NOT VERIFIED" in _shown(failed).text("en")
    assert "nobody confirmed" not in _shown(failed).text("en")
    assert "nobody confirmed" not in _shown(verification()).text("en")


def test_a_finding_names_member_entry_reason_and_evidence() -> None:
    rows = _rows(_shown(verification([finding()])))
    assert ["jing", "17", "altered", "jing/release.jsonl:17"] in rows
    rows = _rows(_shown(verification([finding(seq=None)])), "zh")
    assert ["jing", "", "改动：altered", "jing/release.jsonl:17"] in rows


def test_budgets_are_told_by_node_bank_and_period_with_exact_fractions() -> None:
    page = _shown(verification())
    rows = _rows(page)
    assert [
        "jing", "all banks", "3", "0.033334", "0.100000", "0.066666", "33.4 %", "1.1833", "2.1420"
    ] in rows  # fmt: skip
    assert ["jing", "bank", "3", "0.033334", "", "", "", "1.1833", ""] in rows
    assert ["jing", "0.166667", "1.000000", "0.833333", "16.7 %", "2.8321", "7.7663"] in rows
    assert ["jing", "all banks", "1/30", "1/6"] in rows
    titles = {e.attributes.get("title") for e in page.all("td")}
    assert {"1/30", "1/15", "1/10", "1/6"} <= titles
    headings = [e.text("en") for e in page.all("h3")]
    assert "Budget period 2026-01-01 00:00 to 2027-01-01 00:00 UTC; delta 1e-06" in headings


def test_what_is_above_a_cap_is_marked_in_words() -> None:
    rows = _rows(_shown(verification(rows=[spending("jing", CAP * 11)])))
    above = [row for row in rows if row[0] == "jing" and "▲ above the cap" in " ".join(row)]
    assert len(above) == 2  # 5 times as much if all others colluded: above that cap too
    assert above[0][5] == "-1.000000"
    assert CAP * 55 > ALONE_CAP


def test_refusals_voids_entries_and_logs_are_counted() -> None:
    page = _shown(verification())
    rows = _rows(page)
    assert ["jing", "bank", "plan-not-approved", "41"] in rows
    assert ["anping", "interrupted", "1"] in rows
    assert ["reserve", "the cost of a sum is charged", "7"] in rows
    assert ["anping", "release", "1234", "cd" * 32] in rows
    told = page.text("en")
    assert "Refusals: 41" in told
    assert "Voids: 1" in told


def test_every_node_has_a_chart_with_title_and_description() -> None:
    figures = _shown(verification()).all("figure")
    assert len(figures) == 2
    for number, figure in enumerate(figures, 1):
        (drawing,) = figure.all("svg")
        assert drawing.attributes["role"] == "img"
        ids = drawing.attributes["aria-labelledby"].split()
        assert ids == [f"chart-{number}-title", f"chart-{number}-desc"]
        labels = [*drawing.all("title"), *drawing.all("desc")]
        assert [label.attributes["id"] for label in labels] == ids
        assert all(label.text() for label in labels)
        classes = [path.attributes["class"] for path in drawing.all("path")]
        assert classes.count("spent") == classes.count("cap") == 1


def test_a_verification_of_nothing_is_still_a_page() -> None:
    empty = replace(
        verification([finding()], rows=[], points={}),
        counts={}, heads=(), members=(), refusals=(), voids=(), regulator_key="",
    )  # fmt: skip
    assert "No node's account could be read." in _shown(empty).text("en")


# -- both languages ----------------------------------------------------------------------


def _everything() -> list[Verification]:
    """Verifications that together show every text that there is."""
    warned = replace(
        verification([finding("jing", number) for number in range(100)]),
        warnings=(Text("look", "请看"),),
        counts=dict.fromkeys(ENTRY_TYPES, 1),
        heads=tuple(LogHead("jing", log, 1, "cd" * 32) for log in report_words.LOGS),
    )
    years = [(f"{year}-01-01T00:00:00Z", f"{year + 1}-01-01T00:00:00Z") for year in (2026, 2027)]
    rows = [spending("jing", CAP * 11, period=year) for year in years]
    rows += [spending("jing", CAP, f"bank-{number}") for number in range(600)]
    above = verification(rows=rows, points={"jing": course(("2026-01-02", CAP * 11))})
    return [
        verification(),
        warned,
        above,
        verification(rows=[]),
        replace(verification(), pinned=False),
    ]


def _texts(value: object) -> Iterator[Text]:
    if isinstance(value, Text):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _texts(inner)


def test_every_text_of_the_report_is_in_both_languages_and_is_shown() -> None:
    pages = "".join(render_page(found, "/srv", "en") for found in _everything())
    plain = " ".join(_parsed(render_page(found, "/srv", "en")).text() for found in _everything())
    for name in _WORDS:
        for text in _texts(getattr(report_words, name)):
            assert text.en
            assert text.zh
            assert not _CHINESE.search(text.en), name
            assert text.en == text.zh or _CHINESE.search(text.zh), name
            for words in (text.en, text.zh):
                start = " ".join(words.split("{")[0].split())
                assert start in plain or start in pages, f"{name} is not used"


def test_the_templates_hold_no_text_of_their_own() -> None:
    rooms = (
        ("hejin_regulator", "report.html.jinja"),
        ("hejin_console", "page.html.jinja"),
        ("hejin_console", "charts.svg.jinja"),
    )
    for room, file in rooms:
        source = resources.files(room).joinpath("templates", file).read_text("utf-8")
        left = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<style>.*?</style>", "", source, flags=re.S)
        left = re.sub(r"<[^>]*>", " ", left)
        words = set(re.findall(r"[^\W\d_]+", left))
        # The switch names each language in itself; Hejin and epsilon are the same in both.
        assert words <= {"中文", "English", "Hejin", "ε"}, words


def test_each_view_is_in_one_language() -> None:
    for found in _everything():
        (main,) = _shown(found).all("main")
        for drawing in main.all("svg"):
            drawing.children.clear()  # a title and a description tell both
        assert not _CHINESE.search(main.text("en"))
        spans = [e for e in main.walk() if e.attributes.get("class") in ("zh", "en")]
        assert len(spans) > 100
        languages = [span.attributes["lang"] for span in spans]
        assert languages.count("zh-CN") == languages.count("en")
        assert all(span.text() for span in spans)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_it_opens_in_the_language_asked_for(language: str) -> None:
    page = _parsed(render_page(verification(), "/srv", "zh" if language == "zh" else "en"))
    chosen = [e.attributes["id"] for e in page.all("input") if "checked" in e.attributes]
    assert chosen == [language]
    html = page.all("html")[0].attributes["lang"]
    assert html == {"zh": "zh-CN", "en": "en"}[language]


# -- hostile input -----------------------------------------------------------------------


def _hostile() -> Verification:
    point = course(("2026-01-02", CAP))
    return replace(
        verification(
            [Finding("V1", _HOSTILE, 1, Text(_HOSTILE, _HOSTILE), (_HOSTILE,) * 30)],
            rows=[spending(_HOSTILE, CAP), spending(_HOSTILE, CAP, _HOSTILE)],
            points={_HOSTILE: point},
        ),
        consortium=_HOSTILE,
        warnings=(Text(_HOSTILE, _HOSTILE),),
        counts={_HOSTILE: 1},
        members=(_HOSTILE,),
        heads=(LogHead(_HOSTILE, "release", 1, "cd" * 32),),
        refusals=(RefusalCount(_HOSTILE, _HOSTILE, _HOSTILE, 1),),
        voids=(VoidCount(_HOSTILE, _HOSTILE, 1),),
    )


def test_hostile_names_are_shown_and_never_become_markup() -> None:
    page = render_page(_hostile(), f"/srv/{_HOSTILE}", "zh")
    tree = _parsed(page)
    assert not tree.all("script")
    assert "<script" not in page
    assert "49" not in tree.text()
    assert "<script>alert(1)</script>\"'&{{7*7}}</title></svg>\\u202e\\x1b[31m" in tree.text()
    assert {e.tag for e in tree.walk()} == {e.tag for e in _shown(
        replace(verification([finding()]), warnings=(Text("look", "请看"),))
    ).walk()}  # fmt: skip
    tags = [e.attributes.keys() for e in tree.walk()]
    assert not any(name.startswith("on") for names in tags for name in names)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page)


def test_file_names_that_are_not_text_are_shown_as_escapes(tmp_path: Path) -> None:
    odd = b"logs-\xff".decode("utf-8", "surrogateescape")
    found = verification([finding(odd)])
    file = tmp_path / "report.html"
    write_page(found, tmp_path, file)
    assert r"logs-\udcff" in file.read_text("utf-8")


def test_numbers_that_no_float_and_no_decimal_holds_are_still_shown() -> None:
    long = Fraction(1, 3**4000) + Fraction(1, 7**3000)  # more digits than Python writes
    huge = Fraction(10) ** 500
    rows = [spending("jing", long), spending("anping", huge, cap=Fraction(0))]
    shown = _rows(_shown(verification(rows=rows, points={"anping": course(("2026-02-01", huge))})))
    assert ["jing", "all banks", f"1/{2**64}", f"1/{2**64}"] in shown
    (row,) = [row for row in shown if row[:2] == ["anping", "all banks"] and len(row) == 9]
    assert row[3:] == [
        ">1e9", "0.000000", "<-1e9", ">100000 % ▲ above the cap", "∞", "0.0000"
    ]  # fmt: skip


def test_the_page_runs_no_script_and_asks_no_network() -> None:
    page = render_page(verification([finding()]), "/srv", "zh")
    tree = _parsed(page)
    assert {e.tag for e in tree.walk()}.isdisjoint({"script", "link", "img", "iframe", "a", "form"})
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page
    assert "@import" not in page
    (style,) = tree.all("style")
    (css,) = style.children
    assert isinstance(css, str)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = next(
        e.attributes["content"]
        for e in tree.all("meta")
        if e.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert not any("style" in e.attributes for e in tree.walk())  # the policy would forbid it


# -- size --------------------------------------------------------------------------------


def test_ten_thousand_findings_stay_a_page_with_their_total_told() -> None:
    flood = [finding("jing", number, "altered " * 100) for number in range(9_999)]
    page = render_page(verification([*flood, finding("bank", 3)]), "/srv", "en")
    assert len(page.encode()) < 400_000
    told = _parsed(page)
    assert "Number: 10000; shown: 60" in told.text("en")
    assert "By member: jing 9999, bank 1" in told.text("en")
    rows = [row for row in _rows(told) if "jing/release.jsonl:17" in row]
    assert len(rows) == 60
    assert rows[-1][:2] == ["bank", "3"]  # a flood of another's does not hide it


def test_findings_of_ten_thousand_members_stay_bounded() -> None:
    flood = [finding(f"stranger-{number}" * 20) for number in range(10_000)]
    assert len(render_page(verification(flood), "/srv", "en").encode()) < 400_000


def test_a_report_of_twenty_nodes_and_three_years_is_under_two_megabytes() -> None:
    years = [(f"{year}-01-01T00:00:00Z", f"{year + 1}-01-01T00:00:00Z") for year in range(3)]
    years = [(f"202{start}", f"202{end}") for start, end in years]
    nodes = [f"node-{number}" for number in range(20)]
    banks = [None, *(f"bank-{number}" for number in range(5))]
    rows = [spending(n, CAP / 7, bank, year) for n in nodes for year in years for bank in banks]
    days = [f"{y}-{m:02}-{d:02}" for y in (2020, 2021, 2022) for m in range(1, 13)
            for d in range(1, 29)]  # fmt: skip
    points = course(*((day, CAP * k / 1008) for k, day in enumerate(days)))
    found = verification(
        [finding(n, seq) for n in nodes for seq in range(30)], rows, dict.fromkeys(nodes, points)
    )
    found = replace(found, checked_at="2023-01-01T00:00:00Z")
    assert len(render_page(found, "/srv", "zh").encode()) < 2_000_000


def test_more_rows_than_a_page_holds_are_left_out_and_counted() -> None:
    banks = [spending("jing", CAP, f"bank-{number}") for number in range(600)]
    told = _shown(verification(rows=[spending("jing", CAP), *banks])).text("en")
    assert "101 more rows: --json" in told


# -- the file and the command ------------------------------------------------------------


def test_a_report_that_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="check the folder") as refused:
        write_page(verification(), tmp_path, tmp_path / "none" / "report.html")
    assert refused.value.code == "file-error"
    assert "请检查目录" in refused.value.text.zh
    with pytest.raises(FileError):
        write_page(verification(), tmp_path, tmp_path)


@pytest.mark.parametrize(("findings", "code"), [([], 0), ([finding()], 1)])
def test_the_command_writes_the_report_whatever_the_verdict(
    findings: list[Finding], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hejin_regulator.verify.verify_export", lambda *_: verification(findings))
    monkeypatch.setenv("HEJIN_LANG", "zh")
    file = tmp_path / "report.html"
    result = CliRunner().invoke(
        app, ["verify", str(tmp_path), "--report", str(file)], catch_exceptions=False
    )
    assert result.exit_code == code
    page = _parsed(file.read_text("utf-8"))
    assert page.all("html")[0].attributes["lang"] == "zh-CN"
    assert str(tmp_path) in page.text()


def test_a_real_export_is_reported_with_its_logs_and_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    consortium = Consortium(tmp_path / "export").run()
    file = tmp_path / "report.html"
    command = ["verify", str(consortium.folder), "--report", str(file)]
    command += ["--regulator-key", consortium.regulator.public.hex()]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    page = _parsed(file.read_text("utf-8"))
    assert "VERIFIED All 10 checks hold" in page.text("en")
    assert len(page.all("figure")) == len(NODES)
    checkpoint = (consortium.folder / "jing" / "release.checkpoint").read_text().splitlines()
    root = base64.b64decode(checkpoint[2]).hex()
    assert ["jing", "release", checkpoint[1], root] in _rows(page)

    (consortium.folder / "jing" / "internal.jsonl").unlink()
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 1
    page = _parsed(file.read_text("utf-8"))
    assert "NOT VERIFIED" in page.text("en")
    found = [row for row in _rows(page) if row[0] == "jing" and "cannot be read" in "".join(row)]
    assert any("jing/internal.jsonl" in row[-1] for row in found)
