"""Two banks drain one account with a hundred reservations at once: never over the cap."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from bent_mirror import BentMirror, check_order, internal_log, is_level, release_log
from node_world import World, approved, fill, found_world
from witnessed_node import code

from hejin_node import account, receipts
from hejin_node.home import NodeHome, open_home
from hejin_node.session import Session
from hejin_privacy.accounting import round_up
from hejin_privacy.mechanism import Mechanism
from hejin_privacy.messages import Query
from hejin_trust.canonical import fraction_from
from hejin_trust.database import reading
from hejin_trust.envelope import REFUSAL, SUM_QUERY, open_envelope
from hejin_trust.fleet import Payload
from hejin_trust.witness import Witness

BANKS = ("bank-1", "bank-2")
EACH = 50
CAP = Fraction(1, 2)
SUM = Fraction(1, 75)  # at most 37 of them are within the cap


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path, rho_cap=CAP, banks=BANKS)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], world.clock) as opened:
        fill(opened, world, 20)
        yield opened


Asked = tuple[str, Payload, Fraction]
"""The bank, its query, and what the account is charged for the query's sum."""


def plans(world: World, home: NodeHome, sums: Sequence[Fraction]) -> list[Asked]:
    """Return the first query of a plan of its own for each amount, the banks in turn."""
    found: list[Asked] = []
    for number, rho in enumerate(sums):
        bank = world.seen_by(BANKS[number % 2])
        plan, digest = approved(home, bank, rho=rho, sums=[("histogram", "train")])
        query = bank.query(plan, digest, run=f"{number:032x}")
        found.append((bank.bank.member, query, cost_of(bank, query)))
    return found


def cost_of(world: World, query: Payload) -> Fraction:
    opened = open_envelope(query["query"], SUM_QUERY, world.bank.identity.public)
    return round_up(Query.parse(opened.body).mechanism.cost())


def all_at_once(home: NodeHome, asked: Sequence[tuple[Session, Payload]]) -> list[Payload]:
    """Ask everything in a thread of its own, all released together."""
    together = threading.Barrier(len(asked))

    def ask(session: Session, query: Payload) -> Payload:
        together.wait()
        return session.answer(query)

    with ThreadPoolExecutor(len(asked)) as pool:
        return [f.result() for f in [pool.submit(ask, *each) for each in asked]]


def check_account(world: World, home: NodeHome, costs: dict[str, Fraction]) -> list[Fraction]:
    """Fail unless the logs replay exactly within the cap; return the charges in their order."""
    total, charges = Fraction(0), []
    balances = {e.body["reservation"]: e.body for e in internal_log(home) if e.type == "account"}
    cosigned: set[int] = set()
    entries = release_log(home)
    for entry in entries:
        if entry.type != "reserve":
            continue
        charge = fraction_from(entry.body["charge"])
        mechanism = Mechanism.from_body(entry.body["mechanism"])  # type: ignore[arg-type]
        assert charge == round_up(mechanism.cost()) == costs[str(entry.body["run"])]
        balance = balances.pop(entry.seq)
        assert fraction_from(balance["spent_before"]) == total
        total += charge
        assert fraction_from(balance["spent_after"]) == total
        assert total <= CAP
        charges.append(charge)
        cosigned.add(entry.seq)
    assert not balances
    assert {e.body["reservation"] for e in entries if e.type == "release"} == cosigned
    assert len([e for e in entries if e.type == "release"]) == len(cosigned)
    check_order(world, home)
    with reading(home.database) as connection:
        period = home.charter.period_from
        assert account.spent(connection, period) == total
        assert sum(account.spent(connection, period, bank=bank) for bank in BANKS) == total
        assert account.alone_spent(connection, period) == total
    return charges


def test_a_hundred_reservations_of_two_banks_at_once_stop_exactly_at_the_cap(
    world: World, home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each query has a session of its own, so that all hundred contend for the account."""
    # Several sessions of one bank would each fetch the same receipts; a node has one a bank.
    monkeypatch.setattr(receipts, "collect_enough", lambda *_: [])
    asked = plans(world, home, [SUM] * (2 * EACH))
    costs = {f"{number:032x}": cost for number, (_, _, cost) in enumerate(asked)}
    (cost,) = set(costs.values())
    admitted = CAP // cost
    assert 30 < admitted < 2 * EACH
    mirror = BentMirror(world.mirror.door("node-1"))
    watch = Witness(home, mirror)
    watch.start()
    sessions = [Session(home, bank, watch, _no_receipt) for bank, _, _ in asked]
    answers = all_at_once(
        home, [(session, query) for session, (_, query, _) in zip(sessions, asked, strict=True)]
    )
    told = Counter(code(answer, home) for answer in answers)
    assert told == {"masked": admitted, "budget-exhausted": 2 * EACH - admitted}
    assert check_account(world, home, costs) == [cost] * admitted
    # Reservations that were made together were cosigned together.
    assert len(mirror.added) < 2 * admitted
    winners = {
        bank for (bank, _, _), a in zip(asked, answers, strict=True) if a["kind"] == b"masked"
    }
    assert winners == set(BANKS)
    # A refused bank learns nothing of what the other has left.
    for answer in answers:
        if answer["kind"] == b"refusal":
            body = open_envelope(answer["refusal"], REFUSAL, home.identity.public).body
            assert not any(character.isdigit() for character in str(body["reason"]))
    watch.refresh()
    assert is_level(world, home)


def _no_receipt(run: str, number: int) -> bytes:
    raise AssertionError("nobody asks")


def test_two_banks_with_their_own_sessions_and_receipts_drain_the_account_exactly(
    world: World, home: NodeHome
) -> None:
    """As a node serves them: each bank's queries one after the other, both banks at once."""
    asked = plans(world, home, [SUM] * (2 * EACH))
    costs = {f"{number:032x}": cost for number, (_, _, cost) in enumerate(asked)}
    (cost,) = set(costs.values())
    watch = world.witness(home)
    sessions = {
        bank: Session(home, bank, watch, world.seen_by(bank).receipts(home)) for bank in BANKS
    }
    answers = all_at_once(home, [(sessions[bank], query) for bank, query, _ in asked])
    told = Counter(code(answer, home) for answer in answers)
    admitted = CAP // cost
    assert told == {"masked": admitted, "budget-exhausted": 2 * EACH - admitted}
    check_account(world, home, costs)
    for session in sessions.values():
        session.fetch_receipts()
    receipts_of = Counter(e.body["reservation"] for e in release_log(home) if e.type == "receipt")
    assert set(receipts_of.values()) == {1}
    assert len(receipts_of) == admitted


def test_sums_of_different_costs_leave_less_than_any_that_was_refused(
    world: World, home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever came last: a sum is refused only if it does not fit into what is left."""
    monkeypatch.setattr(receipts, "collect_enough", lambda *_: [])
    amounts = [Fraction(1, n) for n in (3, 5, 7, 11, 13, 17, 19, 23)] * 3
    asked = plans(world, home, amounts)
    costs = {f"{number:032x}": cost for number, (_, _, cost) in enumerate(asked)}
    watch = world.witness(home)
    answers = all_at_once(
        home, [(Session(home, bank, watch, _no_receipt), query) for bank, query, _ in asked]
    )
    charges = check_account(world, home, costs)
    left = CAP - sum(charges)
    refused = [
        cost
        for (_, _, cost), answer in zip(asked, answers, strict=True)
        if answer["kind"] == b"refusal"
    ]
    assert len(refused) + len(charges) == len(asked)
    assert refused
    assert left < min(refused)
