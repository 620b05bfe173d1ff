"""What a kept run folder holds for people: pictures, model card, report; and where it is made."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hejin_models.evaluation import Band, Estimate
from hejin_models.scorecard import Scorecard
from hejin_sandbox.errors import RunError
from hejin_sandbox.pictures import BankView, draw_points, draw_roc
from hejin_sandbox.story import Result
from hejin_trust.canonical import child, objects, text
from hejin_trust.files import replace_file
from hejin_trust.text import Text, current_language

RUNS = Path("hejin-runs")
ROC, POINTS, CARD, REPORT = "roc.svg", "points.svg", "model-card.md", "report.json"


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All that a finished run is told by.

    model           the bank's model document; verification: the regulator's report
    scores, labels  of the hold-out enterprises, which only a sandbox can see together
    note            what the data is, such as "synthetic data"
    """

    result: Result
    model: Mapping[str, object]
    verification: Mapping[str, object]
    scorecard: Scorecard
    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int8]
    note: Text


def new_folder(name: str, now: dt.datetime) -> Path:
    """Make and return a folder for a run in the current directory, `hejin-runs/TIME-NAME`."""
    folder = RUNS / f"{now:%Y-%m-%d-%H%M%S}-{name}"
    try:
        folder.mkdir(parents=True)
    except OSError as reason:
        raise RunError(
            f"{folder} cannot be made ({reason.strerror}); name another by --keep, or keep"
            " nothing by --no-keep.",
            f"无法创建 {folder}（{reason.strerror}）；请用 --keep 另指定文件夹，"
            "或用 --no-keep 不保留。",
        ) from reason
    return folder


def write_findings(folder: Path, home: Path, found: Findings) -> None:
    """Write pictures, model card and report into `folder`; `home` is the bank's."""
    draw_roc(folder / ROC, found.scores, found.labels, bank_view(found.model), found.note)
    draw_points(folder / POINTS, found.scorecard, found.note)
    card = home / "models" / text(found.model, "model") / f"card.{current_language()}.md"
    shutil.copyfile(card, folder / CARD)
    report = {
        "result": dataclasses.asdict(found.result),
        "model": text(found.model, "model"),
        "plan": text(found.model, "plan"),
        "data": dataclasses.asdict(found.note),
        "verification": found.verification,
    }
    written = json.dumps(report, ensure_ascii=False, indent=2) + "\n"
    replace_file(folder / REPORT, written.encode())


def bank_view(model: Mapping[str, object]) -> BankView | None:
    """Return the hold-out measures in a model's card; None where noise hides them."""
    evaluation = child(child(model, "card"), "evaluation")
    if evaluation["reportable"] is not True:
        return None
    keys = ("low", "high", "share", "expected", "measured", "error")
    bands = objects(evaluation, "bands")
    return BankView(
        auc=_estimate(child(evaluation, "auc")),
        ks=_estimate(child(evaluation, "ks")),
        bands=tuple(Band(*(float(text(band, key)) for key in keys)) for band in bands),
    )


def _estimate(body: Mapping[str, object]) -> Estimate:
    return Estimate(*(float(text(body, key)) for key in ("value", "noise_error", "sampling_error")))
