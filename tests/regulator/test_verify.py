"""`hejin regulator verify`: an honest consortium passes; every lie is found and named."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from ledger_world import AT, CAP, NODES, RUN, SUMS, Body, Consortium, Tamper, honest, sha
from rich.console import Console

from hejin_models.plan import Plan
from hejin_models.statistics import CATALOGUE
from hejin_privacy.accounting import epsilon
from hejin_privacy.mechanism import delta_squared, node_sigma
from hejin_privacy.messages import NotReceived
from hejin_regulator.check_budget import _REAL_BOUNDS
from hejin_regulator.check_consent import _MOST_SCOPES, _Grant, _possible
from hejin_regulator.findings import Verification
from hejin_regulator.report import render_report, report_json
from hejin_regulator.verify import verify_export
from hejin_trust.canonical import encode, fraction_body, fraction_from
from hejin_trust.charter import Charter, CharterError
from hejin_trust.envelope import NOT_RECEIVED, PLAN, RECEIPT, seal
from hejin_trust.export import ExportError
from hejin_trust.keys import SigningKey


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Consortium]:
    # These tests cut no power: what is durable is tested with the log.
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def make(
        tamper: Tamper = honest,
        plan: Callable[[Plan], Plan] = replace,
        charter: Callable[[Charter], Charter] = replace,
    ) -> Consortium:
        return Consortium(tmp_path / "export", tamper, plan, charter).run()

    return make


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium(tmp_path_factory.mktemp("honest") / "export").run()


@pytest.fixture
def consortium(original: Consortium, tmp_path: Path) -> Consortium:
    """An honest consortium, with an export of its own to damage."""
    mine = copy.copy(original)
    mine.folder = tmp_path / "export"
    shutil.copytree(original.folder, mine.folder)
    return mine


def found(verification: Verification) -> set[tuple[str, str]]:
    return {(finding.check, finding.member) for finding in verification.findings}


def reasons(verification: Verification, check: str) -> str:
    return " | ".join(f.reason.en for f in verification.findings if f.check == check)


# -- honesty -----------------------------------------------------------------------------


def test_an_honest_consortium_verifies(consortium: Consortium) -> None:
    verification = consortium.verify()
    assert verification.findings == ()
    assert verification.ok
    assert verification.warnings == ()
    counts = verification.counts
    assert (counts["reserve"], counts["release"], counts["void"]) == (13, 12, 1)
    assert (counts["accept"], counts["receipt"]) == (11, 12)


def test_spending_is_told_by_node_and_bank_with_epsilon_and_cap(consortium: Consortium) -> None:
    rows = {(row.node, row.bank): row for row in consortium.verify().spending}
    assert set(rows) == {(node, bank) for node in NODES for bank in (None, "bank")}
    row = rows["anping", None]
    assert row.rho == consortium.parties["anping"].spent
    assert row.rho == rows["anping", "bank"].rho
    assert row.epsilon == epsilon(row.rho, 1e-6)
    assert (row.rho_cap, row.delta) == (CAP, Fraction(1, 10**6))
    assert 0 < row.epsilon < row.epsilon_cap
    # Round 5 was charged at jing alone, although nothing left.
    assert rows["jing", None].rho > row.rho


def test_the_charter_s_own_key_is_taken_with_a_warning(consortium: Consortium) -> None:
    verification = verify_export(consortium.folder)
    assert verification.ok
    assert consortium.regulator.public.hex() in verification.warnings[0].en


def test_the_report_reads_in_both_languages_and_as_json(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    verification = verify_export(consortium.folder)
    for language, verdict in (("en", "VERIFIED: every check holds"), ("zh", "通过：全部检查成立")):
        monkeypatch.setenv("HEJIN_LANG", language)
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(render_report(verification))
        shown = console.export_text()
        assert verdict in shown
        assert "anping" in shown
    told = json.loads(json.dumps(report_json(verification), allow_nan=False))
    assert told["ok"] is True
    assert told["checks"] == {f"V{number}": True for number in range(1, 11)}
    assert len(told["spending"]) == 6


def test_findings_are_shown_with_check_member_and_entry(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    (consortium.folder / "jing" / "internal.jsonl").unlink()
    monkeypatch.setenv("HEJIN_LANG", "en")
    verification = consortium.verify()
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(render_report(verification))
    shown = console.export_text()
    assert "NOT VERIFIED" in shown
    assert "export the member again" in shown
    told = report_json(verification)
    assert told["ok"] is False
    assert isinstance(told["checks"], dict)
    assert told["checks"]["V1"] is False
    assert told["checks"]["V4"] is True


# -- what an outsider changes: files ------------------------------------------------------


@pytest.mark.parametrize("log", ["release", "internal"])
@pytest.mark.parametrize("member", [*NODES, "bank"])
def test_a_changed_byte_in_any_log_is_found(consortium: Consortium, member: str, log: str) -> None:
    path = consortium.folder / member / f"{log}.jsonl"
    data = bytearray(path.read_bytes())
    digit = data.rindex(b'"salt":"') + len(b'"salt":"')
    data[digit] = ord("1") if data[digit] != ord("1") else ord("2")
    path.write_bytes(data)
    assert ("V1", member) in found(consortium.verify())


@pytest.mark.parametrize(
    "name",
    ["release.jsonl", "internal.jsonl", "release.checkpoint", "internal.checkpoint"],
)
@pytest.mark.parametrize("member", ["jing", "bank"])
def test_a_missing_file_is_found(consortium: Consortium, member: str, name: str) -> None:
    (consortium.folder / member / name).unlink()
    verification = consortium.verify()
    assert ("V1", member) in found(verification)
    assert name in reasons(verification, "V1")


def test_a_member_left_out_is_found(consortium: Consortium) -> None:
    folder = consortium.folder / "yongnian"
    folder.rename(consortium.folder.parent / "hidden")
    assert ("V1", "yongnian") in found(consortium.verify())


def test_logs_of_a_stranger_are_found(consortium: Consortium) -> None:
    (consortium.folder / "stranger").mkdir()
    (consortium.folder / "stranger" / "release.jsonl").write_bytes(b"")
    assert ("V1", "stranger") in found(consortium.verify())


def test_a_log_cut_at_the_end_is_found(consortium: Consortium) -> None:
    path = consortium.folder / "jing" / "internal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert ("V1", "jing") in found(consortium.verify())


def test_swapped_entries_are_found(consortium: Consortium) -> None:
    path = consortium.folder / "jing" / "release.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    assert "stands at place 2" in reasons(consortium.verify(), "V1")


def test_an_emptied_log_is_found(consortium: Consortium) -> None:
    (consortium.folder / "bank" / "internal.jsonl").write_bytes(b"")
    assert ("V1", "bank") in found(consortium.verify())


def test_a_log_of_another_member_in_its_place_is_found(consortium: Consortium) -> None:
    for name in ("release.jsonl", "release.checkpoint"):
        data = (consortium.folder / "anping" / name).read_bytes()
        (consortium.folder / "jing" / name).write_bytes(data)
    assert "another member" in reasons(consortium.verify(), "V1")


def test_a_checkpoint_by_another_key_is_found(consortium: Consortium) -> None:
    note = (consortium.folder / "anping" / "internal.checkpoint").read_bytes()
    (consortium.folder / "jing" / "internal.checkpoint").write_bytes(note)
    assert ("V1", "jing") in found(consortium.verify())


def test_a_missing_plan_document_is_found(consortium: Consortium) -> None:
    (consortium.folder / "bank" / "documents" / f"{consortium.digest}.json").unlink()
    verification = consortium.verify()
    assert ("V7", "bank") in found(verification)
    assert all(("V7", node) in found(verification) for node in NODES)


def test_a_plan_signed_by_somebody_else_is_found(consortium: Consortium) -> None:
    forged = seal(PLAN, consortium.plan.body(), SigningKey.generate(), "bank")
    path = consortium.folder / "bank" / "documents" / f"{consortium.digest}.json"
    path.write_bytes(forged)
    assert ("V7", "bank") in found(consortium.verify())


def test_another_plan_under_the_same_name_is_found(consortium: Consortium) -> None:
    other = replace(consortium.plan, product="other")
    path = consortium.folder / "bank" / "documents" / f"{consortium.digest}.json"
    path.write_bytes(seal(PLAN, other.body(), consortium.bank.identity, "bank"))
    assert "is another plan" in reasons(consortium.verify(), "V7")


def test_without_a_charter_nothing_can_be_verified(consortium: Consortium) -> None:
    (consortium.folder / "charter.json").unlink()
    with pytest.raises(ExportError, match=r"charter\.json"):
        consortium.verify()


def test_a_charter_of_another_regulator_is_refused(consortium: Consortium) -> None:
    with pytest.raises(CharterError):
        verify_export(consortium.folder, SigningKey.generate().public)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"payload":"!"}', b'{"payload":"e30="}'])
def test_a_malformed_charter_is_refused(consortium: Consortium, data: bytes) -> None:
    (consortium.folder / "charter.json").write_bytes(data)
    with pytest.raises(CharterError):
        verify_export(consortium.folder)


def test_a_newer_charter_needs_the_older_one_beside_it(consortium: Consortium) -> None:
    newer = replace(consortium.charter, serial=3, issued="2026-11-23T00:00:00Z")
    (consortium.folder / "charter.json").write_bytes(newer.seal(consortium.regulator))
    assert "add it to charters/" in reasons(consortium.verify(), "V1")
    (consortium.folder / "charters").mkdir()
    older = consortium.charter.seal(consortium.regulator)
    (consortium.folder / "charters" / "2.json").write_bytes(older)
    assert consortium.verify().ok


def test_earlier_charters_must_be_the_regulator_s_and_of_the_same_consortium(
    consortium: Consortium,
) -> None:
    (consortium.folder / "charters").mkdir()
    foreign = replace(consortium.charter, nonce=b"x" * 32)
    stranger = SigningKey.generate()
    (consortium.folder / "charters" / "0.json").write_bytes(foreign.seal(consortium.regulator))
    (consortium.folder / "charters" / "1.json").write_bytes(foreign.seal(stranger))
    findings = consortium.verify().findings
    assert [(f.check, f.member) for f in findings] == [("V1", "regulator")] * 2


# -- what a member itself writes, and signs -----------------------------------------------


def once(member: str, kind: str, change: Callable[[Body], Body | None], nth: int = 0) -> Tamper:
    """Change (or drop) the nth entry of a kind at a member."""
    seen = -1

    def tamper(who: str, what: str, body: Body) -> Body | None:
        nonlocal seen
        if (who, what) != (member, kind):
            return body
        seen += 1
        return change(body) if seen == nth else body

    return tamper


def put(**changes: object) -> Callable[[Body], Body]:
    return lambda body: {**body, **changes}


def drop(body: Body) -> None:
    return None


def scaled(key: str, factor: Fraction) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        value = body[key]
        assert isinstance(value, dict)
        fraction = Fraction(int(value["num"]), int(value["den"]))
        return {**body, key: fraction_body(fraction * factor)}

    return change


def mechanism(**changes: object) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        inner = body["mechanism"]
        assert isinstance(inner, dict)
        return {**body, "mechanism": {**inner, **changes}}

    return change


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
    },
    ("jing", "snapshot", "V4", "jing"): {
        "snapshot of another run": (put(run="aa" * 16), "no earlier snapshot"),
    },
    ("bank", "accept", "V5", "bank"): {
        "accept dropped": (drop, "does not accept"),
        "accept of other bytes": (put(vector=OTHER), "something else"),
        "accept of another reservation": (put(reservation=0), "something else"),
        "accept with another root": (put(proof_root=OTHER), "rewritten"),
        "accept with an old proof": (put(proof_size=1), "does not cover"),
        "accept of an unknown node": (put(node="nobody"), "did not release"),
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
        "less noise": (mechanism(sigma={"num": "1024", "den": "1"}), "the noise costs"),
        "no noise": (mechanism(sigma={"num": "0", "den": "1"}), "sigma"),
        "smaller bound": (mechanism(delta_squared="1"), "Delta_sq"),
        "unknown statistic": (mechanism(statistic="rows"), ""),
        "another question": (put(query=OTHER), "another query"),
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
def test_a_lie_is_found_and_named(
    build: Callable[..., Consortium], where: tuple[str, str, str, str], lie: Lie
) -> None:
    (member, kind, check, blamed), (change, reason) = where, lie
    verification = build(once(member, kind, change)).verify()
    assert not verification.ok
    assert (check, blamed) in found(verification)
    assert reason in reasons(verification, check)
    report_json(verification)
    render_report(verification)


def test_a_reservation_used_twice_is_found(build: Callable[..., Consortium]) -> None:
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


def test_a_real_valued_sum_logged_as_a_count_is_found(build: Callable[..., Consortium]) -> None:
    """Without the rounding of real values the sensitivity would look a little smaller."""
    squared = delta_squared(Fraction(1, 2), 10, counts=True)
    tamper = once("jing", "reserve", mechanism(delta_squared=str(squared)), nth=1)
    assert "below that of the statistic" in reasons(build(tamper).verify(), "V8")


def test_a_bound_that_is_not_the_statistic_s_is_found(build: Callable[..., Consortium]) -> None:
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


def test_many_scopes_that_all_fit_are_no_finding() -> None:
    """Each enterprise may word its authorisation differently; the plan needs what all cover."""
    grants = [
        _Grant(
            seq=n,
            enterprise=f"{n:032x}",
            purposes=("model-training",),
            banks=("bank",),
            scope=(("trade",), ("margin", f"f{n}")),
            valid_from="2026-01-01T00:00:00Z",
            valid_to="2027-01-01T00:00:00Z",
        )
        for n in range(_MOST_SCOPES + 2)
    ]
    all_of_them = hashlib.sha256(encode([grant.seq for grant in grants])).hexdigest()
    assert next(_possible(grants, "2026-11-22T20:00:00Z")) == all_of_them


def test_every_statistic_has_a_bound_that_can_be_verified() -> None:
    real = {key for key, entry in CATALOGUE.items() if not entry.counts}
    assert real == _REAL_BOUNDS.keys()


def test_a_sum_logged_as_free_and_without_noise_is_found(build: Callable[..., Consortium]) -> None:
    nil = {"num": "0", "den": "1"}
    tamper = once("jing", "reserve", lambda body: put(rho=nil)(mechanism(sigma=nil)(body)))
    assert "logged as free" in reasons(build(tamper).verify(), "V8")


def test_the_second_accountant_finds_what_was_not_charged(
    build: Callable[..., Consortium],
) -> None:
    tamper = once("jing", "reserve", scaled("charge", Fraction(1, 2)))
    assert "dp-accounting finds" in reasons(build(tamper).verify(), "V8")


def test_a_round_reserved_twice_is_found(build: Callable[..., Consortium]) -> None:
    tamper = once("jing", "reserve", put(round=1), nth=1)
    assert "was reserved before" in reasons(build(tamper).verify(), "V4")


def test_a_round_accepted_twice_is_found(build: Callable[..., Consortium]) -> None:
    tamper = once("bank", "accept", put(node="anping"), nth=1)
    verification = build(tamper).verify()
    assert "was accepted before" in reasons(verification, "V5")


def test_a_second_receipt_for_one_release_is_found(build: Callable[..., Consortium]) -> None:
    first: list[Body] = []

    def tamper(who: str, what: str, body: Body) -> Body | None:
        if (who, what) == ("jing", "receipt"):
            first.append(body)
            return first[0]
        return body

    verification = build(tamper).verify()
    assert "one that has a receipt" in reasons(verification, "V5")
    assert "no receipt" in reasons(verification, "V5")


def test_a_forged_receipt_is_found(build: Callable[..., Consortium]) -> None:
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
        envelope = seal(NOT_RECEIVED, word, consortium.bank.identity, "bank")
        return {**body, "receipt": base64.b64encode(envelope).decode()}

    consortium.tamper = once("anping", "receipt", deny)
    verification = consortium.run().verify()
    assert [(f.check, f.member) for f in verification.findings] == [("V5", "bank")]
    assert "signed that it did not receive" in reasons(verification, "V5")


def test_a_not_received_of_another_round_is_found(build: Callable[..., Consortium]) -> None:
    def swap(who: str, what: str, body: Body) -> Body | None:
        if (who, what) == ("yongnian", "receipt") and body["round"] == 4:
            return {**body, "receipt": stored[0]}
        if (who, what) == ("yongnian", "receipt"):
            stored.append(str(body["receipt"]))
        return body

    stored: list[str] = []
    assert "something else" in reasons(build(swap).verify(), "V5")


PLANS = [
    ("names a stranger", {"nodes": ("anping", "jing", "nobody")}, "outside the charter"),
    ("leaves a node out", {"nodes": ("anping", "jing"), "minimum_nodes": 2}, "not in the plan"),
    ("too few nodes", {"minimum_nodes": 2}, "the charter asks for 3"),
    ("another consortium", {"consortium": "other"}, "another bank or consortium"),
    ("another bank", {"bank": "other"}, "another bank or consortium"),
    ("over the cap", {"rho_train": Fraction(1)}, "more than the charter's cap"),
    ("expired", {"expires": AT.replace(day=2)}, "had expired"),
    ("unknown charter", {"charter": OTHER}, "add it to charters/"),
    ("without the sum", {"sums": SUMS[1:]}, "no such sum"),
]


@pytest.mark.parametrize(
    ("changes", "reason"), [pytest.param(changes, why, id=name) for name, changes, why in PLANS]
)
def test_a_plan_outside_its_bounds_is_found(
    build: Callable[..., Consortium], changes: dict[str, object], reason: str
) -> None:
    consortium = build(plan=lambda plan: replace(plan, **changes))
    assert reason in reasons(consortium.verify(), "V7")


def test_a_reservation_outside_the_period_is_found(build: Callable[..., Consortium]) -> None:
    ended = build(charter=lambda charter: replace(charter, period_to="2026-06-01T00:00:00Z"))
    assert "no budget period" in reasons(ended.verify(), "V8")


def test_each_period_has_its_own_account(consortium: Consortium) -> None:
    later = replace(
        consortium.charter,
        serial=3,
        period_from="2027-01-01T00:00:00Z",
        period_to="2028-01-01T00:00:00Z",
    )
    (consortium.folder / "charter.json").write_bytes(later.seal(consortium.regulator))
    (consortium.folder / "charters").mkdir()
    (consortium.folder / "charters" / "2.json").write_bytes(
        consortium.charter.seal(consortium.regulator)
    )
    verification = consortium.verify()
    assert verification.ok
    assert {row.period for row in verification.spending} == {consortium.charter.period_from}
