"""The coordinator's settings, as the bank writes them in coordinator.toml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

FILE = "coordinator.toml"


class CoordinatorSettings(BaseModel):
    """One bank. `regulator_key` is pinned at init, in hex.

    round_seconds    longest wait for the nodes of one round
    reissue_seconds  silence after which a node is asked again
    """

    model_config = ConfigDict(extra="forbid")

    member: str
    regulator_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    regulator: str | None = None
    round_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    reissue_seconds: float = Field(default=5.0, gt=0, allow_inf_nan=False)
