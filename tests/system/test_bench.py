"""`make bench` in small: it runs, it says what it should, and its promises are held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # bench is a folder of scripts, not part of the wheel

from bench.accuracy_points import Point  # noqa: E402
from bench.accuracy_report import BEGIN, END, rewrite  # noqa: E402
from bench.figures import exponent  # noqa: E402
from bench.spans import Trace, length, split_sums, union, without  # noqa: E402

DATA = Path(os.environ.get("HEJIN_DATA", ROOT.parent / "shared" / "data"))
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
def test_a_private_set_intersection_is_measured_beside_bare_multiplications(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "set-intersection")
    steps = [found[f"200 x 200, {name}"]["value"] for name in ("asking", "answering", "opening")]
    both = found["200 x 200, both sides"]
    assert both["value"] == pytest.approx(sum(steps))
    assert both["ratio"] > 0.5
    assert found["200 x 200, sent both ways"]["value"] == 200 * (32 + 32 + 33) / 1e6


@pytest.mark.system
def test_masks_are_measured_beside_the_key_stream_and_flower(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "masks")
    stream = found["n 5, d 10,000: AES-256-CTR key stream"]["value"]
    for name in ("masks added", "a node masks", "the bank opens, all there"):
        figure = found[f"n 5, d 10,000: {name}"]
        assert figure["ratio"] == pytest.approx(figure["value"] / stream)
    assert found["n 5: a secret shared and opened, Flower"]["ratio"] > 1


@pytest.mark.system
@pytest.mark.realdata
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}: set HEJIN_DATA")
def test_accuracy_is_measured_in_both_noise_modes(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "accuracy")
    for mode in ("node", "shared"):
        assert 0.7 < found[f"UCI, epsilon 2, {mode}"]["value"] < 0.8


def test_the_tables_of_accuracy_replace_what_stood_between_the_marks(tmp_path: Path) -> None:
    points = [
        Point("SBA", seed, mode, 1.0, "memory", pooled - loss, pooled, 0.81, 1.0)
        for seed, pooled in ((1, 0.780), (2, 0.790))
        for mode, loss in (("node", 0.030), ("shared", 0.004))
    ]
    points.append(Point("SBA", 1, "shared", 1.0, "processes", 0.7811, 0.7822, None, 1.0))
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    rewrite(document, points)
    text = document.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    row = "| 1 | 0.7550 ± 0.0050 | -0.0300 ± 0.0000 | 0.7810 ± 0.0050 | -0.0040 ± 0.0000 |"
    assert row in text
    assert "Measured -0.0040, pooled 0.7850: reached." in text
    assert "0.7811, pooled 汇集 0.7822" in text
    worse = [replace(point, pooled=point.auc + 0.011) for point in points]
    rewrite(document, worse)
    assert "NOT REACHED" in document.read_text()


@pytest.mark.system
def test_a_node_that_trained_a_scorecard_stays_under_300_mb(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "network")
    name = "2 nodes of 1,500"
    assert 100 < found[f"{name}: a node's peak"]["value"] < 300
    total = found[f"{name}: a private sum"]["value"]
    parts = [found[f"{name}: {part}"]["value"] for part in ("compute", "fsync", "cosign", "engine")]
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
    for way in ("a node sends", "a node receives", "a node and the regulator"):
        (crossed,) = [figure for name, figure in found.items() if name.endswith(way)]
        assert 1000 < crossed["value"] < 1e6


@pytest.mark.system
def test_the_ledger_is_measured_and_a_round_costs_the_node_two_fsyncs_and_one_round_trip(
    tmp_path: Path,
) -> None:
    found = run(tmp_path / "results.json", "ledger")
    assert found["one round: synced at the node"]["value"] == 2
    assert found["one round: synced at the mirror"]["value"] == 1
    assert found["one round: the node's messages to the mirror"]["value"] == 1
    fsync = found["bare fsync of 4 KB"]["value"]
    for name in ("append, durable", "reserve and cosign", "reserve and cosign, 50 at once, each"):
        assert found[name]["ratio"] == pytest.approx(found[name]["value"] / fsync)
    assert found["reserve and cosign, 50 at once, messages each"]["value"] < 1
    peaks = [figure["value"] for name, figure in found.items() if name.endswith("peak memory")]
    assert len(peaks) == 2
    assert peaks[1] < 1.2 * peaks[0]  # ten times the entries


@pytest.mark.system
def test_the_year_tells_what_runs_leave_and_what_archiving_gives(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "ledger-year")
    sums = next(int(name.split()[2]) for name in found if name.startswith("runs of"))
    # Of each sum: reservation, release, receipt and result; of each run: approval and snapshot.
    assert found["release log"]["ratio"] == 4 * sums + 2
    # And of each sum: the account, and the authorisations that it rests on.
    assert found["internal log"]["ratio"] == 2 * sums
    assert found["database after"]["ratio"] < 1
    assert found["entries that stay"]["value"] == 2  # the last one of each log
    for name in ("verify both logs at start", "price one more sum", "export takes", "archive"):
        assert found[name]["value"] > 0


def test_a_cost_that_grows_with_the_square_has_exponent_two() -> None:
    sizes = [5, 10, 20]
    assert exponent(sizes, [size**2 for size in sizes]) == pytest.approx(2.0)
    assert exponent(sizes, [0.3 * size for size in sizes]) == pytest.approx(1.0)


def test_the_clock_of_a_sum_is_split_into_what_it_waited_for() -> None:
    # The bank computes in 0-1 and 9-10 and waits between, in 1.5-2 for the regulator; a node
    # answers in 3-7, syncing in 4-5 and waiting for the regulator in 5-6.5; another one in 4-6,
    # syncing in 4-4.5 and waiting for the bank's receipt in 5.5-6.
    bank = Trace(
        sums=((2, (0.0, 10.0)),),
        waits=((1.0, 9.0),),
        answers=(),
        fsyncs=((9.5, 10.0),),
        cosigns=((1.5, 2.0),),
    )
    slow = Trace((), (), answers=((3.0, 7.0),), fsyncs=((4.0, 5.0),), cosigns=((5.0, 6.5),))
    quick = Trace((), ((5.5, 6.0),), answers=((4.0, 6.0),), fsyncs=((4.0, 4.5),), cosigns=())
    (split,) = split_sums(bank, [slow, quick])
    assert split.index == 2
    assert split.fsync == pytest.approx(0.5 + 0.5)  # both sync in 4-4.5, the bank in 9.5-10
    assert split.compute == pytest.approx(1.0 + 1.0 + 1.0 + 0.5 + 0.5)
    assert split.cosign == pytest.approx(0.5 + 1.0)  # in 5-5.5 the quick node still computes
    assert split.engine == pytest.approx(0.5 + 1.0 + 2.0)
    assert split.total == pytest.approx(10.0)


@given(stretches, stretches)
def test_union_and_difference_agree_with_counting_moments(a: Stretches, b: Stretches) -> None:
    def held(found: Stretches) -> set[int]:
        return {t for t in range(20) if any(low <= t < high for low, high in found)}

    assert held(union(a)) == held(a)
    assert held(without(a, b)) == held(a) - held(b)
    assert length(without(a, b)) == len(held(a) - held(b))


@pytest.mark.system
def test_a_view_is_measured_beside_plain_duckdb(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "view")
    assert found["trade-v1 over 20,000 invoices, encrypted"]["against"] == "plain DuckDB"
    assert 0 < found["trade-v1 over 20,000 invoices, peak memory"]["ratio"] < 1


def test_an_ingest_is_measured_beside_duckdbs_own(tmp_path: Path) -> None:
    found = run(tmp_path / "results.json", "ingest")
    name = "20,000 invoices of 7 columns, CSV"
    assert found[f"{name}, ingest + encrypt"]["against"] == "DuckDB"
    assert 0 < found[f"{name}, peak memory"]["ratio"] < 1
