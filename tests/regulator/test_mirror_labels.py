"""The mirror cosigns no question for outcomes that goes beyond the authorisations in force."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror_world import START, Book, Watched, watched
from sqlalchemy import create_engine

from hejin_regulator import mirror_tables
from hejin_regulator.authority import Office
from hejin_regulator.label_rules import LabelsExceedError, LabelsUnmatchedError
from hejin_regulator.mirror_labels import LabelBook
from hejin_regulator.witness_rules import WitnessRefusedError
from hejin_trust.canonical import time_text
from hejin_trust.checkpoint import open_checkpoint
from hejin_trust.database import reading
from hejin_trust.entries import Entry, build
from hejin_trust.merkle import leaf_hash
from hejin_trust.mirroring import LogUpdate
from hejin_trust.stored_log import StoredLog

A = "node-a"
SESSION = "ab" * 16
NOW = time_text(START)


@pytest.fixture
def world(office: Office, tmp_path: Path) -> Iterator[Watched]:
    with watched(office, tmp_path) as found:
        yield found


def granted(number: int, **changes: object) -> dict[str, object]:
    body: dict[str, object] = {
        "enterprise": f"{number:032x}",
        "document": "cd" * 32,
        "grade": "B",
        "purposes": ["model-training"],
        "banks": ["bank-a"],
        "categories": ["outcome", "trade"],
        "features": ["*"],
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_to": "2027-01-01T00:00:00Z",
    }
    return {**body, **changes}


def grant(book: Book, number: int, **changes: object) -> None:
    book.append("authorisation.grant", granted(number, **changes))


def question(**changes: object) -> dict[str, object]:
    return {
        "session": SESSION,
        "bank": "bank-a",
        "definition": "overdue90-12m-v1",
        "definition_hash": "ef" * 32,
        "period": "2025",
        "root": "12" * 32,
        "slots": 5000,
        **changes,
    }


def ask(world: Watched, size: int, **changes: object) -> tuple[LogUpdate, LogUpdate]:
    """Let node-a log a question for `size` enterprises; `changes` falsify what the bank is shown.

    Returns what is new of its internal and of its release log.
    """
    internal, release = world.internal[A], world.release[A]
    before = len(internal.leaves), len(release.leaves)
    raw = internal.append("labels.request", {**question(), "size": size})
    told = {**question(), "query": "34" * 32, "request": leaf_hash(raw).hex()}
    release.append("labels.ask", {**told, **changes})
    return internal.update(before[0]), release.update(before[1])


def refusals(world: Watched) -> dict[str, tuple[str, int]]:
    return {refused.code: (refused.member, refused.count) for refused in world.mirror.refusals()}


def stored(world: Watched, book: Book) -> int:
    with reading(world.mirror.engine) as connection:
        return StoredLog(book.origin).size(connection)


def test_a_question_for_as_many_as_have_authorised_it_is_cosigned(world: Watched) -> None:
    for number in range(3):
        grant(world.internal[A], number)
    world.add(A, world.internal[A].update(0))
    internal, release = ask(world, 3)
    heads = world.add(A, release, internal)  # in whichever order they stand in the message
    assert [head.checkpoint.size for head in heads] == [1, 4]
    assert refusals(world) == {}


def test_a_question_that_came_with_its_grants_in_one_message_is_cosigned(world: Watched) -> None:
    grant(world.internal[A], 1)
    _, release = ask(world, 1)
    world.add(A, world.internal[A].update(0), release)
    assert stored(world, world.release[A]) == 1


def test_one_more_than_have_authorised_it_is_refused_by_name_and_kept_as_evidence(
    world: Watched,
) -> None:
    """The node writes and signs a larger number than it has grants: nothing of it is cosigned."""
    for number in range(3):
        grant(world.internal[A], number)
    world.add(A, world.internal[A].update(0))
    updates = ask(world, 4)
    with pytest.raises(LabelsExceedError, match="of 4 enterprises in 5000") as no:
        world.mirror.door(A).add(updates)
    assert no.value.code == "witness-labels-exceed"
    assert "but 3 authorisations" in no.value.text.en
    assert A in no.value.text.en
    assert A in no.value.text.zh
    (refused,) = world.mirror.refusals()
    assert (refused.member, refused.code, refused.count) == (A, "witness-labels-exceed", 1)
    # The node's own signature over the log that holds the lie.
    book = world.internal[A]
    key = world.office.charter.member(A).log_key
    assert open_checkpoint(refused.note, book.origin, key).root == book.root()
    assert (stored(world, book), stored(world, world.release[A])) == (3, 0)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"categories": ["*"]}, id="a star"),
        pytest.param({"categories": ["trade"]}, id="data alone"),
        pytest.param({"purposes": ["credit-approval"]}, id="another purpose"),
        pytest.param({"banks": ["bank-b"]}, id="another bank"),
        pytest.param({"valid_from": "2026-11-22T20:00:01Z"}, id="a second early"),
        pytest.param({"valid_to": "2026-11-22T20:00:00Z"}, id="just over"),
        pytest.param({"enterprise": f"{1:032x}"}, id="the same enterprise again"),
    ],
)
def test_a_grant_of_something_else_does_not_count(
    world: Watched, changes: dict[str, object]
) -> None:
    grant(world.internal[A], 1)
    grant(world.internal[A], 2, **changes)
    world.add(A, world.internal[A].update(0))
    with pytest.raises(LabelsExceedError, match="but 1 authorisations"):
        world.mirror.door(A).add(ask(world, 2))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"banks": ["*"]}, id="every bank"),
        pytest.param({"banks": ["bank-b", "bank-a"]}, id="this bank among others"),
        pytest.param({"categories": ["*", "outcome"]}, id="all data and the outcome"),
        pytest.param({"purposes": ["credit-approval", "model-training"]}, id="more purposes"),
        pytest.param({"valid_from": NOW}, id="from now on"),
        pytest.param({"valid_to": "2026-11-22T20:00:01Z"}, id="for a second more"),
    ],
)
def test_a_grant_that_covers_more_counts(world: Watched, changes: dict[str, object]) -> None:
    grant(world.internal[A], 1)
    grant(world.internal[A], 2, **changes)
    world.add(A, world.internal[A].update(0))
    world.add(A, *ask(world, 2))
    assert stored(world, world.release[A]) == 1


def test_a_revoked_grant_does_not_count(world: Watched) -> None:
    grant(world.internal[A], 1)
    world.internal[A].append("authorisation.revoke", {"grant": 0, "reason": "no more"})
    world.add(A, world.internal[A].update(0))
    with pytest.raises(LabelsExceedError, match="but 0 authorisations"):
        world.mirror.door(A).add(ask(world, 1))


def test_grants_of_another_node_or_in_the_release_log_do_not_count(world: Watched) -> None:
    grant(world.internal["node-b"], 1)
    world.add("node-b", world.internal["node-b"].update(0))
    grant(world.release[A], 2)
    world.add(A, world.release[A].update(0))
    with pytest.raises(LabelsExceedError, match="but 0 authorisations"):
        world.mirror.door(A).add(ask(world, 1))


def test_more_enterprises_than_slots_are_refused(world: Watched) -> None:
    for number in range(3):
        grant(world.internal[A], number)
    book = world.internal[A]
    book.append("labels.request", {**question(slots=2), "size": 3})
    with pytest.raises(LabelsExceedError, match="3 enterprises in 2 slots"):
        world.mirror.door(A).add([book.update(0)])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"request": "00" * 32}, id="another request"),
        pytest.param({"slots": 9999}, id="more slots"),
        pytest.param({"root": "00" * 32}, id="another set"),
        pytest.param({"bank": "bank-b"}, id="another bank"),
        pytest.param({"period": "2024"}, id="another period"),
        pytest.param({"session": "cd" * 16}, id="another session"),
    ],
)
def test_what_the_bank_is_shown_must_be_what_was_logged(
    world: Watched, changes: dict[str, object]
) -> None:
    grant(world.internal[A], 1)
    world.add(A, world.internal[A].update(0))
    with pytest.raises(LabelsUnmatchedError) as refused:
        world.mirror.door(A).add(ask(world, 1, **changes))
    assert refused.value.code == "witness-labels-unmatched"
    assert stored(world, world.release[A]) == 0
    assert refusals(world) == {"witness-labels-unmatched": (A, 1)}


def test_a_question_without_its_request_or_asked_twice_is_refused(world: Watched) -> None:
    grant(world.internal[A], 1)
    world.add(A, world.internal[A].update(0))
    internal, release = ask(world, 1)
    with pytest.raises(LabelsUnmatchedError):
        world.mirror.door(A).add([release])
    world.add(A, internal, release)
    told = {**question(), "query": "56" * 32, "request": leaf_hash(internal.entries[0]).hex()}
    world.release[A].append("labels.ask", told)
    with pytest.raises(LabelsUnmatchedError):
        world.mirror.door(A).add([world.release[A].update(1)])
    with pytest.raises(LabelsUnmatchedError):  # the session once more
        world.mirror.door(A).add([ask(world, 1)[0]])


def test_a_refused_question_keeps_no_other_member_waiting(world: Watched) -> None:
    with pytest.raises(WitnessRefusedError):
        world.mirror.door(A).add(ask(world, 1))
    grant(world.internal["node-b"], 1)
    world.add("node-b", world.internal["node-b"].update(0))
    assert stored(world, world.internal["node-b"]) == 1


class Log:
    """A log as a plain list of steps, and what stands by it."""

    def __init__(self) -> None:
        self.standing: dict[int, tuple[int, str]] = {}

    def granted(self, seq: int, number: int, bank: str, named: bool) -> Entry:
        if named:
            self.standing[seq] = (number, bank)
        categories = ["outcome"] if named else ["*"]
        return made(
            "authorisation.grant", seq, granted(number, banks=[bank], categories=categories)
        )

    def revoked(self, seq: int, which: int) -> Entry:
        self.standing.pop(which, None)
        return made("authorisation.revoke", seq, {"grant": which, "reason": ""})


def made(kind: str, seq: int, body: dict[str, object]) -> Entry:
    return build(kind, seq, START, A, body, bytes(16))


Step = Callable[[Log, int], Entry]
steps = st.lists(
    st.one_of(
        st.builds(
            lambda *told: lambda log, seq: log.granted(seq, *told),
            st.integers(0, 3),
            st.sampled_from(["bank-a", "bank-b", "*"]),
            st.booleans(),
        ),
        st.builds(lambda which: lambda log, seq: log.revoked(seq, which), st.integers(0, 12)),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(steps)
def test_the_count_is_that_of_a_plain_reading_of_the_log(told: list[Step]) -> None:
    engine, log = create_engine("sqlite://"), Log()
    mirror_tables.metadata.create_all(engine)
    with engine.begin() as connection:
        book = LabelBook(connection, A)
        for seq, step in enumerate(told):
            book.take([step(log, seq)], internal=True)
        for bank in ("bank-a", "bank-b"):
            expected = {who for who, named in log.standing.values() if named in (bank, "*")}
            assert book.standing(bank, NOW) == len(expected)
    engine.dispose()
