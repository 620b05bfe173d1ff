"""What members write and sign themselves: every lie is found, and named."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest
from ledger_lies import Build, drop, found, mechanism, once, put, reasons, scaled
from ledger_papers import VIEW, write_charters
from ledger_world import AT, NODES, RUN, SUMS, Body, Consortium, sha
from sqlalchemy import Connection

from hejin_models.plan import LabelReference, ViewReference
from hejin_privacy.mechanism import delta_squared, node_sigma
from hejin_privacy.messages import NotReceived
from hejin_regulator.report import render_report, report_json
from hejin_trust.canonical import fraction_body, fraction_from
from hejin_trust.envelope import NOT_RECEIVED, RECEIPT, seal
from hejin_trust.keys import SigningKey

RATIO = {"num": "1", "den": "1"}
OTHER = sha("other")

Lie = tuple[Callable[[Body], Body | None], str]
#: (who logs it, in which entry, check that finds it, who is blamed): lies and the words for them.
LIES: dict[tuple[str, str, str, str], dict[str, Lie]] = {
    ("jing", "genesis", "V1", "jing"): {
        "node founded under other limits": (put(rho_cap=RATIO), "other limits"),
        "no genesis": (drop, "begins with its genesis"),
    },
    ("jing", "release", "V4", "jing"): {
        "release dropped": (drop, "neither a release nor a void"),
        "released in another round": (put(round=9), "another round"),
        "released under another context": (put(round_ctx=OTHER), "another round"),
    },
    ("jing", "void", "V4", "jing"): {
        "void dropped": (drop, "neither a release nor a void"),
        "void of nothing": (put(reservation=0), "never reserved"),
    },
    ("jing", "reserve", "V4", "jing"): {
        "reservation dropped": (drop, "no earlier reservation"),
        "another snapshot": (put(snapshot=OTHER), "no earlier snapshot"),
        "another question": (put(query=OTHER), "another query"),
        "another context": (put(round_ctx=OTHER), "does not follow"),
        "another statistic than asked": (mechanism(nonzeros=2), "than the bank signed"),
    },
    ("jing", "snapshot", "V4", "jing"): {
        "snapshot of another run": (put(run="aa" * 16), "no earlier snapshot"),
    },
    ("jing", "renew", "V4", "jing"): {
        "renewal of nothing": (put(reservation=0), "never reserved"),
    },
    ("bank", "accept", "V5", "bank"): {
        "accept dropped": (drop, "does not accept"),
        "accept of other bytes": (put(vector=OTHER), "something else"),
        "accept of another reservation": (put(reservation=0), "something else"),
        "accept with an old proof": (put(proof_size=1), "does not cover"),
        "accept with a proof that is not cosigned": (put(proof_size=5), "cosigned no checkpoint"),
        "accept of an unknown node": (put(node="nobody"), "did not release"),
    },
    ("bank", "accept", "V2", "bank"): {
        "accept with another root": (put(proof_root=OTHER), "rewritten"),
        "accept with a proof of the future": (put(proof_size=999), "the export has"),
    },
    ("jing", "receipt", "V5", "jing"): {
        "receipt dropped": (drop, "no receipt"),
        "receipt is nonsense": (put(receipt="!"), ""),
        "receipt of nothing": (put(reservation=0), "belongs to no release"),
    },
    ("bank", "signed receipt", "V5", "anping"): {
        "bank signs for other bytes": (put(vector=OTHER), "something else"),
        "bank signs for another node": (put(node="jing"), "something else"),
        "bank signs no checkpoint": (put(checkpoint="x"), "refused"),
        "bank signs no time": (put(time="never"), "RFC 3339"),
    },
    ("bank", "plan", "V7", "bank"): {
        "plan not logged": (drop, "not in the bank's log"),
        "plan logged for another purpose": (put(purpose="marketing"), "not in the bank's log"),
    },
    ("jing", "plan.approve", "V7", "jing"): {
        "plan not approved": (drop, "not approved before"),
        "another cost approved": (put(rho=RATIO), "another cost"),
    },
    ("jing", "reserve", "V7", "jing"): {
        "another split": (put(split_key_hash=OTHER), "hold-out split"),
        "another part than planned": (put(part="holdout"), "no such sum"),
        "no such plan": (put(plan=OTHER), "no valid plan"),
    },
    ("jing", "reserve", "V7", "nobody"): {
        "no such bank": (put(bank="nobody"), "not in the export"),
    },
    ("jing", "snapshot", "V7", "jing"): {
        "grants not in force": (put(authorisations=OTHER), "not in force"),
        "internal log shorter": (put(internal_size=99), "the export has"),
        "internal log rewritten": (put(internal_root=OTHER), "rewritten"),
    },
    ("jing", "authorisation.grant", "V7", "jing"): {
        "grant dropped": (drop, "not in force"),
        "grant widened afterwards": (put(purposes=["credit-approval"]), "not in force"),
    },
    ("jing", "authorisation.revoke", "V7", "jing"): {
        "revocation of nothing": (put(grant=77), "does not stand"),
        "revocation dropped": (put(grant=3), "not in force"),
    },
    ("jing", "reserve", "V8", "jing"): {
        "cost lowered": (scaled("rho", Fraction(1, 2)), "the noise costs"),
        "cost nil": (scaled("rho", Fraction(0)), "the noise costs"),
        "charge lowered": (scaled("charge", Fraction(1, 2)), "was charged"),
        "charge of an odd fraction": (
            put(charge={"num": "1", "den": "9" * 400}),
            "no multiple of 2^-64",
        ),
        "less noise": (mechanism(sigma={"num": "1024", "den": "1"}), "the noise costs"),
        "no noise": (mechanism(sigma={"num": "0", "den": "1"}), "sigma"),
        "smaller bound": (mechanism(delta_squared="1"), "Delta_sq"),
        "unknown statistic": (mechanism(statistic="rows"), ""),
        "cap exceeded": (scaled("charge", Fraction(20)), "above the charter's cap"),
        "absurd numbers": (put(charge={"num": "9" * 390, "den": "1"}), ">1e308"),
        "plan cap exceeded": (scaled("rho", Fraction(10)), "own cap"),
    },
    ("jing", "account", "V9", "jing"): {
        "account dropped": (drop, "no account entry"),
        "before altered": (put(spent_before=RATIO), "does not replay"),
        "after altered": (put(spent_after=RATIO), "does not replay"),
        "plan's account altered": (put(plan_spent_after=RATIO), "does not replay"),
        "bank's account altered": (put(bank_spent_after=RATIO), "does not replay"),
        "another period": (put(period="2025-01-01T00:00:00Z"), "does not replay"),
        "account of nothing": (put(reservation=0), "does not exist"),
    },
}


@pytest.mark.parametrize(
    ("where", "lie"),
    [
        pytest.param(where, lie, id=name)
        for where, lies in LIES.items()
        for name, lie in lies.items()
    ],
)
def test_a_lie_is_found_and_named(build: Build, where: tuple[str, str, str, str], lie: Lie) -> None:
    (member, kind, check, blamed), (change, reason) = where, lie
    verification = build(once(member, kind, change)).verify()
    assert not verification.ok
    assert (check, blamed) in found(verification)
    assert reason in reasons(verification, check)
    report_json(verification)
    render_report(verification)


def test_a_plan_that_was_refused_after_all_is_found(tmp_path: Path) -> None:
    class Refused(Consortium):
        """jing refuses the plan after the first round, and goes on."""

        def _round(self, connection: Connection, number: int) -> None:
            super()._round(connection, number)
            if number == 1:
                body = {"plan": self.digest, "bank": "bank", "code": "no", "reason": "no more"}
                self.log(connection, self.parties["jing"].release, "plan.refuse", body)

    verification = Refused(tmp_path / "export").run().verify()
    assert found(verification) == {("V7", "jing")}
    assert "had refused the plan" in reasons(verification, "V7")


def test_a_reservation_used_twice_is_found(build: Build) -> None:
    """The second release of a node names the reservation of its first."""
    first: list[object] = []

    def tamper(who: str, what: str, body: Body) -> Body | None:
        if (who, what) == ("jing", "release"):
            first.append(body["reservation"])
            return {**body, "reservation": first[0]}
        return body

    verification = build(tamper).verify()
    assert "was used before" in reasons(verification, "V4")
    assert ("V4", "jing") in found(verification)


def test_a_real_valued_sum_logged_as_a_count_is_found(build: Build) -> None:
    """Without the rounding of real values the sensitivity would look a little smaller."""
    squared = delta_squared(Fraction(1, 2), 10, counts=True)
    tamper = once("jing", "reserve", mechanism(delta_squared=str(squared)), nth=1)
    assert "below that of the statistic" in reasons(build(tamper).verify(), "V8")


def test_a_bound_that_is_not_the_statistic_s_is_found(build: Build) -> None:
    """A hundredth of the sensitivity, logged by all nodes, would pay for that little noise."""

    def shrink(_: str, what: str, body: Body) -> Body | None:
        inner = body.get("mechanism")
        if what != "reserve" or not isinstance(inner, dict) or inner["statistic"] != "gram":
            return body
        bound, cost = Fraction(1, 20_000), fraction_from(body["rho"])
        squared = delta_squared(bound, inner["nonzeros"], counts=False)
        changes = {
            "bound_squared": fraction_body(bound),
            "delta_squared": str(squared),
            "sigma": fraction_body(node_sigma(squared, cost)),
        }
        return {**body, "mechanism": {**inner, **changes}}

    assert "which the catalogue gives" in reasons(build(shrink).verify(), "V8")


def test_a_sum_logged_as_free_and_without_noise_is_found(build: Build) -> None:
    nil = {"num": "0", "den": "1"}
    tamper = once("jing", "reserve", lambda body: put(rho=nil)(mechanism(sigma=nil)(body)))
    assert "logged as free" in reasons(build(tamper).verify(), "V8")


def test_the_second_accountant_finds_what_was_not_charged(
    build: Build,
) -> None:
    tamper = once("jing", "reserve", scaled("charge", Fraction(1, 2)))
    assert "dp-accounting finds" in reasons(build(tamper).verify(), "V8")


def test_a_round_reserved_twice_is_found(build: Build) -> None:
    tamper = once("jing", "reserve", put(round=1), nth=1)
    assert "was reserved before" in reasons(build(tamper).verify(), "V4")


def test_a_round_accepted_twice_is_found(build: Build) -> None:
    tamper = once("bank", "accept", put(node="anping"), nth=1)
    verification = build(tamper).verify()
    assert "was accepted before" in reasons(verification, "V5")


def test_a_second_receipt_for_one_release_is_found(build: Build) -> None:
    first: list[Body] = []

    def tamper(who: str, what: str, body: Body) -> Body | None:
        if (who, what) == ("jing", "receipt"):
            first.append(body)
            return first[0]
        return body

    verification = build(tamper).verify()
    assert "one that has a receipt" in reasons(verification, "V5")
    assert "no receipt" in reasons(verification, "V5")


def test_a_forged_receipt_is_found(build: Build) -> None:
    """The node signs the bank's receipt with a key of its own."""

    def forge(body: Body) -> Body:
        word = base64.b64decode(str(body["receipt"]))
        opened = json.loads(base64.b64decode(json.loads(word)["payload"]))
        forged = seal(RECEIPT, opened, SigningKey.generate(), "bank")
        return {**body, "receipt": base64.b64encode(forged).decode()}

    verification = build(once("jing", "receipt", forge)).verify()
    assert [(f.check, f.member) for f in verification.findings] == [("V5", "jing")]
    assert "signature" in reasons(verification, "V5")


def test_a_bank_that_denies_what_it_accepted_is_found(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path / "export")

    def deny(body: Body) -> Body:
        word = NotReceived(RUN, 1, "anping", "2026-11-22T20:00:00Z").body()
        envelope = seal(NOT_RECEIVED, word, consortium.bank.keys.identity, "bank")
        return {**body, "receipt": base64.b64encode(envelope).decode()}

    consortium.tamper = once("anping", "receipt", deny)
    verification = consortium.run().verify()
    assert [(f.check, f.member) for f in verification.findings] == [("V5", "bank")]
    assert "signed that it did not receive" in reasons(verification, "V5")


def test_a_not_received_of_another_round_is_found(build: Build) -> None:
    def swap(who: str, what: str, body: Body) -> Body | None:
        if (who, what) == ("yongnian", "receipt") and body["round"] == 4:
            return {**body, "receipt": stored[0]}
        if (who, what) == ("yongnian", "receipt"):
            stored.append(str(body["receipt"]))
        return body

    stored: list[str] = []
    assert "something else" in reasons(build(swap).verify(), "V5")


TRADE = ViewReference("trade", 1, hashlib.sha256(VIEW).hexdigest())
PLANS = [
    ("names a stranger", {"nodes": ("anping", "jing", "nobody")}, "outside the charter"),
    ("leaves a node out", {"nodes": ("anping", "jing"), "minimum_nodes": 2}, "not in the plan"),
    ("too few nodes", {"minimum_nodes": 1}, "the charter asks for 2"),
    ("another consortium", {"consortium": "other"}, "another bank or consortium"),
    ("another bank", {"bank": "other"}, "another bank or consortium"),
    ("over the cap", {"rho_train": Fraction(1)}, "more than the charter's cap"),
    ("expired", {"expires": AT.replace(day=3)}, "had expired"),
    ("unknown charter", {"charter": OTHER}, "add it to charters/"),
    ("without the sum", {"sums": SUMS[1:]}, "no such sum"),
    (
        "label of another bank",
        {"label": LabelReference("bad", "bad-1", "other")},
        "different banks",
    ),
    ("another view's name", {"view": replace(TRADE, name="other")}, "is trade-v1, not other"),
    ("a day that the view does not take", {"as_of": date(2026, 6, 30)}, "as-of day"),
    ("a grade below its view's columns", {"grade": "important"}, "reads columns of grade core"),
    ("made in the future", {"created": AT.replace(day=23)}, "dated after"),
    ("beyond the period", {"expires": AT.replace(year=2027)}, "within the charter's budget"),
]


@pytest.mark.parametrize(
    ("changes", "reason"), [pytest.param(changes, why, id=name) for name, changes, why in PLANS]
)
def test_a_plan_outside_its_bounds_is_found(
    build: Build, changes: dict[str, object], reason: str
) -> None:
    consortium = build(plan=lambda plan: replace(plan, **changes))
    assert reason in reasons(consortium.verify(), "V7")


def test_a_node_that_is_too_small_for_the_charter_is_found(build: Build) -> None:
    verification = build(charter=lambda charter: replace(charter, minimum_enterprises=200)).verify()
    assert found(verification) == {("V7", node) for node in NODES}
    assert "declared size is under 200" in reasons(verification, "V7")


def test_a_reservation_outside_the_period_is_found(build: Build) -> None:
    ended = build(charter=lambda charter: replace(charter, period_to="2026-06-01T00:00:00Z"))
    assert "no budget period" in reasons(ended.verify(), "V8")


def test_each_period_has_its_own_account(consortium: Consortium) -> None:
    later = replace(
        consortium.charter,
        serial=3,
        issued="2026-12-01T00:00:00Z",
        period_from="2027-01-01T00:00:00Z",
        period_to="2028-01-01T00:00:00Z",
    )
    write_charters(consortium.folder, (*consortium.charters, later), consortium.regulator)
    verification = consortium.verify()
    assert verification.ok
    assert {row.period for row in verification.spending} == {consortium.charter.period_from}
