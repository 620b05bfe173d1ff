"""The node's policy, as its operator writes it in policy.toml: which plans it may approve."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from hejin_models.grades import Grade
from hejin_models.plan import FAMILIES
from hejin_models.statistics import CATALOGUE
from hejin_node.terms import Purpose
from hejin_trust.authorisation import ANY
from hejin_trust.members import LARGEST_SIZE
from hejin_trust.settings import SettingsError

FILE: Final = "policy.toml"

_Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_ViewId = Annotated[str, Field(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,62}-v[0-9]{1,4})$")]


def _once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values) or (ANY in values and len(values) > 1):
        raise PydanticCustomError("names-once", "names stand once each")
    return values


def _in_order(band: tuple[int, int]) -> tuple[int, int]:
    low, high = band
    if not 1 <= low <= high <= LARGEST_SIZE:
        raise PydanticCustomError("size-band", "no band", {"most": LARGEST_SIZE})
    return band


def _known(known: Iterable[str]) -> AfterValidator:
    names = sorted({ANY, *known})

    def check(values: tuple[str, ...]) -> tuple[str, ...]:
        for place, value in enumerate(values, start=1):
            if value not in names:
                raise PydanticCustomError(
                    "unknown-name",
                    "name {place} is unknown",
                    {"place": place, "names": ", ".join(names)},
                )
        return _once(values)

    return AfterValidator(check)


class Automatic(BaseModel):
    """What the node approves without asking its operator, of what the bank may ask at all.

    epsilon_at_most     dearest plan: its own epsilon at the charter's delta
    share_at_most       most of the charter's cap that the bank's plans may take together; the rest
                        waits for the operator, however cheap it is
    colluders_at_least  fewest colluders t that a plan with shared noise must allow for: with 0 its
                        price counts on every other node
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epsilon_at_most: float = Field(gt=0, allow_inf_nan=False)
    share_at_most: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    colluders_at_least: int = Field(default=1, ge=0)


class BankRules(BaseModel):
    """What a bank's plans may ask; `("*",)` stands for all there are.

    purposes    as authorisations name them
    grade       highest sensitivity grade of the columns that a plan touches
    families    model families
    statistics  of the catalogue, by name
    views       feature views, by id: trade-v1
    automatic   None: the operator decides every plan
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1), AfterValidator(_once)]
    grade: Grade
    families: Annotated[tuple[str, ...], Field(min_length=1), _known(FAMILIES)] = (ANY,)
    statistics: Annotated[
        tuple[str, ...], Field(min_length=1), _known(name for name, _ in CATALOGUE)
    ] = (ANY,)
    views: Annotated[tuple[_ViewId, ...], Field(min_length=1), AfterValidator(_once)] = (ANY,)
    automatic: Automatic | None = None


class Policy(BaseModel):
    """The whole policy. A bank's own table stands instead of `default`, never mixed with it.

    size_band  enterprises of this node, as the charter declares them
    default    for banks that have no table; None: they are refused
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_band: Annotated[tuple[int, int], AfterValidator(_in_order)]
    default: BankRules | None = None
    banks: dict[_Id, BankRules] = {}

    def rules(self, bank: str) -> BankRules | None:
        """Return what holds for a bank; None if nothing does."""
        return self.banks.get(bank, self.default)


def starter(
    size_band: tuple[int, int], approve_up_to: float | None = None, grade: Grade = "important"
) -> bytes:
    """Return a policy file to begin with: any admitted bank may ask, the operator decides.

    approve_up_to  epsilon of the dearest plan that is approved without the operator
    grade          highest grade of the columns that a plan may touch
    raises         SettingsError where that is no cost
    """
    if approve_up_to is not None and not 0 < approve_up_to < math.inf:
        raise SettingsError(
            "the epsilon that is approved without the operator must be above 0 and finite",
            "自动批准的 epsilon 上限须大于 0 且有限",
        )
    automatic = (
        "# [default.automatic]          # approve by itself what costs little: 自动批准\n"
        "# epsilon_at_most = 0.5\n"
        if approve_up_to is None
        else "[default.automatic]            # approved without the operator: 自动批准\n"
        f"epsilon_at_most = {json.dumps(approve_up_to)}\n"
    )
    return f"""\
# What this node's plans may be: docs/policy.md. 本节点的计划准入策略。
# Read anew at every decision; `hejin node policy check` tells what is wrong with it.
size_band = [{size_band[0]}, {size_band[1]}]           # as the charter declares it: 申报的企业数

[default]                      # banks without a table of their own; without it they are refused
purposes = ["model-training"]
grade = "{grade}"            # highest grade of the columns a plan may touch: 数据分级上限
families = ["*"]
statistics = ["*"]
views = ["*"]

{automatic}# share_at_most = 0.5          # of the charter's cap, all plans of one bank together
# colluders_at_least = 1

# [banks.bank-1]                 # stands instead of [default] for this bank
# purposes = ["model-training"]
# grade = "general"
""".encode()
