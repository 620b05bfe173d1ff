"""V1 and V7: the charters of an export, the members they admit, and the list of certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from ledger_lies import Build, drop, found, once, put, reasons
from ledger_papers import AT, EXPORTED, founding, make_keys, write_charters
from ledger_world import MEMBERS, NODES, Asked, Consortium, Party
from sqlalchemy import Connection

from hejin_regulator.certificate_status import status_of
from hejin_regulator.verify import verify_export
from hejin_trust.canonical import time_text
from hejin_trust.charter import Charter, CharterError
from hejin_trust.export import ExportError
from hejin_trust.keys import SigningKey


def after(charter: Charter, **changes: object) -> Charter:
    """Return a third charter."""
    later = {"serial": 3, "issued": "2026-12-24T00:00:00Z", **changes}
    return replace(charter, **later)  # type: ignore[arg-type]


def revoking(charter: Charter, member: str, at: str) -> Charter:
    members = tuple(
        replace(one, status="revoked") if one.id == member else one for one in charter.members
    )
    return after(charter, issued=at, members=members)


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


def test_a_charter_with_a_very_high_number_is_not_counted_up_to(consortium: Consortium) -> None:
    far = replace(consortium.charter, serial=2**53 - 1)
    (consortium.folder / "charter.json").write_bytes(far.seal(consortium.regulator))
    told = reasons(consortium.verify(), "V1")
    assert f"{2**53 - 3} of the {2**53 - 1} charters are missing, the first is number 3" in told


@pytest.mark.parametrize("serial", [1, 2])
def test_every_charter_must_be_there(consortium: Consortium, serial: int) -> None:
    (consortium.folder / "charters" / f"{serial}.json").unlink()
    assert f"the first is number {serial}" in reasons(consortium.verify(), "V1")


def test_a_newer_charter_verifies_with_all_before_it(consortium: Consortium) -> None:
    newer = after(consortium.charter)
    write_charters(consortium.folder, (*consortium.charters, newer), consortium.regulator)
    verification = consortium.verify()
    assert verification.ok
    assert verification.charter_serial == 3


def test_a_log_founded_under_a_charter_that_is_missing_is_found(consortium: Consortium) -> None:
    newer = after(consortium.charter)
    write_charters(consortium.folder, (*consortium.charters, newer), consortium.regulator)
    (consortium.folder / "charters" / "2.json").unlink()
    assert "add it to charters/" in reasons(consortium.verify(), "V1")


@pytest.mark.parametrize(
    ("first", "why"),
    [
        pytest.param({"nonce": b"x" * 32}, "nonce", id="another nonce"),
        pytest.param({"consortium": "other"}, "another consortium", id="another consortium"),
        pytest.param({"period_to": "2027-06-01T00:00:00Z"}, "period", id="period cut short"),
        pytest.param({"issued": "2026-12-01T00:00:00Z"}, "issued before", id="issued later"),
        pytest.param({"serial": 2}, "not the charter of that number", id="another number"),
    ],
)
def test_a_charter_that_does_not_lead_to_the_next_one_is_found(
    consortium: Consortium, first: dict[str, object], why: str
) -> None:
    changed = replace(founding(consortium.charter), **first)  # type: ignore[arg-type]
    path = consortium.folder / "charters" / "1.json"
    path.write_bytes(changed.seal(consortium.regulator))
    verification = consortium.verify()
    assert ("V1", "regulator") in found(verification)
    assert why in reasons(verification, "V1")


def test_an_earlier_charter_signed_by_somebody_else_is_found(consortium: Consortium) -> None:
    path = consortium.folder / "charters" / "1.json"
    path.write_bytes(founding(consortium.charter).seal(SigningKey.generate()))
    verification = consortium.verify()
    assert ("V1", "regulator") in found(verification)
    assert verification.findings[0].evidence == ("charters/1.json",)


def _without(charter: Charter) -> Charter:
    return after(charter, members=charter.members[1:])


def _other_keys(charter: Charter) -> Charter:
    first = replace(charter.members[0], log_key=SigningKey.generate().public)
    return after(charter, members=(first, *charter.members[1:]))


def _other_regulator(charter: Charter) -> Charter:
    key = SigningKey.generate().public
    return after(charter, regulator=replace(charter.regulator, log_key=key))


@pytest.mark.parametrize("change", [_without, _other_keys, _other_regulator])
def test_members_and_keys_stay_for_good(
    consortium: Consortium, change: Callable[[Charter], Charter]
) -> None:
    charters = (*consortium.charters, change(consortium.charter))
    write_charters(consortium.folder, charters, consortium.regulator)
    assert "does not follow" in reasons(consortium.verify(), "V1")


def test_a_revocation_stays_for_good(consortium: Consortium) -> None:
    revoked = revoking(consortium.charter, "jing", "2026-12-24T00:00:00Z")
    again = after(consortium.charter, serial=4)
    charters = (*consortium.charters, revoked, again)
    write_charters(consortium.folder, charters, consortium.regulator)
    assert "jing was revoked before" in reasons(consortium.verify(), "V1")


@pytest.mark.parametrize("member", ["bank", "jing"])
@pytest.mark.parametrize(("seconds", "holds"), [(-131, False), (-130, False), (-129, True)])
def test_a_reservation_after_a_revocation_is_found(
    consortium: Consortium, member: str, seconds: int, holds: bool
) -> None:
    """A member hears of a revocation with its next cosignature, by a clock that may be ahead."""
    # All but jing's last three reservations are of AT; these are of ten minutes later.
    issued = time_text(AT + timedelta(minutes=10, seconds=seconds))
    revoked = revoking(consortium.charter, member, issued)
    write_charters(consortium.folder, (*consortium.charters, revoked), consortium.regulator)
    verification = consortium.verify()
    assert verification.ok == holds
    if not holds:
        assert f"{member if member == 'bank' else 'the node'} was not admitted at" in reasons(
            verification, "V7"
        )
        assert {name for _, name in found(verification)} <= set(NODES)


@pytest.mark.parametrize(("seconds", "holds"), [(120, True), (121, False)])
def test_a_reservation_before_the_admission_is_found(
    build: Build, seconds: int, holds: bool
) -> None:
    """By a node's clock, which may be two minutes behind the regulator's."""
    issued = time_text(AT + timedelta(seconds=seconds))
    verification = build(charter=lambda charter: replace(charter, issued=issued)).verify()
    assert ("was not admitted at" not in reasons(verification, "V7")) == holds
    assert verification.ok == holds


# -- what a charter that is no longer in force allowed ------------------------------------


class Changed(Consortium):
    """A consortium whose charter changes before the plan is approved, or later."""

    issued = ""
    terms: ClassVar[dict[str, object]] = {}

    @property
    def charters(self) -> tuple[Charter, ...]:
        third = replace(self.charter, serial=3, issued=self.issued, **self.terms)  # type: ignore[arg-type]
        return (*super().charters, third)


@pytest.mark.parametrize(("seconds", "holds"), [(-131, False), (-129, True), (60, True)])
def test_a_plan_approved_under_a_charter_that_was_over_is_found(
    tmp_path: Path, seconds: int, holds: bool
) -> None:
    consortium = Changed(tmp_path / "export")
    consortium.issued = time_text(AT + timedelta(seconds=seconds))
    consortium.terms = {"minimum_enterprises": 200}
    verification = consortium.run().verify()
    assert verification.ok == holds
    if not holds:
        assert found(verification) == {("V7", node) for node in NODES}
        assert "under charter 2, which was not in force" in reasons(verification, "V7")


@pytest.mark.parametrize(("seconds", "late"), [(470, True), (471, False)])
def test_a_sum_goes_by_the_r_of_its_time(tmp_path: Path, seconds: int, late: bool) -> None:
    """Charter 3 lets an enterprise be in two nodes; sums go on as if it were in one."""
    consortium = Changed(tmp_path / "export")
    # The last reservations are of ten minutes after AT: so much may a node not have heard.
    consortium.issued = time_text(AT + timedelta(seconds=seconds))
    consortium.terms = {"r": 2}
    verification = consortium.run().verify()
    assert verification.ok == (not late)
    if late:
        assert found(verification) == {("V7", node) for node in NODES}
        assert "the charter's r then" in reasons(verification, "V7")


class Lost(Consortium):
    """A consortium that loses jing's third release on the way, and jing with it."""

    def _ask(self, number: int) -> Asked:
        asked = super()._ask(number)
        return replace(asked, survivors=("anping", "yongnian")) if number == 3 else asked

    def _interrupted(self, connection: Connection, party: Party) -> None:
        if party.id != "jing":
            super()._interrupted(connection, party)
            return
        self._reserve(connection, party, self._ask(5))


def test_a_node_that_was_revoked_owes_no_receipt_and_no_end(tmp_path: Path) -> None:
    consortium = Lost(tmp_path / "export", once("jing", "receipt", drop, nth=2)).run()
    verification = consortium.verify()
    assert found(verification) == {("V4", "jing"), ("V5", "jing"), ("V5", "bank")}
    assert "neither a release nor a void" in reasons(verification, "V4")
    revoked = revoking(consortium.charter, "jing", "2026-11-23T00:00:00Z")
    write_charters(consortium.folder, (*consortium.charters, revoked), consortium.regulator)
    verification = consortium.verify()
    assert verification.findings == ()
    told = " ".join(warning.en for warning in verification.warnings)
    assert "jing was revoked before 1 of its reservations ended" in told
    assert "jing was revoked before it could fetch the bank's word on 1" in told


def test_a_revoked_member_s_entries_that_nobody_witnessed_are_found(consortium: Consortium) -> None:
    revoked = revoking(consortium.charter, "jing", "2026-11-23T00:00:00Z")
    write_charters(consortium.folder, (*consortium.charters, revoked), consortium.regulator)
    (consortium.folder / "jing" / "internal.cosigned.jsonl").unlink()
    path = consortium.folder / "witness" / "jing.internal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    verification = consortium.verify()
    assert found(verification) == {("V2", "jing")}
    assert "take its logs from the mirror" in reasons(verification, "V2")


def test_a_reservation_for_a_bank_that_offered_no_such_plan_is_found(tmp_path: Path) -> None:
    keys = make_keys((*MEMBERS, "bank-2"))
    lie = once("jing", "reserve", put(bank="bank-2"))
    verification = Consortium(tmp_path / "export", lie, keys=keys).run().verify()
    assert {("V7", "bank-2"), ("V7", "jing")} <= found(verification)
    assert "rests on no valid plan" in reasons(verification, "V7")
    honest = Consortium(tmp_path / "honest" / "export", keys=keys).run().verify()
    assert honest.ok


# -- the list of certificates ------------------------------------------------------------


def _other_key(charters: tuple[Charter, ...], key: SigningKey) -> bytes:
    return status_of(charters, EXPORTED).seal(SigningKey.generate(), "regulator")


def _older(charters: tuple[Charter, ...], key: SigningKey) -> bytes:
    return status_of(charters[:1], EXPORTED).seal(key, "regulator")


def _altered(charters: tuple[Charter, ...], key: SigningKey) -> bytes:
    status = status_of(charters, EXPORTED)
    first = replace(status.certificates[0], since="2020-01-01T00:00:00Z")
    return replace(status, certificates=(first, *status.certificates[1:])).seal(key, "regulator")


def _of_before(charters: tuple[Charter, ...], key: SigningKey) -> bytes:
    """Until two minutes before the regulator last cosigned: as if nothing had been since."""
    last = AT + timedelta(minutes=10)
    return status_of(charters, last - timedelta(seconds=121)).seal(key, "regulator")


def _missing(charters: tuple[Charter, ...], key: SigningKey) -> bytes | None:
    return None


@pytest.mark.parametrize("make", [_other_key, _older, _altered, _of_before, _missing])
def test_a_list_of_certificates_that_is_not_the_charters_is_found(
    consortium: Consortium, make: Callable[[tuple[Charter, ...], SigningKey], bytes | None]
) -> None:
    path = consortium.folder / "certificates.json"
    data = make(consortium.charters, consortium.regulator)
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    verification = consortium.verify()
    assert found(verification) == {("V7", "regulator")}
    assert verification.findings[0].evidence == ("certificates.json",)
