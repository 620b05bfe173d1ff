"""Asking a bank for outcomes: whose, in which order, what is stored, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from bent_mirror import internal_log, release_log
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_world import (
    DEFINITION,
    NODE,
    PERIOD,
    SPEC,
    LabelWorld,
    codes,
    entries,
    label_world,
)
from node_world import BANK, terms

from hejin_models.uscc import make_code
from hejin_node import label_sessions, matching
from hejin_node.consent import grant_many, pseudonym, revoke
from hejin_node.errors import LabelsExceedError, MatchingError
from hejin_node.label_audit import audit
from hejin_node.label_sessions import Secrets
from hejin_node.labels import LabelFile, load_labels
from hejin_node.loading import Loading
from hejin_node.matching import Described, Given, begin
from hejin_node.statement import render_statement, statement_of
from hejin_node.trace import read_trace
from hejin_node.trace_json import trace_json
from hejin_privacy.set_intersection import ITEM_BYTES, POINT_BYTES, IntersectionError, PointError
from hejin_trust.channels import PeerRefused
from hejin_trust.database import reading, writing
from hejin_trust.envelope import LABELS_ANSWER, LABELS_QUESTION, EnvelopeError, open_envelope, seal
from hejin_trust.merkle import leaf_hash
from hejin_trust.witness import WitnessRefusedError, WitnessUnreachableError


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LabelWorld]:
    with label_world(tmp_path) as found:
        yield found


def test_a_node_learns_the_outcomes_of_its_authorised_enterprises_that_the_bank_knows(
    world: LabelWorld,
) -> None:
    world.grant(1, 2, 3, 4)
    world.book({2: 1, 3: 0, 4: 1, 9: 1})
    found = world.match()
    assert (found.asked, found.slots, found.labels) == (4, 20, 3)
    assert (found.report.loaded, found.report.quarantined) == (3, {})
    assert world.labels() == {make_code(2): 1, make_code(3): 0, make_code(4): 1}
    assert found.definition.digest == world.definition().digest


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    asked=st.sets(st.integers(0, 12), min_size=1, max_size=10),
    book=st.dictionaries(st.integers(0, 12), st.integers(0, 1), min_size=1, max_size=10),
)
def test_the_labels_are_those_of_the_plain_intersection(
    tmp_path_factory: pytest.TempPathFactory, asked: set[int], book: dict[int, int]
) -> None:
    with label_world(tmp_path_factory.mktemp("world")) as world:
        world.grant(*asked)
        world.book(book)
        world.match()
        assert world.labels() == {make_code(n): book[n] for n in asked & book.keys()}


def test_an_authorisation_that_does_not_name_the_outcome_keeps_its_enterprise_out(
    world: LabelWorld,
) -> None:
    """All data with a star, another bank, another purpose, not yet, no more: none of them."""
    world.grant(1)
    with writing(world.node.database) as connection:
        grant_many(
            connection, world.node.internal_log, world.node.pseudonym_key,
            [(make_code(2), terms(world.world))],
        )  # fmt: skip
    now = world.world.clock()
    world.grant(3, banks=("bank-2",))
    world.grant(4, purposes=("credit-approval", "post-loan-monitoring"))
    world.grant(5, valid_from=now + timedelta(hours=1))
    world.grant(6, valid_to=now)
    world.grant(7)
    with writing(world.node.database) as connection:
        revoke(connection, world.node.internal_log, "no more", code=make_code(7))
    world.book(dict.fromkeys(range(1, 8), 1))
    assert world.match().asked == 1
    assert world.labels().keys() == codes([1])


def test_the_set_is_committed_to_and_cosigned_before_the_bank_hears_of_it(
    world: LabelWorld,
) -> None:
    world.grant(1, 2)
    world.book({1: 1})
    held: list[int] = []
    world.door.bent = lambda given: (held.append(world.mirror.standing()[0].size), given)[1]  # type: ignore[method-assign]
    found = world.match()
    (request,) = entries(world.node, "labels.request")
    (asked,) = entries(world.node, "labels.ask")
    shared = {
        "session": found.session, "bank": BANK, "definition": DEFINITION, "period": PERIOD,
        "definition_hash": world.definition().digest, "slots": 20, "root": request.body["root"],
    }  # fmt: skip
    assert request.body == {**shared, "size": 2}
    question = open_envelope(
        world.door.sent[0].question, LABELS_QUESTION, world.node.identity.public, NODE
    )
    assert asked.body == {
        **shared,
        "query": hashlib.sha256(world.door.sent[0].points).hexdigest(),
        "request": leaf_hash(request.raw).hex(),
    }
    assert question.body["points"] == asked.body["query"]
    assert world.door.sent[0].entry == asked.raw
    assert min(held) > asked.seq  # the mirror held the entry when the bank answered
    (logged,) = entries(world.node, "labels")
    transcript = open_envelope(
        world.door.got[0].answer, LABELS_ANSWER, world.bank.identity.public, BANK
    ).digest
    assert logged.body == {
        "bank": BANK, "definition": DEFINITION, "period": PERIOD, "source": transcript,
    }  # fmt: skip
    (answered,) = entries(world.bank, "labels.answer")
    assert (answered.body["transcript"], answered.body["query"]) == (
        transcript, asked.body["query"],
    )  # fmt: skip


def test_what_the_bank_is_sent_says_neither_who_nor_how_many(world: LabelWorld) -> None:
    world.grant(1, 2, 3)
    world.book({1: 1})
    world.match()
    (sent,) = world.door.sent
    whole = sent.question + sent.points + sent.entry + sent.proof.encode()
    (request,) = entries(world.node, "labels.request")
    for code in codes([1, 2, 3]):
        assert code.encode() not in whole
        assert pseudonym(world.node.pseudonym_key, code).encode() not in whole
    assert b'"size"' not in whole
    assert request.raw not in whole
    assert len(sent.points) == 20 * POINT_BYTES


def test_every_session_draws_everything_anew(world: LabelWorld) -> None:
    world.grant(1, 2)
    world.book({1: 1})
    first, second = world.match(), world.match()
    assert first.session != second.session
    points = [sent.points[n * 32 : n * 32 + 32] for sent in world.door.sent for n in range(20)]
    assert len(set(points)) == 40
    roots = {entry.body["root"] for entry in entries(world.node, "labels.request")}
    assert len(roots) == 2


def test_asked_again_known_labels_stay_new_ones_come_and_others_go_to_quarantine(
    world: LabelWorld,
) -> None:
    world.grant(1, 2, 3)
    world.book({1: 1, 2: 0})
    world.match()
    world.book({1: 1, 2: 1, 3: 0})  # the bank contradicts itself about 2
    again = world.match()
    assert (again.labels, again.report.loaded) == (3, 1)
    assert again.report.quarantined == {"label.conflict": 1}
    assert world.labels() == {make_code(1): 1, make_code(2): 0, make_code(3): 0}
    assert world.match().report.quarantined == {"label.conflict": 1}


def test_labels_from_a_file_and_from_a_bank_are_one_data_set(
    world: LabelWorld, tmp_path: Path
) -> None:
    world.grant(1, 2)
    world.book({1: 1, 2: 0})
    file = tmp_path / "labels.csv"
    file.write_text(f"enterprise,label\n{make_code(1)},1\n")
    load_labels(world.node.warehouse, world.node.internal_log, file, SPEC, layout=LabelFile())
    assert world.match().report.loaded == 1
    assert world.labels() == {make_code(1): 1, make_code(2): 0}


def test_a_bank_without_a_single_common_enterprise_leaves_no_labels_and_a_record(
    world: LabelWorld,
) -> None:
    world.grant(1)
    world.book({9: 1})
    found = world.match()
    assert (found.labels, found.report.loaded) == (0, 0)
    assert world.labels() == {}
    assert len(entries(world.node, "labels")) == 1


def test_one_who_revokes_while_the_bank_answers_has_no_label(world: LabelWorld) -> None:
    world.grant(1, 2)
    world.book({1: 1, 2: 1})

    def revoked(given: Given) -> Given:
        with writing(world.node.database) as connection:
            revoke(connection, world.node.internal_log, "no more", code=make_code(1))
        return given

    world.door.bent = revoked  # type: ignore[method-assign]
    assert world.match().labels == 2
    assert world.labels().keys() == codes([2])


def test_one_who_revokes_while_the_answer_waits_for_another_load_has_no_label(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.grant(1, 2)
    world.book({1: 1, 2: 1})
    warehouse = world.node.warehouse
    loading = warehouse.loading

    @contextmanager
    def waits(*told: str) -> Iterator[Loading]:
        with writing(world.node.database) as connection:
            revoke(connection, world.node.internal_log, "no more", code=make_code(1))
        with loading(*told) as work:
            yield work

    monkeypatch.setattr(warehouse, "loading", waits)
    assert world.match().report.loaded == 1
    assert world.labels().keys() == codes([2])


def test_more_than_are_authorised_are_refused_by_the_node_s_own_code_and_logged(
    world: LabelWorld,
) -> None:
    """Whoever calls with a longer list, or an enterprise revoked just before: nothing is asked."""
    world.grant(1, 2)
    chosen = [make_code(n) for n in (1, 2, 3)]
    with pytest.raises(LabelsExceedError, match="1 of the 3 enterprises") as refused:
        begin(world.node, world.definition(), SPEC, PERIOD, chosen)
    assert refused.value.code == "labels-exceed"
    with pytest.raises(LabelsExceedError):  # the same one twice
        begin(world.node, world.definition(), SPEC, PERIOD, [make_code(1)] * 3)
    assert entries(world.node, "labels.request", "labels.ask") == []
    logged = entries(world.node, "refusal")
    assert [(entry.body["code"], entry.body["peer"]) for entry in logged] == [
        ("labels-exceed", BANK)
    ] * 2
    with reading(world.node.database) as connection:
        assert label_sessions.sessions(connection) == []


def test_a_node_that_declares_more_than_it_has_gets_no_cosignature_and_asks_nobody(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node whose own check is patched away: the regulator refuses, by name, and keeps proof."""
    world.grant(1, 2)
    world.book({3: 1})
    everybody = [make_code(n) for n in range(1, 6)]
    monkeypatch.setattr("hejin_node.matching.authorised", lambda *_: everybody)
    with pytest.raises(WitnessRefusedError, match="outcomes of 5 enterprises"):
        world.match()
    assert world.door.sent == []
    (refused,) = world.world.mirror.refusals()
    assert (refused.member, refused.code) == (NODE, "witness-labels-exceed")
    assert refused.note


def test_nobody_authorised_too_many_and_a_wrong_period_are_refused_with_what_to_do(
    world: LabelWorld,
) -> None:
    world.book({1: 1})
    with pytest.raises(MatchingError, match="has to name the category outcome"):
        world.match()
    world.grant(1)
    world.book({1: 1}, period="2024")
    with pytest.raises(MatchingError, match=r"these periods: 2024, 2025; name one with --period"):
        world.match()
    with pytest.raises(MatchingError, match="these periods"):
        world.match("2023")
    world.match("2024")
    world.grant(*range(2, 22))
    with pytest.raises(MatchingError, match="21 enterprises do not fit into the 20"):
        world.match("2024")


def test_a_definition_that_the_bank_does_not_have_is_refused_by_it(world: LabelWorld) -> None:
    world.grant(1)
    with pytest.raises(PeerRefused) as refused:
        world.match()
    assert refused.value.peer_code == "labels-unknown"


def test_a_bank_that_sends_another_definition_or_changes_one_is_refused(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.grant(1)
    world.book({1: 1})
    told = world.door.describe(DEFINITION).definition
    world.match()
    monkeypatch.setattr(world.door, "describe", lambda _: Described(told + b"\n", (PERIOD,)))
    with pytest.raises(MatchingError, match="has to give it a new version"):
        world.match()
    other = told.replace(b"overdue90-12m", b"overdue91-12m")
    monkeypatch.setattr(world.door, "describe", lambda _: Described(other, (PERIOD,)))
    with pytest.raises(MatchingError, match="another definition than was asked"):
        world.match()


@pytest.mark.parametrize("period", ["\x1b[2J", "2025\n2024", "\u202e5202", "9" * 65])
def test_a_bank_s_period_that_a_terminal_shows_as_something_else_is_not_shown(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch, period: str
) -> None:
    world.grant(1)
    world.book({1: 1})
    given = world.door.describe(DEFINITION)
    monkeypatch.setattr(
        world.door, "describe", lambda _: Described(given.definition, ("2024", period))
    )
    with pytest.raises(MatchingError, match="names periods that are none") as refused:
        world.match()
    assert period not in refused.value.text.en
    assert world.door.sent == []


def swapped(world: LabelWorld, **changes: object) -> Callable[[Given], Given]:
    """Return a bank that signs something else."""

    def bent(given: Given) -> Given:
        body = open_envelope(given.answer, LABELS_ANSWER, world.bank.identity.public).body
        signed = seal(LABELS_ANSWER, {**body, **changes}, world.bank.identity, BANK)
        return replace(given, answer=signed)

    return bent


def resigned(world: LabelWorld, points: bytes, items: bytes, given: Given) -> Given:
    """Return other bytes, signed as the bank signs."""
    body = open_envelope(given.answer, LABELS_ANSWER, world.bank.identity.public).body
    told = {
        **body,
        "points": hashlib.sha256(points).hexdigest(),
        "sealed": hashlib.sha256(items).hexdigest(),
        "items": len(items) // ITEM_BYTES,
    }
    return Given(seal(LABELS_ANSWER, told, world.bank.identity, BANK), points, items)


def bent_answers(world: LabelWorld) -> dict[str, tuple[Callable[[Given], Given], type[Exception]]]:
    flip = lambda data: bytes([data[0] ^ 1]) + data[1:]  # noqa: E731
    zero = bytes(POINT_BYTES)
    return {
        "points that were not signed": (
            lambda given: replace(given, points=flip(given.points)), MatchingError),
        "items that were not signed": (
            lambda given: replace(given, items=flip(given.items)), MatchingError),
        "fewer items than it says": (
            lambda given: replace(given, items=given.items[ITEM_BYTES:]), MatchingError),
        "another session": (swapped(world, session="00" * 16), MatchingError),
        "another question": (swapped(world, question="00" * 32), MatchingError),
        "another node": (swapped(world, node="node-2"), MatchingError),
        "signed by the node itself": (
            lambda given: replace(given, answer=seal(
                LABELS_ANSWER, {}, world.node.identity, BANK)), EnvelopeError),
        "the question sent back": (
            lambda given: replace(given, answer=world.door.sent[-1].question), EnvelopeError),
        "an identity among the points": (
            lambda given: resigned(world, zero + given.points[32:], given.items, given),
            PointError),
        "a point that is none": (
            lambda given: resigned(world, b"\xff" * 32 + given.points[32:], given.items, given),
            PointError),
        "a point less": (
            lambda given: resigned(world, given.points[32:], given.items, given),
            IntersectionError),
    }  # fmt: skip


def test_an_answer_that_is_none_is_refused_and_nothing_is_stored(world: LabelWorld) -> None:
    world.grant(1)
    world.book({1: 1})
    for name, (bend, error) in bent_answers(world).items():
        world.door.bent = bend  # type: ignore[method-assign]
        with pytest.raises(error) as refused:
            world.match()
        assert refused.value.code in {  # type: ignore[attr-defined]
            "labels-not-matched", "bad-envelope", "point-refused", "intersection-refused",
        }  # fmt: skip
        assert world.labels() == {}, name
        assert entries(world.node, "labels") == [], name
    world.door.bent = lambda given: given  # type: ignore[method-assign]
    assert world.match().report.loaded == 1


def test_a_bank_s_label_of_neither_kind_goes_to_quarantine(world: LabelWorld) -> None:
    """An outcome has one byte; an honest bank sends 0 or 1."""
    world.grant(1)
    world.book({1: 1})
    from hejin_coordinator import label_desk

    honest = label_desk.open_book
    try:
        label_desk.open_book = lambda *told: dict.fromkeys(honest(*told), 7)
        found = world.match()
    finally:
        label_desk.open_book = honest
    assert found.report.quarantined == {"label.range": 1}
    assert world.labels() == {}


def test_a_bank_that_spoils_an_item_does_not_learn_whose_it_was(world: LabelWorld) -> None:
    """Were the session refused, the node would ask again, and the bank know that it has that one.

    The outcome alone goes to quarantine, the session is over as any other.
    """
    world.grant(1, 2)
    world.book({1: 1, 2: 0, 9: 1})

    def spoils(given: Given) -> Given:
        size = len(given.items) // ITEM_BYTES
        items = [given.items[ITEM_BYTES * i : ITEM_BYTES * (i + 1) - 1] + b"!" for i in range(size)]
        return resigned(world, given.points, b"".join(items), given)

    world.door.bent = spoils  # type: ignore[method-assign]
    found = world.match()
    assert found.report.quarantined == {"label.unreadable": 2}
    assert world.labels() == {}
    assert len(entries(world.node, "labels")) == 1
    world.door.bent = lambda given: given  # type: ignore[method-assign]
    assert world.match().report.loaded == 2


def test_without_the_regulator_nobody_is_asked(world: LabelWorld) -> None:
    world.grant(1)
    world.book({1: 1})
    world.mirror.down = True
    with pytest.raises(WitnessUnreachableError):
        world.match()
    assert world.door.sent == []
    world.mirror.down = False
    assert world.match().labels == 1


def test_a_session_that_was_interrupted_leaves_no_label_and_hinders_no_other(
    world: LabelWorld,
) -> None:
    world.grant(1)
    world.book({1: 1})

    def dies(given: Given) -> Given:
        raise KeyboardInterrupt

    world.door.bent = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.match()
    world.door.bent = lambda given: given  # type: ignore[method-assign]
    assert world.labels() == {}
    world.match()
    with reading(world.node.database) as connection:
        states = [one.state for one in label_sessions.sessions(connection)]
    assert states == ["asked", "answered"]


@pytest.mark.parametrize("step", ["cosigned", "asked", "opened", "published", "logged"])
def test_a_crash_at_any_step_leaves_no_label_and_the_next_session_is_whole(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    world.grant(1, 2)
    world.book({1: 1, 2: 0})

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    owner, name = {
        "cosigned": (world.witness, "cover"),
        "asked": (world.door, "match"),
        "opened": (matching, "open_answer"),
        "published": (Loading, "publish"),
        "logged": (matching, "log_labels"),
    }[step]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dies)
        with pytest.raises(KeyboardInterrupt):
            world.match()
    assert world.labels() == {}
    assert entries(world.node, "labels") == []
    assert world.match().report.loaded == 2
    with reading(world.node.database) as connection:
        states = [one.state for one in label_sessions.sessions(connection)]
    assert states == ["asked", "answered"]


@given(slots=st.lists(st.binary(min_size=16, max_size=16), max_size=6), wanted=st.data())
def test_an_enterprise_is_found_in_its_slot_and_nowhere_across_two(
    slots: list[bytes], wanted: st.DataObject
) -> None:
    kept = Secrets(b"", b"", b"".join(b"\x01" + slot for slot in slots))
    across = kept.slots[3:19].ljust(16, b"\x00")
    one = wanted.draw(st.sampled_from([*slots, bytes(16), across]))
    assert kept.holds(one.hex()) == (one in slots)
    assert kept.enterprises() == [slot.hex() for slot in slots]


def test_an_audit_redoes_root_points_and_size_from_the_secrets(world: LabelWorld) -> None:
    world.grant(1, 2, 3)
    world.book({1: 1})
    found = world.match()
    redone = audit(world.node, found.session[:8])
    assert (redone.session.size, redone.size) == (3, 3)
    assert redone.query == hashlib.sha256(world.door.sent[0].points).hexdigest()


def test_an_audit_of_a_session_that_asked_for_another_finds_it(world: LabelWorld) -> None:
    """The operator swaps who stood in a slot after it was logged."""
    world.grant(1, 2)
    world.book({1: 1})
    found = world.match()
    with reading(world.node.database) as connection:
        kept = label_sessions.find_session(connection, found.session)
    other = begin(world.node, world.definition(), SPEC, PERIOD, [make_code(1), make_code(2)])
    slots = label_sessions.slots_of(other.asking, world.node.pseudonym_key)
    with writing(world.node.database) as connection:
        connection.execute(label_sessions.session_table.delete())
        label_sessions.keep(connection, kept, other.asking, slots, world.node.snapshot_key)
    with pytest.raises(MatchingError, match="do not lead to what the ledger says"):
        audit(world.node, found.session)


def test_an_audit_finds_somebody_in_the_slots_who_had_not_authorised_it(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three authorised it, the node asks for two of them and a third that had not: the number fits,
    and neither mirror nor bank can tell."""
    world.grant(1, 2, 3)
    with writing(world.node.database) as connection:
        grant_many(
            connection, world.node.internal_log, world.node.pseudonym_key,
            [(make_code(4), terms(world.world))],
        )  # fmt: skip
    world.book({4: 1})
    others = [make_code(n) for n in (1, 2, 4)]
    monkeypatch.setattr("hejin_node.matching.authorised", lambda *_: others)
    found = world.match()
    assert found.labels == 1
    with pytest.raises(MatchingError, match="1 of the 3 enterprises in the slots had no"):
        audit(world.node, found.session)


def test_an_audit_counts_a_grant_that_was_revoked_only_later(world: LabelWorld) -> None:
    world.grant(1)
    world.book({1: 1})
    found = world.match()
    with writing(world.node.database) as connection:
        revoke(connection, world.node.internal_log, "no more", code=make_code(1))
    assert audit(world.node, found.session).size == 1


def test_an_audit_without_the_right_key_or_of_no_session_says_so(
    world: LabelWorld, tmp_path: Path
) -> None:
    world.grant(1)
    world.book({1: 1})
    found = world.match()
    for named in ("ab", "00000000", ""):
        with pytest.raises(MatchingError, match="no single session"):
            audit(world.node, named)
    with pytest.raises(MatchingError, match="do not open"):
        audit(replace(world.node, snapshot_key=bytes(32)), found.session)


def test_what_a_session_keeps_is_of_no_use_without_the_node_s_keys(world: LabelWorld) -> None:
    world.grant(1)
    world.book({1: 1})
    world.match()
    with reading(world.node.database) as connection:
        (sealed,) = connection.scalars(label_sessions.session_table.select().with_only_columns(
            label_sessions.session_table.c.sealed))  # fmt: skip
    mark = bytes.fromhex(pseudonym(world.node.pseudonym_key, make_code(1)))
    assert mark not in sealed


def test_an_enterprise_s_trace_and_statement_say_that_a_bank_was_asked_for_it(
    world: LabelWorld,
) -> None:
    world.grant(1, 2)
    world.book({1: 1})
    found = world.match()
    world.door.bent = swapped(world, node="node-2")  # type: ignore[method-assign]
    with pytest.raises(MatchingError):
        world.match()
    world.grant(3)
    asked, stranger = (read_trace(world.node, make_code(n)) for n in (2, 3))
    assert asked.questions[0].session == found.session
    assert [one.state for one in asked.questions] == ["answered", "asked"]
    assert stranger.questions == ()
    told = trace_json(asked, world.node.charter.delta)["questions"]
    assert [one["answered"] for one in told] == [True, False]  # type: ignore[attr-defined]
    page = render_statement(statement_of(world.node, asked), "en")
    assert "Questions to banks about your loans" in page
    assert page.count(DEFINITION) == 2
    assert "Questions to banks" not in render_statement(statement_of(world.node, stranger), "en")


def test_every_enterprise_in_the_slots_is_one_that_the_ledger_names(world: LabelWorld) -> None:
    world.grant(1, 2)
    begun = begin(world.node, world.definition(), SPEC, PERIOD, sorted(codes([1, 2])))
    slots = label_sessions.slots_of(begun.asking, world.node.pseudonym_key)
    held = {slots[n * 17 + 1 : n * 17 + 17].hex() for n in range(20) if slots[n * 17]}
    granted = {entry.body["enterprise"] for entry in entries(world.node, "authorisation.grant")}
    assert held == granted


def test_the_logs_hold_what_was_asked_in_order(world: LabelWorld) -> None:
    world.grant(1)
    world.book({1: 1})
    world.match()
    assert [entry.type for entry in internal_log(world.node)] == [
        "genesis", "authorisation.grant", "labels.request", "labels",
    ]  # fmt: skip
    assert [entry.type for entry in release_log(world.node)] == ["genesis", "labels.ask"]
