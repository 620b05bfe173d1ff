"""What a node approves without asking its operator."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from node_world import fill, found_world

from hejin_node import offers
from hejin_node.config import PolicySettings
from hejin_node.home import open_home


@pytest.mark.parametrize(
    ("colluders", "epsilon_at_most", "answer"),
    [
        pytest.param(1, 50.0, "approved", id="cheap enough"),
        pytest.param(1, 0.01, "offered", id="too dear"),
        pytest.param(0, 50.0, "offered", id="counts on every other node"),
    ],
)
def test_a_plan_beyond_the_policy_waits_for_the_operator(
    tmp_path: Path, colluders: int, epsilon_at_most: float, answer: str
) -> None:
    world = found_world(tmp_path, nodes=5, rho_cap=Fraction(10), rho_alone_cap=Fraction(50))
    policy = PolicySettings(automatic=True, epsilon_at_most=epsilon_at_most)
    with open_home(world.nodes["node-1"], world.clock) as opened:
        home = replace(opened, settings=opened.settings.model_copy(update={"policy": policy}))
        fill(home, world)
        envelope, digest, _ = world.propose(
            mode="shared", minimum_nodes=4, quorum=4, colluders=colluders
        )
        offers.receive(home, envelope)
        assert offers.decide(home, digest) == answer
