"""Read a plan file and turn it into a plan: what it costs follows from epsilon and the charter."""

from __future__ import annotations

import secrets
import tomllib
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hejin_coordinator.errors import PlanFileError
from hejin_models.families import family
from hejin_models.features import FeatureView
from hejin_models.grades import GRADE_NAMES, GRADES, Grade
from hejin_models.plan import (
    MAX_DEADLINE,
    Deadlines,
    LabelReference,
    Plan,
    PricedSum,
    ViewReference,
)
from hejin_models.schemas import shipped_schemas, view_grade
from hejin_models.sums import Part, PlannedSum
from hejin_privacy.accounting import rho_for, round_down
from hejin_privacy.secure_sum.thresholds import MOST_NODES
from hejin_trust.canonical import time_from
from hejin_trust.charter import Charter
from hejin_trust.faults import field_fault, syntax_fault
from hejin_trust.text import Text

SHARED_FROM = 5
"""Nodes from which on a plan shares its noise by itself: with fewer, a drop-out or a colluder more
than planned leaves too little of it (PRIVATE_SUM section 2)."""

_Seconds = Annotated[int, Field(ge=1, le=MAX_DEADLINE)]


class DeadlineTable(BaseModel):
    """Longest waits, in whole seconds, as in hejin_models.plan.Deadlines."""

    model_config = ConfigDict(extra="forbid")

    keys: _Seconds = 60
    masked: _Seconds = 60
    survivors: _Seconds = 60
    shares: _Seconds = 60


class PlanFile(BaseModel):
    """What a model owner writes. `epsilon` is what the plan costs if every sum is asked once.

    view           a shipped view's id, or the path of a view file
    mode           noise mode; unset: shared from 5 nodes on, else node
    nodes          members to invite; empty: every admitted node
    minimum_nodes  fewest nodes that must answer each sum; unset: four fifths in mode shared, two
                   thirds in mode node, rounded up, and never fewer than the charter's
    quorum         mode shared: votes on one set of nodes; unset: minimum_nodes
    colluders      mode shared: nodes that may side with the bank; unset: a tenth, at least 1
    spare_rounds   burned rounds that the plan's caps allow in each part, at the price of its
                   dearest sum; unset: 1 in mode shared, 0 in mode node
    deadlines      longest waits of each phase
    grade          highest sensitivity grade that the plan states; unset: its view's;
                   nodes whose own schemas grade columns higher ask for a higher one
    as_of          last day whose events count; only for views that look at events
    holdout        share kept for evaluation
    """

    model_config = ConfigDict(extra="forbid")

    product: str = Field(min_length=1, max_length=100)
    view: str
    label: str = "default"
    definition: str
    epsilon: float = Field(gt=0, le=20, allow_inf_nan=False)
    purpose: str = "model-training"
    family: str = "scorecard"
    mode: Literal["node", "shared"] | None = None
    nodes: tuple[str, ...] = ()
    minimum_nodes: int | None = Field(default=None, ge=1)
    quorum: int | None = Field(default=None, ge=1)
    colluders: int | None = Field(default=None, ge=0)
    spare_rounds: int | None = Field(default=None, ge=0, le=5)
    deadlines: DeadlineTable = DeadlineTable()
    holdout: str = "1/5"
    grade: Grade | None = None
    as_of: date | None = None
    days: int = Field(default=30, ge=1, le=366)


def read_plan_file(path: Path) -> PlanFile:
    """Return a checked plan file; PlanFileError names the field."""
    try:
        return PlanFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as reason:
        raise PlanFileError(
            f"{path} cannot be read: {reason.strerror}", f"无法读取 {path}：{reason.strerror}"
        ) from reason
    except ValidationError as reason:
        said = field_fault(reason)
        raise PlanFileError(f"{path}: {said.en}", f"{path}：{said.zh}") from reason
    except (ValueError, RecursionError) as reason:
        said = syntax_fault(reason)
        raise PlanFileError(
            f"{path} is not valid TOML: {said.en}", f"{path} 不是有效的 TOML：{said.zh}"
        ) from reason


def make_plan(
    wanted: PlanFile, view: FeatureView, charter: Charter, bank: str, at: datetime
) -> Plan:
    """Return the plan, priced: the sums of each part share rho(epsilon, delta) exactly.

    raises   PlanFileError, PlanError; NotAMemberError for a node that is not admitted;
             ThresholdError where quorum, minimum_nodes and colluders break rule P1
    """
    nodes = tuple(
        sorted(wanted.nodes or (m.id for m in charter.members if m.role == "node" and m.admitted))
    )
    for node in nodes:
        charter.admitted(node, "node")
    if view.uses_as_of != (wanted.as_of is not None):
        raise PlanFileError(
            "as_of must be given for a view that looks at events, and for no other",
            "使用事件数据的特征视图须给出 as_of，其他视图不得给出",
        )
    sums, caps = _budget(wanted, view, charter, chosen_mode(wanted, len(nodes)))
    return Plan(
        bank=bank,
        consortium=charter.consortium,
        charter=charter.digest,
        purpose=wanted.purpose,
        product=wanted.product,
        view=ViewReference(view.name, view.version, view.digest),
        grade=_grade(wanted, view),
        as_of=wanted.as_of,
        label=LabelReference(wanted.label, wanted.definition, bank),
        family=wanted.family,
        nodes=nodes,
        **thresholds(wanted, len(nodes), charter)._asdict(),
        deadlines=Deadlines(**wanted.deadlines.model_dump()),
        holdout=_share(wanted.holdout),
        rho_train=caps["train"],
        rho_holdout=caps["holdout"],
        sums=sums,
        created=at,
        # A plan is charged to one period: it ends with it at the latest.
        expires=min(at + timedelta(days=wanted.days), time_from(charter.period_to)),
        nonce=secrets.token_hex(16),
    )


def _grade(wanted: PlanFile, view: FeatureView) -> Grade:
    """Return the grade that the plan states; PlanFileError for one below its view's."""
    least = view_grade(view, shipped_schemas())
    stated = wanted.grade or least
    if GRADES.index(stated) < GRADES.index(least):
        here, there = GRADE_NAMES[least], GRADE_NAMES[stated]
        raise PlanFileError(
            f"view {view.id} reads columns of grade {here.en}, the plan file states {there.en}:"
            " leave `grade` out, or state a higher one",
            f"视图 {view.id} 所读列的分级为{here.zh}，计划文件声明为{there.zh}："
            "请删去 `grade`，或声明更高的分级",
        )
    return stated


def chosen_mode(wanted: PlanFile, nodes: int) -> str:
    """Return the noise mode that the plan file asks for, or else the one for so many nodes."""
    return wanted.mode or default_mode(nodes)


def default_mode(nodes: int) -> str:
    """Return the noise mode of a plan for so many nodes that names none."""
    return "shared" if SHARED_FROM <= nodes <= MOST_NODES else "node"


def mode_reason(wanted: PlanFile, nodes: int) -> Text:
    """Return why the plan has its noise mode, for the model owner."""
    if wanted.mode is not None:
        return Text("the plan file says so", "由计划文件指定")
    if nodes > MOST_NODES:
        return Text(
            f"{nodes} nodes, more than the {MOST_NODES} that can mask together: each adds the"
            " whole noise by itself",
            f"{nodes} 个节点，超过可共同掩码的 {MOST_NODES} 个：各节点各自添加全部噪声",
        )
    if nodes >= SHARED_FROM:
        return Text(
            f"{nodes} nodes, {SHARED_FROM} or more: they add the noise together, under masks",
            f"{nodes} 个节点，不少于 {SHARED_FROM} 个：各节点在掩码下共同添加噪声",
        )
    return Text(
        f"{nodes} nodes, fewer than {SHARED_FROM}: each adds the whole noise by itself",
        f"{nodes} 个节点，少于 {SHARED_FROM} 个：各节点各自添加全部噪声",
    )


class Thresholds(NamedTuple):
    """Noise mode, m, tau and t of a plan, as hejin_models.plan.Plan has them."""

    mode: str
    minimum_nodes: int
    quorum: int
    colluders: int


def thresholds(wanted: PlanFile, nodes: int, charter: Charter) -> Thresholds:
    """Return what the plan file says, or the defaults; whether it is safe is for Plan to say."""
    if chosen_mode(wanted, nodes) == "node":
        least = wanted.minimum_nodes or max(charter.minimum_nodes, -(-nodes * 2 // 3))
        return Thresholds("node", least, wanted.quorum or 0, wanted.colluders or 0)
    usual_least, usual_colluders = shared_defaults(nodes)
    least = wanted.minimum_nodes or max(charter.minimum_nodes, usual_least)
    colluders = usual_colluders if wanted.colluders is None else wanted.colluders
    return Thresholds("shared", least, wanted.quorum or least, colluders)


def shared_defaults(nodes: int) -> tuple[int, int]:
    """Return m and t of a plan for so many nodes in mode shared that names neither."""
    return -(-nodes * 4 // 5), max(1, nodes // 10)


def _budget(
    wanted: PlanFile, view: FeatureView, charter: Charter, mode: str
) -> tuple[tuple[PricedSum, ...], dict[Part, Fraction]]:
    """Return the priced sums, and each part's cap: rho, and the spare rounds on top."""
    rho = rho_for(wanted.epsilon, float(charter.delta))
    sums = tuple(_priced(planned, rho) for planned in family(wanted.family).plan_sums(view))
    spare = wanted.spare_rounds
    if spare is None:
        spare = 1 if mode == "shared" else 0
    parts: tuple[Part, ...] = ("train", "holdout")
    return sums, {
        part: rho + spare * max((s.rho for s in sums if s.part == part), default=Fraction(0))
        for part in parts
    }


def _priced(planned: PlannedSum, rho: Fraction) -> PricedSum:
    return PricedSum(
        planned.statistic, planned.version, planned.part, round_down(rho * planned.share)
    )


def _share(value: str) -> Fraction:
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError) as reason:
        raise PlanFileError(
            "holdout must be a share such as 0.2 or 1/5", "holdout 须为比例，如 0.2 或 1/5"
        ) from reason
