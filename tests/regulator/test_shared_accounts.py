"""Verification of shared noise: both accounts, both accountants, and the thresholds of the plan."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from ledger_papers import AT, write_charters
from ledger_world import NODES, Body, Consortium, Tamper, honest

from hejin_models.plan import Plan
from hejin_privacy.accounting import epsilon, round_up
from hejin_regulator.findings import Verification
from hejin_trust.canonical import fraction_body, fraction_from, time_text
from hejin_trust.charter import Charter

CAP = Fraction(6, 100)
CAP_ALONE = Fraction(3, 10)
Built = Callable[..., Consortium]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Built:
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def make(tamper: Tamper = honest, alone: Fraction = CAP_ALONE, **plan: object) -> Consortium:
        thresholds = {"mode": "shared", "minimum_nodes": 3, "quorum": 3, "colluders": 1, **plan}

        def shared(made: Plan) -> Plan:
            return replace(made, **thresholds)  # type: ignore[arg-type]

        def room(charter: Charter) -> Charter:
            return replace(charter, rho_cap=CAP, rho_alone_cap=alone)

        return Consortium(tmp_path / "export", tamper, shared, room).run()

    return make


def reasons(verification: Verification, check: str) -> str:
    return " | ".join(f.reason.en for f in verification.findings if f.check == check)


def first(member: str, kind: str, change: Callable[[Body], Body]) -> Tamper:
    """Change the first entry of a kind at a member."""
    done = False

    def tamper(who: str, what: str, body: Body) -> Body | None:
        nonlocal done
        if done or (who, what) != (member, kind):
            return body
        done = True
        return change(body)

    return tamper


def scaled(key: str, factor: Fraction) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        return {**body, key: fraction_body(fraction_from(body[key]) * factor)}

    return change


def mechanism(**changes: object) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        inner = body["mechanism"]
        assert isinstance(inner, dict)
        return {**body, "mechanism": {**inner, **changes}}

    return change


def test_an_honest_consortium_that_shares_its_noise_verifies(build: Built) -> None:
    consortium = build()
    verification = consortium.verify()
    assert verification.findings == ()
    rows = {(row.node, row.bank): row for row in verification.spending}
    row, party = rows["anping", None], consortium.parties["anping"]
    assert row.rho_alone == party.alone
    # Two honest nodes are counted on: alone, a node's noise is half of what the charge counts.
    assert float(party.alone / party.spent) == pytest.approx(2, rel=1e-6)
    assert row.epsilon_alone == epsilon(party.alone, 1e-6)
    assert row.epsilon_alone_cap == epsilon(CAP_ALONE, 1e-6)
    assert row.epsilon_alone is not None
    assert row.epsilon < row.epsilon_alone < row.epsilon_alone_cap
    assert rows["anping", "bank"].rho_alone is None


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("rho", "the noise costs"),
        ("charge", "the account was charged"),
        ("rho_alone", "if all other nodes colluded, the noise costs"),
        ("charge_alone", "if all other nodes colluded, the account was charged"),
    ],
)
def test_a_cost_that_is_understated_is_found_in_either_account(
    build: Built, key: str, said: str
) -> None:
    verification = build(first("jing", "reserve", scaled(key, Fraction(99, 100)))).verify()
    assert said in reasons(verification, "V8")
    assert {finding.member for finding in verification.findings} == {"jing"}


@pytest.mark.parametrize("key", ["charge", "charge_alone"])
def test_the_second_accountant_looks_at_both_accounts(build: Built, key: str) -> None:
    verification = build(first("jing", "reserve", scaled(key, Fraction(1, 2)))).verify()
    found = [f.reason.en for f in verification.findings if "dp-accounting" in f.reason.en]
    assert len(found) == 1
    assert found[0].startswith("if all other nodes colluded") == (key == "charge_alone")


@pytest.mark.parametrize("key", ["alone_before", "alone_after"])
def test_an_account_that_does_not_replay_is_found(build: Built, key: str) -> None:
    lie = first("jing", "account", lambda body: {**body, key: {"num": "1", "den": "8"}})
    assert "does not replay" in reasons(build(lie).verify(), "V9")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"t": 0}, id="no-colluders"),
        pytest.param({"mode": "node", "tau": 0, "m": 0, "t": 0}, id="mode-node"),
        pytest.param({"n": 4}, id="more-nodes"),
    ],
)
def test_thresholds_that_are_not_the_plans_are_found(
    build: Built, changes: dict[str, object]
) -> None:
    lie = mechanism(**changes)
    everywhere: Tamper = lambda who, what, body: lie(body) if what == "reserve" else body  # noqa: E731
    assert "thresholds" in reasons(build(everywhere).verify(), "V7")


def test_a_mechanism_that_breaks_rule_p1_is_found(build: Built) -> None:
    verification = build(first("jing", "reserve", mechanism(tau=2))).verify()
    assert "two different sets" in reasons(verification, "V8")


def test_the_cap_on_collusion_is_checked_at_every_entry(build: Built) -> None:
    """Burned rounds may take a plan over it that was within it when it was approved."""
    consortium = build()
    spent = consortium.parties["jing"].alone
    assert spent > max(consortium.parties[name].alone for name in NODES if name != "jing")
    for cap, blamed in ((spent - Fraction(1, 2**64), {"jing"}), (spent, set())):
        issued = time_text(AT + timedelta(minutes=5))
        capped = replace(consortium.charter, serial=3, issued=issued, rho_alone_cap=cap)
        write_charters(consortium.folder, (*consortium.charters, capped), consortium.regulator)
        found = consortium.verify().findings
        assert {(f.check, f.member) for f in found} == {("V8", name) for name in blamed}
        assert all("above the charter's cap" in f.reason.en and f.seq for f in found)


def test_a_plan_over_the_cap_on_collusion_is_found(build: Built) -> None:
    exact = round_up(2 * Fraction(5, 100))
    verification = build(alone=exact - Fraction(1, 2**64)).verify()
    assert "if all other nodes colluded" in reasons(verification, "V7")
