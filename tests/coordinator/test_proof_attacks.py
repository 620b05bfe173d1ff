"""A node with its own keys cannot make the bank count a sum that it did not reserve as asked.

What it appends to its real log the real mirror cosigns: the regulator reads entries, not plans.
Cosignatures that are missing, stale or forged are in `test_cosigned_answers.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from bank_world import Bank, open_world

from hejin_coordinator import collecting, parts, store
from hejin_coordinator.answers import Accepted, read_answer, read_refusal
from hejin_coordinator.rounds import PlanRun
from hejin_models.features import FeatureView
from hejin_models.sums import SumRequest
from hejin_models.training import train
from hejin_node.home import NodeHome
from hejin_regulator.authority import revoke_member
from hejin_trust import envelope
from hejin_trust.canonical import encode, fraction_body, fraction_from
from hejin_trust.checkpoint import format_proof, parse_proof, sign_checkpoint
from hejin_trust.database import reading, writing
from hejin_trust.entries import Body, build, parse
from hejin_trust.envelope import REFUSAL, SUM_MASKED, open_envelope, seal
from hejin_trust.errors import HejinError
from hejin_trust.fleet import Payload
from hejin_trust.keys import SigningKey
from hejin_trust.merkle import leaf_hash

ONE = "node-1"


@dataclass
class Answers:
    """What node-1 and node-2 honestly answered in two rounds, and what they were read against.

    asked   (node, round) -> the arguments of `read_answer`
    """

    bank: Bank
    run: PlanRun
    asked: dict[tuple[str, int], tuple[Any, ...]]

    @property
    def home(self) -> NodeHome:
        return self.bank.nodes[ONE]

    def payload(self, number: int = 2, node: str = ONE) -> Payload:
        return dict(self.asked[node, number][0])

    def read(self, payload: Payload, number: int = 2) -> Accepted:
        return read_answer(payload, *self.asked[ONE, number][1:])

    # -- what a node can do with its own keys ---------------------------------------------

    def headed(self, payload: Payload, **changes: object) -> Payload:
        """Return an answer under a header that node-1 signed over something else."""
        public = self.home.identity.public
        body = {**open_envelope(payload["header"], SUM_MASKED, public).body, **changes}
        return {**payload, "header": seal(SUM_MASKED, body, self.home.identity, ONE)}

    def relogged(self, change: Callable[[Body], Body], kind: str = "reserve") -> Payload:
        """Return the answer on an entry that node-1 has logged anew, cosigned and proven."""
        payload, log = self.payload(), self.home.release_log
        with writing(self.home.database) as connection:
            entry = log.append(connection, kind, change(parse(payload["entry"]).body))
        cosigned = self.bank.world.witness(self.home).cover(entry.seq)
        with reading(self.home.database) as connection:
            path = log.inclusion_proof(connection, entry.seq, cosigned.checkpoint.size)
        made = self.headed(payload, reservation=entry.seq)
        proof = format_proof(entry.seq, path, cosigned.note).encode()
        return {**made, "entry": entry.raw, "proof": proof}


def first(run: PlanRun) -> SumRequest:
    return next(train(FeatureView.parse(run._stored.view)))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        bank = open_world(tmp_path_factory.mktemp("bank"), stack, firms=20)
        asked: dict[tuple[str, int], tuple[Any, ...]] = {}

        def keep(*arguments: Any) -> Accepted:
            asked[arguments[1], arguments[2].round] = arguments
            return read_answer(*arguments)

        patch.setattr(collecting, "read_answer", keep)
        run = bank.run(bank.propose(epsilon=20.0))
        training = train(FeatureView.parse(run._stored.view))
        run._sum(training.send(run._sum(next(training))))
        yield Answers(bank, run, asked)


# -- the reservation -----------------------------------------------------------------------


def put(**changes: object) -> Callable[[Body], Body]:
    return lambda body: {**body, **changes}


def scaled(key: str, factor: Fraction) -> Callable[[Body], Body]:
    return lambda body: {**body, key: fraction_body(fraction_from(body[key]) * factor)}


def inside(**changes: object) -> Callable[[Body], Body]:
    """Return a reservation whose mechanism says something else."""

    def change(body: Body) -> Body:
        mechanism = body["mechanism"]
        assert isinstance(mechanism, Mapping)
        return {**body, "mechanism": {**mechanism, **changes}}

    return change


def noisier(factor: Fraction) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        mechanism = body["mechanism"]
        assert isinstance(mechanism, Mapping)
        sigma = fraction_from(mechanism["sigma"]) * factor
        return inside(sigma=fraction_body(sigma))(body)

    return change


RESERVATIONS: dict[str, Callable[[Body], Body]] = {
    "for another run": put(run="cd" * 16),
    "for another round": put(round=1),
    "for another plan": put(plan="0" * 64),
    "for another query": put(query="0" * 64),
    "for the other part": put(part="holdout"),
    "under another context": put(round_ctx="0" * 64),
    "with half the noise": noisier(Fraction(1, 2)),
    "with twice the noise": noisier(Fraction(2)),
    "with another sensitivity": inside(delta_squared="1"),
    "with another bound": inside(bound_squared={"num": "1", "den": "4"}),
    "of another statistic": inside(statistic="raw_rows"),
    "among more nodes": inside(n=1000),
    "with noise that others share": inside(mode="shared", tau=3, m=3, t=1),
    "at half the cost": scaled("rho", Fraction(1, 2)),
    "at no cost": put(rho={"num": "0", "den": "1"}),
    "at a higher cost": scaled("rho", Fraction(2)),
    "at half the cost under collusion": scaled("rho_alone", Fraction(1, 2)),
}


@pytest.mark.parametrize("change", RESERVATIONS.values(), ids=RESERVATIONS.keys())
def test_a_reservation_that_is_not_of_this_query_does_not_count_though_it_is_cosigned(
    answers: Answers, change: Callable[[Body], Body]
) -> None:
    with pytest.raises(HejinError) as refused:
        answers.read(answers.relogged(change))
    assert refused.value.code == "answer-refused"


def test_the_same_reservation_logged_anew_and_unaltered_would_count(answers: Answers) -> None:
    """So each refusal above is for what was changed; that it is there twice, V4 finds."""
    assert answers.read(answers.relogged(put())).node == ONE


def earlier_reservation(a: Answers) -> Payload:
    """Return the second round's sum on the first round's reservation."""
    first, second = a.payload(1), a.payload(2)
    seq = parse(first["entry"]).seq
    return {**a.headed(second, reservation=seq), "entry": first["entry"], "proof": first["proof"]}


def of_another_node(a: Answers) -> Payload:
    other = a.payload(node="node-2")
    return {**a.payload(), "entry": other["entry"], "proof": other["proof"]}


def of_a_release(a: Answers) -> Payload:
    """Return the answer on an entry that is none of a reservation."""
    return a.relogged(lambda _: {"reservation": 1, "reason": "failed"}, "void")


def forked(a: Answers) -> Payload:
    """Return the answer on a log that the node grew for this bank alone, under old cosignatures."""
    payload = a.payload()
    proof, entry = parse_proof(payload["proof"].decode()), parse(payload["entry"])
    alone = build("reserve", 0, a.bank.world.clock(), ONE, entry.body, bytes(16))
    origin, key = a.home.release_log.origin, a.home.membership.log_key
    note = sign_checkpoint(origin, 1, leaf_hash(alone.raw), key)
    grafted = note + proof.checkpoint.splitlines(keepends=True)[-1]
    made = a.headed(payload, reservation=0)
    return {**made, "entry": alone.raw, "proof": format_proof(0, (), grafted).encode()}


def smaller(a: Answers) -> Payload:
    """Return the answer with a cosigned checkpoint from before the reservation."""
    proof = parse_proof(a.payload(1)["proof"].decode())
    late = parse_proof(a.payload()["proof"].decode())
    note = proof.checkpoint
    return {**a.payload(), "proof": format_proof(late.index, late.path, note).encode()}


def reproved(index: int = 0, cut: int = 0, flip: bool = False) -> Callable[[Answers], Payload]:
    def change(a: Answers) -> Payload:
        proof = parse_proof(a.payload()["proof"].decode())
        path = list(proof.path[: len(proof.path) - cut])
        if flip:
            path[0] = bytes([path[0][0] ^ 1]) + path[0][1:]
        made = format_proof(proof.index + index, path, proof.checkpoint)
        return {**a.payload(), "proof": made.encode()}

    return change


def resalted(a: Answers) -> Payload:
    entry = parse(a.payload()["entry"])
    other = json.loads(entry.raw)
    other["salt"] = "0" * len(other["salt"])
    return {**a.payload(), "entry": encode(other)}


def part(name: str, value: bytes) -> Callable[[Answers], Payload]:
    return lambda a: {**a.payload(), name: value}


def without(name: str) -> Callable[[Answers], Payload]:
    return lambda a: {key: value for key, value in a.payload().items() if key != name}


def entry_text(old: bytes, new: bytes) -> Callable[[Answers], Payload]:
    def change(a: Answers) -> Payload:
        raw = a.payload()["entry"]
        assert old in raw
        return {**a.payload(), "entry": raw.replace(old, new, 1)}

    return change


def flipped(a: Answers) -> Payload:
    vector = bytearray(a.payload()["vector"])
    vector[0] ^= 1
    return {**a.payload(), "vector": bytes(vector)}


def resized(make: Callable[[np.ndarray], np.ndarray], **changes: object) -> Any:
    """Return a vector of another shape or dtype under an honest signature of its bytes."""

    def change(a: Answers) -> Payload:
        made = make(np.frombuffer(a.payload()["vector"], "<i8")).tobytes()
        digest = hashlib.sha256(made).hexdigest()
        return {**a.headed(a.payload(), vector=digest, **changes), "vector": made}

    return change


def signed_by(
    key: Callable[[Answers], SigningKey], name: str = ONE
) -> Callable[[Answers], Payload]:
    def change(a: Answers) -> Payload:
        body = open_envelope(a.payload()["header"], SUM_MASKED, a.home.identity.public).body
        return {**a.payload(), "header": seal(SUM_MASKED, body, key(a), name)}

    return change


def typed(kind: str) -> Callable[[Answers], Payload]:
    def change(a: Answers) -> Payload:
        body = open_envelope(a.payload()["header"], SUM_MASKED, a.home.identity.public).body
        return {**a.payload(), "header": seal(kind, body, a.home.identity, ONE)}

    return change


Forge = Callable[[Answers], Payload]

FORGERIES: dict[str, tuple[Forge, str]] = {
    "an earlier round's answer": (lambda a: a.payload(1), "answer-refused"),
    "an earlier round's reservation": (earlier_reservation, "answer-refused"),
    "another node's answer": (lambda a: a.payload(node="node-2"), "bad-envelope"),
    "another node's proof": (of_another_node, "checkpoint-invalid"),
    "the proof of another entry": (of_a_release, "answer-refused"),
    "a log forked for this bank": (forked, "cosignature-missing"),
    "a checkpoint from before the reservation": (smaller, "proof-invalid"),
    "the next index": (reproved(index=1), "proof-invalid"),
    "an index beyond the log": (reproved(index=10**6), "proof-invalid"),
    "a hash of the path missing": (reproved(cut=1), "proof-invalid"),
    "a bit of the path flipped": (reproved(flip=True), "proof-invalid"),
    "another salt": (resalted, "proof-invalid"),
    "no proof": (without("proof"), "checkpoint-invalid"),
    "a proof of a megabyte": (part("proof", b"x" * (1 << 20)), "checkpoint-invalid"),
    "a proof that is no text": (part("proof", b"\xff\xfe"), "checkpoint-invalid"),
    "no entry": (without("entry"), "entry-malformed"),
    "an entry of 70,000 bytes": (part("entry", b"{" * 70_000), "entry-malformed"),
    "a deep entry": (part("entry", b'{"a":' * 20_000), "entry-malformed"),
    "an entry with a field twice": (
        entry_text(b'"v":1', b'"v":1,"v":1'),
        "entry-malformed",
    ),
    "an entry with a float": (entry_text(b'"v":1', b'"v":1.0'), "entry-malformed"),
    "one bit of the vector": (flipped, "answer-refused"),
    "no vector": (without("vector"), "answer-refused"),
    "a vector of four-byte numbers": (resized(lambda v: v.astype("<i4")), "answer-refused"),
    "a shorter vector": (resized(lambda v: v[:-1]), "answer-refused"),
    "a longer vector": (resized(lambda v: np.append(v, v)), "answer-refused"),
    "a dimension of its own": (
        resized(lambda v: v[:-1], dimension=1),
        "answer-refused",
    ),
    "a dimension beyond all": (
        lambda a: a.headed(a.payload(), dimension=2**40),
        "bad-document",
    ),
    "shares that were not asked for": (part("shares", b"\0\0\0\1x"), "answer-refused"),
    "shares that are cut off": (part("shares", b"\0\0\0\5x"), "payload-refused"),
    "no header": (without("header"), "bad-envelope"),
    "a header for another node": (
        lambda a: a.headed(a.payload(), node="node-2"),
        "answer-refused",
    ),
    "a header for another context": (
        lambda a: a.headed(a.payload(), round_ctx="0" * 64),
        "answer-refused",
    ),
    "a header for another reservation": (
        lambda a: a.headed(a.payload(), reservation=0),
        "answer-refused",
    ),
    "a header with a field more": (lambda a: a.headed(a.payload(), extra=1), "bad-document"),
    "a header by the node's log key": (
        signed_by(lambda a: a.home.membership.log_key),
        "bad-envelope",
    ),
    "a header by another node in this one's name": (
        signed_by(lambda a: a.bank.nodes["node-2"].identity),
        "bad-envelope",
    ),
    "a header by the bank itself": (signed_by(lambda a: a.bank.home.identity), "bad-envelope"),
    "a header in another node's name": (
        signed_by(lambda a: a.home.identity, "node-2"),
        "bad-envelope",
    ),
    **{
        f"a {kind} for a header": (typed(kind), "bad-envelope")
        for kind in sorted(envelope.PAYLOAD_TYPES - {SUM_MASKED})
    },
}  # fmt: skip


@pytest.mark.parametrize("case", FORGERIES.values(), ids=FORGERIES.keys())
def test_an_answer_that_proves_something_else_is_refused_by_code(
    answers: Answers, case: tuple[Forge, str]
) -> None:
    forge, code = case
    with pytest.raises(HejinError) as refused:
        answers.read(forge(answers))
    assert refused.value.code == code
    assert refused.value.text.en != refused.value.text.zh


# -- refusals ------------------------------------------------------------------------------


def refusal(**changes: object) -> Body:
    return {
        "v": 1,
        "request": "0" * 64,
        "code": "round-void",
        "reason": {"en": "no", "zh": "否"},
        "time": "2026-11-26T00:00:00Z",
        **changes,
    }


REFUSALS: dict[str, tuple[Callable[[Answers], bytes], str]] = {
    "unsigned": (lambda _: b"{}", "bad-envelope"),
    "another node's": (
        lambda a: seal(REFUSAL, refusal(), a.bank.nodes["node-2"].identity, ONE),
        "bad-envelope",
    ),
    "of another type": (
        lambda a: seal(envelope.APPROVAL, refusal(), a.home.identity, ONE),
        "bad-envelope",
    ),
    "altered": (
        lambda a: seal(REFUSAL, refusal(), a.home.identity, ONE).replace(b'"sig":"', b'"sig":"A'),
        "bad-envelope",
    ),
    "with a code of many letters": (
        lambda a: seal(REFUSAL, refusal(code="x" * 65), a.home.identity, ONE),
        "bad-document",
    ),
    "with a reason of a book's length": (
        lambda a: seal(REFUSAL, refusal(reason={"en": "x" * 1001, "zh": ""}), a.home.identity, ONE),
        "bad-document",
    ),
    "without a reason": (
        lambda a: seal(REFUSAL, refusal(reason="no"), a.home.identity, ONE),
        "bad-document",
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_that_the_node_did_not_sign_so_is_none(
    answers: Answers, case: tuple[Callable[[Answers], bytes], str]
) -> None:
    forge, code = case
    made = {"kind": b"refusal", "refusal": forge(answers)}
    with pytest.raises(HejinError) as refused:
        read_refusal(made, ONE, answers.bank.home.charter)
    assert refused.value.code == code


# -- what the whole bank does with them ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("one bit of the vector", "answer-refused"),
        ("a header by the node's log key", "bad-envelope"),
        ("a bit of the path flipped", "proof-invalid"),
    ],
)
def test_what_is_refused_is_not_added_not_accepted_and_not_receipted(
    answers: Answers, name: str, code: str
) -> None:
    bank = answers.bank
    forge, _ = FORGERIES[name]

    def lie(node: str, answer: Payload) -> Payload:
        if node != ONE:
            return answer
        told = Answers(bank, answers.run, {(ONE, 2): (answer,)})
        return forge(told)

    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=2))
    bank.wire.change = lie
    try:
        run._sum(first(run))
    finally:
        bank.wire.change = lambda _, answer: answer
    with reading(bank.home.database) as connection:
        (only,) = store.rounds(connection, run.run)
        outcomes = {p.node: p.outcome for p in parts.parts(connection, run.run)}
        accepts = [
            entry.body["node"]
            for entry in bank.home.release_log.of_type(connection, "accept")
            if entry.body["run"] == run.run
        ]
        receipt = store.find_receipt(connection, run.run, 1, ONE)
    assert outcomes == {ONE: code, "node-2": "answered", "node-3": "answered"}
    assert (only.survivors, accepts, receipt) == (2, ["node-2", "node-3"], None)


def test_a_node_that_was_revoked_is_not_counted_whatever_it_proves(answers: Answers) -> None:
    *rest, charter, roster, reference = answers.asked[ONE, 2]
    revoked = revoke_member(charter, ONE, answers.bank.world.clock())
    with pytest.raises(HejinError) as refused:
        read_answer(*rest, revoked, roster, reference)
    assert refused.value.code == "not-a-member"
