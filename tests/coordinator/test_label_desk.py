"""What a bank refuses to answer: each by its code, logged, and before it has computed anything."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from label_world import DEFINITION, NODE, PERIOD, SPEC, LabelWorld, entries, label_world
from node_world import BANK
from recovery_world import approval

from hejin_coordinator import label_desk, label_sessions
from hejin_coordinator.label_desk import Asked
from hejin_coordinator.recovery import recover
from hejin_models.uscc import make_code
from hejin_node.matching import Asked as Sent
from hejin_node.matching import begin
from hejin_privacy.set_intersection import POINT_BYTES
from hejin_trust.channels import PeerRefused
from hejin_trust.checkpoint import format_proof
from hejin_trust.database import reading, writing
from hejin_trust.envelope import LABELS_ANSWER, LABELS_QUESTION, open_envelope, seal
from hejin_trust.errors import HejinError
from hejin_trust.witness import Witness
from hejin_trust.worth_logging import MOST_LOGGED


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LabelWorld]:
    with label_world(tmp_path) as found:
        found.grant(1, 2)
        found.book({1: 1, 2: 0})
        yield found


def question(world: LabelWorld) -> Asked:
    """Return what an honest node sends, logged and cosigned, and not sent yet."""
    kept: list[Asked] = []

    class Kept(Exception):
        pass

    def keep(asked: Sent) -> None:
        kept.append(Asked(asked.question, asked.points, asked.entry, asked.proof))
        raise Kept

    match, world.door.match = world.door.match, keep  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(Kept):
            world.match()
    finally:
        world.door.match = match  # type: ignore[method-assign]
    return kept[0]


def code_of(world: LabelWorld, asked: Asked, node: str = NODE) -> str:
    """Return "answered", or the code of the bank's refusal."""
    try:
        world.desk.answer(world.world.office.charter.member(node), asked)
    except HejinError as refusal:
        return refusal.code
    return "answered"


def signed(world: LabelWorld, asked: Asked, **changes: object) -> Asked:
    """Return a question that its node signed otherwise."""
    body = open_envelope(asked.question, LABELS_QUESTION, world.node.identity.public).body
    told = seal(LABELS_QUESTION, {**body, **changes}, world.node.identity, NODE)
    return replace(asked, question=told)


def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often the bank intersects."""
    calls: list[int] = []
    honest = label_desk.answer

    def counted(*told: object) -> object:
        calls.append(1)
        return honest(*told)  # type: ignore[arg-type]

    monkeypatch.setattr(label_desk, "answer", counted)
    return calls


def test_an_honest_question_is_answered_once_and_its_session_never_again(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = computed(monkeypatch)
    asked = question(world)
    assert code_of(world, asked) == "answered"
    assert code_of(world, asked) == "labels-session-used"
    assert len(calls) == 1
    assert len(entries(world.bank, "labels.answer")) == 1


def test_the_answer_is_logged_with_its_transcript_before_it_leaves(world: LabelWorld) -> None:
    asked = question(world)
    given = world.desk.answer(world.world.office.charter.member(NODE), asked)
    opened = open_envelope(given.answer, LABELS_ANSWER, world.bank.identity.public, BANK)
    (logged,) = entries(world.bank, "labels.answer")
    assert logged.body["transcript"] == opened.digest
    assert (logged.body["node"], logged.body["slots"], logged.body["items"]) == (NODE, 20, 64)
    assert opened.body["points"] == hashlib.sha256(given.points).hexdigest()
    assert opened.body["sealed"] == hashlib.sha256(given.items).hexdigest()


def test_a_node_that_asks_for_more_codes_than_it_has_authorisations_gets_nothing_from_the_bank(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends what no regulator has cosigned: an older cosigned log does not hold its question."""
    older = world.witness.cover(0)
    everybody = [make_code(n) for n in range(1, 9)]
    monkeypatch.setattr("hejin_node.matching.authorised", lambda *_: everybody)
    begun = begin(world.node, world.definition(), SPEC, PERIOD, everybody)
    seq = begun.ask.seq
    with reading(world.node.database) as connection:
        size = world.node.release_log.size(connection)
        path = world.node.release_log.inclusion_proof(connection, seq, size)
        own = world.node.release_log.note(connection, size)
    asked = Asked(begun.envelope, begun.points, begun.ask.raw, format_proof(seq, path, own))
    assert code_of(world, asked) == "cosignature-missing"
    asked = replace(asked, proof=format_proof(seq, path, older.note))
    assert code_of(world, asked) == "labels-unproven"
    assert entries(world.bank, "labels.answer") == []
    logged = [entry.body["code"] for entry in entries(world.bank, "refusal")]
    assert logged == ["cosignature-missing", "labels-unproven"]


def bent(world: LabelWorld, asked: Asked) -> dict[str, tuple[Asked, str]]:
    """Return questions that are none, each with the code that it is refused by."""
    other = question(world)  # another session of the same node
    points = asked.points
    half = points[: len(points) // 2]
    digest = lambda data: hashlib.sha256(data).hexdigest()  # noqa: E731
    return {
        "a flipped point": (
            replace(asked, points=bytes([points[0] ^ 1]) + points[1:]), "labels-refused"),
        "half of the points": (replace(asked, points=half), "labels-refused"),
        "half of the points, signed": (
            replace(signed(world, asked, slots=10, points=digest(half)), points=half),
            "labels-refused"),
        "twice the slots": (
            replace(signed(world, asked, slots=40, points=digest(points * 2)), points=points * 2),
            "labels-refused"),
        "no points": (replace(asked, points=b""), "labels-refused"),
        "slots beyond all bounds": (signed(world, asked, slots=1 << 20), "bad-document"),
        "no slots": (signed(world, asked, slots=0), "bad-document"),
        "another bank": (signed(world, asked, bank="bank-2"), "labels-refused"),
        "another definition's hash": (
            signed(world, asked, definition_hash="00" * 32), "labels-unproven"),
        "another period": (signed(world, asked, period="2024"), "labels-unproven"),
        "another session": (signed(world, asked, session="00" * 16), "labels-unproven"),
        "points of another session": (
            replace(signed(world, asked, points=digest(other.points)), points=other.points),
            "labels-unproven"),
        "the entry of another session": (
            replace(asked, entry=other.entry, proof=other.proof), "labels-unproven"),
        "an entry without its proof": (replace(asked, proof=""), "labels-unproven"),
        "a proof of another entry": (replace(asked, proof=other.proof), "labels-unproven"),
        "no entry": (replace(asked, entry=b""), "labels-unproven"),
        "an entry that is too long": (replace(asked, entry=b"x" * 65_537), "labels-refused"),
        "an envelope that is too long": (
            replace(asked, question=b"x" * 16_385), "labels-refused"),
        "no envelope": (replace(asked, question=b""), "bad-envelope"),
        "signed by somebody else": (
            replace(asked, question=seal(LABELS_QUESTION, {}, world.bank.identity, NODE)),
            "bad-envelope"),
        "signed as something else": (
            replace(asked, question=seal(LABELS_ANSWER, {}, world.node.identity, NODE)),
            "bad-envelope"),
        "a field more": (signed(world, asked, size=2), "bad-document"),
    }  # fmt: skip


def test_a_question_that_is_not_all_as_it_should_be_is_refused_and_logged(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = question(world)
    calls = computed(monkeypatch)
    attacks = bent(world, asked)
    for name, (lie, code) in attacks.items():
        assert code_of(world, lie) == code, name
    assert calls == []
    logged = [(entry.body["peer"], entry.body["code"]) for entry in entries(world.bank, "refusal")]
    assert {code for _, code in logged} == {code for _, code in attacks.values()}
    assert {peer for peer, _ in logged} == {NODE}
    assert entries(world.bank, "labels.answer") == []
    assert code_of(world, asked) == "answered"  # none of them used the session up


@pytest.mark.parametrize("place", [0, 7, 19])
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(bytes(POINT_BYTES), id="identity"),
        pytest.param(b"\xff" * POINT_BYTES, id="no point"),
        pytest.param(b"\x01" + bytes(31), id="negative"),
    ],
)
def test_a_malformed_or_identity_point_is_refused_though_the_node_has_signed_and_logged_it(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch, place: int, point: bytes
) -> None:
    """The node's own code would not send it: its question is bent before it is hashed."""
    from hejin_privacy.set_intersection import Asking

    honest = Asking.question
    at = place * POINT_BYTES

    def malformed(asking: Asking) -> bytes:
        made = honest(asking)
        return made[:at] + point + made[at + POINT_BYTES :]

    monkeypatch.setattr(Asking, "question", malformed)
    with pytest.raises(PeerRefused) as refused:
        world.match()
    assert refused.value.peer_code == "point-refused"
    assert f"point {place} " in refused.value.text.en
    assert [entry.body["code"] for entry in entries(world.bank, "refusal")] == ["point-refused"]
    assert entries(world.bank, "labels.answer") == []


def test_another_node_cannot_use_a_node_s_question(tmp_path: Path) -> None:
    with label_world(tmp_path, nodes=2) as world:
        world.grant(1)
        world.book({1: 1})
        asked = question(world)
        assert code_of(world, asked, "node-2") == "bad-envelope"
        assert code_of(world, asked) == "answered"


def test_a_node_is_answered_as_often_a_day_as_the_bank_declares(tmp_path: Path) -> None:
    with label_world(tmp_path, label_sessions_a_day=2) as world:
        world.grant(1)
        world.book({1: 1})
        world.match()
        world.world.clock.turn(timedelta(hours=12))
        world.match()
        with pytest.raises(PeerRefused) as refused:
            world.match()
        assert refused.value.peer_code == "labels-too-often"
        assert "2 times in 24 hours" in refused.value.text.en
        world.world.clock.turn(timedelta(hours=12))
        world.match()  # the first one is a day ago
        codes = [entry.body["code"] for entry in entries(world.bank, "refusal")]
        assert codes == ["labels-too-often"]


def test_a_cosignature_of_more_than_ten_minutes_ago_does_not_count(world: LabelWorld) -> None:
    asked = question(world)
    world.world.clock.turn(timedelta(minutes=11))
    # The bank hears the regulator's time every few seconds.
    Witness(world.bank, world.world.mirror.door(BANK)).start()
    assert code_of(world, asked) == "cosignature-stale"


def test_a_book_or_a_definition_that_is_not_there_is_told_as_unknown(world: LabelWorld) -> None:
    asked = question(world)
    with writing(world.bank.database) as connection:
        from hejin_coordinator.outcomes import book_table

        connection.execute(book_table.delete())
    assert code_of(world, asked) == "labels-unknown"
    with pytest.raises(HejinError, match="no outcomes by that definition"):
        world.desk.describe(DEFINITION)


def test_a_definition_file_that_went_wrong_tells_a_node_nothing_of_the_bank_s_folder(
    world: LabelWorld,
) -> None:
    asked = question(world)
    with writing(world.bank.database) as connection:
        from hejin_coordinator.outcomes import book_table

        connection.execute(book_table.update().values(definition_hash="00" * 32))
    member = world.world.office.charter.member(NODE)
    for ask in (
        lambda: world.desk.describe(DEFINITION),
        lambda: world.desk.answer(member, asked),
    ):
        with pytest.raises(HejinError) as refused:
            ask()
        assert refused.value.code == "labels-unknown"
        assert str(world.bank.path) not in refused.value.text.en


def test_a_flood_of_questions_that_are_none_grows_no_log(world: LabelWorld) -> None:
    member = world.world.office.charter.member(NODE)
    for number in range(MOST_LOGGED + 20):
        with pytest.raises(HejinError):
            world.desk.answer(member, Asked(str(number).encode(), b"", b"", ""))
    assert len(entries(world.bank, "refusal")) == MOST_LOGGED


def test_a_bank_whose_clock_is_off_answers_and_logs_nothing(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = question(world)
    honest = world.bank.clock
    ahead: Callable[[], object] = lambda: honest() + timedelta(hours=1)  # noqa: E731
    home = replace(world.bank, clock=ahead)  # type: ignore[arg-type]
    witness = Witness(home, world.world.mirror.door(BANK))
    witness.start()
    desk = label_desk.LabelDesk(home, witness)
    with pytest.raises(HejinError) as refused:
        desk.answer(world.world.office.charter.member(NODE), asked)
    assert refused.value.code == "clock-off"
    assert entries(world.bank, "refusal", "labels.answer") == []


def test_a_bank_that_was_put_back_from_a_backup_still_answers_no_session_twice(
    tmp_path: Path,
) -> None:
    """What the mirror holds of its answers comes back with the recovery."""
    with label_world(tmp_path, label_sessions_a_day=2) as world:
        world.grant(1, 2)
        world.book({1: 1, 2: 0})
        Witness(world.bank, world.world.mirror.door(BANK)).start()
        database, backup = world.bank.path / "coordinator.db", tmp_path / "backup.db"
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(backup)) as copy:
            source.backup(copy)
        asked = question(world)
        assert code_of(world, asked) == "answered"
        Witness(world.bank, world.world.mirror.door(BANK)).start()
        world.bank.database.dispose()
        for path in world.bank.path.glob("coordinator.db*"):
            path.unlink()
        shutil.copy(backup, database)
        door = world.world.mirror.door(BANK)
        recover(world.bank, door, approval(world.world, BANK))
        Witness(world.bank, door).start()
        assert code_of(world, asked) == "labels-session-used"
        assert code_of(world, question(world)) == "answered"
        assert code_of(world, question(world)) == "labels-too-often"


@pytest.mark.parametrize("step", ["answer", "seal", "end"])
def test_a_bank_that_died_over_an_answer_gives_none_for_that_session(
    world: LabelWorld, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before it was computed, before it was signed, before it was logged."""
    asked = question(world)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(label_sessions if step == "end" else label_desk, step, dies)
        with pytest.raises(KeyboardInterrupt):
            code_of(world, asked)
    assert entries(world.bank, "labels.answer") == []
    assert code_of(world, asked) == "labels-session-used"
    assert world.match().labels == 2
