"""A bank whose database was restored from a backup stops, and goes on from the mirror's copy."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from bank_world import Bank, lost, open_world, silent
from node_world import BANK

from hejin_coordinator import desk, disputes, registry, store
from hejin_coordinator.errors import RoundUnknownError, RunPausedError
from hejin_coordinator.export import export
from hejin_coordinator.receipts import receipt_for
from hejin_coordinator.recovery import FOLDER, Recovered, recover
from hejin_coordinator.rounds import PlanRun
from hejin_models.features import FeatureView
from hejin_models.training import train
from hejin_privacy.messages import NotReceived, Receipt
from hejin_trust.canonical import time_text
from hejin_trust.database import reading, writing
from hejin_trust.entries import parse
from hejin_trust.envelope import NOT_RECEIVED, RECEIPT, EnvelopeError, open_envelope
from hejin_trust.keys import SigningKey
from hejin_trust.one_history import FrozenError
from hejin_trust.recovering import RecoveryError
from hejin_trust.recovery import Recovery


@dataclass
class Backup:
    """A copy of the bank's database, and the way back to it."""

    bank: Bank
    file: Path

    def restore(self) -> None:
        """Put the copy in the database's place, as an operator does after a disk was lost."""
        home = self.bank.home
        home.database.dispose()
        for path in home.path.glob("coordinator.db*"):
            path.unlink()
        shutil.copy(self.file, home.path / "coordinator.db")


def back_up(bank: Bank) -> Backup:
    file = bank.world.folder / "backup.db"
    source = sqlite3.connect(bank.home.path / "coordinator.db")
    copy = sqlite3.connect(file)
    source.backup(copy)
    source.close()
    copy.close()
    return Backup(bank, file)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    with ExitStack() as stack:
        yield open_world(tmp_path, stack, firms=20)


def sums(run: PlanRun, count: int) -> None:
    """Ask for the first `count` sums that are still to be asked."""
    training = train(FeatureView.parse(run._stored.view))
    request = next(training)
    for _ in range(count - 1):
        request = training.send(run._sum(request))
    run._sum(request)


def approval(bank: Bank, key: SigningKey | None = None, member: str = BANK) -> bytes:
    """Return the regulator's approval of what its mirror holds of the bank now."""
    office = bank.world.office
    return Recovery(
        consortium=office.charter.consortium,
        member=member,
        reason="the disk was lost",
        issued=time_text(bank.world.clock()),
        logs=bank.world.mirror.door(BANK).standing(),
    ).seal(key or office.identity, office.charter.regulator.id)


def recovered(bank: Bank) -> Recovered:
    return recover(bank.home, bank.world.mirror.door(BANK), approval(bank))


def logged(bank: Bank) -> list[tuple[str, dict[str, object]]]:
    with reading(bank.home.database) as connection:
        log = bank.home.release_log
        log.verify(connection)
        return [(entry.type, dict(entry.body)) for entry in map(parse, log.entries(connection))]


def kind(bank: Bank, run: str, number: int, node: str) -> str:
    word, key = receipt_for(bank.home, run, number, node), bank.home.identity.public
    try:
        Receipt.parse(open_envelope(word, RECEIPT, key, BANK).body)
    except EnvelopeError:
        NotReceived.parse(open_envelope(word, NOT_RECEIVED, key, BANK).body)
        return "NotReceived"
    return "Receipt"


def test_a_restored_bank_is_frozen_until_it_recovers(bank: Bank) -> None:
    run = bank.run(bank.propose(epsilon=20.0))
    sums(run, 1)
    backup = back_up(bank)
    sums(run, 2)
    run._witness.refresh()
    backup.restore()
    with pytest.raises(FrozenError, match="put back from a backup"):
        bank.world.witness(bank.home)
    recovered(bank)
    bank.world.witness(bank.home)


def test_every_acceptance_that_was_lost_has_its_receipt_again(bank: Bank) -> None:
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=2))
    sums(run, 1)
    backup = back_up(bank)
    bank.wire.faults["node-3", "query", 3] = lost
    sums(run, 3)
    run._witness.refresh()
    before = logged(bank)
    backup.restore()
    found = recovered(bank)
    assert (found.receipts, found.plans, found.rounds, found.models) == (5, 1, 0, 0)
    after = logged(bank)
    assert after[: len(before)] == before
    ((name, body),) = after[len(before) :]
    assert (name, body["reason"], body["size"]) == (
        "recover",
        "the disk was lost",
        len(before) - found.entries,
    )
    for number, node, word in (
        (1, "node-3", "Receipt"),
        (2, "node-1", "Receipt"),
        (2, "node-3", "Receipt"),
        (3, "node-2", "Receipt"),
        # It came too late, which the bank knows although it lost the round.
        (3, "node-3", "NotReceived"),
    ):
        assert kind(bank, run.run, number, node) == word
    # Nodes that were still to fetch their receipts get and keep them.
    bank.world.witness(bank.home)
    for session in bank.wire.sessions.values():
        session.fetch_receipts()
    for home in bank.nodes.values():
        with reading(home.database) as connection:
            ends = list(home.release_log.of_type(connection, "release", "receipt"))
        assert sum(e.type == "release" for e in ends) == sum(e.type == "receipt" for e in ends)


def test_the_receipts_that_are_signed_again_name_what_was_accepted(bank: Bank) -> None:
    backup = back_up(bank)
    run = bank.run(bank.propose(epsilon=20.0))
    sums(run, 1)
    run._witness.refresh()
    key = bank.home.identity.public
    nodes = sorted(bank.nodes)
    first = [open_envelope(receipt_for(bank.home, run.run, 1, n), RECEIPT, key).body for n in nodes]
    backup.restore()
    recovered(bank)
    again = [open_envelope(receipt_for(bank.home, run.run, 1, n), RECEIPT, key).body for n in nodes]
    told = ("run", "round", "node", "header", "vector")
    assert [[body[f] for f in told] for body in again] == [
        [body[f] for f in told] for body in first
    ]


def test_plans_that_were_not_done_end_and_their_open_rounds_are_burned(bank: Bank) -> None:
    kept = bank.propose(epsilon=20.0)
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=3))
    sums(run, 1)
    bank.wire.faults["node-3", "query", 2] = silent
    with pytest.raises(RunPausedError):
        sums(run, 2)
    backup = back_up(bank)
    bank.propose(epsilon=20.0)  # something that is lost
    bank.world.witness(bank.home)
    backup.restore()
    found = recovered(bank)
    assert (found.plans, found.rounds) == (2, 1)
    with reading(bank.home.database) as connection:
        stored = store.plans(connection)
    assert {each.digest: each.state for each in stored} == {
        kept: "dropped",
        run._stored.digest: "dropped",
    }
    assert all("restored from a backup" in each.error for each in stored)
    assert logged(bank)[-1] == ("burn", {"run": run.run, "round": 2, "giver": "", "taker": ""})
    assert kind(bank, run.run, 2, "node-1") == "NotReceived"
    with pytest.raises(desk.NotStartableError):
        desk.start(bank.home, kept)


def test_a_round_that_was_accepted_and_not_opened_is_burned(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every acceptance has a result or a burn, or verification would name it."""
    backup = back_up(bank)
    run = bank.run(bank.propose(epsilon=20.0))
    with monkeypatch.context() as dying:
        dying.setattr(PlanRun, "_close_round", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sums(run, 1)
    run._witness.refresh()
    backup.restore()
    found = recovered(bank)
    assert (found.receipts, found.rounds) == (3, 1)
    assert logged(bank)[-1][0] == "burn"
    assert kind(bank, run.run, 1, "node-1") == "Receipt"


def test_a_run_that_was_lost_whole_gets_signed_words_only_after_the_recovery(bank: Bank) -> None:
    backup = back_up(bank)
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=3))
    for node in ("node-1", "node-2"):
        bank.wire.faults[node, "query", 1] = lost
    bank.wire.faults["node-3", "query", 1] = silent
    with pytest.raises(RunPausedError):
        sums(run, 1)
    run._witness.refresh()
    backup.restore()
    # A restored bank knows nothing of the run: to say so, signed, would be a lie.
    with pytest.raises(RoundUnknownError):
        receipt_for(bank.home, run.run, 1, "node-1")
    recovered(bank)
    assert kind(bank, run.run, 1, "node-1") == "NotReceived"


def test_a_model_that_is_still_on_disk_is_kept_and_one_that_is_not_is_counted(bank: Bank) -> None:
    backup = back_up(bank)
    models = []
    for _ in range(2):
        digest = bank.propose(epsilon=20.0)
        run = bank.run(digest)
        result = run.carry_out()
        with reading(bank.home.database) as connection:
            stored = store.find_plan(connection, digest)
        models.append(registry.register(bank.home, stored, run.run, result))
    run._witness.refresh()
    shutil.rmtree(models[0].folder)
    backup.restore()
    found = recovered(bank)
    assert (found.models, found.plans) == (1, 0)
    assert [model.id for model in registry.models(bank.home)] == [models[1].id]


def test_a_plan_whose_model_is_on_disk_is_done(bank: Bank) -> None:
    digest = bank.propose(epsilon=20.0)
    backup = back_up(bank)
    run = bank.run(digest)
    result = run.carry_out()
    with reading(bank.home.database) as connection:
        stored = store.find_plan(connection, digest)
    registry.register(bank.home, stored, run.run, result)
    run._witness.refresh()
    backup.restore()
    found = recovered(bank)
    assert (found.models, found.plans) == (0, 0)
    with reading(bank.home.database) as connection:
        assert store.find_plan(connection, digest).state == "done"


def test_nodes_in_dispute_stay_out_after_a_recovery(bank: Bank) -> None:
    backup = back_up(bank)
    burned = {"run": "ab" * 16, "round": 1, "giver": "node-1", "taker": "node-2"}
    with writing(bank.home.database) as connection:
        bank.home.release_log.append(connection, "burn", burned)
    bank.world.witness(bank.home)
    backup.restore()
    recovered(bank)
    with reading(bank.home.database) as connection:
        assert disputes.left_out(connection) == {"node-1", "node-2"}


def test_the_approval_is_kept_for_the_export(bank: Bank, tmp_path: Path) -> None:
    backup = back_up(bank)
    bank.propose(epsilon=20.0)
    bank.world.witness(bank.home)
    backup.restore()
    signed = approval(bank)
    recover(bank.home, bank.world.mirror.door(BANK), signed)
    digest = Recovery.parse(signed, bank.home.charter).digest
    own = export(bank.home, tmp_path / "export")
    assert (own / "documents" / f"{digest}.json").read_bytes() == signed
    # The plan was lost with the database.
    assert [path.name for path in (own / "documents").iterdir()] == [f"{digest}.json"]


def lose(bank: Bank, entries: int = 1) -> None:
    """Restore a backup that lacks some entries."""
    backup = back_up(bank)
    for _ in range(entries):
        bank.propose(epsilon=20.0)
    bank.world.witness(bank.home)
    backup.restore()


def test_without_the_regulators_signature_nothing_is_recovered(bank: Bank) -> None:
    lose(bank)
    door = bank.world.mirror.door(BANK)
    with pytest.raises(EnvelopeError):
        recover(bank.home, door, approval(bank, key=SigningKey.generate()))
    with pytest.raises(RecoveryError, match="the approval is for node-1"):
        recover(bank.home, door, approval(bank, member="node-1"))
    assert [name for name, _ in logged(bank)] == ["genesis"]


def test_a_bank_that_went_on_by_itself_after_the_restore_is_refused(bank: Bank) -> None:
    lose(bank, 2)
    with writing(bank.home.database) as connection:
        burned = {"run": "ab" * 16, "round": 1, "giver": "", "taker": ""}
        bank.home.release_log.append(connection, "burn", burned)
    with pytest.raises(RecoveryError, match="restore the backup anew"):
        recovered(bank)
    assert [name for name, _ in logged(bank)] == ["genesis", "burn"]
    assert not (bank.home.path / FOLDER).exists()


def test_a_bank_that_lacks_nothing_has_nothing_to_recover(bank: Bank) -> None:
    bank.world.witness(bank.home)
    with pytest.raises(RecoveryError, match="nothing is missing"):
        recovered(bank)
