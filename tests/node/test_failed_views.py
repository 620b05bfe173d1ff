"""A view that breaks on the data: the bank gets what a node without any sends, and pays for it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from node_world import VIEW, approved, fill, found_world, new_session
from structlog.testing import capture_logs

from hejin_models.features import FeatureView
from hejin_models.plan import Deadlines
from hejin_models.uscc import make_code
from hejin_node import account, snapshot
from hejin_node.errors import QueryError
from hejin_node.home import open_home
from hejin_node.pinned import SnapshotStore
from hejin_node.snapshot import view_seconds
from hejin_node.trace import read_trace
from hejin_node.view_check import check_view
from hejin_trust.database import reading
from hejin_trust.entries import Entry, parse
from hejin_trust.fleet import Payload
from hejin_trust.merkle import EMPTY_ROOT

RUN = "ab" * 16
PLAIN = "SELECT enterprise, staff, kind FROM firms"
#: One of `fill`'s firms has 38 people, none that the self-check makes up.
BREAKS = {
    "hangs": "WITH RECURSIVE r AS (SELECT 0 AS i UNION ALL SELECT 1 - i FROM r, firms"
    f" WHERE staff = 38) {PLAIN} WHERE (SELECT count(*) FROM r) > 0",
    "fails": f"{PLAIN} WHERE CASE WHEN staff = 38 THEN CAST(kind AS INTEGER) > 0 ELSE true END",
    "fails as SQL does": f"{PLAIN} WHERE CASE WHEN staff = 38 THEN json_deserialize_sql("
    """'{"error": false, "statements": [], "of": "' || kind || '"}') > '' ELSE true END""",
}

#: Of a UNION, what the node reads depends on the row: a list is no code, a date may be too late.
ONE_OR_OTHER = """
SELECT CASE WHEN staff = 38 THEN {odd}::UNION(code VARCHAR, odd {kind})
       ELSE enterprise::UNION(code VARCHAR, odd {kind}) END AS enterprise, staff, kind FROM firms
"""
ODD = {"a list": ("[1]", "INTEGER[]"), "a late date": ("'infinity'::DATE", "DATE")}

#: Only where there is no row at all, on the day of the plan.
BREAKS_ON_NOTHING = (
    f"{PLAIN} UNION ALL SELECT 'x', 1, error('none') FROM (SELECT count(*) AS n FROM firms)"
    " WHERE n = 0 AND CAST($as_of AS DATE) = DATE '2025-06-30'"
)
DAY = dt.date(2025, 6, 30)


@dataclass(frozen=True)
class Seen:
    """What a bank got for one sum, and what the node knows about it."""

    answer: Payload
    reserved: Entry
    used: int
    spent: Fraction
    why: list[str]

    @property
    def shape(self) -> object:
        """All that a bank can compare: which fields, how long, what is in the proven entry."""
        lengths = {name: len(value) for name, value in self.answer.items()}
        return lengths, len(self.reserved.raw), sorted(self.reserved.body), self.spent


def view_text(source: str) -> bytes:
    return VIEW.replace(PLAIN.encode(), source.replace('"', '\\"').encode())


def view_of(source: str) -> FeatureView:
    return FeatureView.parse(view_text(source))


def seen(folder: Path, source: str, authorised: int, as_of: dt.date | None = None) -> Seen:
    """Ask a node with 40 firms, some of which authorised it, for one sum over a view."""
    world = found_world(folder)
    text = view_text(source)
    (world.nodes["node-1"] / "views" / "firms-v1.toml").write_bytes(text)
    world.view = FeatureView.parse(text)
    check_view(world.view, {}, dt.date(2026, 3, 1))
    with open_home(world.nodes["node-1"], world.clock) as home:
        fill(home, world, 40, authorised=authorised)
        plan, digest = approved(home, world, as_of=as_of)
        answer = new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
        assert answer["kind"] == b"masked"
        with reading(home.database) as connection:
            spent = account.spent(connection, home.charter.period_from)
        used = len(SnapshotStore(home).pin(plan, world.view, RUN).snapshot.codes)
        (run,) = read_trace(home, make_code(7)).runs
        why = [reason.code for reason in run.why]
        return Seen(answer, parse(answer["entry"]), used, spent, why)


@pytest.mark.parametrize("kind", BREAKS)
def test_a_view_that_breaks_on_a_value_gives_what_a_node_without_any_gives(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MOST_SECONDS", 1.0)
    whole = seen(tmp_path / "38", BREAKS[kind], 38)
    none = seen(tmp_path / "0", BREAKS[kind], 0)
    with capture_logs() as logs:
        broken = seen(tmp_path / "40", BREAKS[kind], 40)
    assert [log["view"] for log in logs if log["event"] == "view-failed"] == ["firms-v1"]
    assert (whole.used, none.used, broken.used) == (38, 0, 0)
    assert whole.shape == none.shape == broken.shape
    assert broken.spent > 0
    assert broken.why == ["view-failed"]
    assert any(np.frombuffer(broken.answer["vector"], "<i8"))


def test_a_view_that_breaks_on_no_rows_gives_what_a_node_without_any_gives(tmp_path: Path) -> None:
    some = seen(tmp_path / "40", BREAKS_ON_NOTHING, 40, DAY)
    none = seen(tmp_path / "0", BREAKS_ON_NOTHING, 0, DAY)
    assert (some.used, none.used) == (40, 0)
    assert some.shape == none.shape


@pytest.mark.parametrize("name", ODD)
def test_a_view_whose_columns_hold_what_no_code_can_be_is_not_installed_and_runs_as_noise(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, kind = ODD[name]
    source = " ".join(ONE_OR_OTHER.format(odd=odd, kind=kind).split())
    with pytest.raises(QueryError, match="`enterprise` that is no text") as refused:
        check_view(view_of(source), {}, dt.date(2026, 3, 1))
    assert refused.value.code == "view-query"
    monkeypatch.setattr(f"{__name__}.check_view", lambda *_: None)  # installed before it was so
    shapes = [seen(tmp_path / str(n), source, n) for n in (0, 38, 40)]
    assert [one.used for one in shapes] == [0, 0, 0]
    assert shapes[0].shape == shapes[1].shape == shapes[2].shape


def test_no_root_that_a_bank_is_shown_tells_that_there_are_no_rows(tmp_path: Path) -> None:
    roots = {
        seen(tmp_path / str(number), PLAIN, 0).reserved.body["snapshot"] for number in range(2)
    }
    assert len(roots) == 2
    assert EMPTY_ROOT.hex() not in roots


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "did not end within 0.5 s over the node's rows"), ("zh", "运行 0.5 秒仍未结束")],
)
def test_the_operator_reads_why_in_either_language(
    tmp_path: Path, language: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MOST_SECONDS", 0.5)
    monkeypatch.setenv("HEJIN_LANG", language)
    with capture_logs() as logs:
        seen(tmp_path, BREAKS["hangs"], 40)
    (line,) = [log for log in logs if log["event"] == "view-failed"]
    assert line["log_level"] == "error"
    assert said in line["reason"]


def test_a_view_may_take_half_of_what_the_bank_waits_within_bounds() -> None:
    assert view_seconds(Deadlines().masked) == 30
    assert [view_seconds(deadline) for deadline in (1, 60, 200, 1200, 86_400)] == [
        30, 30, 100, 600, 600,
    ]  # fmt: skip
