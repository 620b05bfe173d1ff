"""Nothing is read or leaves before the regulator has cosigned the reservation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bent_mirror import check_order, internal_log, release_log
from node_world import BANK, World, approved, fill, found_world
from witnessed_node import RUN, Node, code, opened

from hejin_models.uscc import make_code
from hejin_node import account, session
from hejin_node.consent import revoke
from hejin_node.pinned import SnapshotStore
from hejin_node.results import void_interrupted
from hejin_node.session import Session
from hejin_node.warehouse import Warehouse
from hejin_privacy.errors import BudgetExhaustedError
from hejin_privacy.mechanism import SCALE
from hejin_trust import witness
from hejin_trust.canonical import fraction_from, time_from, time_text
from hejin_trust.checkpoint import parse_proof
from hejin_trust.cosignature import open_cosigned, witness_name
from hejin_trust.database import StorageError, reading, writing
from hejin_trust.envelope import REFUSAL, open_envelope
from hejin_trust.errors import HejinError
from hejin_trust.fleet import Payload
from hejin_trust.keys import SigningKey
from hejin_trust.one_history import FrozenError


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def node(world: World) -> Iterator[Node]:
    with opened(world) as found:
        fill(found.home, world)
        found.witness.refresh()
        yield found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done with rows since: which of the functions that touch them ran."""
    done: list[str] = []

    def spied(kind: type, name: str) -> None:
        original = getattr(kind, name)

        def spy(self: Any, *arguments: Any, **named: Any) -> Any:
            done.append(name)
            return original(self, *arguments, **named)

        monkeypatch.setattr(kind, name, spy)

    spied(Warehouse, "read")
    for name in ("pin", "still_entitled", "held_out"):
        spied(SnapshotStore, name)
    spied(Session, "_compute")
    return done


def two_rounds(node: Node, **wanted: Any) -> tuple[Payload, Callable[[Payload], Payload]]:
    """Return the first query of a plan, and what makes the second from the first's answer."""
    sums = [("histogram", "train")] * 2
    plan, digest = approved(node.home, node.world, **{"sums": sums, **wanted})

    def second(first: Payload) -> Payload:
        result, named = node.world.result(first)
        return node.world.query(
            plan, digest, run=RUN, number=2, index=1, previous=named, result=result
        )

    return node.world.query(plan, digest, run=RUN), second


# -- the regulator is away ----------------------------------------------------------------


def test_without_the_regulator_nothing_is_charged_and_nothing_is_read(
    node: Node, read: list[str]
) -> None:
    query, _ = two_rounds(node)
    node.silence()
    before = node.types()
    assert node.ask(query) == "witness-unreachable"
    assert node.ask(query) == "witness-unreachable"
    assert (node.spent(), node.state(), node.types()) == (0, "none", before)
    assert read == []
    assert not list((node.home.path).glob("snapshots/*"))
    node.mirror.down = False
    assert node.ask(query) == "masked"
    assert node.types().count("reserve") == 1
    check_order(node.world, node.home)


def test_a_refusal_for_the_regulators_absence_is_logged_as_any_other(node: Node) -> None:
    query, _ = two_rounds(node)
    node.silence()
    node.ask(query)
    assert internal_log(node.home)[-1].body["code"] == "witness-unreachable"


def test_a_regulator_that_goes_away_after_the_reservation_lets_it_wait(
    node: Node, read: list[str]
) -> None:
    query, _ = two_rounds(node)
    node.mirror.down = True  # heard of a moment ago: the node counts on it
    assert node.ask(query) == "witness-unreachable"
    charged = node.spent()
    assert charged > 0
    assert node.state() == "reserved"
    assert "_compute" not in read
    assert "still_entitled" not in read
    node.silence()
    assert node.ask(query) == "witness-unreachable"
    assert "_compute" not in read
    node.mirror.down = False
    assert node.ask(query) == "masked"
    assert node.spent() == charged
    assert node.types()[-3:] == ["reserve", "renew", "release"]
    assert node.state() == "released"
    check_order(node.world, node.home)


def test_a_reservation_whose_cosignature_was_lost_on_the_way_waits_and_goes_on(
    node: Node, read: list[str]
) -> None:
    query, _ = two_rounds(node)
    node.mirror.deaf = 1
    assert node.ask(query) == "witness-unreachable"
    assert node.state() == "reserved"
    assert "_compute" not in read
    assert node.ask(query) == "masked"
    assert node.types().count("reserve") == 1
    check_order(node.world, node.home)


@pytest.mark.parametrize("minutes", [10, 60 * 24])
def test_a_reservation_that_waited_long_is_renewed_charged_once_and_cosigned_anew(
    node: Node, minutes: int
) -> None:
    query, second = two_rounds(node)
    node.mirror.down = True
    assert node.ask(query) == "witness-unreachable"
    charged = node.spent()
    node.world.clock.turn(timedelta(minutes=minutes))
    assert node.ask(query) == "witness-unreachable"
    assert node.types()[-1] == "reserve", "nothing is renewed before the regulator is there"
    node.mirror.down = False
    answer = node.session.answer(query)
    assert answer["kind"] == b"masked"
    assert node.types()[-3:] == ["reserve", "renew", "release"]
    reserve, renew, release = release_log(node.home)[-3:]
    assert renew.body == {"reservation": reserve.seq}
    assert release.body["reservation"] == reserve.seq
    assert node.spent() == charged
    check_order(node.world, node.home)
    # The bank's proof is of the reservation, under a checkpoint that covers the renewal.
    proof = parse_proof(answer["proof"].decode())
    charter = node.world.office.charter
    cosigned = open_cosigned(
        proof.checkpoint,
        node.home.release_log.origin,
        node.home.release_log.public_key,
        witness_name(charter.consortium, charter.regulator.id),
        charter.regulator.log_key,
    )
    assert renew.seq < cosigned.checkpoint.size
    assert proof.index == reserve.seq
    assert abs(cosigned.time - time_from(renew.time)) <= timedelta(seconds=120)
    assert node.ask(second(answer)) == "masked"
    assert [e.type for e in internal_log(node.home)].count("account") == 2


def test_the_regulator_may_go_away_again_after_the_renewal(node: Node) -> None:
    query, _ = two_rounds(node)
    node.mirror.down = True
    node.ask(query)
    node.world.clock.turn(timedelta(minutes=10))
    node.mirror.down = False
    node.witness.refresh()
    adds = node.mirror.tried
    # Heard of just now; gone when the renewal is to be cosigned.
    node.mirror.before = lambda: setattr(node.mirror, "down", True)
    assert node.ask(query) == "witness-unreachable"
    assert node.mirror.tried > adds
    assert node.types()[-2:] == ["reserve", "renew"]
    node.mirror.before = lambda: None
    node.mirror.down = False
    node.world.clock.turn(timedelta(minutes=10))
    assert node.ask(query) == "masked"
    assert node.types()[-4:] == ["reserve", "renew", "renew", "release"]
    check_order(node.world, node.home)


def test_a_cosignature_that_comes_late_is_asked_for_anew_and_blames_no_clock(
    node: Node, read: list[str]
) -> None:
    """As behind a long backlog: the regulator answers minutes after the reservation."""
    query, _ = two_rounds(node)
    clock = node.world.clock
    node.mirror.before = lambda: clock.turn(timedelta(seconds=130))
    answer = node.session.answer(query)
    assert code(answer, node.home) == "witness-unreachable"
    told = open_envelope(answer["refusal"], REFUSAL, node.home.identity.public).body["reason"]
    assert "130 s apart" in told["en"]  # type: ignore[index]
    assert "clock" not in told["en"]  # type: ignore[index]
    assert node.state() == "reserved"
    assert "_compute" not in read
    node.mirror.before = lambda: None
    assert node.ask(query) == "masked"
    assert node.types()[-3:] == ["reserve", "renew", "release"]
    check_order(node.world, node.home)


def test_a_plan_that_expires_while_its_reservation_waits_is_voided_and_stays_charged(
    node: Node, read: list[str]
) -> None:
    query, _ = two_rounds(node)
    node.mirror.down = True
    node.ask(query)
    charged = node.spent()
    node.world.clock.turn(timedelta(days=31))
    node.mirror.down = False
    assert node.ask(query) == "query-refused"
    assert node.types()[-2:] == ["reserve", "void"]
    assert (node.state(), node.spent()) == ("void", charged)
    assert "_compute" not in read
    assert node.ask(query) == "round-void"


def test_a_plan_that_expires_without_another_question_ends_its_reservation(node: Node) -> None:
    query, _ = two_rounds(node)
    node.mirror.down = True
    node.ask(query)
    node.session.fetch_receipts()
    assert node.state() == "reserved"
    node.world.clock.turn(timedelta(days=31))
    node.mirror.down = False
    node.session.fetch_receipts()
    assert node.state() == "void"
    assert release_log(node.home)[-1].body["reason"] == "expired"


def test_a_reservation_that_waits_into_another_budget_period_is_voided(
    node: Node, read: list[str]
) -> None:
    query, _ = two_rounds(node)
    node.mirror.down = True
    node.ask(query)
    charged = node.spent()
    office, clock = node.world.office, node.world.clock
    before = office.charter
    ends = time_from(before.period_to)
    expires = replace_plan_expiry(node, ends + timedelta(days=30))
    following = replace(
        before,
        serial=before.serial + 1,
        period_from=time_text(ends),
        period_to=time_text(ends + timedelta(days=365)),
    )
    office.charters.update(following.seal(office.identity))
    clock.turn(ends - clock() + timedelta(minutes=1))
    assert clock() < expires
    node.mirror.down = False
    assert node.ask(query) == "query-out-of-order"
    assert node.types()[-2:] == ["reserve", "void"]
    assert node.state() == "void"
    assert "_compute" not in read
    with reading(node.home.database) as connection:
        assert account.spent(connection, before.period_from) == charged
        assert account.spent(connection, following.period_from) == 0


def publish_next_period(node: Node) -> None:
    """Publish the next budget period's charter, which the node hears of at once."""
    office = node.world.office
    begins = time_from(office.charter.period_to)
    following = replace(
        office.charter,
        serial=office.charter.serial + 1,
        issued=time_text(node.world.clock()),
        period_from=time_text(begins),
        period_to=time_text(begins + timedelta(days=365)),
    )
    office.charters.update(following.seal(office.identity))
    node.home.charters.update(following.seal(office.identity))


def expired(node: Node) -> None:
    node.world.clock.turn(timedelta(days=30))


def period_is_over(node: Node) -> None:
    node.world.clock.turn(time_from(node.home.charter.period_to) - node.world.clock())


def revoked(member: str) -> Callable[[Node], None]:
    def revoke_it(node: Node) -> None:
        node.world.office.revoke(member, node.world.clock())
        node.home.charters.update(node.world.office.charters.signed())

    return revoke_it


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        pytest.param(expired, "query-refused", id="the plan expires"),
        pytest.param(period_is_over, "query-out-of-order", id="the period ends"),
        pytest.param(revoked(BANK), "not-a-member", id="the bank is revoked"),
        pytest.param(revoked("node-1"), "not-a-member", id="the node is revoked"),
    ],
)
def test_a_sum_that_is_overtaken_while_it_is_computed_is_voided_and_does_not_leave(
    node: Node, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Node], None], told: str
) -> None:
    plan, digest = approved(node.home, node.world)
    if happens is not expired:
        replace_plan_expiry(node, time_from(node.home.charter.period_to) + timedelta(days=30))
    compute = Session._compute

    def long(self: Session, *arguments: Any) -> Any:
        computed = compute(self, *arguments)
        happens(node)
        return computed

    monkeypatch.setattr(Session, "_compute", long)
    assert node.ask(node.world.query(plan, digest, run=RUN)) == told
    assert node.types()[-2:] == ["reserve", "void"]
    assert node.state() == "void"
    assert node.reservations()[0].charge > 0
    assert node.reservations()[0].header is None


def test_a_period_that_begins_later_does_not_stop_a_sum_of_this_one(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, _ = two_rounds(node)
    compute = Session._compute

    def long(self: Session, *arguments: Any) -> Any:
        publish_next_period(node)
        return compute(self, *arguments)

    monkeypatch.setattr(Session, "_compute", long)
    assert node.ask(query) == "masked"


def test_a_period_that_begins_later_stops_questions_and_ends_no_reservation(
    node: Node, read: list[str]
) -> None:
    query, _ = two_rounds(node)
    node.mirror.down = True
    assert node.ask(query) == "witness-unreachable"
    before = node.types()
    publish_next_period(node)
    node.mirror.down = False
    assert node.ask(query) == "period-not-begun"
    assert (node.state(), node.types()) == ("reserved", before)
    assert "_compute" not in read


def test_a_charter_that_comes_while_rows_are_taken_is_the_one_that_is_charged_by(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cap is below the sum's cost, which the last one's would have paid."""
    query, _ = two_rounds(node)
    office, pin = node.world.office, SnapshotStore.pin

    def slow(self: SnapshotStore, *arguments: Any) -> Any:
        lower = replace(
            office.charter,
            serial=office.charter.serial + 1,
            issued=time_text(node.world.clock()),
            rho_cap=Fraction(1, 1000),
            rho_alone_cap=Fraction(1, 1000),
        )
        if node.home.charter.serial < lower.serial:
            node.home.charters.update(lower.seal(office.identity))
        return pin(self, *arguments)

    monkeypatch.setattr(SnapshotStore, "pin", slow)
    before = node.types()
    assert node.ask(query) == "charter-replaced"
    assert (node.spent(), node.types()) == (0, before)
    assert node.ask(query) == "budget-exhausted"
    assert (node.spent(), node.types()) == (0, before)


def replace_plan_expiry(node: Node, moment: Any) -> Any:
    """Let the node's stored plans expire at `moment`: the policy would refuse such a plan."""
    from sqlalchemy import select, update

    from hejin_node.inbox import offer
    from hejin_trust import canonical

    with writing(node.home.database) as connection:
        for row in connection.execute(select(offer.c.plan, offer.c.body)).all():
            body = dict(canonical.decode(row.body))
            body["expires"] = time_text(moment)
            connection.execute(
                update(offer).where(offer.c.plan == row.plan).values(body=canonical.encode(body))
            )
    return moment


def test_a_waiting_round_that_the_bank_has_gone_past_is_voided_and_not_gone_back_to(
    node: Node,
) -> None:
    plan, digest = approved(node.home, node.world, sums=[("histogram", "train")] * 2)
    first = node.world.query(plan, digest, run=RUN)
    node.mirror.down = True
    assert node.ask(first) == "witness-unreachable"
    node.mirror.down = False
    second = node.world.query(plan, digest, run=RUN, number=2, index=1)
    assert node.ask(second) == "masked"
    assert node.types()[-4:] == ["reserve", "void", "reserve", "release"]
    assert node.ask(first) == "round-void"
    assert (node.state(1), node.state(2)) == ("void", "released")
    check_order(node.world, node.home)


def test_a_run_that_ends_while_a_reservation_waits_ends_it_too(node: Node) -> None:
    query, second = two_rounds(node)
    answer = node.session.answer(query)
    node.mirror.down = True
    asked = second(answer)
    assert node.ask(asked) == "witness-unreachable"
    node.mirror.down = False
    result, _ = node.world.result(answer)
    assert node.session.answer({"kind": b"result", "result": result}) == {"kind": b"noted"}
    assert (node.state(1), node.state(2)) == ("released", "void")
    assert node.ask(asked) == "round-void"


def test_rows_that_are_lost_while_a_reservation_waits_void_it(node: Node, read: list[str]) -> None:
    query, _ = two_rounds(node)
    node.mirror.down = True
    node.ask(query)
    (node.home.path / "snapshots" / f"{RUN}.sealed").unlink()
    node.mirror.down = False
    assert node.ask(query) == "snapshot-lost"
    assert node.state() == "void"
    assert "_compute" not in read


@pytest.mark.parametrize("fails", ["the disk", "the budget"])
def test_a_reservation_that_could_not_be_made_is_made_when_it_is_asked_for_again(
    node: Node, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The rows that were taken for it are not those of a run: they are taken anew."""
    query, _ = two_rounds(node)
    refusal: HejinError = StorageError("the disk is full", "磁盘已满")
    if fails == "the budget":
        refusal = BudgetExhaustedError(Fraction(1), Fraction(0))

    def fail(*_: object) -> None:
        raise refusal

    with monkeypatch.context() as patched:
        patched.setattr(session, "reserve", fail)
        assert node.ask(query) == refusal.code
    assert (node.state(), node.spent()) == ("none", 0)
    assert node.ask(query) == "masked"


def test_stored_bytes_are_sent_again_once_the_regulator_is_back(node: Node) -> None:
    """Released and then the regulator went away before the proof was cosigned anew."""
    query, _ = two_rounds(node)
    first = node.session.answer(query)
    node.world.clock.turn(timedelta(minutes=5))
    node.silence()
    assert node.ask(query) == "witness-unreachable"
    node.mirror.down = False
    again = node.session.answer(query)
    assert (again["header"], again["vector"]) == (first["header"], first["vector"])
    assert again["proof"] != first["proof"]
    assert node.types().count("release") == 1


def test_after_a_restart_a_reservation_that_waited_is_voided_and_stays_charged(
    world: World,
) -> None:
    with opened(world) as node:
        fill(node.home, world)
        query, _ = two_rounds(node)
        node.mirror.down = True
        assert node.ask(query) == "witness-unreachable"
        charged = node.spent()
    with opened(world) as node:
        assert void_interrupted(node.home) == 1
        assert node.ask(query) == "round-void"
        assert node.spent() == charged > 0


def test_a_reservation_waits_for_its_own_cosignature_not_for_an_earlier_one(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reservation and computing the mirror holds the reservation, for each round."""
    held: list[tuple[int, int]] = []
    compute = Session._compute

    def spy(self: Session, context: Any, snapshot: Any, seq: int, cosigned: Any) -> Any:
        standing = node.mirror.door.standing()
        size = next(s.size for s in standing if s.origin == node.home.release_log.origin)
        held.append((seq, size))
        assert cosigned.checkpoint.size > seq
        return compute(self, context, snapshot, seq, cosigned)

    monkeypatch.setattr(Session, "_compute", spy)
    query, second = two_rounds(node)
    assert node.ask(second(node.session.answer(query))) == "masked"
    assert all(size > seq for seq, size in held)
    assert len(held) == 2
    check_order(node.world, node.home)


def test_banks_sessions_share_what_the_regulator_says(
    node: Node,
) -> None:
    """Each waits for its own reservation only; one message may cover several."""
    plans = [
        approved(node.home, node.world, rho=Fraction(1, 20), sums=[("histogram", "train")])
        for _ in range(4)
    ]
    sessions = [Session(node.home, BANK, node.witness, node.receipts) for _ in plans]
    queries = [
        node.world.query(plan, digest, run=f"{n:032x}") for n, (plan, digest) in enumerate(plans)
    ]
    node.mirror.before = lambda: time.sleep(0.05)
    node.mirror.added.clear()
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda s=s, q=q: found.append(code(s.answer(q), node.home))  # type: ignore[misc]
        )
        for s, q in zip(sessions, queries, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["masked"] * 4
    check_order(node.world, node.home)


# -- a regulator that says something else -------------------------------------------------


def by_another_key(node: Node) -> None:
    from hejin_trust.cosignature import cosign

    charter = node.world.office.charter
    name = witness_name(charter.consortium, charter.regulator.id)
    key = SigningKey.generate()
    node.mirror.bend = lambda updates, _: tuple(
        cosign(update.checkpoint, name, key, node.world.clock()) for update in updates
    )


def none_at_all(node: Node) -> None:
    node.mirror.bend = lambda *_: ()


def twice(node: Node) -> None:
    node.mirror.bend = lambda _, lines: tuple(line * 2 for line in lines)


def of_before(node: Node) -> None:
    """Cosignatures that the regulator gave for what the log was before."""
    kept: list[str] = []
    node.mirror.bend = lambda _, lines: kept.extend(lines) or lines  # type: ignore[func-returns-value]
    node.witness._heard = False
    node.witness.ready()
    node.mirror.bend = lambda updates, _: tuple(kept[-1] for _ in updates)


@pytest.mark.parametrize("lie", [by_another_key, none_at_all, twice, of_before])
@pytest.mark.parametrize("heard", [False, True], ids=["before it charges", "after it charged"])
def test_a_cosignature_that_is_not_the_regulators_lets_nothing_be_read(
    node: Node, read: list[str], lie: Callable[[Node], None], heard: bool
) -> None:
    query, _ = two_rounds(node)
    lie(node)
    node.witness._heard = heard
    told = {node.ask(query) for _ in range(3)}
    assert told == {"witness-refused"}
    assert "_compute" not in read
    assert "release" not in node.types()
    # An old cosignature over the very same checkpoint cannot be told from a new one at once.
    assert node.state() == ("reserved" if heard or lie is of_before else "none")
    node.mirror.bend = lambda _, lines: lines
    assert node.ask(query) == "masked"
    check_order(node.world, node.home)


def test_a_member_that_another_history_is_held_of_answers_nothing_and_logs_nothing(
    node: Node, read: list[str]
) -> None:
    query, _ = two_rounds(node)
    node.witness._frozen = FrozenError("another history", "历史不同")
    before = (node.types(), len(internal_log(node.home)))
    assert node.ask(query) == "frozen"
    assert (node.types(), len(internal_log(node.home))) == before
    assert read == []


# -- revocations --------------------------------------------------------------------------


def test_a_bank_that_was_revoked_between_two_rounds_gets_nothing(
    node: Node, read: list[str]
) -> None:
    query, second = two_rounds(node)
    following = second(node.session.answer(query))
    charged = node.spent()
    node.world.office.revoke(BANK, node.world.clock())
    node.witness.refresh()  # as the thread does every few seconds
    read.clear()
    assert node.ask(following) == "not-a-member"
    assert (node.state(2), node.spent(), read) == ("none", charged, [])


def test_a_bank_that_was_revoked_while_the_regulator_was_away_is_charged_nothing(
    node: Node, read: list[str]
) -> None:
    """The newer charter comes with the regulator's word that it is there again."""
    query, _ = two_rounds(node)
    node.silence()
    node.world.office.revoke(BANK, node.world.clock())
    node.mirror.down = False
    assert node.ask(query) == "not-a-member"
    assert (node.state(), node.spent(), read) == ("none", 0, [])


def test_a_bank_that_is_revoked_between_reservation_and_cosignature_gets_nothing(
    node: Node, read: list[str]
) -> None:
    query, second = two_rounds(node)
    following = second(node.session.answer(query))
    read.clear()
    node.mirror.after = lambda: revoke_once(node, BANK)
    assert node.ask(following) == "not-a-member"
    assert node.types()[-2:] == ["reserve", "void"]
    assert node.state(2) == "void"
    assert "_compute" not in read


def test_a_node_that_is_revoked_between_reservation_and_cosignature_answers_nothing(
    node: Node, read: list[str]
) -> None:
    """The cosignature was given a moment before; the charter that revokes the node came with it."""
    query, second = two_rounds(node)
    following = second(node.session.answer(query))
    read.clear()
    node.mirror.after = lambda: revoke_once(node, node.home.member_id)
    assert node.ask(following) == "not-a-member"
    assert node.types()[-2:] == ["reserve", "void"]
    assert "_compute" not in read


def test_a_node_that_was_revoked_between_two_rounds_answers_nothing(
    node: Node, read: list[str]
) -> None:
    query, second = two_rounds(node)
    following = second(node.session.answer(query))
    read.clear()
    node.world.office.revoke(node.home.member_id, node.world.clock())
    node.witness._heard = False
    assert node.ask(following) == "witness-refused"
    assert (node.state(2), read) == ("none", [])
    node.witness._heard = True  # revoked a moment after the regulator was heard of
    assert node.ask(following) == "witness-refused"
    assert node.state(2) == "reserved"
    assert "_compute" not in read


def revoke_once(node: Node, member: str) -> None:
    node.mirror.after = lambda: None
    node.world.office.revoke(member, node.world.clock())


# -- authorisations -----------------------------------------------------------------------


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sum leave exactly as it is computed."""
    monkeypatch.setattr(
        session, "discrete_gaussian", lambda _, dimension: np.zeros(dimension, np.int64)
    )


def exact(node: Node, plan: Any, digest: str, without: set[str]) -> np.ndarray:
    """Return the sum over the training rows of all enterprises but some."""
    from hejin_models.statistics import statistic
    from hejin_privacy.contribution import quantised_sum
    from hejin_privacy.holdout import split_key

    store = SnapshotStore(node.home)
    snapshot = store.pin(plan, node.world.view, RUN).snapshot
    key = split_key(digest, node.home.charter.nonce)
    chosen = ~store.held_out(RUN, snapshot, key, plan.holdout)
    chosen &= np.array([each not in without for each in snapshot.codes])
    mechanism = mechanism_of(node)
    return quantised_sum(
        statistic("histogram", 1).contribute(
            node.world.view, snapshot.cells[chosen], snapshot.labels[chosen], {}
        ),
        mechanism.delta_squared,
        mechanism.scale,
        mechanism.dimension,
    )


def mechanism_of(node: Node) -> Any:
    from hejin_privacy.mechanism import Mechanism

    reserve = next(entry for entry in release_log(node.home) if entry.type == "reserve")
    return Mechanism.from_body(reserve.body["mechanism"])  # type: ignore[arg-type]


def training_code(node: Node, plan: Any, digest: str) -> str:
    """Return an enterprise of the training part, to be revoked."""
    from hejin_privacy.holdout import in_holdout, split_key

    codes = [make_code(n) for n in range(40)]
    held = in_holdout(codes, split_key(digest, node.home.charter.nonce), plan.holdout)
    return next(each for each, out in zip(codes, held, strict=True) if not out)


def vector(answer: Payload) -> np.ndarray:
    assert answer["kind"] == b"masked"
    return np.frombuffer(answer["vector"], "<i8")


@pytest.mark.usefixtures("no_noise")
def test_an_enterprise_that_revokes_between_rounds_is_in_no_later_sum(node: Node) -> None:
    plan, digest = approved(node.home, node.world, sums=[("histogram", "train")] * 2)
    gone = training_code(node, plan, digest)
    first = node.session.answer(node.world.query(plan, digest, run=RUN))
    assert np.array_equal(vector(first), exact(node, plan, digest, set()))
    with writing(node.home.database) as connection:
        revoke(connection, node.home.internal_log, "asked to", code=gone)
    result, named = node.world.result(first)
    second = node.session.answer(
        node.world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
    )
    assert np.array_equal(vector(second), exact(node, plan, digest, {gone}))
    assert not np.array_equal(vector(second), vector(first))
    cells = node.world.view.features[0].grid.cells
    assert vector(first)[:cells].sum() - vector(second)[:cells].sum() == SCALE


@pytest.mark.usefixtures("no_noise")
@pytest.mark.parametrize("when", ["before the cosignature", "while it waits"])
def test_an_enterprise_that_revokes_between_reservation_and_release_is_not_in_the_sum(
    node: Node, when: str
) -> None:
    plan, digest = approved(node.home, node.world, sums=[("histogram", "train")])
    gone = training_code(node, plan, digest)
    query = node.world.query(plan, digest, run=RUN)

    def revoked() -> None:
        node.mirror.before = lambda: None
        with writing(node.home.database) as connection:
            revoke(connection, node.home.internal_log, "asked to", code=gone)

    if when == "while it waits":
        node.mirror.down = True
        assert node.ask(query) == "witness-unreachable"
        revoked()
        node.world.clock.turn(timedelta(minutes=10))
        node.mirror.down = False
    else:
        node.mirror.before = revoked
    answer = node.session.answer(query)
    assert np.array_equal(vector(answer), exact(node, plan, digest, {gone}))
    entries = [entry.type for entry in internal_log(node.home)]
    assert entries.count("authorisation.revoke") == 1
    check_order(node.world, node.home)


@pytest.mark.usefixtures("no_noise")
def test_an_authorisation_that_runs_out_while_the_reservation_waits_is_not_used(
    node: Node,
) -> None:
    """Judged at the newest of reservation and renewal."""
    plan, digest = approved(node.home, node.world, sums=[("histogram", "train")])
    query = node.world.query(plan, digest, run=RUN)
    node.mirror.down = True
    node.ask(query)
    with writing(node.home.database) as connection:
        from sqlalchemy import update

        from hejin_node.tables import authorisation

        connection.execute(
            update(authorisation).values(
                valid_to=time_text(node.world.clock() + timedelta(minutes=5))
            )
        )
    node.world.clock.turn(timedelta(minutes=10))
    node.mirror.down = False
    assert not vector(node.session.answer(query)).any()


def test_the_witness_module_has_no_other_limit_than_the_verifier() -> None:
    assert timedelta(seconds=120) == witness.MOST_OFF
    assert witness.MOST_CLOCK + timedelta(seconds=10) == witness.MOST_OFF


def test_what_the_account_says_is_exact(node: Node) -> None:
    query, _ = two_rounds(node)
    node.session.answer(query)
    reserve = next(entry for entry in release_log(node.home) if entry.type == "reserve")
    assert node.spent() == fraction_from(reserve.body["charge"])
