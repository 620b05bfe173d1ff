"""A request becomes a consortium, or one sentence says why it cannot."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from hejin_models.errors import ViewError
from hejin_models.features import view_file
from hejin_sandbox.errors import TableError
from hejin_sandbox.specs import Request, TableRequest, demo_spec, table_spec, too_few
from hejin_sandbox.story import Story

_REQUEST = Request(epsilon=2.0, delta=1e-6, mode="node", seed=3)


@pytest.fixture(name="asked")
def _asked(tmp_path: Path) -> TableRequest:
    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "home": rng.choice(["east", "west"], 300),
            "size": rng.integers(1, 50, 300),
            "secret": rng.random(300),
            "y": rng.integers(0, 2, 300),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    return TableRequest(tmp_path / "t.parquet", "y", "home", None, (), None)


@pytest.fixture(name="told")
def _told(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setenv("HEJIN_LANG", "en")
    return io.StringIO()


@pytest.fixture(name="story")
def _story(told: io.StringIO) -> Story:
    return Story(Console(file=told, width=300))


def test_a_table_without_a_view_gets_a_proposed_one_with_a_warning(
    asked: TableRequest, story: Story, told: io.StringIO
) -> None:
    spec = table_spec(_REQUEST, asked, story)
    assert [node.id for node in spec.nodes] == ["east", "west"]
    assert spec.enterprises == 300
    assert {feature.name for feature in spec.view.features} == {"size", "secret"}
    assert "NOT covered by the privacy guarantee" in told.getvalue()


def test_excluded_columns_reach_no_node(asked: TableRequest, story: Story) -> None:
    spec = table_spec(_REQUEST, replace(asked, exclude=("secret",)), story)
    assert all(node.records.column_names == ["enterprise", "size"] for node in spec.nodes)


def test_a_view_file_is_taken_as_it_is(
    asked: TableRequest, story: Story, told: io.StringIO, tmp_path: Path
) -> None:
    proposed = table_spec(_REQUEST, replace(asked, exclude=("secret",)), story)
    told.truncate(0)
    (tmp_path / "v.toml").write_bytes(proposed.view_file)
    spec = table_spec(_REQUEST, replace(asked, view=str(tmp_path / "v.toml")), story)
    assert spec.view.digest == proposed.view.digest
    assert "NOT covered" not in told.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "z"}, "no column z"),
        ({"exclude": ("z",)}, "no column z"),
        ({"node_by": "y"}, "cannot also name the nodes"),
        ({"node_by": None, "nodes": 40}, "not 40"),
        ({"view": "no-such-view-1"}, "no view file no-such-view-1.*trade-v1"),
        ({"view": "trade-v1"}, "needs the column direction"),
    ],
)
def test_a_request_that_makes_no_consortium_is_refused(
    asked: TableRequest, story: Story, change: dict[str, object], message: str
) -> None:
    with pytest.raises((TableError, ViewError), match=message):
        table_spec(_REQUEST, replace(asked, **change), story)  # type: ignore[arg-type]


def test_a_view_that_reads_an_excluded_column_or_the_label_is_refused(
    asked: TableRequest, story: Story, tmp_path: Path
) -> None:
    proposed = table_spec(_REQUEST, asked, story)
    (tmp_path / "v.toml").write_bytes(proposed.view_file)
    view = replace(asked, view=str(tmp_path / "v.toml"))
    with pytest.raises(TableError, match="secret, which is excluded"):
        table_spec(_REQUEST, replace(view, exclude=("secret",)), story)
    flag = pa.array(np.arange(300) % 2)
    pq.write_table(pq.read_table(asked.path).set_column(1, "size", flag), asked.path)
    with pytest.raises(TableError, match="size, which is the label"):
        table_spec(_REQUEST, replace(view, label="size"), story)


def test_the_seed_fixes_the_split(asked: TableRequest, story: Story) -> None:
    drawn = replace(asked, node_by=None, nodes=3)
    first, again = (table_spec(_REQUEST, drawn, story) for _ in range(2))
    other = table_spec(replace(_REQUEST, seed=4), drawn, story)
    assert [n.codes for n in first.nodes] == [n.codes for n in again.nodes]
    assert [n.codes for n in first.nodes] != [n.codes for n in other.nodes]


def test_the_demo_has_five_synthetic_clusters_and_says_why_twenty_are_too_few(
    story: Story, told: io.StringIO
) -> None:
    spec = demo_spec(_REQUEST, story, enterprises=40)
    assert [node.name.zh.partition("(")[0] for node in spec.nodes] == [
        "安平丝网", "永年紧固件", "景县橡塑管", "宁晋电线电缆", "高阳纺织",
    ]  # fmt: skip
    assert all("合成数据" in node.name.zh for node in spec.nodes)
    assert len({code for node in spec.nodes for code in node.codes}) == 200
    assert spec.as_of == dt.date(2025, 6, 30)
    assert "Why not 20 enterprises" in told.getvalue()


def test_the_noise_quoted_for_twenty_enterprises_is_that_of_the_plan() -> None:
    # rho(2, 1e-6) = 0.0888...: sqrt(5 nodes x 14 features / rho) = 28.
    assert "±28 enterprises" in too_few(_REQUEST, 14)[0].en
    assert "±28 家" in too_few(_REQUEST, 14)[0].zh


def test_shipped_views_are_found_by_id() -> None:
    assert b'name = "trade"' in view_file("trade-v1")
