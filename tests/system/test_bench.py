"""`make bench` in small: it runs, it says what it should, and its promises are held."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # bench is a folder of scripts, not part of the wheel

from bench.figures import exponent  # noqa: E402
from bench.spans import Trace, length, split_sums, union, without  # noqa: E402

Stretches = list[tuple[float, float]]
moments = st.integers(0, 20)
stretches = st.lists(st.tuples(moments, moments).filter(lambda pair: pair[0] < pair[1]), max_size=6)


def run(out: Path, *parts: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--out", str(out), *parts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "What Hejin costs" in done.stdout
    report = json.loads(out.read_text())
    assert report["machine"]["versions"]["flwr"] == "1.41.0"
    return {figure["name"]: figure for figure in report["figures"]}


@pytest.mark.system
def test_every_statistic_and_the_floor_are_measured_and_help_is_quick(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "floor", "statistics", "start-up")
    for name in ("histogram", "label_histogram", "gram", "logistic_gradient", "score_histogram"):
        assert found[name]["value"] > 0
        assert found[name]["ratio"] == pytest.approx(
            found[name]["value"] / found[f"{name}, plain numpy"]["value"]
        )
    assert found["fsync of 4 KB"]["value"] > 0
    assert found["hejin --help, CPU"]["value"] < 1.0
    for role in ("regulator", "coordinator", "node"):
        assert 10 < found[f"{role} serve, resident when idle"]["value"] < 250


@pytest.mark.system
def test_the_gradient_of_a_network_is_measured_beside_opacus(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "network-gradient")
    batch = found.pop("non-private full batch, torch")["value"]
    assert "stock Opacus loop, one epoch" in found
    for figure in found.values():
        assert figure["ratio"] == pytest.approx(figure["value"] / batch)


@pytest.mark.system
def test_a_node_that_trained_a_scorecard_stays_under_300_mb(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "network")
    name = "2 nodes of 1,500"
    assert 100 < found[f"{name}: a node's peak"]["value"] < 300
    total = found[f"{name}: a private sum"]["value"]
    parts = [found[f"{name}: {part}"]["value"] for part in ("compute", "fsync", "engine")]
    assert all(part > 0 for part in parts)
    assert sum(parts) < 2 * total  # each is a median of its own


@pytest.mark.system
def test_a_link_of_50_ms_costs_a_sum_at_least_a_round_trip(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "links")
    sums = {name: figure for name, figure in found.items() if ": a private sum, " in name}
    (direct,) = [figure for name, figure in sums.items() if name.endswith("direct")]
    (linked,) = [figure for name, figure in sums.items() if name.endswith("50 ms")]
    assert linked["value"] > 0.05
    assert linked["ratio"] == pytest.approx(linked["value"] / direct["value"])
    for way in ("sends", "receives"):
        (crossed,) = [figure for name, figure in found.items() if name.endswith(f"a node {way}")]
        assert 1000 < crossed["value"] < 1e6


def test_a_cost_that_grows_with_the_square_has_exponent_two() -> None:
    sizes = [5, 10, 20]
    assert exponent(sizes, [size**2 for size in sizes]) == pytest.approx(2.0)
    assert exponent(sizes, [0.3 * size for size in sizes]) == pytest.approx(1.0)


def test_the_clock_of_a_sum_is_split_into_what_it_waited_for() -> None:
    # The bank computes in 0-1 and 9-10 and waits between; a node answers in 3-7, syncing in 4-5,
    # another one in 4-6, syncing in 4-4.5.
    bank = Trace(sums=((2, (0.0, 10.0)),), waits=((1.0, 9.0),), answers=(), fsyncs=((9.5, 10.0),))
    slow = Trace((), (), answers=((3.0, 7.0),), fsyncs=((4.0, 5.0),))
    quick = Trace((), (), answers=((4.0, 6.0),), fsyncs=((4.0, 4.5),))
    (split,) = split_sums(bank, [slow, quick])
    assert split.index == 2
    assert split.fsync == pytest.approx(0.5 + 0.5)  # both sync in 4-4.5, the bank in 9.5-10
    assert split.compute == pytest.approx(1.0 + 1.0 + 2.5 + 0.5)
    assert split.engine == pytest.approx(2.0 + 2.0)
    assert split.total == pytest.approx(10.0)


@given(stretches, stretches)
def test_union_and_difference_agree_with_counting_moments(a: Stretches, b: Stretches) -> None:
    def held(found: Stretches) -> set[int]:
        return {t for t in range(20) if any(low <= t < high for low, high in found)}

    assert held(union(a)) == held(a)
    assert held(without(a, b)) == held(a) - held(b)
    assert length(without(a, b)) == len(held(a) - held(b))
