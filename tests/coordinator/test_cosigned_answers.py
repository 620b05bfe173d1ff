"""A node's proof counts only under the regulator's cosignature, and only for ten minutes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bank_world import Bank, open_world

from hejin_coordinator import collecting, parts, store
from hejin_coordinator.answers import Accepted, read_answer
from hejin_coordinator.errors import CosignatureMissingError, CosignatureStaleError, RunPausedError
from hejin_models.features import FeatureView
from hejin_models.training import train
from hejin_trust.checkpoint import format_proof, parse_proof, split_note
from hejin_trust.cosignature import cosign, open_cosigned, witness_name
from hejin_trust.database import reading
from hejin_trust.fleet import Payload
from hejin_trust.keys import SigningKey
from hejin_trust.origins import release_origin
from hejin_trust.witness import ClockOffError


@dataclass
class Answer:
    """An honest answer of node-1, and what the bank compared it with."""

    bank: Bank
    arguments: tuple[Any, ...]

    def read(
        self,
        change: Callable[[str], str] = lambda note: note,
        at: timedelta = timedelta(0),
    ) -> Accepted:
        """Read the answer with another note under its proof, at a time after the cosignature."""
        payload, *rest = self.arguments[:-1]
        proof = parse_proof(payload["proof"].decode())
        note = change(proof.checkpoint)
        changed = {**payload, "proof": format_proof(proof.index, proof.path, note).encode()}
        return read_answer(changed, *rest, lambda: self.cosigned(proof.checkpoint) + at)

    def cosigned(self, note: str) -> datetime:
        charter = self.bank.home.charter
        regulator, node = charter.regulator, charter.member("node-1")
        return open_cosigned(
            note,
            release_origin(charter.consortium, "node", "node-1"),
            node.log_key,
            witness_name(charter.consortium, regulator.id),
            regulator.log_key,
        ).time


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answer]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        bank = open_world(tmp_path_factory.mktemp("bank"), stack, firms=20)
        kept: list[tuple[Any, ...]] = []

        def keep(*arguments: Any) -> Accepted:
            kept.append(arguments)
            return read_answer(*arguments)

        patch.setattr(collecting, "read_answer", keep)
        run = bank.run(bank.propose(epsilon=20.0))
        run._sum(next(train(FeatureView.parse(run._stored.view))))
        yield Answer(bank, next(each for each in kept if each[1] == "node-1"))


def without_cosignature(note: str) -> str:
    """Return a note with its log's own signature alone."""
    text, tail = split_note(note)
    return f"{text}\n{tail.splitlines(keepends=True)[0]}"


def test_an_answer_proved_in_a_cosigned_log_is_accepted(answer: Answer) -> None:
    accepted = answer.read()
    assert accepted.node == "node-1"
    assert accepted.proven.size > accepted.header.reservation


def test_a_proof_without_the_regulators_cosignature_is_refused(answer: Answer) -> None:
    with pytest.raises(CosignatureMissingError, match="not cosigned") as refused:
        answer.read(without_cosignature)
    assert refused.value.code == "cosignature-missing"


def test_a_cosignature_of_somebody_else_is_none(answer: Answer) -> None:
    charter, at = answer.bank.home.charter, answer.bank.world.clock()
    name = witness_name(charter.consortium, charter.regulator.id)
    stranger = SigningKey.generate()
    for signed_as, key in (
        (name, stranger),
        (witness_name(charter.consortium, "node-2"), stranger),
        (name, answer.bank.home.identity),
        # The regulator's other key signs documents, not logs.
        (name, answer.bank.world.office.identity),
    ):
        with pytest.raises(CosignatureMissingError):
            answer.read(
                lambda note, name=signed_as, key=key: (
                    without_cosignature(note) + cosign(note, name, key, at)
                )
            )


def test_a_cosignature_of_another_checkpoint_is_none(answer: Answer) -> None:
    def older(note: str) -> str:
        text, tail = split_note(note)
        own, other = tail.splitlines(keepends=True)
        name, data = other.split(" ")[1], base64.b64decode(other.split(" ")[2])
        stamp = (int.from_bytes(data[4:12], "big") - 1).to_bytes(8, "big")
        forged = base64.b64encode(data[:4] + stamp + data[12:]).decode()
        return f"{text}\n{own}— {name} {forged}\n"

    with pytest.raises(CosignatureMissingError):
        answer.read(older)


def test_a_cosignature_holds_for_ten_minutes_and_no_longer(answer: Answer) -> None:
    answer.read(at=timedelta(minutes=10))
    with pytest.raises(CosignatureStaleError, match=r"601 s old, at most 600 s") as refused:
        answer.read(at=timedelta(minutes=10, seconds=1))
    assert refused.value.code == "cosignature-stale"


def test_a_cosignature_from_the_future_names_the_clock_to_set(answer: Answer) -> None:
    answer.read(at=timedelta(seconds=-120))
    with pytest.raises(ClockOffError, match="set this bank's clock") as refused:
        answer.read(at=timedelta(seconds=-121))
    assert refused.value.code == "clock-off"


def test_a_stale_answer_is_asked_for_again_and_comes_with_a_fresh_proof(tmp_path: Path) -> None:
    """The bytes are the same; nothing is charged twice."""
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, firms=20)
        sent: list[Payload] = []

        def slow(node: str, payload: Payload) -> Payload:
            if node == "node-1":
                sent.append(payload)
                if len(sent) == 1:
                    bank.world.clock.turn(timedelta(minutes=11))
            return payload

        bank.wire.change = slow
        run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=3))
        request = next(train(FeatureView.parse(run._stored.view)))
        with pytest.raises(RunPausedError, match="660 s old"):
            run._sum(request)
        run._sum(request)
        first, second = sent
        assert {**first, "proof": b""} == {**second, "proof": b""}
        assert first["proof"] != second["proof"]
        with reading(bank.home.database) as connection:
            (only,) = store.rounds(connection, run.run)
            outcomes = {p.node: p.outcome for p in parts.parts(connection, run.run)}
        assert (only.survivors, only.burned) == (3, "")
        assert outcomes == dict.fromkeys(bank.nodes, "answered")


def test_the_banks_own_clock_is_corrected_by_its_offset_to_the_regulator(tmp_path: Path) -> None:
    """A bank that is 100 s behind judges a cosignature as the regulator would."""
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, firms=20)
        run = bank.run(bank.propose(epsilon=20.0))
        run._witness.offset = timedelta(seconds=100)
        assert run._regulator_time() == bank.home.now() + timedelta(seconds=100)
