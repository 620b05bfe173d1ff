"""The plan: what a bank asks for, what it costs, and how it is spent; signed once, then fixed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction

from hejin_models.grades import GRADES, Grade
from hejin_models.sums import Part
from hejin_privacy.accounting import round_up
from hejin_privacy.mechanism import MODES
from hejin_privacy.secure_sum.thresholds import check_thresholds
from hejin_trust.canonical import (
    child,
    closed,
    fraction,
    fraction_body,
    hexbytes,
    integer,
    objects,
    text,
    texts,
    time_from,
    time_text,
)
from hejin_trust.errors import HejinError

PURPOSES = ("model-training",)
FAMILIES = ("scorecard", "network")
MAX_SUMS = 200
MAX_DEADLINE = 86_400
MAX_NODES = 1000
MAX_RHO = 10**9
"""No plan means more than this, and a float, which messages show, holds no rational at all."""
MAX_TEXT = 100
"""Characters of a text in a plan: operators read it at a terminal."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class PlanError(HejinError):
    """The plan is malformed or contradicts itself."""

    code = "plan-malformed"


@dataclass(frozen=True, slots=True)
class PricedSum:
    """One private sum of a plan; rho is the most it may cost (zCDP, no unit)."""

    statistic: str
    version: int
    part: Part
    rho: Fraction


@dataclass(frozen=True, slots=True)
class ViewReference:
    """The feature view a plan was written for; sha256 is that of the view's file."""

    name: str
    version: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LabelReference:
    """Whose outcomes are learned, and by which definition of a bad outcome."""

    name: str
    definition: str
    bank: str


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Longest waits of the bank in whole seconds, 1 to 86,400, one a phase of the secure sum.

    keys       for the nodes' fresh keys, once a run
    masked     for the answers to a query; in mode "node" the only one that is used
    survivors  for the votes on the nodes that answered
    shares     for the shares after drop-outs
    """

    keys: int = 60
    masked: int = 60
    survivors: int = 60
    shares: int = 60

    def __post_init__(self) -> None:
        for phase, seconds in self.body().items():
            if not 1 <= seconds <= MAX_DEADLINE:
                raise PlanError(
                    f"deadline {phase} must be 1 to {MAX_DEADLINE} whole seconds, got {seconds}",
                    f"期限 {phase} 须为 1 至 {MAX_DEADLINE} 整秒，现为 {seconds}",
                )

    def body(self) -> dict[str, int]:
        """Return the deadlines as they stand in a plan."""
        return {
            "keys": self.keys,
            "masked": self.masked,
            "survivors": self.survivors,
            "shares": self.shares,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A bank's plan. Invariants are checked on construction, so a Plan that exists is coherent.

    grade          highest sensitivity grade of the columns that its view reads
    as_of          last day whose events count, for views that look at events; else None
    mode           "node": every node adds the whole noise; "shared": they share it, under masks
    minimum_nodes  m, fewest nodes whose total is opened
    quorum         tau of rule P1: votes on one set of survivors; 0 in mode "node"
    colluders      t of rule P1: most nodes on the bank's side; 0 in mode "node"
    holdout        share of the enterprises kept for evaluation, 0 < holdout < 1
    rho_train      most that the sums over the training part may cost together, burned rounds
                   included
    rho_holdout    the same for the hold-out part; the plan costs the larger (parallel composition)
    """

    bank: str
    consortium: str
    charter: str
    purpose: str
    product: str
    view: ViewReference
    grade: Grade
    as_of: date | None
    label: LabelReference
    family: str
    mode: str
    nodes: tuple[str, ...]
    minimum_nodes: int
    quorum: int
    colluders: int
    deadlines: Deadlines
    holdout: Fraction
    rho_train: Fraction
    rho_holdout: Fraction
    sums: tuple[PricedSum, ...]
    created: datetime
    expires: datetime
    nonce: str

    def __post_init__(self) -> None:
        self._check_names()
        self._check_nodes()
        self._check_budget()
        if self.expires <= self.created:
            raise PlanError("the plan expires before it was made", "计划的失效时间早于制定时间")

    def _check_names(self) -> None:
        if self.purpose not in PURPOSES:
            raise PlanError(
                f"purpose must be one of {', '.join(PURPOSES)}",
                f"用途须为以下之一：{'、'.join(PURPOSES)}",
            )
        if self.family not in FAMILIES:
            raise PlanError(
                f"model family must be one of {', '.join(FAMILIES)}",
                f"模型族须为以下之一：{'、'.join(FAMILIES)}",
            )
        said = {
            "product": self.product,
            "view.name": self.view.name,
            "label.name": self.label.name,
            "label.definition": self.label.definition,
            **{f"sums[{at}].statistic": one.statistic for at, one in enumerate(self.sums)},
        }
        for field, words in said.items():
            if not 1 <= len(words) <= MAX_TEXT or not words.isprintable():
                raise PlanError(
                    f"{field} must be 1 to {MAX_TEXT} printable characters",
                    f"{field} 须为 1 至 {MAX_TEXT} 个可显示字符",
                )

    def _check_nodes(self) -> None:
        if not 1 <= len(self.nodes) <= MAX_NODES or len(set(self.nodes)) != len(self.nodes):
            raise PlanError(
                f"a plan names 1 to {MAX_NODES} different nodes, got {len(self.nodes)}",
                f"计划须列出 1 至 {MAX_NODES} 个不同的节点，现为 {len(self.nodes)} 个",
            )
        if list(self.nodes) != sorted(self.nodes):
            raise PlanError("the plan's nodes must be sorted", "计划中的节点须按名称排序")
        if not 1 <= self.minimum_nodes <= len(self.nodes):
            raise PlanError(
                f"minimum_nodes must be 1 to {len(self.nodes)}, got {self.minimum_nodes}",
                f"最少节点数须在 1 至 {len(self.nodes)} 之间，现为 {self.minimum_nodes}",
            )
        if self.mode not in MODES:
            raise PlanError("noise mode must be node or shared", "噪声模式须为 node 或 shared")
        if self.mode == "shared":
            check_thresholds(len(self.nodes), self.quorum, self.minimum_nodes, self.colluders)
        elif (self.quorum, self.colluders) != (0, 0):
            raise PlanError(
                "quorum and colluders are for noise mode shared; in mode node both are 0",
                "quorum 与 colluders 仅用于 shared 噪声模式；node 模式下二者均为 0",
            )

    def _check_budget(self) -> None:
        if not 0 < self.holdout < 1:
            raise PlanError(
                "the hold-out share must lie between 0 and 1", "留出比例须在 0 与 1 之间"
            )
        if not 1 <= len(self.sums) <= MAX_SUMS:
            raise PlanError(
                f"a plan has 1 to {MAX_SUMS} sums, got {len(self.sums)}",
                f"计划须包含 1 至 {MAX_SUMS} 个求和，现为 {len(self.sums)} 个",
            )
        if any(planned.rho <= 0 for planned in self.sums):
            raise PlanError(
                "every sum needs a positive rho; an unset epsilon is not a plan",
                "每个求和都须有正的 rho；未设定 epsilon 的计划无效",
            )
        if max(self.rho, *(planned.rho for planned in self.sums)) > MAX_RHO:
            raise PlanError(
                f"a rho is above {MAX_RHO}, which protects nothing: set the plan's epsilon",
                f"rho 超过 {MAX_RHO}，已无任何保护作用：请设定计划的 epsilon",
            )
        for part, cap in (("train", self.rho_train), ("holdout", self.rho_holdout)):
            total = sum((s.rho for s in self.sums if s.part == part), Fraction(0))
            if total > cap:
                raise PlanError(
                    f"the {part} sums cost rho={float(total):.6f}, above the plan's own cap of"
                    f" {float(cap):.6f}",
                    f"{part} 部分求和共需 rho={float(total):.6f}，超过计划上限 {float(cap):.6f}",
                )

    @property
    def rho(self) -> Fraction:
        """What the whole plan may cost an enterprise: the dearer part, burned rounds included."""
        return max(self.rho_train, self.rho_holdout)

    @property
    def rho_once(self) -> Fraction:
        """What the plan costs an enterprise at most if every sum is asked once."""
        return max(
            sum((s.rho for s in self.sums if s.part == part), Fraction(0))
            for part in ("train", "holdout")
        )

    def rho_alone(self, r: int) -> Fraction:
        """Return what the plan may cost if all other nodes collude with the bank.

        r  charter's most nodes an enterprise may be in

        Mode "shared": a node's own noise is 1/h of what a sum is charged for, h = m - t, and of
        r^2 in the charge r remain (Mechanism.cost, Mechanism.cost_alone).
        """
        if self.mode == "node":
            return self.rho
        return round_up(self.rho * (self.minimum_nodes - self.colluders) / r)

    def body(self) -> dict[str, object]:
        """Return the plan as the JSON object that the bank signs."""
        return {
            "v": 1,
            "bank": self.bank,
            "consortium": self.consortium,
            "charter": self.charter,
            "purpose": self.purpose,
            "product": self.product,
            "view": {
                "name": self.view.name,
                "version": self.view.version,
                "sha256": self.view.sha256,
            },
            "grade": self.grade,
            "as_of": "" if self.as_of is None else self.as_of.isoformat(),
            "label": {
                "name": self.label.name,
                "definition": self.label.definition,
                "bank": self.label.bank,
            },
            "family": self.family,
            "mode": self.mode,
            "nodes": list(self.nodes),
            "minimum_nodes": self.minimum_nodes,
            "quorum": self.quorum,
            "colluders": self.colluders,
            "deadlines": self.deadlines.body(),
            "holdout": fraction_body(self.holdout),
            "rho_train": fraction_body(self.rho_train),
            "rho_holdout": fraction_body(self.rho_holdout),
            "sums": [
                {
                    "statistic": planned.statistic,
                    "version": planned.version,
                    "part": planned.part,
                    "rho": fraction_body(planned.rho),
                }
                for planned in self.sums
            ],
            "created": time_text(self.created),
            "expires": time_text(self.expires),
            "nonce": self.nonce,
        }

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> Plan:
        """Return the plan in a signed body; PlanError or DocumentError where it is malformed."""
        closed(body, *_FIELDS)
        integer(body, "v", 1, 1)
        view, label = child(body, "view"), child(body, "label")
        closed(view, "name", "version", "sha256")
        closed(label, "name", "definition", "bank")
        nodes = texts(body, "nodes", longest=63)
        for node in nodes:
            _check_name("nodes", node)
        return cls(
            bank=_name(body, "bank"),
            consortium=text(body, "consortium"),
            charter=_digest(body, "charter"),
            purpose=text(body, "purpose"),
            product=text(body, "product"),
            view=ViewReference(
                text(view, "name"), integer(view, "version", 1, 10**6), _digest(view, "sha256")
            ),
            grade=_grade(body),
            as_of=_day(body),
            label=LabelReference(
                text(label, "name"), text(label, "definition"), _name(label, "bank")
            ),
            family=text(body, "family"),
            mode=text(body, "mode"),
            nodes=nodes,
            minimum_nodes=integer(body, "minimum_nodes", 1, MAX_NODES),
            quorum=integer(body, "quorum", 0, MAX_NODES),
            colluders=integer(body, "colluders", 0, MAX_NODES),
            deadlines=_deadlines(child(body, "deadlines")),
            holdout=fraction(body, "holdout"),
            rho_train=fraction(body, "rho_train"),
            rho_holdout=fraction(body, "rho_holdout"),
            sums=tuple(_sum(item) for item in objects(body, "sums")),
            created=time_from(text(body, "created")),
            expires=time_from(text(body, "expires")),
            nonce=hexbytes(body, "nonce", 16).hex(),
        )


_FIELDS = (
    "v", "bank", "consortium", "charter", "purpose", "product", "view", "grade", "as_of",
    "label", "family", "mode", "nodes", "minimum_nodes", "quorum", "colluders", "deadlines",
    "holdout", "rho_train", "rho_holdout", "sums", "created", "expires", "nonce",
)  # fmt: skip


def _name(body: Mapping[str, object], key: str) -> str:
    value = text(body, key)
    _check_name(key, value)
    return value


def _check_name(key: str, value: str) -> None:
    if not _NAME.fullmatch(value):
        raise PlanError(f"{key} must hold member ids", f"{key} 须为成员编号")


def _day(body: Mapping[str, object]) -> date | None:
    value = text(body, "as_of", longest=10)
    try:
        return None if value == "" else date.fromisoformat(value)
    except ValueError as reason:
        raise PlanError(
            "as_of must be a day such as 2026-06-30", "as_of 须为日期，如 2026-06-30"
        ) from reason


def _grade(body: Mapping[str, object]) -> Grade:
    value = text(body, "grade")
    if value not in GRADES:
        raise PlanError(
            f"grade must be one of {', '.join(GRADES)}", f"分级须为以下之一：{'、'.join(GRADES)}"
        )
    return value


def _deadlines(body: Mapping[str, object]) -> Deadlines:
    phases = ("keys", "masked", "survivors", "shares")
    closed(body, *phases)
    return Deadlines(**{phase: integer(body, phase, 1, MAX_DEADLINE) for phase in phases})


def _digest(body: Mapping[str, object], key: str) -> str:
    return hexbytes(body, key, 32).hex()


def _sum(item: Mapping[str, object]) -> PricedSum:
    closed(item, "statistic", "version", "part", "rho")
    part = text(item, "part")
    if part not in ("train", "holdout"):
        raise PlanError("part must be train or holdout", "part 须为 train 或 holdout")
    return PricedSum(
        statistic=text(item, "statistic"),
        version=integer(item, "version", 1, 10**6),
        part="train" if part == "train" else "holdout",
        rho=fraction(item, "rho"),
    )
