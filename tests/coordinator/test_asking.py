"""Nodes that cannot answer now are asked again until the deadline, and told from those that will
not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from node_world import World, found_world

from hejin_coordinator.asking import NOT_NOW, Answers, Gathered, gather
from hejin_coordinator.errors import AnswerRefusedError, RunPausedError
from hejin_trust import membership
from hejin_trust.envelope import REFUSAL, seal
from hejin_trust.fleet import Payload


@dataclass
class Script:
    """Answers from a list for each node; the last word stands once the list is at its end."""

    says: dict[str, list[Payload]]
    asked: list[str] = field(default_factory=list)
    closed: bool = False

    def ask(
        self,
        requests: Mapping[str, Payload],
        *,
        timeout: float,
        reissue_after: float,
        enough: int | None = None,
    ) -> Answers:
        try:
            waiting = [node for node in requests if self.says[node]]
            while waiting:
                node = waiting.pop(0)
                self.asked.append(node)
                if (yield node, self.says[node].pop(0)) and self.says[node]:
                    waiting.append(node)
        finally:
            self.closed = True

    def online(self) -> set[str]:
        return set(self.says)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return found_world(tmp_path_factory.mktemp("world"), nodes=3)


NODES = ("node-1", "node-2", "node-3")
GOOD: Payload = {"kind": b"masked"}


def refusal(world: World, node: str, code: str) -> Payload:
    """Return a node's signed refusal."""
    own = membership.load(world.nodes[node], node, "node", world.office.identity.public)
    reason = {"en": f"{code} it is", "zh": f"{code}。"}
    body = {"v": 1, "code": code, "reason": reason}
    return {"kind": b"refusal", "refusal": seal(REFUSAL, body, own.identity, node)}


def gathered(
    world: World, says: dict[str, list[Payload]], suffices: int | None = None
) -> tuple[Gathered[str], Script]:
    script = Script(says)

    def read(node: str, payload: Payload) -> str:
        if payload != GOOD:
            raise AnswerRefusedError("it does not hold", "不成立")
        return node

    found = gather(
        script,
        {node: {"kind": b"query"} for node in says},
        read,
        world.office.charter,
        deadline=60,
        reissue_after=5,
        enough=2,
        suffices=suffices,
    )
    assert script.closed
    return found, script


@pytest.mark.parametrize("code", sorted(NOT_NOW))
def test_a_node_that_cannot_answer_now_is_asked_until_it_can(world: World, code: str) -> None:
    later = refusal(world, "node-2", code)
    found, script = gathered(
        world, {"node-1": [GOOD], "node-2": [later, later, GOOD], "node-3": [GOOD]}
    )
    assert set(found.answers) == set(NODES)
    assert (found.refused, found.later, found.open) == ({}, {}, 0)
    assert script.asked == ["node-1", "node-2", "node-3", "node-2", "node-2"]


def test_a_node_that_answered_or_refused_for_good_is_not_asked_again(world: World) -> None:
    found, script = gathered(
        world,
        {
            "node-1": [GOOD, GOOD],
            "node-2": [refusal(world, "node-2", "plan-not-approved"), GOOD],
            "node-3": [{"kind": b"nonsense"}, GOOD],
        },
    )
    assert script.asked == list(NODES)
    assert set(found.answers) == {"node-1"}
    assert found.outcomes == {
        "node-1": "answered",
        "node-2": "plan-not-approved",
        "node-3": "answer-refused",
    }


def test_a_node_that_refuses_for_good_after_waiting_counts_as_refused(world: World) -> None:
    says = [refusal(world, "node-1", "storage-failed"), refusal(world, "node-1", "round-void")]
    found, _ = gathered(world, {"node-1": says})
    assert (found.later, found.open) == ({}, 0)
    assert found.outcomes == {"node-1": "round-void"}


def test_who_waits_for_the_regulator_is_counted_in_one_sentence_and_others_are_named(
    world: World,
) -> None:
    waits = {node: [refusal(world, node, "witness-unreachable")] for node in NODES[:2]}
    found, _ = gathered(world, {**waits, "node-3": [refusal(world, "node-3", "clock-off")]})
    assert found.reasons == (
        ", 2 wait for the regulator's cosignature; node-3: clock-off it is",
        "，2 个在等待监管方会签；node-3：clock-off。",
    )
    assert found.open == 3
    reason = found.paused("round 1: 0 answered", "第 1 轮")
    assert isinstance(reason, RunPausedError)
    assert "goes on by itself once they can answer" in reason.text.en


def test_silent_nodes_alone_are_waited_for_until_they_are_back(world: World) -> None:
    found, _ = gathered(world, {"node-1": [], "node-2": [GOOD]})
    assert found.silent == {"node-1"}
    assert "goes on when they are back" in found.paused("x", "x").text.en


def test_nobody_is_asked_again_once_enough_is_known(world: World) -> None:
    later = refusal(world, "node-1", "storage-failed")
    found, script = gathered(
        world, {"node-1": [later, GOOD], "node-2": [GOOD], "node-3": [GOOD]}, suffices=1
    )
    assert script.asked == ["node-1", "node-2"]
    assert found.complete
    assert found.outcomes == {
        "node-1": "storage-failed",
        "node-2": "answered",
        "node-3": "not-needed",
    }
