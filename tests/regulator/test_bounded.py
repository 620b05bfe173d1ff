"""What a verification keeps is bounded: findings, points of a chart, noises, what is at hand."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_lies import Build, drop, found, once, reasons
from ledger_papers import write_charters
from ledger_world import Consortium
from sqlalchemy import Connection

from hejin_regulator import check_bank, check_node, check_receipts, check_reservations, notebook
from hejin_regulator.course import MOST_POINTS, Course
from hejin_regulator.notebook import Notebook
from hejin_regulator.second_accountant import composed_epsilon, one_multiplier
from hejin_regulator.workbook import Shelf, Workbook


def test_findings_beyond_what_is_kept_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "MOST_FINDINGS", 3)
    notes = Notebook()
    for seq in range(5):
        notes.add("V4", "jing", seq, "en", "zh")
    notes.add("V9", "jing", 5, "en", "zh", log="internal")
    kept = notes.findings()
    assert [finding.seq for finding in kept] == [0, 1, 2, None, None]
    assert kept[0].evidence == ("jing/release.jsonl:0",)
    assert [(f.check, f.reason.en) for f in kept[3:]] == [
        ("V4", "and 2 more findings of this check"),
        ("V9", "and 1 more findings of this check"),
    ]


def test_a_verification_with_too_many_findings_is_still_no_pass(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "MOST_FINDINGS", 0)
    (consortium.folder / "certificates.json").unlink()
    verification = consortium.verify()
    assert not verification.ok
    assert found(verification) == {("V7", "*")}


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10**6)), max_size=200),
    st.integers(1, 8),
)
def test_a_shelf_is_a_mapping_whatever_is_at_hand(puts: list[tuple[int, int]], most: int) -> None:
    with Workbook() as workbook:
        shelf: Shelf[int] = Shelf(workbook, "numbers", str, int, most)
        reference: dict[str, int] = {}
        for key, value in puts:
            assert shelf.get(str(key)) == reference.get(str(key))
            shelf.put(str(key), value)
            reference[str(key)] = value
        for key in map(str, range(31)):
            assert shelf.get(key) == reference.get(key)


def test_a_workbook_leaves_nothing_behind() -> None:
    with Workbook() as workbook:
        folder = workbook.folder
        workbook.put("named", "jing", "a.json")
        assert list(workbook.rows("SELECT member, file FROM named")) == [("jing", "a.json")]
        with pytest.raises(ValueError, match="name a table"):
            Shelf(workbook, "a b", str, int)
    assert not folder.exists()


@pytest.mark.parametrize("number", [1, 399, 400, 401, 5_000])
def test_a_course_keeps_its_first_and_last_point_and_few_between(number: int) -> None:
    course = Course()
    for place in range(number):
        course.add("2026", f"{place:05}", Fraction(place))
    points = list(course.points())
    assert len(points) <= MOST_POINTS + 1
    assert (points[0], points[-1]) == (("00000", 0), (f"{number - 1:05}", number - 1))
    assert points == sorted(points)
    assert len(points) == number or len(points) >= MOST_POINTS // 2


def test_noises_beyond_the_first_are_composed_to_one() -> None:
    dice = random.Random(7)
    noises = Counter({dice.uniform(5, 500): dice.randint(1, 4) for _ in range(300)})
    merged = one_multiplier(noises, 20)
    assert len(merged) == 21
    assert composed_epsilon(merged, 1e-6) == pytest.approx(composed_epsilon(noises, 1e-6))
    assert one_multiplier(noises, 300) == noises


# -- more than any honest member has at once ---------------------------------------------


def test_more_open_reservations_than_a_node_has_are_found(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_reservations, "_MOST_OPEN", 0)
    assert "this one is not followed" in reasons(build().verify(), "V4")


def test_more_releases_without_receipt_than_a_node_has_are_found(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_receipts, "_MOST_WAITING", 0)
    assert "no receipt of bank" in reasons(build().verify(), "V5")


def test_more_open_rounds_than_a_bank_has_are_found(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_bank, "_MOST_OPEN", 0)
    assert "rounds were accepted and have not ended" in reasons(build().verify(), "V6")


def test_more_kinds_of_refusals_than_there_are_are_found(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_node, "_MOST_KINDS", 0)
    verification = build().verify()
    assert "kinds of refusal" in reasons(verification, "V10")
    assert "kinds of void" in reasons(verification, "V10")
    assert verification.refusals == verification.voids == ()


# -- V8 and V10 of renewals and voids ----------------------------------------------------


def test_a_void_reservation_that_was_not_accounted_for_is_found(build: Build) -> None:
    verification = build(once("jing", "account", drop, nth=4)).verify()
    assert found(verification) == {("V9", "jing"), ("V10", "jing")}
    assert "its cost is not returned" in reasons(verification, "V10")


def test_a_renewal_in_another_budget_period_is_found(tmp_path: Path) -> None:
    """jing's second reservation is renewed ten minutes after midnight."""

    class Midnight(Consortium):
        def live(self, connection: Connection) -> None:
            self.moment = self.moment.replace(month=12, day=31, hour=23, minute=55)
            super().live(connection)

    consortium = Midnight(
        tmp_path / "export",
        plan=lambda plan: replace(plan, expires=plan.expires.replace(year=2027, month=6)),
    )
    consortium.run()
    later = replace(
        consortium.charter,
        serial=3,
        issued="2026-12-01T00:00:00Z",
        period_from="2027-01-01T00:00:00Z",
        period_to="2028-01-01T00:00:00Z",
    )
    write_charters(consortium.folder, (*consortium.charters, later), consortium.regulator)
    verification = consortium.verify()
    assert "of another budget period" in reasons(verification, "V8")
