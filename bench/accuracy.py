"""What noise costs: test AUC of 20 nodes on real loans, both noise modes beside pooled data.

A point is one trained plan. Every point is written to POINTS as soon as it is known, and one
that stands there is not measured again: remove the file to begin anew.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import lightgbm
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from bench.accuracy_points import POINTS, Carrier, Point, keep, read
from bench.accuracy_report import DOCUMENT, figures_of, rewrite
from bench.figures import Figure
from hejin_coordinator import store
from hejin_models.evaluation import exact_auc
from hejin_models.features import FeatureView
from hejin_models.scorecard import Scorecard
from hejin_node.duck import Rewindable, locked_down, select
from hejin_privacy.accounting import epsilon, rho_for
from hejin_privacy.holdout import in_holdout, split_key
from hejin_sandbox.consortium import HOLDOUT
from hejin_sandbox.inputs import NodeData, only_dataset
from hejin_sandbox.memory import MemoryConsortium, memory_consortium, open_consortium
from hejin_sandbox.reference import rows_of, scorecard_without_noise
from hejin_sandbox.specs import Request, Spec, TableRequest, table_spec
from hejin_sandbox.story import Story
from hejin_trust.database import reading

DATA = Path(os.environ.get("HEJIN_DATA", Path(__file__).parents[2] / "shared" / "data"))
MODES = ("node", "shared")
EPSILONS = (1.0, 0.5, 2.0, 8.0)
SEEDS = (1, 2, 3, 4, 5)
NODES, LEAST, COLLUDERS = 20, 16, 2
DELTA = 1e-6
_MEMORY_MB = 2048


@dataclass(frozen=True, slots=True)
class Loans:
    """One real table; `exclude` names columns that are known only after the outcome."""

    name: str
    file: str
    view: str
    exclude: tuple[str, ...] = ()


TABLES = (
    Loans("SBA", "sba_loans.parquet", "sba-loans-v1", ("term",)),
    Loans("UCI", "uci_credit_default.parquet", "uci-credit-v1"),
)


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return mean AUCs; unless `quick`, rewrite the tables of docs/benchmarks.md as well.

    quick  a single small consortium instead, nothing kept
    """
    if not DATA.is_dir():
        raise SystemExit(f"no real data in {DATA}: set HEJIN_DATA to its folder")
    if quick:
        spec = _spec(TABLES[1], 1, nodes=5)
        points = list(_in_memory(folder / "homes", TABLES[1], 1, spec, [(m, 2.0) for m in MODES]))
        return figures_of(points)
    console = Console(stderr=True)
    known = read(POINTS)
    # Epsilon 1 first: a run that is stopped has at least that.
    for targets in (EPSILONS[:1], EPSILONS[1:]):
        for seed, loans in itertools.product(SEEDS, TABLES):
            have = {(p.mode, p.epsilon) for p in known if _is(p, loans, seed, "memory")}
            wanted = [(m, e) for e in targets for m in MODES if (m, e) not in have]
            if wanted:
                home = folder / f"{loans.name}-{seed}"
                known += _kept(console, _in_memory(home, loans, seed, _spec(loans, seed), wanted))
    for loans in TABLES:
        if not any(_is(p, loans, SEEDS[0], "processes") for p in known):
            known += _kept(console, _with_processes(loans, SEEDS[0]))
    rewrite(DOCUMENT, known)
    return figures_of(known)


def _is(point: Point, loans: Loans, seed: int, carrier: Carrier) -> bool:
    return (point.table, point.seed, point.carrier) == (loans.name, seed, carrier)


def _kept(console: Console, points: Iterator[Point]) -> list[Point]:
    kept = []
    for point in points:
        keep(POINTS, point)
        console.print(
            f"{point.table} seed {point.seed} {point.carrier} {point.mode} epsilon"
            f" {point.epsilon:g}: {point.auc:.4f}, pooled {point.pooled:.4f}"
            f" ({point.seconds:.0f} s)"
        )
        kept.append(point)
    return kept


def _spec(loans: Loans, seed: int, nodes: int = NODES) -> Spec:
    """Return the consortium as `hejin sandbox run` would make it."""
    request = Request(epsilon=1.0, delta=DELTA, mode=None, seed=seed)
    asked = TableRequest(DATA / loans.file, "default", None, nodes, loans.exclude, loans.view)
    return table_spec(request, asked, Story(Console(quiet=True)))


def _in_memory(
    folder: Path, loans: Loans, seed: int, spec: Spec, plans: Sequence[tuple[str, float]]
) -> Iterator[Point]:
    """Carry out `plans` (mode, epsilon) one after the other in the consortium of `folder`."""
    everybody = _pooled(spec)
    boosted = Boosted(spec.view, everybody)
    with _consortium(folder, spec) as consortium:
        for mode, target in plans:
            begin = time.monotonic()
            digest = consortium.propose(target, mode=mode)
            _check_plan(consortium, digest, mode, len(spec.nodes))
            model = consortium.train(digest).result.model
            assert isinstance(model, Scorecard)
            seconds = time.monotonic() - begin
            key = split_key(digest, consortium.bank.charter.nonce)
            rows = rows_of(spec.view, everybody, spec.as_of, key, Fraction(HOLDOUT))
            cells, labels = rows.part(holdout=True)
            pooled = scorecard_without_noise(spec.view, rows)
            yield Point(
                loans.name, seed, mode, target, "memory",
                auc=exact_auc(model.points(cells), labels),
                pooled=exact_auc(pooled.points(cells), labels),
                lightgbm=boosted.auc(key),
                seconds=seconds,
            )  # fmt: skip


@contextmanager
def _consortium(folder: Path, spec: Spec) -> Iterator[MemoryConsortium]:
    """Open the consortium of `folder`; found it first if there is none."""
    if folder.exists():
        with open_consortium(folder, [node.id for node in spec.nodes]) as consortium:
            yield consortium
        return
    folder.mkdir()
    # Every plan is paid for by the same enterprises in the same period.
    rho = len(MODES) * sum(rho_for(target, DELTA) for target in EPSILONS)
    cap = epsilon(1.01 * float(rho), DELTA)
    with memory_consortium(folder, spec.nodes, spec.view_file, epsilon_cap=cap) as consortium:
        yield consortium


def _pooled(spec: Spec) -> NodeData:
    """Return what there would be without clusters: all data in one place."""
    return replace(
        spec.nodes[0],
        codes=tuple(code for node in spec.nodes for code in node.codes),
        labels=np.concatenate([node.labels for node in spec.nodes]),
        records=pa.concat_tables([node.records for node in spec.nodes]),
    )


def _check_plan(consortium: MemoryConsortium, digest: str, mode: str, nodes: int) -> None:
    with reading(consortium.bank.database) as connection:
        plan = store.find_plan(connection, digest).plan
    if mode == "shared" and nodes == NODES:
        assert (plan.minimum_nodes, plan.quorum, plan.colluders) == (LEAST, LEAST, COLLUDERS)


class Boosted:
    """LightGBM with its default settings on what the view selects, before any grid."""

    def __init__(self, view: FeatureView, everybody: NodeData) -> None:
        records = everybody.records
        source = Rewindable(records.schema, lambda: iter(records.to_batches()))
        with locked_down(_MEMORY_MB) as connection:
            found = select(connection, view.source, {only_dataset(view).name: source}, {})
        label_of = dict(zip(everybody.codes, everybody.labels.tolist(), strict=True))
        self._codes: list[str] = found.column("enterprise").to_pylist()
        self._labels = np.array([label_of[code] for code in self._codes], dtype=np.int8)
        self._inputs, self._categories = _inputs(view, found)

    def auc(self, key: bytes) -> float:
        """Train on the training part of a split and return the AUC on its hold-out."""
        held_out = in_holdout(self._codes, key, Fraction(HOLDOUT))
        classifier = lightgbm.LGBMClassifier(n_jobs=1, random_state=1, verbose=-1)
        classifier.fit(
            self._inputs[~held_out],
            self._labels[~held_out],
            categorical_feature=self._categories,
        )
        raw = classifier.predict(self._inputs[held_out], raw_score=True)
        return exact_auc(-np.asarray(raw), self._labels[held_out])


def _inputs(view: FeatureView, found: pa.Table) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Return features float64[n, F] and the places of those that are categories."""
    columns, categories = [], []
    for place, feature in enumerate(view.features):
        column = found.column(feature.name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            categories.append(place)
            column = pc.dictionary_encode(column.combine_chunks()).indices
        columns.append(np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(False)))
    return np.column_stack(columns), categories


def _with_processes(loans: Loans, seed: int) -> Iterator[Point]:
    """Let the real thing do one point: `hejin sandbox run`, 20 node processes."""
    begin = time.monotonic()
    command = [
        *(str(Path(sys.executable).with_name("hejin")), "sandbox", "run"),
        *("--table", str(DATA / loans.file), "--label", "default", "--view", loans.view),
        *(word for column in loans.exclude for word in ("--exclude", column)),
        *("--nodes", str(NODES), "--split", "dirichlet", "--seed", str(seed)),
        *("--epsilon", "1", "--mode", "shared", "--json"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            said, _ = process.communicate()
        except BaseException:
            process.terminate()  # it stops its members; a killed one could not
            raise
    if process.returncode:
        raise SystemExit(f"hejin sandbox run failed with exit code {process.returncode}")
    found = json.loads(said)
    yield Point(
        loans.name, seed, "shared", 1.0, "processes",
        auc=found["test_auc"],
        pooled=found["pooled_scorecard_auc"],
        lightgbm=None,
        seconds=time.monotonic() - begin,
    )  # fmt: skip
