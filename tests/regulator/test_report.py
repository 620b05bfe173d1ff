"""A verification on the screen and as JSON: rounded the safe way, exact, and deaf to escapes."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_world import CAP, finding, spending, verification
from rich.console import Console

from hejin_console.values import cost, exact, loss, percent, visible
from hejin_regulator.findings import Verification
from hejin_regulator.report import render_report, report_json
from hejin_regulator.report_values import fair_share
from hejin_trust.text import Text


def _screen(found: Verification, width: int = 140) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(render_report(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _rows(shown: str) -> list[list[str]]:
    """Return the cells of all rows of all tables, without headings."""
    lines = (line for line in shown.splitlines() if line.startswith("│"))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_screen_shows_each_check_what_is_left_refusals_and_voids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")
    shown = _screen(verification([finding(), finding("bank")]))
    checks = _rows(shown)[:10]
    assert [row[0] for row in checks] == [f"V{number}" for number in range(1, 11)]
    assert checks[0][2:] == ["✗", "2"]
    assert checks[9][2:] == ["✓", ""]
    assert "0.033334 │ 0.066666 │ 33.4 %" in shown
    assert "refusals 41, voids 1" in shown
    assert "hebei  #4 3f3f3f3f3f3f" in shown
    assert "delta 1e-06" in shown
    assert "NOT VERIFIED: 2 findings" in shown


def test_the_screen_speaks_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEJIN_LANG", "zh")
    shown = _screen(verification())
    for words in ("须成立的内容", "剩余", "拒绝 41 次，作废 1 次", "通过：全部检查成立"):
        assert words in shown


def test_the_screen_shows_a_hundred_rows_and_counts_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")
    flood = [finding("jing", number) for number in range(400)]
    rows = [spending("jing", CAP, f"bank-{number}") for number in range(150)]
    shown = _screen(verification([*flood, finding("bank", 3)], rows=rows))
    assert "and 301 more: --json" in shown
    assert "and 50 more: --json" in shown
    assert ["V1", "bank", "3", "altered"] in _rows(shown)


def test_a_hostile_name_neither_colours_the_terminal_nor_the_table() -> None:
    hostile = "\x1b]0;owned\x07[bold red]x[/]\nVERIFIED\u202e"
    shown = _screen(
        replace(
            verification(
                [finding(hostile, reason=hostile)], rows=[spending(hostile, CAP, hostile)]
            ),
            consortium="[red]",
            warnings=(Text(hostile, hostile),),
        ),
        width=400,
    )
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert r"\x1b]0;owned\x07[bold red]x[/]\nVERIFIED\u202e" in shown
    assert "[red]" in shown


def test_the_json_is_exact_and_complete() -> None:
    told = report_json(verification([finding()]))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["ok"] is False
    assert told["charter_serial"] == 4
    assert told["pinned"] is True
    assert told["checks"] == {f"V{n}": n != 1 for n in range(1, 11)}
    assert told["findings"] == [
        {
            "check": "V1",
            "member": "jing",
            "seq": 17,
            "reason": {"en": "altered", "zh": "改动：altered"},
            "evidence": ["jing/release.jsonl:17"],
        }
    ]
    assert isinstance(told["spending"], list)
    whole, of_bank = told["spending"][2:]
    assert whole["rho"] == {"num": "1", "den": "30"}
    assert whole["rho_left"] == {"num": "1", "den": "15"}
    assert whole["rho_alone_left"] == {"num": "5", "den": "6"}
    assert whole["releases"] == 3
    assert whole["period_to"] == "2027-01-01T00:00:00Z"
    assert of_bank["bank"] == "bank"
    assert of_bank["rho_left"] is of_bank["rho_alone"] is of_bank["rho_alone_left"] is None
    assert isinstance(told["course"], dict)
    assert told["course"]["jing"][1]["rho"] == {"num": "1", "den": "30"}
    assert told["refusals"] == [
        {"node": "jing", "code": "plan-not-approved", "peer": "bank", "count": 41}
    ]
    assert told["voids"] == [{"node": "anping", "reason": "interrupted", "count": 1}]
    assert told["heads"] == [
        {"member": "anping", "log": "release", "size": 1234, "root": "cd" * 32}
    ]


def test_the_json_names_every_key_that_it_documents() -> None:
    documented = report_json.__doc__ or ""
    told = report_json(verification([finding()]))
    assert isinstance(told["spending"], list)
    for key in (*told, *told["spending"][0]):
        assert key in documented


def test_json_of_what_no_number_holds_is_still_json() -> None:
    long = Fraction(1, 3**4000) + Fraction(1, 7**3000)
    rows = [spending("jing", long), spending("anping", Fraction(10) ** 500)]
    odd = b"logs-\xff".decode("utf-8", "surrogateescape")
    told = report_json(verification([finding(odd)], rows=rows))
    assert json.dumps(told, allow_nan=False, ensure_ascii=False).encode()
    assert isinstance(told["spending"], list)
    assert told["spending"][0]["rho"] == {"num": "1", "den": str(2**64)}
    assert told["spending"][1]["epsilon"] is None


# -- rounding ----------------------------------------------------------------------------


@given(st.fractions(0, 10**9), st.fractions(Fraction(1, 1000), 10**6))
def test_no_rounding_makes_spending_look_smaller(rho: Fraction, cap: Fraction) -> None:
    up, left = Fraction(cost(rho, up=True)), Fraction(cost(cap - rho, up=False))
    assert 0 <= up - rho < Fraction(1, 10**6)
    assert 0 <= (cap - rho) - left < Fraction(1, 10**6)
    used = percent(rho, cap)
    if not used.startswith(">"):
        assert 0 <= Fraction(used.removesuffix(" %")) / 100 - rho / cap < Fraction(1, 1000)


@given(st.floats(0, 1e9))
def test_no_rounding_makes_a_loss_look_smaller(epsilon: float) -> None:
    assert epsilon <= float(loss(epsilon)) <= epsilon + 2e-4 + epsilon * 1e-12


def test_known_values_are_written_as_known() -> None:
    assert cost(Fraction(1, 3), up=True) == "0.333334"
    assert cost(Fraction(1, 3), up=False) == "0.333333"
    assert cost(Fraction(-1, 3), up=False) == "-0.333334"
    assert cost(Fraction(-1, 10**7), up=True) == "0.000000"
    assert cost(Fraction(10) ** 400, up=True) == ">1e9"
    assert cost(-(Fraction(10) ** 400), up=False) == "<-1e9"
    assert loss(math.inf) == "∞"
    assert loss(1.00001) == "1.0001"
    assert percent(Fraction(1, 3), Fraction(1)) == "33.4 %"
    assert percent(Fraction(1), Fraction(1)) == "100.0 %"
    assert percent(Fraction(0), Fraction(0)) == "0.0 %"
    assert percent(Fraction(1), Fraction(0)) == ">100000 %"
    assert exact(Fraction(1, 3)) == Fraction(1, 3)


def test_all_of_a_text_is_visible_on_one_line() -> None:
    assert visible("安平 wire") == "安平 wire"
    assert visible("a\nb\x1b\u202e\udcff\u2028") == r"a\nb\x1b\u202e\udcff\u2028"
    assert visible("x" * 700, 10) == "x" * 9 + "…"
    assert visible("\x1b" * 700, 10).isprintable()


def test_a_share_of_findings_keeps_their_order_and_every_member() -> None:
    flood = [finding("jing", number) for number in range(50)]
    listed = [*flood, finding("bank", 1), finding("bank", 2), finding("anping", 9)]
    shared = fair_share(listed, 6)
    assert [(f.member, f.seq) for f in shared] == [
        ("jing", 0),
        ("jing", 1),
        ("jing", 2),
        ("bank", 1),
        ("bank", 2),
        ("anping", 9),
    ]
    assert fair_share(listed, 100) == listed
    assert fair_share([], 5) == []
