"""V7, grade A: a grant that claims the enterprise's own signature has it, directly behind it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ledger_lies import drop, found, once, put, reasons
from ledger_world import GRANTS, Body, Consortium, Party, sha
from sqlalchemy import Connection

from hejin_trust.authorisation import LOST, statement_to_sign
from hejin_trust.canonical import encode
from hejin_trust.keys import SigningKey

KEY = SigningKey.from_seed(b"e" * 32)


class Signed(Consortium):
    """A consortium in which one enterprise of jing signed its authorisation itself."""

    key_first = True
    between = False

    def _approve(self, connection: Connection) -> None:
        super()._approve(connection)
        jing = self.parties["jing"]
        key: Body = {
            "enterprise": sha("9")[:32], "key": KEY.public.hex(), "evidence": sha("seal"),
        }  # fmt: skip
        grant: Body = {**GRANTS[0], "enterprise": sha("9")[:32], "grade": "A", "features": ["*"]}
        if self.key_first:
            self.log(connection, jing.internal, "authorisation.key", key)
        self.grant = grant
        self.granted = self.log(connection, jing.internal, "authorisation.grant", grant)
        if self.between:
            self.log(connection, jing.internal, "authorisation.revoke", {"grant": 4, "reason": ""})
        signature = KEY.sign(statement_to_sign(jing.internal.origin, grant))
        self.signature = signature.hex()
        self.log(
            connection, jing.internal, "authorisation.signature",
            {"grant": self.granted, "key": KEY.public.hex(), "signature": signature.hex()},
        )  # fmt: skip

    def _snapshot(self, connection: Connection, party: Party) -> int:
        if party.id != "jing":
            return super()._snapshot(connection, party)
        honest = self.tamper

        def resting(member: str, kind: str, body: Body) -> Body | None:
            grants = hashlib.sha256(encode([1, 3, self.granted])).hexdigest()
            return honest(member, kind, {**body, "authorisations": grants})

        self.tamper = resting
        try:
            return super()._snapshot(connection, party)
        finally:
            self.tamper = honest


def test_a_grant_with_its_enterprises_signature_is_right(tmp_path: Path) -> None:
    assert Signed(tmp_path / "export").run().verify().ok


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("authorisation.signature", drop, "without the enterprise's signature"),
        ("authorisation.signature", put(signature="00" * 64), "does not fit"),
        ("authorisation.signature", put(key="11" * 32), "not the enterprise's registered one"),
        ("authorisation.signature", put(grant=1), "does not stand behind the grant"),
        ("authorisation.key", put(enterprise=sha("1")[:32]), "not the enterprise's registered one"),
        ("authorisation.key", put(key="11" * 32), "not the enterprise's registered one"),
    ],
)
def test_a_lie_about_a_signature_is_found(tmp_path: Path, kind: str, change, said: str) -> None:
    verification = Signed(tmp_path / "export", once("jing", kind, change)).run().verify()
    assert found(verification) == {("V7", "jing")}
    assert said in reasons(verification, "V7")


@pytest.mark.parametrize(
    "change",
    [
        {"purposes": ["credit-approval", "model-training"]},
        {"banks": ["*", "bank"]},
        {"categories": ["outcome", "trade"]},
        {"valid_to": "2028-06-01T00:00:00Z"},
        {"document": sha("another record")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_grant_that_says_more_than_was_signed_is_found(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """The operator widens what the enterprise signed; the sum it serves stays the same."""
    lie = once("jing", "authorisation.grant", put(**change), nth=5)
    verification = Signed(tmp_path / "export", lie).run().verify()
    assert found(verification) == {("V7", "jing")}
    assert "does not fit the grant before it" in reasons(verification, "V7")


def test_a_signature_for_another_enterprises_grant_is_found(tmp_path: Path) -> None:
    lie = once("jing", "authorisation.grant", put(enterprise=sha("10")[:32]), nth=5)
    verification = Signed(tmp_path / "export", lie).run().verify()
    assert "not the enterprise's registered one" in reasons(verification, "V7")


def test_a_key_that_nobody_registered_signs_nothing(tmp_path: Path) -> None:
    consortium = Signed(tmp_path / "export")
    consortium.key_first = False
    verification = consortium.run().verify()
    assert found(verification) == {("V7", "jing")}
    assert "not the enterprise's registered one" in reasons(verification, "V7")


def test_a_signature_that_comes_later_is_found(tmp_path: Path) -> None:
    consortium = Signed(tmp_path / "export")
    consortium.between = True
    verification = consortium.run().verify()
    told = reasons(verification, "V7")
    assert "without the enterprise's signature" in told
    assert "does not stand behind the grant" in told


def test_a_grant_of_grade_a_at_the_end_of_a_log_needs_its_signature_too(tmp_path: Path) -> None:
    class Bare(Consortium):
        def _round(self, connection: Connection, number: int) -> None:
            super()._round(connection, number)
            if number == 4:
                bare: Body = {**GRANTS[0], "grade": "A"}
                self.log(connection, self.parties["jing"].internal, "authorisation.grant", bare)
                self.mirror(connection, self.parties["jing"])

    verification = Bare(tmp_path / "export").run().verify()
    assert found(verification) == {("V7", "jing")}
    assert "without the enterprise's signature" in reasons(verification, "V7")


class Again(Signed):
    """What the enterprise signed is granted again, after something ended it."""

    between_them: tuple[tuple[str, Body], ...] = ()

    def _approve(self, connection: Connection) -> None:
        super()._approve(connection)
        log, first = self.parties["jing"].internal, self.granted
        for kind, body in self.between_them:
            self.log(connection, log, kind, {**body, "grant": first} if "grant" in body else body)
        self.granted = self.log(connection, log, "authorisation.grant", self.grant)
        signature = {"grant": self.granted, "key": KEY.public.hex(), "signature": self.signature}
        self.log(connection, log, "authorisation.signature", signature)


def test_a_signature_that_brings_a_revoked_grant_back_is_found(tmp_path: Path) -> None:
    consortium = Again(tmp_path / "export")
    consortium.between_them = (("authorisation.revoke", {"grant": 0, "reason": "asked by letter"}),)
    verification = consortium.run().verify()
    assert found(verification) == {("V7", "jing")}
    assert "was used before, for grant" in reasons(verification, "V7")


@pytest.mark.parametrize("apart", [False, True])
def test_a_signature_may_grant_again_what_a_recovery_lost(tmp_path: Path, *, apart: bool) -> None:
    """And only if the recovery's own entry stands right behind the revocation."""
    consortium = Again(tmp_path / "export")
    refused: Body = {"request": sha("x"), "code": "x", "peer": "bank"}
    consortium.between_them = (
        ("authorisation.revoke", {"grant": 0, "reason": LOST}),
        *((("refusal", refused),) if apart else ()),
        ("recover", {"approval": sha("approval"), "reason": "disk", "size": 1}),
    )
    told = reasons(consortium.run().verify(), "V7")
    assert ("was used before, for grant" in told) is apart
