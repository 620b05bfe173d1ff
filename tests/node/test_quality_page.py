"""The quality report and its commands: complete in both languages, bounded, private, offline."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pyarrow as pa
import pytest
from commands import run
from node_world import found_world

from hejin_models.features import view_file
from hejin_models.uscc import make_code
from hejin_node import quality_words
from hejin_node.home import open_home
from hejin_node.quality_check import NoDatasetError
from hejin_node.quality_page import measure_all, render_page
from hejin_node.segments import Columns
from hejin_node.views import install_view
from hejin_trust.files import FileError
from hejin_trust.text import Text

COLUMNS: Columns = {
    "enterprise": "text", "direction": "text", "counterparty": "text", "date": "date",
    "net": "number", "tax": "number", "status": "text",
}  # fmt: skip
_CHINESE = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
HOSTILE = "<script>alert(1)</script>{{7*7}}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return found_world(tmp_path).nodes["node-1"]


def invoice(number: int, tax: float = 0.1, date: str = "2025-06-01", code: int = 0) -> dict:
    return {
        "enterprise": make_code(code), "direction": "out", "counterparty": f"c{number}",
        "date": date, "net": float(number + 1), "tax": tax, "status": "valid",
    }  # fmt: skip


def load(home: Path, rows: list[dict[str, object]], source: str, dataset: str = "invoices") -> None:
    import datetime as dt

    for row in rows:
        if isinstance(row.get("date"), str):
            row["date"] = dt.date.fromisoformat(str(row["date"]))
    columns = COLUMNS if dataset == "invoices" else {"enterprise": "text", "x": "number"}
    with open_home(home) as node:
        node.warehouse.append(
            dataset, columns, pa.Table.from_pylist(rows).to_batches(), source * 64  # type: ignore[arg-type]
        )  # fmt: skip


GOOD = [invoice(number) for number in range(4)]
BAD = [invoice(number, tax=-9.0, date="2020-01-01", code=1) for number in range(4)]


# -- commands ------------------------------------------------------------------------------


def test_a_check_prints_scores_and_exits_by_the_gate(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(home, GOOD, "1")
    passed = run(home, "quality", "check")
    assert passed.exit_code == 0
    assert "completeness 100.0 %" in passed.stdout
    assert "gate passed" in passed.stdout
    load(home, BAD, "2")
    failed = run(home, "quality", "check", "invoices", "--enterprises", "3")
    assert failed.exit_code == 1
    assert "gate NOT passed: consistency 50.00 % (least 95 %)" in failed.stdout
    assert "tax.sign 50.0 %" in failed.stdout
    assert make_code(1) in failed.stdout
    assert make_code(0) not in failed.stdout  # all of its rules hold
    monkeypatch.setenv("HEJIN_LANG", "zh")
    assert "未通过质量门槛：一致性 50.00 %（下限 95 %）" in run(home, "quality", "check").stdout


def test_a_check_as_json_has_every_rule_with_its_counts(home: Path) -> None:
    load(home, [*GOOD, *BAD], "1")
    load(home, [{"enterprise": "x", "x": 1.0}], "2", "own")
    result = run(home, "quality", "check", "--enterprises", "1", "--json")
    assert result.exit_code == 1
    invoices, own = json.loads(result.stdout)["datasets"]
    assert invoices["scores"]["timeliness"] == 0.5
    assert invoices["below"] == ["consistency"]
    assert {"id": "tax.sign", "dimension": "consistency", "applied": 8, "held": 4} in invoices[
        "rules"
    ]
    (weakest,) = invoices["weakest"]
    assert (weakest["enterprise"], weakest["rows"]) == (make_code(1), 4)
    assert weakest["scores"]["consistency"] == 0.0
    assert (own["gate"], own["passed"], own["scores"]["validity"]) == ({}, True, None)


def test_a_data_set_that_is_not_there_is_refused(home: Path) -> None:
    with pytest.raises(NoDatasetError, match="hejin node data list"):
        run(home, "quality", "check", "orders")
    assert run(home, "quality", "check").exit_code == 0  # nothing there, nothing below its gate


def test_the_report_is_written_for_its_owner_alone(home: Path, tmp_path: Path) -> None:
    load(home, [*GOOD, *BAD], "1")
    file = tmp_path / "quality.html"
    told = json.loads(run(home, "quality", "report", "--out", str(file), "--json").stdout)
    assert told == {"report": str(file), "datasets": ["invoices"], "failed": ["invoices"]}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    html = file.read_text("utf-8")
    assert make_code(1) in html
    assert "1" * 64 in html  # the content hash of its only source
    assert "hejin node data lineage --report 1" in html
    with pytest.raises(FileError):
        run(home, "quality", "report", "--out", str(tmp_path / "none" / "quality.html"))


# -- the page ------------------------------------------------------------------------------


def page(home: Path, language: str = "zh") -> str:
    with open_home(home) as node:
        told = measure_all(node, lambda _: None)
    return render_page(told, "zh" if language == "zh" else "en")


def plain(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html.split("</style>")[1]).split())


def everything(home: Path) -> Iterator[str]:
    """Pages that together show every text that there is."""
    yield page(home)
    for file in (home / "views").glob("*"):
        file.unlink()
    yield page(home)
    with open_home(home) as node:
        install_view(node.views_folder, view_file("trade-v1"), node.schemas(), node.now().date())
    load(home, GOOD, "1")
    load(home, [{"enterprise": "x", "x": 1.0}], "2", "own")
    yield page(home)
    load(home, [invoice(n, tax=-9.0, date="2020-01-01", code=n + 1) for n in range(30)], "3")
    with open_home(home) as node, node.warehouse.loading("data", "invoices", "4" * 64) as work:
        from hejin_trust.database import writing

        bad = pa.table({"row": [1], "rule": ["net.range"], "enterprise": [make_code(0)]})
        columns: Columns = {"row": "integer", "rule": "text", "enterprise": "text"}
        work.writer("quarantine", "invoices", columns).write(bad)
        work.complete()
        with writing(node.database) as connection:
            work.publish(connection)
    yield page(home)


def texts(value: object) -> Iterator[Text]:
    if isinstance(value, Text):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from texts(inner)


def test_every_text_of_the_report_is_in_both_languages_and_is_shown(home: Path) -> None:
    pages = " ".join(everything(home))
    shown = plain(pages.replace("</style>", "", pages.count("</style>") - 1)) + pages
    for name in (name for name in vars(quality_words) if name.isupper()):
        for text in texts(getattr(quality_words, name)):
            assert not _CHINESE.search(text.en), name
            assert _CHINESE.search(text.zh), name
            if name == "CATEGORIES":
                continue  # one data set is enough
            for told in (text.en, text.zh):
                start = told.split("{")[0].strip().replace("'", "&#39;")
                assert start in shown, f"{name} is not used"


def test_the_template_holds_no_text_of_its_own() -> None:
    source = resources.files("hejin_node").joinpath("templates/quality.html.jinja")
    left = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", source.read_text("utf-8"), flags=re.S)
    assert set(re.findall(r"[^\W\d_]+", re.sub(r"<[^>]*>", " ", left))) <= {"Hejin"}


def test_each_language_stands_alone(home: Path) -> None:
    load(home, [*GOOD, *BAD], "1")
    html = page(home)
    main = html.split("<main>")[1]
    english = re.sub(r'<(span|text) class="zh".*?</\1>', "", main)
    english = re.sub(r"<(title|desc).*?</\1>", "", english)  # they tell both
    assert not _CHINESE.search(re.sub(r"<[^>]*>", " ", english))
    assert html.count('class="zh" lang="zh-CN"') == html.count('class="en" lang="en"')


@pytest.mark.parametrize("language", ["zh", "en"])
def test_it_opens_in_the_language_asked_for(home: Path, language: str) -> None:
    load(home, GOOD, "1")
    assert re.findall(r'id="(\w\w)" aria-label="[^"]*" checked', page(home, language)) == [language]


def test_the_page_runs_no_script_and_asks_no_network(home: Path) -> None:
    load(home, [*GOOD, *BAD], "1")
    html = page(home)
    assert not re.search(r"<(script|link|img|iframe|a|form)\b|https?:|url\(|@import| style=", html)
    css = html.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in html


def test_hostile_codes_are_shown_and_never_become_markup(home: Path) -> None:
    load(home, [{"enterprise": HOSTILE, "x": None}, {"enterprise": "b", "x": 1.0}], "1", "own")
    html = page(home)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "49" not in plain(html).replace("0.1.0", "")


def test_a_thousand_weak_enterprises_stay_a_page_with_their_number_told(home: Path) -> None:
    load(home, [invoice(n, tax=-9.0, date="2020-01-01", code=n) for n in range(1000)], "1")
    html = page(home, "en")
    assert "980 more rows" in html
    assert len(html.encode()) < 120_000
