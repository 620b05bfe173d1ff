"""V7 and V5 of questions for outcomes: what members sign about them, and which lies are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_lies import drop, found, once, put, reasons
from ledger_world import Body, Consortium, Tamper, honest, sha
from sqlalchemy import Connection

from hejin_regulator.label_rules import question_of
from hejin_trust.log import Log
from hejin_trust.merkle import leaf_hash

SESSION = sha("session")[:32]
NAMED = {"categories": ["outcome", "trade"]}


class Asking(Consortium):
    """jing asks the bank for outcomes once; `size` enterprises of it have authorised that."""

    size = 2
    again = False

    def _approve(self, connection: Connection) -> None:
        super()._approve(connection)
        jing = self.parties["jing"]
        for number in (1, 3, 3):
            self.log(connection, jing.internal, "authorisation.grant", outcome_grant(number))

    def _round(self, connection: Connection, number: int) -> None:
        super()._round(connection, number)
        if number in ((1, 3) if self.again else (1,)):
            self._ask_for_labels(connection)

    def _ask_for_labels(self, connection: Connection) -> None:
        jing = self.parties["jing"]
        band = jing.member.size_band
        assert band is not None
        shared: Body = {
            "session": SESSION, "bank": "bank", "definition": "overdue90-12m-v1",
            "definition_hash": sha("definition"), "period": "2025", "root": sha("slots"),
            "slots": band[1],
        }  # fmt: skip
        request = self.log(
            connection, jing.internal, "labels.request", {**shared, "size": self.size}
        )
        leaf = leaf_hash(jing.internal.entry(connection, request).raw).hex()
        self.log(
            connection, jing.release, "labels.ask",
            {**shared, "query": sha("points"), "request": leaf},
        )  # fmt: skip
        self.mirror(connection, jing)
        size = jing.sizes["release"]
        self.log(
            connection,
            self.bank.release,
            "labels.answer",
            {
                **{k: shared[k] for k in ("session", "definition", "definition_hash", "period")},
                "slots": shared["slots"], "node": "jing", "items": 16384, "query": sha("points"),
                "transcript": sha("transcript"), "proof_size": size,
                "proof_root": jing.release.root(connection, size).hex(),
            },
        )  # fmt: skip
        self.log(
            connection, jing.internal, "labels",
            {"bank": "bank", "definition": "overdue90-12m-v1", "period": "2025",
             "source": sha("transcript")},
        )  # fmt: skip


def outcome_grant(number: int) -> Body:
    return {
        "enterprise": sha(str(number))[:32], "document": sha("paper"), "grade": "B",
        "purposes": ["model-training"], "banks": ["bank"], "features": ["none"],
        "valid_from": "2025-01-01T00:00:00Z", "valid_to": "2027-06-01T00:00:00Z", **NAMED,
    }  # fmt: skip


Build = Callable[..., Asking]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(tamper: Tamper = honest, **changes: object) -> Asking:
        made = Asking(tmp_path / "export", tamper)
        for name, value in changes.items():
            setattr(made, name, value)
        made.run()
        return made

    return make


def test_a_question_for_as_many_as_have_authorised_it_verifies(build: Build) -> None:
    verification = build().verify()
    assert verification.findings == ()
    assert verification.counts["labels.request"] == 1
    assert verification.counts["labels.answer"] == 1


def test_a_question_for_one_more_than_have_authorised_it_is_found(build: Build) -> None:
    verification = build(size=3).verify()
    assert found(verification) == {("V7", "jing")}
    assert "of 3 enterprises, but 2 authorisations" in reasons(verification, "V7")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"categories": ["*"]}, id="a star"),
        pytest.param({"categories": ["trade"]}, id="data alone"),
        pytest.param({"banks": ["other-bank"]}, id="another bank"),
        pytest.param({"purposes": ["credit-approval"]}, id="another purpose"),
        pytest.param({"valid_to": "2026-01-01T00:00:00Z"}, id="ended"),
        pytest.param({"valid_from": "2027-01-01T00:00:00Z"}, id="not begun"),
    ],
)
def test_a_grant_of_something_else_is_not_counted(build: Build, changes: Body) -> None:
    # The sixth grant of jing, of an enterprise that no other grant names the outcome of.
    verification = build(once("jing", "authorisation.grant", put(**changes), nth=5)).verify()
    assert found(verification) == {("V7", "jing")}
    assert "but 1 authorisations" in reasons(verification, "V7")


def test_a_question_over_other_slots_than_a_charter_declares_is_found(build: Build) -> None:
    def more(who: str, kind: str, body: Body) -> Body:
        return {**body, "slots": 77} if kind.startswith("labels.") else body

    verification = build(more).verify()
    assert found(verification) == {("V7", "jing")}
    assert "77 slots are not the size" in reasons(verification, "V7")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"root": sha("other")}, id="another set"),
        pytest.param({"request": sha("other")}, id="another request"),
        pytest.param({"session": sha("other")[:32]}, id="another session"),
    ],
)
def test_what_the_bank_was_shown_must_be_what_was_logged(build: Build, changes: Body) -> None:
    verification = build(once("jing", "labels.ask", put(**changes))).verify()
    assert ("V7", "jing") in found(verification)
    assert "otherwise than, the labels.request" in reasons(verification, "V7")


def test_a_question_without_its_request_is_found(build: Build) -> None:
    verification = build(once("jing", "labels.request", drop)).verify()
    assert ("V7", "jing") in found(verification)


def test_a_session_that_is_used_again_is_found_on_both_sides(build: Build) -> None:
    verification = build(again=True).verify()
    assert {("V7", "jing"), ("V5", "bank")} <= found(verification)
    assert "begun before" in reasons(verification, "V7")
    assert "answered 2 times" in reasons(verification, "V5")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"query": sha("other")}, id="other points"),
        pytest.param({"definition": "overdue30-6m-v1"}, id="another definition"),
        pytest.param({"definition_hash": sha("other")}, id="a definition that changed"),
        pytest.param({"period": "2024"}, id="another period"),
        pytest.param({"slots": 7}, id="other slots"),
        pytest.param({"session": sha("other")[:32]}, id="another session"),
        pytest.param({"node": "yongnian"}, id="another node"),
        pytest.param({"node": "nobody"}, id="no member"),
    ],
)
def test_an_answer_to_what_its_node_did_not_ask_is_found(build: Build, changes: Body) -> None:
    verification = build(once("bank", "labels.answer", put(**changes))).verify()
    assert ("V5", "bank") in found(verification)


def test_an_answer_to_what_its_node_had_not_proven_yet_is_found(build: Build) -> None:
    verification = build(once("bank", "labels.answer", put(proof_size=1))).verify()
    assert {("V5", "bank"), ("V2", "bank")} <= found(verification)


def test_an_answer_on_a_forked_log_is_found(build: Build) -> None:
    verification = build(once("bank", "labels.answer", put(proof_root=sha("fork")))).verify()
    assert found(verification) == {("V2", "bank")}
    assert "the proof of a question for outcomes" in reasons(verification, "V2")


def test_a_question_that_no_bank_answered_is_no_finding(build: Build) -> None:
    """The bank may have refused it, or the answer may have been lost."""
    assert build(once("bank", "labels.answer", drop)).verify().findings == ()


@pytest.mark.parametrize(("which", "kind"), [("internal", "ask"), ("release", "request")])
def test_an_entry_in_the_wrong_one_of_two_logs_is_found(
    tmp_path: Path, which: str, kind: str
) -> None:
    class Misplaced(Asking):
        def log(self, connection: Connection, log: Log, told: str, body: Body) -> int:
            jing = self.parties["jing"]
            if told == f"labels.{kind}":
                super().log(connection, getattr(jing, which), told, body)
            return super().log(connection, log, told, body)

    verification = Misplaced(tmp_path / "export").run().verify()
    assert ("V1", "jing") in found(verification)


def test_the_shared_words_of_request_and_ask_are_hashed_alike() -> None:
    body = {
        "session": SESSION, "bank": "b", "definition": "d", "definition_hash": sha("d"),
        "period": "", "root": sha("r"), "slots": 5,
    }  # fmt: skip
    assert question_of({**body, "size": 1}) == question_of({**body, "query": "", "request": ""})
    assert question_of({**body, "slots": 6}) != question_of(body)
