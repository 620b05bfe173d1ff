"""The coordinator's settings, as the bank writes them in coordinator.toml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from hejin_privacy.set_intersection import MOST_ITEMS

FILE = "coordinator.toml"


class CoordinatorSettings(BaseModel):
    """One bank. `regulator_key` is pinned at init, in hex.

    regulator        HOST:PORT of the ledgers' witness; nothing is served or proposed without it
    reissue_seconds  silence after which a node is asked again; how long the bank waits in all
                     stands in each plan
    outcomes_declared  outcomes in a book at most: each answer to a node has so many items, so that
                     its size says nothing of how many there are
    label_sessions_a_day  questions for outcomes that a node is answered in 24 hours
    """

    model_config = ConfigDict(extra="forbid")

    member: str
    regulator_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    regulator: str | None = None
    reissue_seconds: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    outcomes_declared: int = Field(default=16_384, ge=1, le=MOST_ITEMS)
    label_sessions_a_day: int = Field(default=4, ge=0)
