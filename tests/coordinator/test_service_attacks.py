"""What a node may tell the bank's own services, and ask of them: all else is refused by code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import grpc
import pytest
from bank_world import Bank, open_world

from hejin.v1 import coordinator_pb2 as pb
from hejin_coordinator import store
from hejin_coordinator.rounds import PlanRun
from hejin_coordinator.service import PlanServicer, ReceiptServicer
from hejin_models.features import FeatureView
from hejin_models.training import train
from hejin_privacy.messages import MAX_ROUND, NotReceived
from hejin_trust import envelope
from hejin_trust.canonical import time_text
from hejin_trust.channels import as_peer
from hejin_trust.database import reading, writing
from hejin_trust.envelope import APPROVAL, NOT_RECEIVED, REFUSAL, open_envelope, seal

ONE, TWO = "node-1", "node-2"


class EndedError(Exception):
    """A call was ended by the servicer."""


@dataclass
class Call:
    """The side of a call that a servicer sees."""

    told: dict[str, Any] = field(default_factory=dict)

    def set_trailing_metadata(self, pairs: tuple[tuple[str, Any], ...]) -> None:
        self.told.update(pairs)

    def abort(self, status: grpc.StatusCode, said: str) -> NoReturn:
        self.told.update(status=status, said=said)
        raise EndedError


@dataclass
class Desk:
    """A bank with two plans: one that waits for answers, and a run of which a round is done."""

    bank: Bank
    waits: str
    run: PlanRun

    def ask(self, node: str, method: Callable[..., Any], request: object) -> Any:
        """Return the answer to a node's call, or the code that it was refused with."""
        call = Call()
        with as_peer(self.bank.home.charter.member(node)):
            try:
                return method(request, cast("Any", call))
            except EndedError:
                assert call.told["status"] is grpc.StatusCode.FAILED_PRECONDITION
                return call.told["hejin-code"]

    def answer(self, document: bytes, node: str = ONE) -> Any:
        servicer = PlanServicer(self.bank.home)
        return self.ask(node, servicer.AnswerOffer, pb.AnswerOfferRequest(answer=document))

    def receipt(self, run: str, number: int, node: str = ONE) -> Any:
        servicer = ReceiptServicer(self.bank.home, self.run._witness)
        return self.ask(node, servicer.GetReceipt, pb.GetReceiptRequest(run=run, round=number))

    def answers(self) -> dict[str, bool]:
        with reading(self.bank.home.database) as connection:
            return store.answers(connection, self.waits)

    def body(self, **changes: object) -> dict[str, object]:
        at = time_text(self.bank.home.now())
        return {"v": 1, "plan": self.waits, "bank": "bank-1", "time": at, **changes}

    def sealed(self, kind: str = APPROVAL, node: str = ONE, **changes: object) -> bytes:
        return seal(kind, self.body(**changes), self.bank.nodes[node].identity, node)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with ExitStack() as stack:
        bank = open_world(tmp_path_factory.mktemp("bank"), stack, firms=20)
        run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=2))
        bank.wire.silent.add("node-3")
        run._sum(next(train(FeatureView.parse(run._stored.view))))
        waits = bank.propose(epsilon=20.0)
        with writing(bank.home.database) as connection:
            connection.execute(store.answer_table.delete())
        yield Desk(bank, waits, run)


Forge = Callable[[Desk], bytes]

ANSWERS: dict[str, tuple[Forge, str]] = {
    "nothing": (lambda _: b"", "bad-envelope"),
    "a deep document": (lambda _: b'{"a":' * 50_000, "bad-envelope"),
    "two megabytes": (lambda _: b"{" + b" " * (2 << 20), "bad-envelope"),
    "another node's approval": (lambda d: d.sealed(node=TWO), "bad-envelope"),
    "an approval in another node's name": (
        lambda d: seal(APPROVAL, d.body(), d.bank.nodes[ONE].identity, TWO),
        "bad-envelope",
    ),
    "an approval by the log key": (
        lambda d: seal(APPROVAL, d.body(), d.bank.nodes[ONE].membership.log_key, ONE),
        "bad-envelope",
    ),
    "an approval of an unknown plan": (lambda d: d.sealed(plan="0" * 64), "plan-unknown"),
    "an approval of the beginning of a hash": (
        lambda d: d.sealed(plan=d.waits[:16]),
        "plan-unknown",
    ),
    "an approval of every plan": (lambda d: d.sealed(plan=""), "plan-unknown"),
    "an approval by a wildcard": (lambda d: d.sealed(plan="%" * 64), "plan-unknown"),
    "an approval without a plan": (
        lambda d: seal(APPROVAL, {"v": 1}, d.bank.nodes[ONE].identity, ONE),
        "bad-document",
    ),
    "a refusal of a query": (lambda d: d.sealed(REFUSAL, request="0" * 64), "plan-unknown"),
    **{
        f"a signed {kind}": (
            lambda d, kind=kind: d.sealed(kind),  # type: ignore[misc]
            "bad-envelope",
        )
        for kind in sorted(envelope.PAYLOAD_TYPES - {APPROVAL, REFUSAL})
    },
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_to_a_plan_that_its_node_did_not_sign_so_is_refused(
    desk: Desk, case: tuple[Forge, str]
) -> None:
    forge, code = case
    assert desk.answer(forge(desk)) == code
    assert desk.answers() == {}


RECEIPTS: dict[str, tuple[Callable[[Desk], tuple[str, int]], str]] = {
    "an unknown run": (lambda _: ("ab" * 16, 1), "round-unknown"),
    "no run": (lambda _: ("", 1), "bad-document"),
    "a run that is a path": (lambda _: ("../../keys/identity.key", 1), "bad-document"),
    "a run of a megabyte": (lambda _: ("a" * (1 << 20), 1), "bad-document"),
    "round 0": (lambda d: (d.run.run, 0), "bad-document"),
    "a round beyond all": (lambda d: (d.run.run, 2**32 - 1), "bad-document"),
    "a round that was not asked": (lambda d: (d.run.run, 2), "round-unknown"),
}


@pytest.mark.parametrize("case", RECEIPTS.values(), ids=RECEIPTS.keys())
@pytest.mark.parametrize("state", ["running", "done", "dropped"])
def test_a_word_on_what_was_never_asked_is_refused_or_says_that_nothing_came(
    desk: Desk, case: tuple[Callable[[Desk], tuple[str, int]], str], state: store.PlanState
) -> None:
    of, code = case
    run, number = of(desk)
    with writing(desk.bank.home.database) as connection:
        store.set_state(connection, desk.run._stored.digest, state)
    told = desk.receipt(run, number)
    if state != "running" and (run, number) == (desk.run.run, 2):
        # The run is over: a round that it never asked received nothing.
        opened = open_envelope(told.receipt, NOT_RECEIVED, desk.bank.home.identity.public)
        assert NotReceived.parse(opened.body).round == number <= MAX_ROUND
    else:
        assert told == code


def test_a_node_gets_its_own_receipt_and_no_other_s(desk: Desk) -> None:
    for node in (ONE, TWO):
        told = desk.receipt(desk.run.run, 1, node).receipt
        body = open_envelope(told, envelope.RECEIPT, desk.bank.home.identity.public).body
        assert body["node"] == node
    told = desk.receipt(desk.run.run, 1, "node-3").receipt
    body = open_envelope(told, NOT_RECEIVED, desk.bank.home.identity.public).body
    assert body["node"] == "node-3"


def test_the_first_answer_stands(desk: Desk) -> None:
    assert isinstance(desk.answer(desk.sealed()), pb.AnswerOfferResponse)
    changed = desk.sealed(REFUSAL, request=desk.waits, code="x", reason={"en": "", "zh": ""})
    assert isinstance(desk.answer(changed), pb.AnswerOfferResponse)
    assert desk.answers() == {ONE: True}
    with writing(desk.bank.home.database) as connection:
        connection.execute(store.answer_table.delete())
