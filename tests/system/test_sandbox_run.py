"""A whole small consortium, as real processes, by the command that a user types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hejin_sandbox.story import Result

pytestmark = pytest.mark.system


def _table(path: Path) -> None:
    """Three uneven groups and one clear signal; NaN, infinity and a constant column among it."""
    rng = np.random.default_rng(4)
    rows = 3600
    risk = rng.normal(size=rows)
    size = np.exp(rng.normal(8, 1.5, rows) - 0.8 * risk)
    size[:5] = [np.nan, np.inf, -np.inf, 0.0, -1.0]
    table = pa.table(
        {
            "home": rng.choice(["east", "west", "高阳"], rows, p=[0.5, 0.3, 0.2]),
            "size": size,
            "years": np.clip(np.rint(6 - 2 * risk + rng.normal(0, 2, rows)), 0, 40).astype(int),
            "kind": np.where(risk + rng.normal(0, 1, rows) > 0, "trader", "maker"),
            "constant": np.ones(rows),
            "y": (rng.random(rows) < 1 / (1 + np.exp(0.7 - 1.6 * risk))).astype(int),
        }
    )
    pq.write_table(table, path)


def test_a_small_consortium_ends_with_a_verified_model_and_leaves_nothing(tmp_path: Path) -> None:
    _table(tmp_path / "t.parquet")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "hejin_sandbox.main", "sandbox", "run"),
            *("--table", str(tmp_path / "t.parquet"), "--label", "y", "--node-by", "home"),
            *("--epsilon", "8", "--json"),
        ],
        env={**os.environ, "TMPDIR": str(scratch), "HEJIN_LANG": "en"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result) == [field.name for field in fields(Result)]
    assert result["verified"] is True
    assert result["enterprises"] == 3600
    assert result["nodes"] == 3
    assert result["epsilon"] <= 8
    assert result["test_auc"] > 0.65
    assert abs(result["test_auc"] - result["pooled_scorecard_auc"]) < 0.1
    assert "NOT covered by the privacy guarantee" in done.stderr
    assert not list(scratch.iterdir())
    for process in psutil.process_iter(["environ"]):
        home = (process.info["environ"] or {}).get("HEJIN_HOME", "")
        assert not home.startswith(str(scratch))
