"""V4 and V6: the rounds of a masked run beside their queries, rosters, survivor sets and votes."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_lies import Build, drop, found, mechanism, once, put, reasons
from ledger_papers import base64_of, make_keyad, seal_keyad
from ledger_world import NODES, RUN, Asked, Body, Consortium, Party, honest, sha
from sqlalchemy import Connection

from hejin_models.plan import Plan
from hejin_privacy.secure_sum.documents import SurvivorSet, documents_hash
from hejin_trust.canonical import encode
from hejin_trust.charter import Charter
from hejin_trust.envelope import SUM_SURVIVORS, SUM_VOTE, seal
from hejin_trust.keys import SigningKey

OTHER = sha("other")


def shared(plan: Plan) -> Plan:
    return replace(plan, mode="shared", minimum_nodes=3, quorum=3, colluders=1)


def room(charter: Charter) -> Charter:
    return replace(charter, rho_alone_cap=3 * charter.rho_alone_cap)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        folder = tmp_path_factory.mktemp("masked") / "export"
        return Consortium(folder, honest, shared, room).run()


@pytest.fixture
def mine(masked: Consortium, tmp_path: Path) -> Consortium:
    """A masked consortium, with an export of its own to damage."""
    own = copy.copy(masked)
    own.folder = tmp_path / "export"
    shutil.copytree(masked.folder, own.folder)
    return own


def lines(consortium: Consortium, name: str) -> list[dict[str, object]]:
    path = consortium.folder / "bank" / name
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def keep(consortium: Consortium, name: str, rows: list[dict[str, object]]) -> None:
    path = consortium.folder / "bank" / name
    path.write_bytes(b"".join(encode(row) + b"\n" for row in rows))


def test_an_honest_masked_run_verifies(mine: Consortium) -> None:
    verification = mine.verify()
    assert verification.findings == ()
    assert verification.counts["accept"] == 12


# -- what the bank signs -----------------------------------------------------------------

LIES: dict[tuple[str, str], dict[str, tuple[Callable[[Body], Body | None], str]]] = {
    ("bank", "result"): {
        "a survivor less": (put(survivors=["anping", "jing"]), "not the nodes whose releases"),
        "unsorted": (put(survivors=["jing", "anping", "yongnian"]), "not the nodes whose releases"),
        "other votes": (put(votes=OTHER), "not those that the result names"),
        "no votes": (put(votes=""), "not those that the result names"),
        "another context": (put(round_ctx=OTHER), "another context"),
        "another round": (put(round=9), "neither a result nor a burn"),
        "dropped": (drop, "neither a result nor a burn"),
        "another total than nodes were told": (put(total=OTHER), "no bank has logged"),
    },
    ("bank", "burn"): {
        "dropped": (drop, "goes on with round 5"),
        "of a round with a result": (put(round=4), "after it or a later one had ended"),
    },
    ("bank", "accept"): {
        "in another context": (put(round_ctx=OTHER), "two plans or contexts"),
        "of an earlier round": (put(round=0), "after it or a later one had ended"),
    },
    ("bank", "signed query"): {
        "of another sum": (put(sum=1), "another sum than the plan has"),
        "beyond the plan": (put(sum=9), "the plan has 4"),
        "of the other part": (put(part="holdout"), "another sum than the plan has"),
        "at another cost": (mechanism(sigma={"num": "1024", "den": "1"}), "not at that cost"),
        "of another round": (put(round=9), "the query is of another round"),
        "of another plan": (put(plan=OTHER), "of no valid plan"),
        "after another result": (put(previous=OTHER), "does not name the result before it"),
    },
    ("bank", "signed survivors"): {
        "of another set": (put(survivors=["anping", "jing"]), "not that of its result"),
        "of another round": (put(round=9), "not that of its result"),
    },
    ("jing", "signed vote"): {
        "for another set": (put(survivors=["anping", "jing"]), "another survivor set"),
        "for other headers": (put(headers=OTHER), "another survivor set"),
    },
    ("jing", "result"): {
        "another total": (put(total=OTHER), "no bank has logged"),
        "of another round": (put(round=9), "no bank has logged"),
    },
}


@pytest.mark.parametrize(
    ("where", "lie"),
    [
        pytest.param(where, lie, id=name)
        for where, lies in LIES.items()
        for name, lie in lies.items()
    ],
)
def test_a_lie_about_a_round_is_found(
    build: Build,
    where: tuple[str, str],
    lie: tuple[Callable[[Body], Body | None], str],
) -> None:
    change, reason = lie
    verification = build(once(*where, change), shared, room).verify()
    blamed = where[0] if where[1] == "result" and "no bank" in reason else None
    names = {member for check, member in found(verification) if check == "V6"}
    assert names
    assert blamed is None or blamed in names or names == set(NODES)
    assert reason in reasons(verification, "V6")


def test_a_result_over_too_few_nodes_is_found(build: Build) -> None:
    verification = build(plan=lambda plan: replace(plan, minimum_nodes=3)).verify()
    assert "over 2 nodes, the plan asks for 3" in reasons(verification, "V6")


def test_votes_that_no_plan_asks_for_are_found(build: Build) -> None:
    verification = build(once("bank", "result", put(votes=OTHER))).verify()
    assert "votes on a result that needs none" in reasons(verification, "V6")


def test_a_round_that_left_the_nodes_and_that_the_bank_shows_nothing_of_is_found(
    tmp_path: Path,
) -> None:
    """The bank signs that it received nothing, and logs no end."""

    class Hidden(Consortium):
        def _ask(self, number: int) -> Asked:
            asked = super()._ask(number)
            return replace(asked, survivors=()) if number == 2 else asked

        def _close(self, connection: Connection, asked: Asked) -> None:
            if asked.number != 2:
                super()._close(connection, asked)

    verification = Hidden(tmp_path / "export").run().verify()
    assert found(verification) == {("V4", node) for node in NODES}
    assert "shows neither query nor end of the round" in reasons(verification, "V4")


def test_a_second_roster_of_a_run_is_found(mine: Consortium) -> None:
    """Which of two was masked under is not for the last line to say."""
    rows = lines(mine, "rosters.jsonl")
    other = json.loads(json.dumps(rows[0]))
    _with_another_key(other, mine)
    for both in ([*rows, other], [other, *rows]):
        keep(mine, "rosters.jsonl", both)
        verification = mine.verify()
        assert ("V6", "bank") in found(verification)
        assert "has a roster already" in reasons(verification, "V6")


def test_a_plan_that_two_runs_carry_out_is_found(tmp_path: Path) -> None:
    class Twice(Consortium):
        """Every node takes a second snapshot for the plan, under another run."""

        def _round(self, connection: Connection, number: int) -> None:
            super()._round(connection, number)
            if number == 2:
                self.tamper = lambda _, kind, body: (
                    {**body, "run": "0e" * 16} if kind == "snapshot" else body
                )
                for name in NODES:
                    self._snapshot(connection, self.parties[name])

    verification = Twice(tmp_path / "export").run().verify()
    assert found(verification) == {("V4", node) for node in NODES}
    assert "by one run only" in reasons(verification, "V4")


@pytest.mark.parametrize("votes", [3, 2, 0])
def test_a_burn_that_a_quorum_had_voted_to_open_is_told(tmp_path: Path, votes: int) -> None:
    """The bank may hold its total: the round is charged, and the regulator asks."""

    class Opened(Consortium):
        def _close(self, connection: Connection, asked: Asked) -> None:
            if asked.number != 4:
                super()._close(connection, asked)
                return
            chosen = SurvivorSet(RUN, 4, asked.context, NODES, documents_hash([b"headers"])).body()
            survivors = self.sign(self.bank, SUM_SURVIVORS, chosen)
            cast_ = [self.sign(self.parties[name], SUM_VOTE, chosen) for name in NODES[:votes]]
            burn: Body = {"run": RUN, "round": 4, "giver": "", "taker": ""}
            self.log(connection, self.bank.release, "burn", burn)
            self._file(asked, survivors, cast_)

    verification = Opened(tmp_path / "export", plan=shared, charter=room).run().verify()
    assert verification.findings == ()
    told = [warning.en for warning in verification.warnings]
    assert ["a quorum had voted to open it" in one for one in told] == [True] * (votes == 3)


def test_a_burn_with_a_survivor_set_of_another_round_is_found(mine: Consortium) -> None:
    rows = lines(mine, "rounds.jsonl")
    rows[4]["survivors"] = rows[3]["survivors"]
    keep(mine, "rounds.jsonl", rows)
    verification = mine.verify()
    assert "the survivor set is of another round" in reasons(verification, "V6")


@pytest.mark.parametrize(
    ("member", "kind", "change", "reason"),
    [
        pytest.param("jing", "result", drop, "did not log the result", id="result not logged"),
        pytest.param("jing", "result", put(round=3), "comes after that", id="results turn back"),
        pytest.param("bank", "model", put(run="ab" * 16), "no result under", id="model of no run"),
        pytest.param("bank", "model", put(plan=OTHER), "no result under", id="model of no plan"),
    ],
)
def test_a_lie_about_what_a_run_led_to_is_found(
    tmp_path: Path,
    member: str,
    kind: str,
    change: Callable[[Body], Body | None],
    reason: str,
) -> None:
    class Registered(Consortium):
        """A consortium whose bank registers a model at the end."""

        def _interrupted(self, connection: Connection, party: Party) -> None:
            super()._interrupted(connection, party)
            body: Body = {"run": RUN, "plan": self.digest, "model": OTHER, "card": OTHER}
            self.log(connection, self.bank.release, "model", body)

    assert Registered(tmp_path / "honest" / "export").run().verify().ok
    lie = once(member, kind, change)
    verification = Registered(tmp_path / "export", lie).run().verify()
    assert ("V6", member) in found(verification)
    assert reason in reasons(verification, "V6")


def test_a_result_logged_twice_is_found(tmp_path: Path) -> None:
    class Many(Consortium):
        def _note_result(self, connection: Connection, party: Party) -> None:
            result = party.result
            super()._note_result(connection, party)
            if party.id == "jing" and result is not None and result.round == 2:
                party.result = result
                super()._note_result(connection, party)

    verification = Many(tmp_path / "export").run().verify()
    assert found(verification) == {("V6", "jing")}


def test_a_result_that_was_never_logged_shows_in_the_next_query(tmp_path: Path) -> None:
    """The bank opens a total, trains on it and keeps the result to itself."""
    consortium = Consortium(tmp_path / "export", plan=shared, charter=room)

    def hide(who: str, what: str, body: Body) -> Body | None:
        return None if what == "result" and body["round"] == 2 else body

    consortium.tamper = hide
    filed = consortium._file
    consortium._file = lambda asked, *papers: (  # type: ignore[method-assign]
        None if asked.number == 2 else filed(asked, *papers)
    )
    verification = consortium.run().verify()
    told = reasons(verification, "V6")
    assert "round 2 was accepted and has neither a result nor a burn" in told
    assert "does not name the result before it" in told


# -- the bank's files --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rosters.jsonl", "rounds.jsonl"])
@pytest.mark.parametrize("data", [None, b"", b"{}\n", b'{"run":1}', b"[" * 9000 + b"\n"])
def test_a_file_of_rounds_that_is_missing_or_malformed_is_found(
    mine: Consortium, name: str, data: bytes | None
) -> None:
    path = mine.folder / "bank" / name
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    verification = mine.verify()
    assert ("V6", "bank") in found(verification)
    if name == "rosters.jsonl":
        assert {("V4", node) for node in NODES} <= found(verification)


def test_a_round_left_out_or_put_elsewhere_is_found(mine: Consortium) -> None:
    rows = lines(mine, "rounds.jsonl")
    for kept in (rows[1:], rows[:-1], [rows[1], rows[0], *rows[2:]], [*rows, rows[0]]):
        keep(mine, "rounds.jsonl", kept)
        assert ("V6", "bank") in found(mine.verify())
    keep(mine, "rounds.jsonl", rows)
    assert mine.verify().ok


def _without_a_vote(row: dict[str, object], consortium: Consortium) -> str:
    row["votes"] = list(row["votes"])[:-1]  # type: ignore[call-overload]
    return "2 votes, 3 are needed"


def _one_vote_twice(row: dict[str, object], consortium: Consortium) -> str:
    votes = list(row["votes"])  # type: ignore[call-overload]
    row["votes"] = [votes[0], votes[0], votes[1]]
    return "there twice"


def _in_another_order(row: dict[str, object], consortium: Consortium) -> str:
    row["votes"] = list(row["votes"])[::-1]  # type: ignore[call-overload]
    return "not those that the result names"


def _a_stranger_s_vote(row: dict[str, object], consortium: Consortium) -> str:
    votes = list(row["votes"])  # type: ignore[call-overload]
    forged = seal(SUM_VOTE, {"v": 1}, SigningKey.generate(), "jing")
    row["votes"] = [votes[0], base64_of(forged), votes[2]]
    return "signature"


def _no_survivor_set(row: dict[str, object], consortium: Consortium) -> str:
    row["survivors"] = ""
    return "document"


def _a_query_by_somebody_else(row: dict[str, object], consortium: Consortium) -> str:
    row["query"] = base64_of(seal("hejin/secure-sum/v1/query", {}, SigningKey.generate(), "bank"))
    return "signature"


@pytest.mark.parametrize(
    "change",
    [
        _without_a_vote,
        _one_vote_twice,
        _in_another_order,
        _a_stranger_s_vote,
        _no_survivor_set,
        _a_query_by_somebody_else,
    ],
)
def test_a_changed_paper_of_a_round_is_found(
    mine: Consortium, change: Callable[[dict[str, object], Consortium], str]
) -> None:
    rows = lines(mine, "rounds.jsonl")
    reason = change(rows[0], mine)
    keep(mine, "rounds.jsonl", rows)
    verification = mine.verify()
    assert ("V6", "bank") in found(verification)
    assert reason in reasons(verification, "V6")
    assert verification.findings[0].evidence[-1].startswith("bank/rounds.jsonl:0")


def _without_a_node(row: dict[str, object], consortium: Consortium) -> None:
    row["keyads"] = list(row["keyads"])[1:]  # type: ignore[call-overload]
    row["certificates"] = list(row["certificates"])[1:]  # type: ignore[call-overload]


def _without_a_certificate(row: dict[str, object], consortium: Consortium) -> None:
    row["certificates"] = list(row["certificates"])[1:]  # type: ignore[call-overload]


def _with_another_key(row: dict[str, object], consortium: Consortium) -> None:
    """jing signs a second key for the run: the roster is another one than nodes masked for."""
    jing, keyads = consortium.parties["jing"], list(row["keyads"])  # type: ignore[call-overload]
    note = (consortium.folder / "jing" / "release.checkpoint").read_text(encoding="utf-8")
    keyad = make_keyad(consortium.digest, consortium.plan.expires, "jing", jing.keys, note)
    keyads[1] = base64_of(seal_keyad(keyad.body(), "jing", jing.keys).envelope)
    row["keyads"] = keyads


def _for_another_plan(row: dict[str, object], consortium: Consortium) -> None:
    row["plan"] = OTHER


def _for_another_run(row: dict[str, object], consortium: Consortium) -> None:
    row["run"] = "ab" * 16


@pytest.mark.parametrize(
    "change",
    [
        _without_a_node,
        _without_a_certificate,
        _with_another_key,
        _for_another_plan,
        _for_another_run,
    ],
)
def test_a_changed_roster_is_found(
    mine: Consortium, change: Callable[[dict[str, object], Consortium], None]
) -> None:
    rows = lines(mine, "rosters.jsonl")
    change(rows[0], mine)
    keep(mine, "rosters.jsonl", rows)
    verification = mine.verify()
    assert ("V6", "bank") in found(verification)
    assert {("V4", node) for node in NODES} <= found(verification)


def test_a_roster_of_a_plan_that_shares_no_noise_is_found(consortium: Consortium) -> None:
    row: dict[str, object] = {
        "run": "ab" * 16,
        "plan": consortium.digest,
        "keyads": [],
        "certificates": [],
    }
    keep(consortium, "rosters.jsonl", [row])
    verification = consortium.verify()
    assert found(verification) == {("V6", "bank")}
    assert "shares no noise" in reasons(verification, "V6")


def test_a_node_outside_the_roster_is_found(tmp_path: Path) -> None:
    """yongnian never gave a key, and reserves all the same."""
    consortium = Consortium(
        tmp_path / "export",
        plan=lambda plan: replace(plan, mode="shared", minimum_nodes=2, quorum=2),
        charter=room,
    )
    advertise = consortium._advertise

    def without(connection: object) -> None:
        nodes = consortium.plan
        consortium.plan = replace(nodes, nodes=("anping", "jing"))
        try:
            advertise(connection)  # type: ignore[arg-type]
        finally:
            consortium.plan = nodes

    consortium._advertise = without  # type: ignore[method-assign]
    verification = consortium.run().verify()
    assert "the node is not in the roster" in reasons(verification, "V4")
    assert "a survivor is not in the roster" in reasons(verification, "V6")


def test_nodes_that_log_different_queries_for_a_round_that_came_to_nothing_are_found(
    tmp_path: Path,
) -> None:
    consortium = Consortium(tmp_path / "export")
    reserved = consortium._interrupted

    def twice(connection: object, party: object) -> None:
        reserved(connection, party)  # type: ignore[arg-type]
        consortium.rounds.pop()
        other = consortium._ask(5)
        anping = consortium.parties["anping"]
        changed = replace(other, digest=OTHER)
        seq = consortium._reserve(connection, anping, changed)  # type: ignore[arg-type]
        void: Body = {"reservation": seq, "reason": "interrupted"}
        consortium.log(connection, anping.release, "void", void)  # type: ignore[arg-type]

    consortium._interrupted = twice  # type: ignore[method-assign]
    consortium.tamper = once("bank", "burn", drop)
    verification = consortium.run().verify()
    assert "logged another query for the same round" in reasons(verification, "V4")
