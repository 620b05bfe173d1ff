"""The bank's rounds: only proven answers count, totals are kept, a restart goes on."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from bank_world import Bank, open_world

from hejin_coordinator import desk, registry, store
from hejin_coordinator.collecting import Collecting
from hejin_coordinator.errors import RoundFailedError, RoundOpenError
from hejin_coordinator.receipts import receipt_for
from hejin_models.features import FeatureView
from hejin_models.training import train
from hejin_trust.database import reading
from hejin_trust.envelope import (
    NOT_RECEIVED,
    RECEIPT,
    SUM_MASKED,
    EnvelopeError,
    open_envelope,
    seal,
)
from hejin_trust.fleet import Payload


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    with ExitStack() as stack:
        yield open_world(tmp_path, stack)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A bank that many tests propose plans at: founding one costs a second."""
    with ExitStack() as stack:
        yield open_world(tmp_path_factory.mktemp("bank"), stack)


@pytest.fixture
def shared(standing: Bank) -> Bank:
    standing.wire.change = lambda _, answer: answer
    standing.wire.silent.clear()
    return standing


def types(bank: Bank) -> list[str]:
    with reading(bank.home.database) as connection:
        return [str(json.loads(raw)["type"]) for raw in bank.home.release_log.entries(connection)]


def test_a_plan_becomes_a_signed_model_and_every_release_has_its_receipt(bank: Bank) -> None:
    digest = bank.propose(epsilon=20.0)
    run = bank.run(digest)
    result = run.carry_out()
    with reading(bank.home.database) as connection:
        stored = store.find_plan(connection, digest)
    model = registry.register(bank.home, stored, run.run, result)
    assert [found.id for found in registry.models(bank.home)] == [model.id]
    assert registry.find(bank.home, model.id).trained.body() == result.scorecard.body()
    sums = len(stored.plan.sums)
    logged = types(bank)
    assert logged.count("accept") == 3 * sums
    assert logged.count("result") == sums
    assert logged[-1] == "model"
    assert desk.overview(bank.home)[0].done == sums
    for node in bank.nodes.values():
        with reading(node.database) as connection:
            entries = [json.loads(raw) for raw in node.release_log.entries(connection)]
        assert sum(entry["type"] == "receipt" for entry in entries) == sums


def test_a_model_file_that_was_altered_is_not_listed_silently(bank: Bank) -> None:
    digest = bank.propose(epsilon=20.0)
    run = bank.run(digest)
    result = run.carry_out()
    with reading(bank.home.database) as connection:
        stored = store.find_plan(connection, digest)
    model = registry.register(bank.home, stored, run.run, result)
    path = model.folder / "model.json"
    document = json.loads(path.read_bytes())
    payload = bytearray(base64.b64decode(document["payload"]))
    payload[payload.index(b"draft")] ^= 1
    document["payload"] = base64.b64encode(payload).decode()
    path.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True))
    with pytest.raises(EnvelopeError):
        registry.models(bank.home)


def test_a_restarted_bank_goes_on_from_its_stored_totals(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = bank.propose(epsilon=20.0)
    first = bank.run(digest)
    whole = Collecting.fix
    closed = 0

    def stop_after_three(self: Collecting, *arguments: object) -> object:
        nonlocal closed
        if closed == 3:
            raise KeyboardInterrupt
        closed += 1
        return whole(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Collecting, "fix", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            first.carry_out()
    asked = len(bank.wire.asked)
    again = bank.run(digest)
    assert again.run == first.run
    again.carry_out()
    queries = [payload["query"] for _, payload in bank.wire.asked if payload["kind"] == b"query"]
    # Round 4 was asked twice, with the same bytes; rounds 1 to 3 once.
    assert queries[asked - 3 : asked] == queries[asked : asked + 3]
    assert len(set(queries)) == len(bank.run(digest)._plan.sums)
    with reading(bank.home.database) as connection:
        rounds = store.rounds(connection, first.run)
    assert [item.round for item in rounds] == list(range(1, len(rounds) + 1))


def test_a_silent_node_is_left_out_and_gets_a_signed_not_received(bank: Bank) -> None:
    digest = bank.propose(epsilon=20.0, minimum_nodes=2)
    run = bank.run(digest)
    bank.wire.silent.add("node-2")
    run.carry_out()
    node = bank.world.office.charter.member("bank-1")
    word = receipt_for(bank.home, run.run, 1, "node-2")
    opened = open_envelope(word, NOT_RECEIVED, node.identity_key, "bank-1")
    assert opened.body["node"] == "node-2"
    assert (
        open_envelope(
            receipt_for(bank.home, run.run, 1, "node-1"), RECEIPT, node.identity_key
        ).body["node"]
        == "node-1"
    )


def test_too_few_answers_fail_the_round_and_say_who_is_silent(bank: Bank) -> None:
    digest = bank.propose(minimum_nodes=3)
    run = bank.run(digest)
    bank.wire.silent.add("node-3")
    with pytest.raises(RoundFailedError, match="2 of 3 nodes answered, 3 are needed, 1 are silent"):
        run.carry_out()
    assert "result" not in types(bank)
    with pytest.raises(RoundOpenError):
        receipt_for(bank.home, run.run, 1, "node-1")
    bank.wire.silent.clear()
    assert bank.run(digest)._open_run() == run.run


def flip_vector(answer: Payload) -> Payload:
    data = bytearray(answer["vector"])
    data[0] ^= 1
    return {**answer, "vector": bytes(data)}


FORGERIES = {
    "one bit of the vector": flip_vector,
    "a shorter vector": lambda answer: {**answer, "vector": answer["vector"][:-8]},
    "no vector": lambda answer: {k: v for k, v in answer.items() if k != "vector"},
    "no proof": lambda answer: {k: v for k, v in answer.items() if k != "proof"},
    "another entry": lambda answer: {
        **answer, "entry": answer["entry"].replace(b"train", b"trade")
    },
    "no entry": lambda answer: {k: v for k, v in answer.items() if k != "entry"},
    "another checkpoint": lambda answer: {
        **answer, "proof": re.sub(rb"\nindex (\d+)", rb"\nindex 1", answer["proof"])
    },
    "no header": lambda answer: {k: v for k, v in answer.items() if k != "header"},
    "an unknown kind": lambda answer: {"kind": b"hello"},
    "a refusal that nobody signed": lambda answer: {"kind": b"refusal", "refusal": b"{}"},
}  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_an_answer_that_does_not_hold_is_not_added(shared: Bank, forge: object) -> None:
    digest = shared.propose(minimum_nodes=2)
    run = shared.run(digest)
    assert callable(forge)
    shared.wire.change = lambda node, answer: forge(answer) if node == "node-1" else answer
    with reading(shared.home.database) as connection:
        stored = store.find_plan(connection, digest)
    request = next(train(FeatureView.parse(stored.view)))
    run._sum(request)
    with reading(shared.home.database) as connection:
        assert store.rounds(connection, run.run)[0].survivors == 2
        assert store.find_receipt(connection, run.run, 1, "node-1") is None


def test_an_answer_of_another_node_is_not_added(shared: Bank) -> None:
    digest = shared.propose(minimum_nodes=1)
    run = shared.run(digest)
    taken: dict[str, Payload] = {}

    def swap(node: str, answer: Payload) -> Payload:
        taken.setdefault("first", answer)
        return taken["first"]

    shared.wire.change = swap
    with reading(shared.home.database) as connection:
        stored = store.find_plan(connection, digest)
    run._sum(next(train(FeatureView.parse(stored.view))))
    with reading(shared.home.database) as connection:
        assert store.rounds(connection, run.run)[0].survivors == 1


def test_a_header_signed_over_another_reservation_is_not_added(shared: Bank) -> None:
    digest = shared.propose(minimum_nodes=2)
    run = shared.run(digest)
    node = shared.nodes["node-1"]

    def resign(name: str, answer: Payload) -> Payload:
        if name != "node-1":
            return answer
        body = dict(open_envelope(answer["header"], SUM_MASKED, node.identity.public).body)
        body["reservation"] = 0
        return {**answer, "header": seal(SUM_MASKED, body, node.identity, "node-1")}

    shared.wire.change = resign
    with reading(shared.home.database) as connection:
        stored = store.find_plan(connection, digest)
    run._sum(next(train(FeatureView.parse(stored.view))))
    with reading(shared.home.database) as connection:
        assert store.rounds(connection, run.run)[0].survivors == 2


def test_the_total_is_the_wrapped_sum_of_the_vectors(shared: Bank) -> None:
    digest = shared.propose()
    run = shared.run(digest)
    vectors: list[np.ndarray] = []

    def keep(_: str, answer: Payload) -> Payload:
        vectors.append(np.frombuffer(answer["vector"], "<i8"))
        return answer

    shared.wire.change = keep
    with reading(shared.home.database) as connection:
        stored = store.find_plan(connection, digest)
    total = run._sum(next(train(FeatureView.parse(stored.view))))
    # A slow reference in Python's own integers.
    expected = [sum(int(v[i]) for v in vectors) for i in range(len(vectors[0]))]
    assert [round(value * 2**20) for value in total.values] == expected
