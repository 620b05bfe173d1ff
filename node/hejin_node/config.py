"""The node's settings, as its operator writes them in node.toml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

FILE = "node.toml"


class PolicySettings(BaseModel):
    """What the node approves without asking its operator.

    automatic        approve plans by itself, if they have no problem and cost little enough
    epsilon_at_most  dearest plan that is approved by itself: its own epsilon at the charter's delta
    colluders_at_least  fewest colluders t that a plan with shared noise must allow for: with 0 its
                        price counts on every other node
    """

    model_config = ConfigDict(extra="forbid")

    automatic: bool = False
    epsilon_at_most: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    colluders_at_least: int = Field(default=1, ge=0)


class NodeSettings(BaseModel):
    """One node. `regulator_key` is pinned at init, in hex; `banks` maps bank id to HOST:PORT."""

    model_config = ConfigDict(extra="forbid")

    member: str
    regulator_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    regulator: str | None = None
    policy: PolicySettings = PolicySettings()
    banks: dict[str, str] = {}
