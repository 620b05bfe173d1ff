"""The node's settings, as its operator writes them in node.toml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

FILE = "node.toml"


class NodeSettings(BaseModel):
    """One node. `regulator_key` is pinned at init, in hex; `banks` maps bank id to HOST:PORT."""

    model_config = ConfigDict(extra="forbid")

    member: str
    regulator_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    regulator: str | None = None
    banks: dict[str, str] = {}
