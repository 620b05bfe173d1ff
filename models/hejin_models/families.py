"""The model families a plan may name: which sums each plans, and how it trains from them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Protocol

from hejin_models import training
from hejin_models.errors import MissingExtraError
from hejin_models.evaluation import Evaluation
from hejin_models.features import FeatureView
from hejin_models.network_model import Network
from hejin_models.plan import FAMILIES, PlanError
from hejin_models.scorecard import Scorecard
from hejin_models.sums import NoisySum, PlannedSum, SumRequest


class FamilyResult(Protocol):
    """A trained model and how well it separates the hold-out enterprises."""

    @property
    def model(self) -> Scorecard | Network:
        """The model."""

    @property
    def evaluation(self) -> Evaluation:
        """What the hold-out sum says."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family; `train` asks for the sums of `plan_sums` in order and returns the result.

    Both depend on the view alone: what nodes hold enters by the sums only.
    """

    plan_sums: Callable[[FeatureView], tuple[PlannedSum, ...]]
    train: Callable[[FeatureView], Generator[SumRequest, NoisySum, FamilyResult]]


def family(name: str) -> Family:
    """Return a family by the name that plans give it.

    raises   PlanError for a name that is none; MissingExtraError where what it needs is not
             installed here
    """
    made = _FAMILIES.get(name)
    if made is None:
        raise PlanError(
            f"model family must be one of {', '.join(FAMILIES)}",
            f"模型族须为以下之一：{'、'.join(FAMILIES)}",
        )
    return made()


def _scorecard() -> Family:
    return Family(training.plan_sums, training.train)


def _network() -> Family:
    # Torch takes 700 MB and two seconds: nothing but this family ever loads it.
    try:
        from hejin_models import network
    except ModuleNotFoundError as reason:
        if reason.name != "torch":
            raise
        raise MissingExtraError(
            "the family `network` needs torch, which is not installed here:"
            " run `pip install 'hejin[network]'`, or plan a scorecard",
            "模型族 `network` 需要 torch，本机未安装："
            "请运行 `pip install 'hejin[network]'`，或改用评分卡",
        ) from reason
    return Family(network.plan_sums, network.train)


_FAMILIES: Mapping[str, Callable[[], Family]] = {"scorecard": _scorecard, "network": _network}
