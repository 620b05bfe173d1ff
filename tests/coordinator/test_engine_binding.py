"""The binding's rules alone: no gRPC, no Flower, a clock that the test turns."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from hejin_coordinator.binding import (
    BURST,
    CALLS_A_SECOND,
    CONCURRENT,
    MAX_HEAD,
    MAX_OBJECT,
    Binding,
    FleetCall,
    FleetRefusedError,
    MethodDeniedError,
    NotAwaitedError,
    NotYoursError,
    QuotaExceededError,
    UnknownNodeError,
)

A, B = b"key of a", b"key of b"
RUN = 7
TREE = ("root", "middle", "leaf")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def bound() -> tuple[Binding, Clock]:
    clock = Clock()
    binding = Binding(clock)
    for member, node, key in (("a", 1, A), ("b", 2, B)):
        binding.registered(member, node, key)
        binding.activated(member, active=True)
    binding.open(RUN)
    binding.sent("question-a", "a", frozenset({"qa"}))
    binding.sent("question-b", "b", frozenset({"qb"}))
    return binding, clock


def make(binding: Binding, member: str, call: FleetCall) -> None:
    with binding.call(member, call):
        pass


PULL = FleetCall("PullMessages", A, 10, nodes=(1,))
PUSH = FleetCall(
    "PushMessages", A, 700, nodes=(1, 1), runs=(RUN,), answers=(("root", "question-a", TREE),)
)
READ = FleetCall("PullObject", A, 100, nodes=(1,), runs=(RUN,), objects=("qa",))


@pytest.mark.parametrize("call", [PULL, PUSH, READ], ids=["pull", "push", "read"])
def test_a_member_may_speak_for_its_own_node(call: FleetCall) -> None:
    make(bound()[0], "a", call)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        pytest.param(replace(PULL, nodes=(2,)), NotYoursError, id="node-id"),
        pytest.param(replace(PULL, nodes=()), NotYoursError, id="no-node-id"),
        pytest.param(replace(PULL, key=B), NotYoursError, id="key"),
        pytest.param(replace(PULL, key=b"old key"), UnknownNodeError, id="replaced-node"),
        pytest.param(FleetCall("RegisterNode", A, 10, keys=(B,)), NotYoursError, id="register"),
        pytest.param(FleetCall("ActivateNode", A, 10, keys=(B,)), NotYoursError, id="activate"),
        pytest.param(replace(PUSH, nodes=(1, 2)), NotYoursError, id="src-node-id"),
        pytest.param(replace(PUSH, runs=(8,)), NotYoursError, id="run-id"),
        pytest.param(
            replace(PUSH, answers=(("root", "question-b", TREE),)), NotYoursError, id="request-id"
        ),
        pytest.param(
            replace(PUSH, answers=(("root", "no question", TREE),)), NotAwaitedError, id="invented"
        ),
        pytest.param(
            replace(PUSH, answers=(("other", "question-a", TREE),)), NotYoursError, id="root"
        ),
        pytest.param(
            replace(PUSH, answers=(("root", "question-a", TREE[:2]),)), NotYoursError, id="tree"
        ),
        pytest.param(
            replace(PUSH, answers=(("root", "question-a", ("root", "qb", "leaf")),)),
            NotYoursError,
            id="a-questions-object",
        ),
        pytest.param(replace(PUSH, answers=()), QuotaExceededError, id="no-message"),
        pytest.param(replace(READ, objects=("qb",)), NotYoursError, id="object-id"),
        pytest.param(
            replace(READ, method="PushObject", objects=("qa",)), NotYoursError, id="pushed-object"
        ),
        pytest.param(replace(PULL, size=MAX_HEAD + 1), QuotaExceededError, id="size"),
        pytest.param(
            replace(READ, method="PushObject", size=MAX_OBJECT + 1), QuotaExceededError, id="object"
        ),
        pytest.param(replace(PULL, method="GetFab"), MethodDeniedError, id="get-fab"),
    ],
)
def test_a_member_may_speak_for_nothing_else(
    call: FleetCall, error: type[FleetRefusedError]
) -> None:
    with pytest.raises(error):
        make(bound()[0], "a", call)


def test_a_member_that_never_registered_must_register() -> None:
    with pytest.raises(UnknownNodeError):
        make(bound()[0], "c", FleetCall("PullMessages", b"c", 10, nodes=(3,)))


def test_a_new_registration_replaces_the_old_one() -> None:
    binding, _ = bound()
    assert binding.registered("a", 9, b"new key") == 1
    assert binding.node_of("a") is None, "not before it is activated"
    binding.activated("a", active=True)
    assert binding.nodes() == {9: "a", 2: "b"}
    with pytest.raises(UnknownNodeError):
        make(binding, "a", PULL)


def test_an_answer_counts_once() -> None:
    binding, _ = bound()
    make(binding, "a", PUSH)
    assert binding.answer_to("question-a") == TREE
    with pytest.raises(NotAwaitedError):
        make(binding, "a", PUSH)


def test_the_objects_of_an_answer_may_be_pushed_by_its_member_alone() -> None:
    binding, _ = bound()
    make(binding, "a", PUSH)
    push = replace(READ, method="PushObject", objects=("leaf",))
    make(binding, "a", push)
    with pytest.raises(NotYoursError):
        make(binding, "b", replace(push, key=B, nodes=(2,)))
    copied = replace(
        PUSH, key=B, nodes=(2, 2), answers=(("mine", "question-b", ("mine", "middle", "leaf")),)
    )
    with pytest.raises(NotYoursError):
        make(binding, "b", copied)


def test_nothing_of_a_finished_question_is_left() -> None:
    binding, _ = bound()
    make(binding, "a", PUSH)
    binding.forget()
    for call in (PUSH, READ, replace(READ, method="PushObject", objects=("leaf",))):
        with pytest.raises((NotAwaitedError, NotYoursError)):
            make(binding, "a", call)


def test_no_run_may_be_named_when_none_is_open() -> None:
    binding, _ = bound()
    binding.close()
    assert not binding.is_open()
    with pytest.raises(NotYoursError):
        make(binding, "a", READ)


def test_calls_a_second_are_limited_for_each_member() -> None:
    binding, clock = bound()
    for _ in range(int(2 * CALLS_A_SECOND)):
        make(binding, "a", PULL)
    with pytest.raises(QuotaExceededError):
        make(binding, "a", PULL)
    make(binding, "b", replace(PULL, key=B, nodes=(2,)))
    clock.now += 1
    make(binding, "a", PULL)


def test_registrations_are_limited() -> None:
    binding, clock = bound()
    register = FleetCall("RegisterNode", A, 100, keys=(A,))
    for _ in range(int(BURST)):
        make(binding, "a", register)
    with pytest.raises(QuotaExceededError):
        make(binding, "a", register)
    clock.now += 60
    make(binding, "a", register)


def test_calls_at_the_same_time_are_limited() -> None:
    binding, _ = bound()
    with ExitStack() as running:
        for _ in range(CONCURRENT):
            running.enter_context(binding.call("a", PULL))
        with pytest.raises(QuotaExceededError):
            make(binding, "a", PULL)
    make(binding, "a", PULL)
