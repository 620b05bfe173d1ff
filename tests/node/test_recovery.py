"""A node that was restored from a backup: it stops, and goes on from the mirror's copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from authorisation_world import record_of, sign
from bank_world import open_world
from bent_mirror import (
    check_order,
    copy_database,
    copy_open_database,
    internal_log,
    is_level,
    lose_database,
    put_database,
    release_log,
)
from node_world import BANK, World, approved, fill, found_world, terms
from recovery_world import approval, recovery
from witnessed_node import Node, code, opened

from hejin_coordinator.receipts import receipt_for
from hejin_models.features import FeatureView
from hejin_models.training import train
from hejin_models.uscc import make_code
from hejin_node import account, consent, inbox, offers, signed
from hejin_node.account import Reservation
from hejin_node.consent import grant, grant_many, revoke
from hejin_node.errors import ManifestLostError
from hejin_node.home import NodeHome, open_home
from hejin_node.receipts import ReceiptWrongError, collect
from hejin_node.recovery import FOLDER, Recovered, recover
from hejin_node.results import void_interrupted
from hejin_node.session import Session
from hejin_privacy.messages import NotReceived, Receipt
from hejin_trust import witness
from hejin_trust.canonical import time_text
from hejin_trust.channels import PeerUnreachable
from hejin_trust.database import reading, writing
from hejin_trust.entries import parse
from hejin_trust.envelope import NOT_RECEIVED, RECEIPT, SUM_MASKED, open_envelope, seal
from hejin_trust.errors import HejinError
from hejin_trust.fleet import Payload
from hejin_trust.keys import SigningKey
from hejin_trust.mirroring import LogUpdate
from hejin_trust.one_history import FrozenError
from hejin_trust.recovering import RecoveryError
from hejin_trust.recovery import Recovery

A, B, C, D = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)
SUMS = [("histogram", "train")] * 4


@dataclass
class Desk:
    """The bank's word on what it received, from its own books and not from the node's."""

    world: World
    given: dict[tuple[str, int], Payload] = field(default_factory=dict)
    silent: set[tuple[str, int]] = field(default_factory=set)
    denied: set[tuple[str, int]] = field(default_factory=set)
    changes: dict[str, str] = field(default_factory=dict)

    def __call__(self, run: str, number: int) -> bytes:
        place = (run, number)
        key = self.world.bank.identity
        if place in self.denied:
            body = NotReceived(run, number, "node-1", time_text(self.world.clock())).body()
            return seal(NOT_RECEIVED, {**body, **self.changes}, key, BANK)
        if place not in self.given or place in self.silent:
            raise PeerUnreachable("the bank does not answer", "银行没有应答")
        answer = self.given[place]
        node = self.world.office.charter.member("node-1")
        opened = open_envelope(answer["header"], SUM_MASKED, node.identity_key)
        receipt = Receipt(
            run=run,
            round=number,
            node="node-1",
            header=opened.digest,
            vector=str(opened.body["vector"]),
            checkpoint=self.world.bank_checkpoint(),
            time=time_text(self.world.clock()),
        )
        return seal(RECEIPT, {**receipt.body(), **self.changes}, key, BANK)


@dataclass
class Story:
    """What a node and a bank did before and after a backup was taken, and what the node knew.

    queries   what the bank asked, by (run, round), to be asked again
    """

    world: World
    desk: Desk
    folder: Path
    plans: dict[str, tuple[Any, str]] = field(default_factory=dict)
    queries: dict[tuple[str, int], Payload] = field(default_factory=dict)
    named: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)

    def plan(self, node: Node, run: str, rho: Fraction = Fraction(1, 20)) -> None:
        self.plans[run] = approved(node.home, self.world, rho=rho, sums=SUMS)

    def query(self, run: str, number: int) -> Payload:
        plan, digest = self.plans[run]
        result, named = self.named.get(run, (b"", ""))
        made = self.world.query(
            plan, digest, run=run, number=number, index=number - 1, previous=named, result=result
        )
        return self.queries.setdefault((run, number), made)

    def round(self, node: Node, run: str, number: int) -> None:
        """Let the bank ask one round and get its answer."""
        answer = node.session.answer(self.query(run, number))
        assert answer["kind"] == b"masked", code(answer, node.home)
        self.desk.given[run, number] = answer
        self.named[run] = self.world.result(answer)

    @contextmanager
    def opened(self) -> Iterator[Node]:
        with opened(self.world, fetch=self.desk) as node:
            yield node

    def backup(self) -> Path:
        return copy_database(self.world.nodes["node-1"], self.folder / "backup.db")

    def put_back(self, copy: Path) -> None:
        put_database(copy, self.world.nodes["node-1"])

    @contextmanager
    def recovered(self, signed: bytes | None = None) -> Iterator[tuple[NodeHome, Recovered]]:
        """Open the node and let it recover."""
        with open_home(self.world.nodes["node-1"], self.world.clock) as home:
            found = recover(home, self.world.mirror.door("node-1"), signed or approval(self.world))
            yield home, found


def all_of(home: NodeHome) -> dict[str, Any]:
    """Return what the node knows of its account and its authorisations."""
    period = home.charter.period_from
    with reading(home.database) as connection:
        reservations = {each.seq: each for each in account._load(connection)}
        plans = {each.plan for each in reservations.values()}
        return {
            "reservations": reservations,
            "spent": account.spent(connection, period),
            "of the bank": account.spent(connection, period, bank=BANK),
            "alone": account.alone_spent(connection, period),
            "plans": {plan: account.spent_by_plan(connection, plan) for plan in plans},
            "authorisations": {each.seq: each for each in consent.authorisations(connection)},
            "owed": [each.seq for each in account.without_receipt(connection, BANK)],
            "release": list(home.release_log.entries(connection)),
            "internal": list(home.internal_log.entries(connection)),
        }


@pytest.fixture
def story(tmp_path: Path) -> Story:
    world = found_world(tmp_path)
    return Story(world, Desk(world), tmp_path)


@pytest.fixture
def told(story: Story) -> Story:
    """A long story: the database of the backup is in place, the newest is gone."""
    with story.opened() as node:
        fill(node.home, story.world)
        for run in (A, B):
            story.plan(node, run)
        story.desk.silent.add((A, 1))
        story.round(node, A, 1)
        node.witness.refresh()
    copy = story.backup()
    with story.opened() as node:
        story.desk.silent.clear()
        story.round(node, A, 2)  # brings the receipt and the result of round 1
        with writing(node.home.database) as connection:
            log, key = node.home.internal_log, node.home.pseudonym_key
            for number in (3, 4):
                revoke(connection, log, "asked to", code=make_code(number))
            # One who is known here allows again, another is new since the backup.
            paper = replace(terms(story.world), document="2" * 64)
            new = [(make_code(number), paper) for number in (3, 50, 51)]
            grant_many(connection, log, key, new)
            revoke(connection, log, "asked to", code=make_code(51))
        story.plan(node, C)
        interrupt(node, story, C)
        story.desk.silent.add((B, 1))
        story.round(node, B, 1)
        node.session.fetch_receipts()
        node.witness.refresh()
        # The last reservation is cosigned and its answer leaves; the mirror hears no more.
        node.mirror.after = lambda: setattr(node.mirror, "down", True)
        story.desk.silent.add((A, 3))
        story.round(node, A, 3)
        assert release_log(node.home)[-1].type == "release"
        story.known = all_of(node.home)
    story.put_back(copy)
    return story


def interrupt(node: Node, story: Story, run: str) -> None:
    """Let the node fail between reservation and release: it voids."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Session, "_compute", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            node.session.answer(story.query(run, 1))


def without_end(known: Reservation) -> dict[str, object]:
    """Return what of a reservation never changes."""
    fields = asdict(known)
    for name in ("state", "header_digest", "vector_digest", "header", "vector", "ciphertexts",
                 "receipt"):  # fmt: skip
        del fields[name]
    return fields


# -- it stops -----------------------------------------------------------------------------


def test_a_restored_node_does_not_start_and_appends_nothing(told: Story) -> None:
    with open_home(told.world.nodes["node-1"], told.world.clock) as home:
        before = all_of(home)
        with pytest.raises(FrozenError) as frozen:
            told.world.witness(home)
        assert frozen.value.exit_code == 3
        assert all_of(home) == before


def test_a_restored_node_that_serves_all_the_same_answers_nothing_and_appends_nothing(
    told: Story,
) -> None:
    with open_home(told.world.nodes["node-1"], told.world.clock) as home:
        before = all_of(home)
        watch = witness.Witness(home, told.world.mirror.door("node-1"))
        session = Session(home, BANK, watch, told.desk)
        assert code(session.answer(told.queries[A, 2]), home) == "frozen"
        assert code(session.answer(told.query(B, 1)), home) == "frozen"
        assert all_of(home) == before


# -- it goes on ---------------------------------------------------------------------------


def test_the_account_is_what_it_was_to_the_last_digit(told: Story) -> None:
    with told.recovered() as (home, found):
        now = all_of(home)
        known = told.known
        for name in ("spent", "of the bank", "alone", "plans"):
            assert now[name] == known[name], name
        assert now["spent"] > 0
        assert now["reservations"].keys() == known["reservations"].keys()
        for seq, before in known["reservations"].items():
            assert without_end(now["reservations"][seq]) == without_end(before)
        assert found.reservations == 4  # A2, C1 (void), B1, A3


def test_receipts_that_were_given_and_receipts_that_are_owed_are_as_they_were(
    told: Story,
) -> None:
    with told.recovered() as (home, _):
        now, known = all_of(home), told.known
        assert now["owed"] == known["owed"]
        for seq, before in known["reservations"].items():
            after = now["reservations"][seq]
            assert after.receipt == before.receipt
            if after.state == "lost":
                assert before.state == "released", "only what the mirror does not hold is lost"
                assert (after.run, after.round) == (A, 3)
                continue
            assert (after.state, after.header_digest, after.vector_digest) == (
                before.state,
                before.header_digest,
                before.vector_digest,
            )
            if before.run != A or before.round != 1:  # the bytes of round 1 are in the backup
                assert after.vector is None
        states = [each.state for each in now["reservations"].values()]
        assert sorted(states) == ["lost", "released", "released", "released", "void"]


def test_keys_and_signatures_of_enterprises_are_put_back(story: Story) -> None:
    """The record itself is in no log: the enterprise's copy of it is."""
    enterprise, code = SigningKey.generate(), make_code(3)
    with story.opened() as node:
        fill(node.home, story.world)
        node.witness.refresh()
    copy = story.backup()
    with story.opened() as node:
        home = node.home
        record = record_of(home, story.world, code)
        given = sign(home, record, enterprise)
        with writing(home.database) as connection:
            log, key = home.internal_log, home.pseudonym_key
            seq = grant(connection, log, key, code, record.terms, given)
        node.witness.refresh()
    story.put_back(copy)
    with story.recovered() as (home, found), reading(home.database) as connection:
        assert (found.authorisations, found.lapsed) == (1, 0)
        assert [one.key for one in signed.keys(connection, code)] == [enterprise.public.hex()]
        assert signed.find_signed(connection, seq, code, record.terms.document) is None
        assert consent.find_grant(connection, seq).terms == record.terms
    with open_home(story.world.nodes["node-1"], story.world.clock) as home:
        with writing(home.database) as connection:
            signed.keep_record(connection, record)
        with reading(home.database) as connection:
            assert signed.find_signed(connection, seq, code, record.terms.document) == given


def test_authorisations_and_their_ends_are_put_back(told: Story) -> None:
    with told.recovered() as (home, found):
        now, known = all_of(home)["authorisations"], told.known["authorisations"]
        unknown = {
            seq for seq, each in known.items() if each.code in (make_code(50), make_code(51))
        }
        assert now == {seq: each for seq, each in known.items() if seq not in unknown}
        assert (found.authorisations, found.lapsed) == (1, 1)
        with reading(home.database) as connection:
            inforce = {each.code for each in consent.authorisations(connection, at=home.now())}
        # 3 has allowed again, 4 has revoked, 50 must be granted again.
        assert make_code(3) in inforce
        assert inforce.isdisjoint({make_code(4), make_code(50), make_code(51)})
        (still,) = [seq for seq in unknown if known[seq].revoked_seq is None]
        revoked = [each for each in internal_log(home) if each.type == "authorisation.revoke"]
        assert revoked[-1].body == {"grant": still, "reason": "lost with the database"}
        assert [each.body["grant"] for each in revoked].count(still) == 1


def test_both_logs_are_what_the_mirror_holds_and_then_say_what_happened(told: Story) -> None:
    held = {
        log.origin: told.world.mirror.door("node-1").entries(log.origin, 0)
        for log in told.world.mirror.door("node-1").standing()
    }
    signed = approval(told.world)
    digest = recovery_digest(told.world, signed)
    with told.recovered(signed) as (home, found):
        for log, entries in ((home.release_log, release_log(home)),
                             (home.internal_log, internal_log(home))):  # fmt: skip
            raw = tuple(entry.raw for entry in entries)
            assert raw[: len(held[log.origin])] == held[log.origin]
            assert entries[-1].type == "recover"
            assert entries[-1].body["approval"] == digest
            assert entries[-1].body["reason"] == "its disk failed"
        assert (home.path / FOLDER / f"{digest}.json").read_bytes() == signed
        home.verify_logs()
        told.world.witness(home)
        assert is_level(told.world, home)
        assert found.entries > 10
        check_order(told.world, home)


def recovery_digest(world: World, signed: bytes) -> str:
    return Recovery.parse(signed, world.office.charter).digest


def test_every_run_that_was_open_has_ended_and_nothing_of_it_is_answered(told: Story) -> None:
    with told.recovered() as (_, found):
        assert found.runs == 3
        assert found.unknown == 1
    before = told.known["spent"]
    with told.opened() as node:
        void_interrupted(node.home)
        refused = {place: node.ask(query) for place, query in told.queries.items()}
        # Round 1 of A: its bytes are in the backup, but the bank has signed for them.
        assert refused == {
            place: "plan-unknown" if place == (C, 1) else "round-void" for place in told.queries
        }
        assert node.ask(told.query(A, 4)) == "query-out-of-order"
        assert node.ask(told.query(B, 2)) == "query-out-of-order"
        assert node.ask(told.query(C, 2)) == "plan-unknown"
        result, _ = told.named[A]
        over = node.session.answer({"kind": b"result", "result": result})
        assert code(over, node.home) == "query-out-of-order"
        assert node.spent() == before
        assert node.types()[-1] == "recover"


def test_the_bank_may_go_on_with_a_new_plan_once_it_has_given_its_word(told: Story) -> None:
    with told.recovered():
        pass
    with told.opened() as node:
        told.plan(node, D)
        assert node.ask(told.query(D, 1)) == "receipt-missing"  # of B1 and A3
        told.desk.silent.clear()
        told.round(node, D, 1)
        assert node.spent() > told.known["spent"]
        assert [each.state for each in node.reservations()].count("lost") == 0
        check_order(told.world, node.home)


def test_the_banks_receipt_tells_that_a_lost_reservation_was_released(told: Story) -> None:
    (before,) = [r for r in told.known["reservations"].values() if (r.run, r.round) == (A, 3)]
    with told.recovered():
        pass
    with told.opened() as node:
        node.session.fetch_receipts()
        assert node.state(3, A) == "lost"
        told.desk.silent.clear()
        node.session.fetch_receipts()
        assert node.state(3, A) == "released"
        release, receipt = [e for e in release_log(node.home) if e.body.get("run") == A][-2:]
        assert (release.type, receipt.type) == ("release", "receipt")
        # The very entry that the lost log had, at a later place.
        assert release.body == release_body(told, before)
        assert receipt.body["reservation"] == before.seq
        (after,) = [r for r in node.reservations() if r.seq == before.seq]
        assert (after.header_digest, after.vector_digest) == (
            before.header_digest,
            before.vector_digest,
        )
        assert after.receipt is not None
        assert node.spent() == told.known["spent"]
        node.session.fetch_receipts()
        assert [e.type for e in release_log(node.home)].count("receipt") == 4
        check_order(told.world, node.home)


def release_body(told: Story, of: Reservation) -> dict[str, object]:
    for raw in told.known["release"]:
        entry = parse(raw)
        if entry.type == "release" and entry.body["reservation"] == of.seq:
            return dict(entry.body)
    raise AssertionError("never released")


def test_the_banks_word_that_it_received_nothing_voids_a_lost_reservation(told: Story) -> None:
    with told.recovered():
        pass
    told.desk.silent.clear()
    told.desk.denied.add((A, 3))
    with told.opened() as node:
        node.session.fetch_receipts()
        assert node.state(3, A) == "void"
        voids = [e for e in release_log(node.home) if e.type == "void"]
        assert voids[-1].body["reason"] == "recovered"
        assert node.spent() == told.known["spent"]
        with reading(node.home.database) as connection:
            assert account.without_receipt(connection, BANK) == []


@pytest.mark.parametrize(
    "changes",
    [{"node": "node-2"}, {"round": 2}, {"run": B}, {"checkpoint": "note"}],
    ids=["another node", "another round", "another run", "no checkpoint"],
)
def test_a_word_on_a_lost_reservation_that_is_of_something_else_ends_nothing(
    told: Story, changes: dict[str, Any]
) -> None:
    with told.recovered():
        pass
    told.desk.silent = {(B, 1)}
    told.desk.changes = changes
    with told.opened() as node:
        before = node.types()
        node.session.fetch_receipts()
        assert node.state(3, A) == "lost"
        assert node.types() == before
        if "checkpoint" not in changes:
            told.desk.denied.add((A, 3))
            node.session.fetch_receipts()
            assert node.state(3, A) == "lost"


def test_a_node_that_was_recovered_is_recovered_again(told: Story) -> None:
    """Backups from before and after the first recovery, and from between it and the bank's word."""
    with told.recovered() as (home, _):
        told.world.witness(home)
    copy = told.backup()
    with told.opened() as node:
        told.desk.silent.clear()
        node.session.fetch_receipts()
        told.plan(node, D)
        told.round(node, D, 1)
        node.session.fetch_receipts()
        node.witness.refresh()
        known = all_of(node.home)
    told.put_back(copy)
    with told.recovered() as (home, found):
        now = all_of(home)
        assert now["spent"] == known["spent"]
        states = {seq: each.state for seq, each in known["reservations"].items()}
        assert {seq: each.state for seq, each in now["reservations"].items()} == states
        assert found.unknown == 0
        told.world.witness(home)
        assert is_level(told.world, home)
    # The very first backup again: two recoveries lie in what it lacks.
    told.put_back(told.folder / "backup.db")
    with told.recovered() as (home, _):
        again = all_of(home)
        assert again["spent"] == known["spent"]
        assert {seq: each.state for seq, each in again["reservations"].items()} == states
        told.world.witness(home)
        check_order(told.world, home)


def test_a_node_that_lost_its_whole_database_gets_account_and_ledgers_back(told: Story) -> None:
    """Nothing but its keys and the mirror is left: who allowed what must be granted again."""
    lose_database(told.world.nodes["node-1"])
    door = told.world.mirror.door("node-1")
    with open_home(told.world.nodes["node-1"], told.world.clock, found=False) as home:
        found = recover(home, door, approval(told.world))
        now, known = all_of(home), told.known
        for name in ("spent", "of the bank", "alone", "plans"):
            assert now[name] == known[name], name
        assert now["reservations"].keys() == known["reservations"].keys()
        assert now["authorisations"] == {}
        standing = [each for each in known["authorisations"].values() if each.revoked_seq is None]
        assert found.lapsed == len(standing)
        assert found.reservations == len(known["reservations"])
        home.verify_logs()
        told.world.witness(home)
        assert is_level(told.world, home)
    told.desk.silent.clear()
    with told.opened() as node:
        node.session.fetch_receipts()
        assert node.spent() == told.known["spent"]
        assert [each.state for each in node.reservations()].count("lost") == 0
        assert node.ask(told.queries[A, 1]) == "plan-unknown"
        check_order(told.world, node.home)


def test_a_database_that_was_begun_anew_is_not_mixed_with_the_old_ledgers(told: Story) -> None:
    path = told.world.nodes["node-1"]
    lose_database(path)
    with open_home(path, told.world.clock) as home:
        before = all_of(home)
        with pytest.raises(RecoveryError, match="move a database that was begun anew") as refused:
            recover(home, told.world.mirror.door("node-1"), approval(told.world))
        assert "移走新建的数据库" in refused.value.text.zh
        assert all_of(home) == before


# -- plans --------------------------------------------------------------------------------


def test_plans_that_were_answered_after_the_backup_are_not_answered_again(story: Story) -> None:
    with story.opened() as node:
        fill(node.home, story.world)
        envelopes = [story.world.propose(rho=Fraction(1, 20))[:2] for _ in range(3)]
        for envelope, _ in envelopes:
            offers.receive(node.home, envelope)
        node.witness.refresh()
    copy = story.backup()
    with story.opened() as node:
        offers.approve(node.home, envelopes[0][1], "test")
        offers.refuse(node.home, envelopes[1][1], "operator-refused", "no")
        node.witness.refresh()
    story.put_back(copy)
    with story.recovered() as (home, _), reading(home.database) as connection:
        answers = [inbox.find_offer(connection, digest).answer for _, digest in envelopes]
        assert answers == ["refused", "refused", "offered"]
        assert inbox.unsent(connection, BANK) == []


def test_a_plan_that_was_about_to_begin_must_be_approved_anew(story: Story) -> None:
    """A key may have been given for its run, and no log tells; a key is not given twice."""
    with story.opened() as node:
        fill(node.home, story.world)
        story.plan(node, A)
        node.witness.refresh()
    copy = story.backup()
    with story.opened() as node:
        with writing(node.home.database) as connection:
            revoke(connection, node.home.internal_log, "asked to", code=make_code(1))
        node.witness.refresh()
    story.put_back(copy)
    with story.recovered():
        pass
    with story.opened() as node:
        assert node.ask(story.query(A, 1)) == "query-refused"
        assert node.spent() == 0


# -- masked runs --------------------------------------------------------------------------


@pytest.mark.parametrize("backup", ["before the key", "after the key", "after round 1"])
def test_a_recovered_node_gives_no_second_key_and_no_second_vote(
    tmp_path: Path, backup: str
) -> None:
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, nodes=5, firms=20)
        name, home = "node-1", bank.nodes["node-1"]
        copies = {
            place: tmp_path / f"{place}.db"
            for place in ("before the key", "after the key", "after round 1")
        }

        def before_the_query(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload:
            copy_open_database(home, copies["after the key"])
            return ask(payload)

        run = bank.run(bank.propose(minimum_nodes=4, quorum=4, colluders=1, epsilon=20.0))
        copy_open_database(home, copies["before the key"])
        bank.wire.faults[name, "query", 1] = before_the_query
        training = train(FeatureView.parse(run._stored.view))
        total = run._sum(next(training))
        copy_open_database(home, copies["after round 1"])
        run._sum(training.send(total))
        bank.world.witness(home)
        sent = [payload for node, payload in bank.wire.asked if node == name]
        spent = account_of(home)
        home.database.dispose()
        put_database(copies[backup], home.path)
        opened = stack.enter_context(open_home(home.path, bank.world.clock))
        recover(opened, bank.world.mirror.door(name), approval(bank.world, name))
        watch = bank.world.witness(opened)
        session = Session(
            opened, BANK, watch, lambda run, number: receipt_for(bank.home, run, number, name)
        )
        answers: dict[str, set[str]] = {}
        for payload in sent:
            told = code(session.answer(payload), opened)
            answers.setdefault(payload["kind"].decode(), set()).add(told)
        assert answers["keys"] == {"query-out-of-order"}
        assert answers["query"] <= {"roster-refused", "round-void"}
        assert answers["survivors"] == {"query-refused"}
        assert account_of(opened) == spent


@pytest.mark.parametrize("backup", ["before the key", "after the key"])
def test_a_key_that_was_given_and_not_used_yet_is_not_given_again(
    tmp_path: Path, backup: str
) -> None:
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, nodes=5, firms=20)
        home, copy = bank.nodes["node-1"], tmp_path / "backup.db"
        digest = bank.propose(minimum_nodes=4, quorum=4, colluders=1, epsilon=20.0)
        asked = {"kind": b"keys", "run": A.encode(), "plan": digest.encode()}
        if backup == "before the key":
            copy_open_database(home, copy)
        assert code(bank.wire.sessions["node-1"].answer(asked), home) == "keyad"
        if backup == "after the key":
            copy_open_database(home, copy)
        with writing(home.database) as connection:
            revoke(connection, home.internal_log, "asked to", code=make_code(1))
        bank.world.witness(home)
        home.database.dispose()
        put_database(copy, home.path)
        opened = stack.enter_context(open_home(home.path, bank.world.clock))
        recover(opened, bank.world.mirror.door("node-1"), approval(bank.world))
        session = Session(opened, BANK, bank.world.witness(opened), Desk(bank.world))
        assert code(session.answer(asked), opened) == "query-refused"
        assert code(session.answer({**asked, "run": B.encode()}), opened) == "query-refused"


def account_of(home: NodeHome) -> Fraction:
    with reading(home.database) as connection:
        return account.spent(connection, home.charter.period_from)


# -- what is refused ----------------------------------------------------------------------


def old_approval(told: Story) -> bytes:
    """Of before the last entries came."""
    before = recovery(told.world)
    first, second = before.logs
    smaller = replace(first, size=first.size - 1, root=b"\1" * 32)
    return approval(told.world, logs=(smaller, second))


APPROVALS: dict[str, tuple[Callable[[Story], bytes], str]] = {
    "of another member": (lambda s: approval_for_another(s.world), "recovery-refused"),
    "an old one": (old_approval, "recovery-refused"),
    "by another key": (lambda s: approval(s.world, key=SigningKey.generate()), "bad-envelope"),
    "by the regulator's log key": (
        lambda s: approval(s.world, key=SigningKey.load(s.world.office.home / "keys" / "log.key")),
        "bad-envelope",
    ),
    "one bit off": (lambda s: flipped(approval(s.world)), "bad-envelope"),
    "another document": (lambda s: s.world.office.charters.signed(), "bad-envelope"),
    "nothing": (lambda _: b"", "bad-envelope"),
}


def flipped(data: bytes) -> bytes:
    at = data.index(b'"payload":"') + 40
    return data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :]


@pytest.mark.parametrize("which", APPROVALS)
def test_an_approval_that_is_none_changes_nothing(told: Story, which: str) -> None:
    make, expected = APPROVALS[which]
    signed = make(told)
    with open_home(told.world.nodes["node-1"], told.world.clock) as home:
        before = all_of(home)
        with pytest.raises(HejinError) as refused:
            recover(home, told.world.mirror.door("node-1"), signed)
        assert refused.value.code == expected
        assert all_of(home) == before
        assert not (home.path / FOLDER).exists()


def approval_for_another(world: World) -> bytes:
    """Of another member of the consortium, over the very logs that are held of this node."""
    other = replace(recovery(world), member="bank-1")
    return other.seal(world.office.identity, world.office.charter.regulator.id)


@pytest.mark.parametrize("how", ["shorter", "same size", "longer"])
def test_a_node_that_went_on_by_itself_after_the_backup_is_not_recovered(
    told: Story, how: str
) -> None:
    with open_home(told.world.nodes["node-1"], told.world.clock) as home:
        held = told.world.mirror.door("node-1").standing()
        size = next(log.size for log in held if log.origin == home.internal_log.origin)
        with reading(home.database) as connection:
            missing = size - home.internal_log.size(connection)
        count = {"shorter": 1, "same size": missing, "longer": missing + 1}[how]
        entry = {"request": "0" * 64, "code": "test", "peer": BANK}
        with writing(home.database) as connection:
            home.internal_log.append_many(connection, [("refusal", entry)] * count)
        before = all_of(home)
        with pytest.raises(HejinError) as refused:
            recover(home, told.world.mirror.door("node-1"), approval(told.world))
        assert refused.value.code == ("recovery-refused" if how == "shorter" else "frozen")
        assert "restore the backup anew" in refused.value.text.en
        assert "重新还原备份" in refused.value.text.zh
        assert all_of(home) == before
        assert not (home.path / FOLDER).exists()


def test_a_node_that_lacks_nothing_is_not_recovered(story: Story) -> None:
    with story.opened() as node:
        with pytest.raises(RecoveryError, match="nothing is missing"):
            recover(node.home, node.mirror, approval(story.world))
        assert node.types() == ["genesis"]


def test_a_recovery_that_fails_on_the_way_leaves_everything_as_it_was(
    told: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError("the power fails")

    with open_home(told.world.nodes["node-1"], told.world.clock) as home:
        before = all_of(home)
        with monkeypatch.context() as patched:
            patched.setattr("hejin_node.recovery.log_recovery", fail)
            with pytest.raises(OSError, match="power"):
                recover(home, told.world.mirror.door("node-1"), approval(told.world))
        assert all_of(home) == before
        assert not (home.path / FOLDER).exists()
        recover(home, told.world.mirror.door("node-1"), approval(told.world))


def test_a_mirror_that_holds_a_reservation_without_its_account_is_named(story: Story) -> None:
    """No witness sends them so; a mirror that was damaged may."""
    with story.opened() as node:
        fill(node.home, story.world)
        story.plan(node, A)
        node.witness.refresh()
    copy = story.backup()
    with story.opened() as node:
        node.mirror.down = True
        assert node.ask(story.query(A, 1)) == "witness-unreachable"
        log = node.home.release_log
        with reading(node.home.database) as connection:
            size = log.size(connection)
            old = story.world.mirror.door("node-1").standing()[0].size
            alone = LogUpdate(
                log.origin,
                old,
                tuple(log.entries(connection, old)),
                tuple(log.consistency_proof(connection, old, size)),
                log.note(connection, size),
            )
        story.world.mirror.door("node-1").add([alone])
    story.put_back(copy)
    with open_home(story.world.nodes["node-1"], story.world.clock) as home:
        before = all_of(home)
        with pytest.raises(RecoveryError, match="without its account entry"):
            recover(home, story.world.mirror.door("node-1"), approval(story.world))
        assert all_of(home) == before


def test_a_receipt_of_other_bytes_is_refused_for_what_the_mirror_knows(told: Story) -> None:
    """Only where nobody can know better is the bank's word taken for what was sent."""
    with told.recovered():
        pass
    told.desk.silent = {(A, 3)}
    told.desk.changes = {"vector": "0" * 64}
    with told.opened() as node:
        (owed,) = [r for r in node.reservations() if (r.run, r.round) == (B, 1)]
        assert owed.state == "released"
        with pytest.raises(ReceiptWrongError):
            collect(node.home, owed, told.desk)


def test_no_new_database_is_made_beside_segments_that_it_would_not_name(told: Story) -> None:
    path = told.world.nodes["node-1"]
    for file in path.glob("node.db*"):
        file.unlink()
    kept = sorted(path.glob("warehouse/*.parquet"))
    assert kept
    with (
        pytest.raises(ManifestLostError, match="hejin node data restore") as refused,
        open_home(path, told.world.clock, found=False),
    ):
        pass
    assert refused.value.code == "manifest-lost"
    assert "移走" in refused.value.text.zh
    assert sorted(path.glob("warehouse/*.parquet")) == kept
    assert not (path / "node.db").exists()
