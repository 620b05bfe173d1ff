"""Attacks on a node that adds its noise alone: refused by code, logged, free, and telling nothing.

LEDGER section 7. What only masked runs have (rosters, votes, shares) is in `test_masked_*.py`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack_checks import check_refused, logged, refused, spent, untouched
from node_world import BANK, World, approved, fill, found_world, new_session

from hejin_models.plan import Plan
from hejin_models.pricing import mechanism_for
from hejin_models.state import MAX_BYTES, State, encode_state
from hejin_models.statistics import SCORE_BINS
from hejin_node import account, offers
from hejin_node.home import NodeHome, open_home
from hejin_node.receipts import collect
from hejin_node.session import Session
from hejin_privacy import mechanism
from hejin_privacy.messages import NotReceived
from hejin_trust import envelope
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.database import reading, writing
from hejin_trust.envelope import (
    NOT_RECEIVED,
    RECEIPT,
    SUM_QUERY,
    SUM_RESULT,
    open_envelope,
    pae,
    seal,
)
from hejin_trust.errors import HejinError
from hejin_trust.fleet import Payload
from hejin_trust.keys import SigningKey

OTHER = "bank-2"
RUN = "ab" * 16
SUMS = (("histogram", "train"), ("histogram", "train"), ("score_histogram", "holdout"))


@dataclass
class Answered:
    """A node that answered rounds 1 and 2 of an approved plan; its next sum takes a state."""

    world: World
    home: NodeHome
    session: Session
    plan: Plan
    digest: str
    earlier: list[Payload]
    previous: str
    result: bytes
    foreign: tuple[Plan, str]

    @property
    def state(self) -> State:
        return {
            "values": np.zeros(self.world.view.total_cells),
            "edges": np.arange(SCORE_BINS - 1, dtype=np.float64),
        }

    def query(self, **changes: Any) -> Payload:
        """Return the third round's question, or one with something changed."""
        asked = {
            "run": RUN,
            "number": 3,
            "index": 2,
            "state": self.state,
            "previous": self.previous,
            "result": self.result,
        }
        return self.world.query(self.plan, self.digest, **{**asked, **changes})

    def signed(self, payload: bytes) -> Payload:
        """Return the question with any bytes under the bank's own signature."""
        key = self.world.bank.identity
        made = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": SUM_QUERY,
            "signatures": [
                {
                    "keyid": BANK,
                    "sig": base64.b64encode(key.sign(pae(SUM_QUERY, payload))).decode(),
                }
            ],
        }
        written = json.dumps(made, separators=(",", ":"), sort_keys=True).encode()
        return {**self.query(), "query": written}

    def altered(self, **changes: object) -> Payload:
        """Return the question with fields of its signed body changed, `mechanism__x` inside."""
        body = dict(self.body())
        for name, value in changes.items():
            if name.startswith("mechanism__"):
                inner = body["mechanism"]
                assert isinstance(inner, dict)
                body["mechanism"] = {**inner, name.removeprefix("mechanism__"): value}
            else:
                body[name] = value
        return self.signed(json.dumps(body, separators=(",", ":"), sort_keys=True).encode())

    def body(self) -> dict[str, object]:
        key = self.world.bank.identity.public
        return dict(open_envelope(self.query()["query"], SUM_QUERY, key, BANK).body)

    def text(self) -> str:
        return json.dumps(self.body(), separators=(",", ":"), sort_keys=True)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    world = found_world(tmp_path_factory.mktemp("attacked"), banks=(BANK, OTHER))
    with open_home(world.nodes["node-1"], world.clock) as home:
        fill(home, world)
        plan, digest = approved(home, world, sums=SUMS)
        theirs = approved(home, world.seen_by(OTHER), sums=SUMS)
        asked = new_session(home, world.receipts(home))
        first = world.query(plan, digest, run=RUN)
        result, named = world.result(asked.answer(first))
        second = world.query(
            plan, digest, run=RUN, number=2, index=1, previous=named, result=result
        )
        result, named = world.result(asked.answer(second))
        yield Answered(world, home, asked, plan, digest, [first, second], named, result, theirs)


@pytest.fixture(autouse=True)
def nothing_is_computed(request: pytest.FixtureRequest) -> Iterator[None]:
    """While a refusal is awaited, nobody may so much as begin to compute on the rows."""
    if "answered" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("answered")

    def computed(*_: object) -> None:
        raise AssertionError("rows were summed for a question that must be refused")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Session, "_compute", computed)
        yield


Forge = Callable[[Answered], Payload]

# -- questions out of turn, of other plans, by others ----------------------------------------


def swapped_state(**changes: object) -> Forge:
    """Return the question with arrays of its state replaced; None leaves one out."""

    def forge(a: Answered) -> Payload:
        state = {**a.state, **changes}
        made = {name: value for name, value in state.items() if value is not None}
        return a.query(forged_state=encode_state(made))  # type: ignore[arg-type]

    return forge


def signed_by(key: Callable[[Answered], SigningKey]) -> Forge:
    return lambda a: {**a.query(), "query": seal(SUM_QUERY, a.body(), key(a), BANK)}


def foreign_plan(a: Answered) -> Payload:
    plan, digest = a.foreign
    return a.world.query(plan, digest, run="cd" * 16)


QUESTIONS: dict[str, tuple[Forge, str]] = {
    "an earlier round again": (lambda a: a.earlier[0], "round-void"),
    "an answered round with another query": (
        lambda a: a.query(number=2, previous="", result=b""),
        "query-out-of-order",
    ),
    "a round before the last": (
        lambda a: a.world.query(a.plan, a.digest, run=RUN, number=1, index=1),
        "query-out-of-order",
    ),
    "another run of the plan": (lambda a: a.query(run="cd" * 16), "query-out-of-order"),
    "a plan that nobody offered": (lambda a: a.query(forged={"plan": "0" * 64}), "plan-unknown"),
    "a plan of another bank": (foreign_plan, "query-refused"),
    "a sum that the plan has not": (lambda a: a.query(forged={"sum": 9}), "query-refused"),
    "the other part": (lambda a: a.query(forged={"part": "train"}), "query-refused"),
    "another sum's state": (lambda a: a.query(forged={"state": "0" * 64}), "query-refused"),
    "a result that is not the last": (
        lambda a: a.query(forged={"previous": "0" * 64}),
        "query-refused",
    ),
    "a result that did not come": (lambda a: {**a.query(), "result": b""}, "bad-envelope"),
    "the node's own signature": (signed_by(lambda a: a.home.identity), "bad-envelope"),
    "the bank's log key": (signed_by(lambda a: a.world.bank.log_key), "bad-envelope"),
    "the regulator's signature": (signed_by(lambda a: a.world.office.identity), "bad-envelope"),
    "a stranger's signature": (signed_by(lambda _: SigningKey.generate()), "bad-envelope"),
    "another signer's name": (
        lambda a: {
            **a.query(),
            "query": seal(SUM_QUERY, a.body(), a.world.bank.identity, "bank-2"),
        },
        "bad-envelope",
    ),
    **{
        f"a signed {kind}": (
            lambda a, kind=kind: {  # type: ignore[misc]
                **a.query(),
                "query": seal(kind, a.body(), a.world.bank.identity, BANK),
            },
            "bad-envelope",
        )
        for kind in sorted(envelope.PAYLOAD_TYPES - {SUM_QUERY})
    },
}


@pytest.mark.parametrize("case", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_a_question_out_of_turn_or_by_another_is_refused(
    answered: Answered, case: tuple[Forge, str]
) -> None:
    forge, code = case
    refused(answered.home, answered.session, forge(answered), code)


def test_a_repeated_question_gets_the_stored_bytes_and_pays_nothing(answered: Answered) -> None:
    """Until its receipt is logged a round is repeated, byte for byte; nothing is computed anew."""
    before = spent(answered.home), logged(answered.home)
    once, twice = (answered.session.answer(answered.earlier[1]) for _ in range(2))
    for part in ("header", "vector", "shares", "entry"):
        assert once[part] == twice[part]
    assert (spent(answered.home), logged(answered.home)) == before


# -- documents that are none -------------------------------------------------------------------

DOCUMENTS: dict[str, tuple[Forge, str]] = {
    "nothing": (lambda a: a.signed(b""), "bad-envelope"),
    "no object": (lambda a: a.signed(b"[]"), "bad-envelope"),
    "not UTF-8": (lambda a: a.signed(b"\xff\xfe{"), "bad-envelope"),
    "a hundred thousand levels": (lambda a: a.signed(b"[" * 100_000), "bad-envelope"),
    "seventeen levels": (
        lambda a: a.signed(b'{"a":' * 17 + b"1" + b"}" * 17),
        "bad-envelope",
    ),
    "a field twice": (
        lambda a: a.signed(a.text().replace('"v":1', '"v":1,"v":1').encode()),
        "bad-envelope",
    ),
    "a field twice inside": (
        lambda a: a.signed(a.text().replace('"r":1', '"r":1,"r":1').encode()),
        "bad-envelope",
    ),
    "a float": (lambda a: a.signed(a.text().replace('"v":1', '"v":1.0').encode()), "bad-envelope"),
    "an exponent": (
        lambda a: a.signed(a.text().replace('"v":1', '"v":1e0').encode()),
        "bad-envelope",
    ),
    "NaN": (lambda a: a.altered(round=float("nan")), "bad-envelope"),
    "infinity": (lambda a: a.altered(round=float("inf")), "bad-envelope"),
    "null": (lambda a: a.altered(previous=None), "bad-envelope"),
    "2^53": (lambda a: a.altered(round=2**53), "bad-envelope"),
    "five thousand digits": (
        lambda a: a.signed(a.text().replace('"v":1', '"v":' + "9" * 5000).encode()),
        "bad-envelope",
    ),
    "a space": (lambda a: a.signed(a.text().replace('"v":1', '"v": 1').encode()), "bad-envelope"),
    "another order of fields": (
        lambda a: a.signed(json.dumps(dict(reversed(a.body().items()))).encode()),
        "bad-envelope",
    ),
    "more than a mebibyte": (
        lambda a: a.altered(previous="0" * (1 << 20)),
        "bad-envelope",
    ),
    "a field more": (lambda a: a.altered(extra=1), "bad-document"),
    "another version": (lambda a: a.altered(v=2), "bad-document"),
    "a truth for a number": (lambda a: a.altered(round=True), "bad-document"),
    "round 0": (lambda a: a.altered(round=0), "bad-document"),
    "a negative round": (lambda a: a.altered(round=-1), "bad-document"),
    "a round beyond all": (lambda a: a.altered(round=2**53 - 1), "bad-document"),
    "a negative sum": (lambda a: a.altered(sum=-1), "bad-document"),
    "an upper-case hash": (lambda a: a.altered(state="A" * 64), "bad-document"),
    "a run that is a path": (lambda a: a.altered(run="../../../../../etc/passwd"), "bad-document"),
    "a third part": (lambda a: a.altered(part="all"), "message-malformed"),
    "a message of another kind": (lambda _: {"kind": b"shell"}, "message-malformed"),
    "no kind": (lambda a: {"query": a.query()["query"]}, "message-malformed"),
    "no query": (lambda _: {"kind": b"query"}, "bad-envelope"),
}


@pytest.mark.parametrize("case", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_in_any_but_the_one_form_is_refused(
    answered: Answered, case: tuple[Forge, str]
) -> None:
    forge, code = case
    refused(answered.home, answered.session, forge(answered), code)


# -- numbers -----------------------------------------------------------------------------------


def cut(tail: bytes, length: int = 8) -> Forge:
    """Return the question with the last bytes of its state replaced."""

    def forge(a: Answered) -> Payload:
        return a.query(forged_state=encode_state(a.state)[:-length] + tail)

    return forge


def number(value: float) -> Forge:
    return cut(np.array([value], "<f8").tobytes())


def _retyped(state: State) -> bytes:
    """Return a state's bytes with all its numbers as float32: another dtype than is agreed."""
    data = encode_state(state)
    for values in state.values():
        data = data.replace(values.astype("<f8").tobytes(), values.astype("<f4").tobytes(), 1)
    return data


def ratio(num: str, den: str = "1") -> dict[str, str]:
    return {"num": num, "den": den}


STATES: dict[str, Forge] = {
    "NaN": number(np.nan),
    "infinity": number(np.inf),
    "minus infinity": number(-np.inf),
    "a huge number": number(1e300),
    "minus zero": number(-0.0),
    "numbers of four bytes": lambda a: a.query(forged_state=_retyped(a.state)),
    "a number of four bytes": cut(np.array([1], "<f4").tobytes()),
    "a byte more": lambda a: a.query(forged_state=encode_state(a.state) + b"\0"),
    "no bytes": lambda a: a.query(forged_state=b""),
    "a longer array": swapped_state(values=np.zeros(1000)),
    "a shorter array": swapped_state(values=np.zeros(3)),
    "an array missing": swapped_state(edges=None),
    "an array more": swapped_state(more=np.zeros(3)),
    "edges that descend": swapped_state(edges=-np.arange(SCORE_BINS - 1, dtype=np.float64)),
    "more bytes than are read": lambda a: a.query(forged_state=bytes(MAX_BYTES + 1)),
    "a length beyond the bytes": lambda a: a.query(
        forged_state=encode_state(a.state).replace(
            (SCORE_BINS - 1).to_bytes(4, "little"), b"\xff\xff\xff\x7f", 1
        )
    ),
}


@pytest.mark.parametrize("forge", STATES.values(), ids=STATES.keys())
def test_a_state_without_meaning_or_of_another_shape_is_refused(
    answered: Answered, forge: Forge
) -> None:
    refused(answered.home, answered.session, forge(answered), "bad-state")


MECHANISMS: dict[str, tuple[dict[str, object], str]] = {
    "a little less noise": ({"sigma": ratio("1024")}, "query-refused"),
    "more noise than planned": ({"sigma": ratio(str(2**30))}, "query-refused"),
    "no noise": ({"sigma": ratio("0")}, "mechanism-refused"),
    "negative noise": ({"sigma": ratio("-1024")}, "mechanism-refused"),
    "noise beyond a double": ({"sigma": ratio(str(2**43))}, "mechanism-refused"),
    "noise of 400 digits": ({"sigma": ratio("9" * 400)}, "mechanism-refused"),
    "noise of 401 digits": ({"sigma": ratio("9" * 401)}, "bad-document"),
    "noise over zero": ({"sigma": ratio("1", "0")}, "bad-document"),
    "noise not in lowest terms": ({"sigma": ratio("2048", "2")}, "bad-document"),
    "a sensitivity of its own": ({"delta_squared": "1"}, "mechanism-refused"),
    "a sensitivity in letters": ({"delta_squared": "NaN"}, "mechanism-refused"),
    "a sensitivity of 21 digits": ({"delta_squared": "9" * 21}, "bad-document"),
    "another scale": ({"scale": 1}, "mechanism-refused"),
    "another dimension": ({"dimension": 1}, "query-refused"),
    "no dimension": ({"dimension": 0}, "mechanism-refused"),
    "a dimension beyond all": ({"dimension": 2**40}, "mechanism-refused"),
    "another bound": ({"bound_squared": ratio("1", "4")}, "mechanism-refused"),
    "another statistic": ({"statistic": "histogram"}, "query-refused"),
    "a statistic that is code": ({"statistic": "__import__('os')"}, "mechanism-refused"),
    "more nodes": ({"n": 1000}, "query-refused"),
    "shared noise": ({"mode": "shared", "tau": 4, "m": 4, "t": 1, "n": 5}, "query-refused"),
    "shared noise among one": ({"mode": "shared"}, "thresholds-unsafe"),
    "another r": ({"r": 2}, "query-refused"),
}


@pytest.mark.parametrize("case", MECHANISMS.values(), ids=MECHANISMS.keys())
def test_a_mechanism_that_the_plan_does_not_pay_for_is_refused(
    answered: Answered, case: tuple[dict[str, object], str]
) -> None:
    changes, code = case
    payload = answered.altered(**{f"mechanism__{name}": value for name, value in changes.items()})
    refused(answered.home, answered.session, payload, code)


def test_a_sum_that_could_leave_64_bits_is_refused(
    answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand enterprises fill 2^31 of the 2^62; the least bound that stops them is taken."""
    planned = mechanism_for(
        answered.plan, answered.plan.sums[2], answered.world.view, answered.state, 1
    )
    most = 1000 * int(planned.delta_squared**0.5) + 12 * int(planned.sigma)
    monkeypatch.setattr(mechanism, "OVERFLOW_BOUND", most)
    refused(answered.home, answered.session, answered.query(), "sum-overflow")


# -- receipts ----------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], world.clock) as opened:
        fill(opened, world)
        yield opened


Forged = Callable[[World, bytes], bytes]


def resealed(
    kind: str = RECEIPT, key: Callable[[World], SigningKey] | None = None, signer: str = BANK
) -> Forged:
    """Return the true receipt's words under another type, key or name."""

    def forge(world: World, receipt: bytes) -> bytes:
        body = open_envelope(receipt, RECEIPT, world.bank.identity.public).body
        return seal(kind, body, world.bank.identity if key is None else key(world), signer)

    return forge


def saying(**changes: object) -> Forged:
    """Return a receipt that the bank signed over something else."""

    def forge(world: World, receipt: bytes) -> bytes:
        body = open_envelope(receipt, RECEIPT, world.bank.identity.public).body
        return seal(RECEIPT, {**body, **changes}, world.bank.identity, BANK)

    return forge


def under(checkpoint: Callable[[World], str]) -> Forged:
    return lambda world, receipt: saying(checkpoint=checkpoint(world))(world, receipt)


def denied(**changes: object) -> Forged:
    """Return a signed word that something else was not received."""

    def forge(world: World, _: bytes) -> bytes:
        word = NotReceived(RUN, 1, "node-1", "2026-11-22T20:00:00Z").body()
        return seal(NOT_RECEIVED, {**word, **changes}, world.bank.identity, BANK)

    return forge


def note(origin: str, key: Callable[[World], SigningKey]) -> Forged:
    return under(lambda world: sign_checkpoint(origin, 1, bytes(32), key(world)))


RECEIPTS: dict[str, tuple[Forged, str]] = {
    "nothing": (lambda *_: b"", "bad-envelope"),
    "for another vector": (saying(vector="0" * 64), "receipt-wrong"),
    "for another header": (saying(header="0" * 64), "receipt-wrong"),
    "for another round": (saying(round=2), "receipt-wrong"),
    "for another run": (saying(run="cd" * 16), "receipt-wrong"),
    "for another node": (saying(node="node-2"), "receipt-wrong"),
    "with a field more": (saying(extra="x"), "bad-document"),
    "signed by the node itself": (
        lambda w, r: resealed(key=lambda w: _key(w, "node-1"))(w, r),
        "bad-envelope",
    ),
    "signed with the bank's log key": (resealed(key=lambda w: w.bank.log_key), "bad-envelope"),
    "signed by the regulator": (resealed(key=lambda w: w.office.identity), "bad-envelope"),
    "in another bank's name": (resealed(signer="bank-2"), "bad-envelope"),
    "a receipt as not-received": (resealed(kind=NOT_RECEIVED), "bad-document"),
    "a receipt as a result": (resealed(kind=SUM_RESULT), "bad-envelope"),
    "altered on the way": (lambda _, r: r.replace(b'"sig":"', b'"sig":"A', 1), "bad-envelope"),
    "no checkpoint": (under(lambda _: "note"), "checkpoint-invalid"),
    "a checkpoint of the node's log": (
        note("hejin/test/node/node-1", lambda w: w.bank.log_key),
        "checkpoint-invalid",
    ),
    "a checkpoint of the bank's internal log": (
        note("hejin/test/bank/bank-1/internal", lambda w: w.bank.log_key),
        "checkpoint-invalid",
    ),
    "a checkpoint by the bank's identity key": (
        note("hejin/test/bank/bank-1", lambda w: w.bank.identity),
        "checkpoint-invalid",
    ),
    "not-received of another round": (denied(round=2), "receipt-wrong"),
    "not-received of another run": (denied(run="cd" * 16), "receipt-wrong"),
    "not-received of another node": (denied(node="node-2"), "receipt-wrong"),
}


def _key(world: World, member: str) -> SigningKey:
    return SigningKey.load(world.folder / member / "keys" / "identity.key")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, NodeHome]]:
    """A node that released round 1 and has no receipt for it yet."""
    world = found_world(tmp_path_factory.mktemp("released"))
    with open_home(world.nodes["node-1"], world.clock) as home:
        fill(home, world)
        plan, digest = approved(home, world)
        desk = world.receipts(home)
        desk.down = True
        assert new_session(home, desk).answer(world.query(plan, digest, run=RUN))["vector"]
        yield world, home


@pytest.mark.parametrize("case", RECEIPTS.values(), ids=RECEIPTS.keys())
def test_a_receipt_that_is_not_the_banks_for_these_bytes_is_refused_and_not_logged(
    released: tuple[World, NodeHome], case: tuple[Forged, str]
) -> None:
    (world, home), (forge, code) = released, case
    honest = world.receipts(home)

    def fetch(run: str, number: int) -> bytes:
        return forge(world, honest(run, number))

    with reading(home.database) as connection:
        (waiting,) = account.without_receipt(connection, BANK)
    with pytest.raises(HejinError) as reason:
        collect(home, waiting, fetch)
    assert reason.value.code == code
    # Nor does anything of it reach the ledger by the way that the node takes by itself.
    Session(home, BANK, world.witness(home), fetch).fetch_receipts()
    assert logged(home)[-1] == "release"


def test_a_bank_whose_receipts_are_missing_or_forged_twice_is_refused(
    world: World, home: NodeHome
) -> None:
    plan, digest = approved(home, world, sums=[("histogram", "train")] * 3)
    silent = world.receipts(home)
    silent.down = True
    desks: list[Callable[[str, int], bytes]] = [
        silent,
        lambda run, number: saying(vector="0" * 64)(world, world.receipts(home)(run, number)),
    ]
    asked = Session(home, BANK, world.witness(home), lambda *a: desks[0](*a))
    result, named = world.result(asked.answer(world.query(plan, digest, run=RUN)))
    second = world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
    result, named = world.result(asked.answer(second))
    third = world.query(plan, digest, run=RUN, number=3, index=2, previous=named, result=result)
    for _ in range(2):
        reason = refused(home, asked, third, "receipt-missing")
        assert "2 receipts of this bank are missing" in reason
        desks.reverse()  # first silent, then signed over other bytes
    assert "receipt" not in logged(home)
    desks[:] = [world.receipts(home)]
    assert asked.answer(third)["kind"] == b"masked"
    assert logged(home).count("receipt") == 2


# -- plans, members and budgets that ended ----------------------------------------------------
#    (what ends between reservation and release is in `test_witnessed_session.py`)


@pytest.mark.parametrize("answer", ["none", "refused"])
def test_a_plan_that_was_not_approved_is_refused_and_logged(
    world: World, home: NodeHome, answer: str
) -> None:
    made, digest, plan = world.propose()
    offers.receive(home, made)
    if answer == "refused":
        offers.refuse(home, digest, "operator-refused", "not now")
    asked = new_session(home, world.receipts(home))
    refused(home, asked, world.query(plan, digest, run=RUN), "query-refused")


def test_a_revoked_bank_is_refused_by_code_and_logged(world: World, home: NodeHome) -> None:
    plan, digest = approved(home, world)
    asked = new_session(home, world.receipts(home))
    world.office.revoke(BANK, world.clock())
    home.charters.update(world.office.charters.signed())
    for payload in (
        world.query(plan, digest, run=RUN),
        {"kind": b"keys", "run": RUN.encode(), "plan": digest.encode()},
    ):
        refused(home, asked, payload, "not-a-member")


def test_the_last_of_the_budget_is_refused_to_the_second_bank_without_a_number(
    world: World, home: NodeHome
) -> None:
    plans = [
        approved(home, world, rho=Fraction(3, 10), sums=[("histogram", "train")]) for _ in range(2)
    ]
    asked = new_session(home, world.receipts(home))
    first, second = (
        world.query(plan, digest, run=f"{n:032x}") for n, (plan, digest) in enumerate(plans)
    )
    assert asked.answer(first)["kind"] == b"masked"
    before = spent(home)
    with untouched(home):
        answer = asked.answer(second)
    reason = check_refused(home, answer, "budget-exhausted")
    assert not any(character.isdigit() for character in reason)
    assert spent(home) == before


def test_a_round_cannot_be_reserved_twice_whatever_asks_for_it(
    world: World, home: NodeHome
) -> None:
    """The last line of defence: the database itself."""
    plan, digest = approved(home, world)
    asked = new_session(home, world.receipts(home))
    assert asked.answer(world.query(plan, digest, run=RUN))["kind"] == b"masked"
    with reading(home.database) as connection:
        known = account.find(connection, RUN, 1)
    assert known is not None
    with pytest.raises(Exception, match="UNIQUE"), writing(home.database) as connection:
        account.restore(connection, replace(known, seq=known.seq + 100))


def test_the_question_that_the_cases_alter_would_be_answered(answered: Answered) -> None:
    """So each refusal above is for what was changed."""
    context, result = answered.session._checker.check(answered.query())
    assert (context.query.round, context.query.sum) == (3, 2)
    assert result is not None
