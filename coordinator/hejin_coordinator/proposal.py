"""Read a plan file and turn it into a plan: what it costs follows from epsilon and the charter."""

from __future__ import annotations

import math
import secrets
import tomllib
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hejin_coordinator.errors import PlanFileError
from hejin_models.features import FeatureView
from hejin_models.plan import LabelReference, Plan, PricedSum, ViewReference
from hejin_models.sums import PlannedSum
from hejin_models.training import plan_sums
from hejin_privacy.accounting import rho_for, round_down
from hejin_trust.canonical import time_from
from hejin_trust.charter import Charter


class PlanFile(BaseModel):
    """What a model owner writes. `epsilon` is the most the plan may cost an enterprise.

    view           a shipped view's id, or the path of a view file
    nodes          members to invite; empty: every admitted node
    minimum_nodes  fewest nodes that must answer each sum; unset: two thirds, rounded up
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
    mode: str = "node"
    nodes: tuple[str, ...] = ()
    minimum_nodes: int | None = Field(default=None, ge=1)
    holdout: str = "1/5"
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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        raise PlanFileError(
            f"{path} is not valid TOML: {reason}", f"{path} 不是有效的 TOML：{reason}"
        ) from reason
    except ValidationError as reason:
        first = reason.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise PlanFileError(
            f"{path}: field {field}: {first['msg']}", f"{path}：字段 {field}：{first['msg']}"
        ) from reason


def make_plan(
    wanted: PlanFile, view: FeatureView, charter: Charter, bank: str, at: datetime
) -> Plan:
    """Return the plan, priced: the sums of each part share rho(epsilon, delta) exactly.

    raises   PlanFileError, PlanError; NotAMemberError for a node that is not admitted
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
    rho = rho_for(wanted.epsilon, float(charter.delta))
    return Plan(
        bank=bank,
        consortium=charter.consortium,
        charter=charter.digest,
        purpose=wanted.purpose,
        product=wanted.product,
        view=ViewReference(view.name, view.version, view.digest),
        as_of=wanted.as_of,
        label=LabelReference(wanted.label, wanted.definition, bank),
        family=wanted.family,
        mode=wanted.mode,
        nodes=nodes,
        minimum_nodes=wanted.minimum_nodes
        or max(charter.minimum_nodes, math.ceil(len(nodes) * 2 / 3)),
        holdout=_share(wanted.holdout),
        rho_train=rho,
        rho_holdout=rho,
        sums=tuple(_priced(planned, rho) for planned in plan_sums(view)),
        created=at,
        # A plan is charged to one period: it ends with it at the latest.
        expires=min(at + timedelta(days=wanted.days), time_from(charter.period_to)),
        nonce=secrets.token_hex(16),
    )


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
