"""A hundred reservations of two banks at one moment: as many as the budget pays for, no more."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from attack_checks import logged, spent
from node_world import BANK, World, fill, found_world

from hejin_models.plan import Plan
from hejin_node import account, offers
from hejin_node.home import NodeHome, open_home
from hejin_node.session import Session
from hejin_trust import membership
from hejin_trust.canonical import fraction_from
from hejin_trust.database import reading
from hejin_trust.envelope import PLAN, REFUSAL, SUM_QUERY, open_envelope, seal
from hejin_trust.fleet import Payload
from hejin_trust.membership import Membership
from hejin_trust.text import Text

THREADS = 100
OTHER = "bank-2"
CAP = Fraction(1, 2)


def second_bank(world: World) -> Membership:
    folder, key = world.folder / OTHER, world.office.identity.public
    request = membership.found(folder, member=OTHER, role="bank", name=Text("B2", "二行"))
    (admitted,) = world.office.admit([request], world.folder / "more", world.clock())
    membership.join(folder, OTHER, key, admitted.file.read_bytes())
    return membership.load(folder, OTHER, "bank", key)


def question(world: World, home: NodeHome, bank: Membership, rho: Fraction) -> Payload:
    """Return the one query of a plan of a bank's own, which the node approved."""
    _, _, plan = world.propose(rho=rho, sums=[("histogram", "train")])
    own: Plan = replace(plan, bank=bank.member, label=replace(plan.label, bank=bank.member))
    digest = offers.receive(home, seal(PLAN, own.body(), bank.identity, bank.member))
    offers.approve(home, digest, "test")
    asked = world.query(own, digest, run=secrets.token_hex(16))
    body = open_envelope(asked["query"], SUM_QUERY, world.bank.identity.public).body
    return {**asked, "query": seal(SUM_QUERY, body, bank.identity, bank.member)}


@pytest.mark.parametrize("pays_for", [1, 7])
def test_a_hundred_threads_of_two_banks_get_exactly_what_the_budget_pays_for(
    tmp_path: Path, pays_for: int
) -> None:
    world = found_world(tmp_path, rho_cap=CAP)
    other = second_bank(world)
    # Half a sum more than so many cost: the next one does not fit.
    rho = CAP / (pays_for + Fraction(1, 2))
    with open_home(world.nodes["node-1"], world.clock) as home:
        home.charters.update(world.office.charters.signed())
        fill(home, world, 20)
        banks = [world.bank, other] * (THREADS // 2)
        asked = [(bank.member, question(world, home, bank, rho)) for bank in banks]
        # A session answers one query at a time; as many sessions wait for nobody but the account.
        witness, desk = world.witness(home), world.receipts(home)
        sessions = [Session(home, bank, witness, desk) for bank, _ in asked]
        gate = threading.Barrier(THREADS)

        def ask(place: int) -> str:
            gate.wait()
            answer = sessions[place].answer(asked[place][1])
            if answer["kind"] == b"masked":
                return "masked"
            body = open_envelope(answer["refusal"], REFUSAL, home.identity.public).body
            return str(body["code"])

        with ThreadPoolExecutor(THREADS) as pool:
            told = list(pool.map(ask, range(THREADS)))
        assert Counter(told) == {"masked": pays_for, "budget-exhausted": THREADS - pays_for}
        assert logged(home).count("reserve") == logged(home).count("release") == pays_for
        check_account(home, pays_for, rho)
        with reading(home.database) as connection:
            refusals = list(home.internal_log.of_type(connection, "refusal"))
        assert Counter(entry.body["code"] for entry in refusals) == {
            "budget-exhausted": THREADS - pays_for
        }
        assert {entry.body["peer"] for entry in refusals} == {BANK, OTHER}


def check_account(home: NodeHome, charged: int, rho: Fraction) -> None:
    """Check that at no entry more was spent than allowed, each charge on top of the one before."""
    with reading(home.database) as connection:
        entries = list(home.internal_log.of_type(connection, "account"))
        alone = account.alone_spent(connection, home.charter.period_from)
    before = Fraction(0)
    for entry in entries:
        assert fraction_from(entry.body["spent_before"]) == before
        before = fraction_from(entry.body["spent_after"])
        assert before <= home.charter.rho_cap
    assert len(entries) == charged
    assert spent(home) == before == alone
    # One more, of which the noise costs a trifle less than it was planned at, would not fit.
    assert before * (charged + 1) / charged > home.charter.rho_cap
    assert before <= charged * rho
