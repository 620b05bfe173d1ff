"""V1, V3 and V4: reservations that were cosigned in time, and logs that were put back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ledger_lies import Build, drop, found, once, put, reasons
from ledger_papers import AT
from ledger_world import NODES, OUTAGE, Asked, Body, Consortium, Party
from sqlalchemy import Connection

from hejin_trust.canonical import encode
from hejin_trust.log import Log

# -- V3 and V4: in time ------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "holds"), [(120, True), (121, False), (-120, True)])
def test_a_cosignature_comes_within_120_seconds(build: Build, seconds: int, holds: bool) -> None:
    verification = build(late=timedelta(seconds=seconds)).verify()
    assert verification.ok == holds
    if not holds:
        # The bank, whose clock is the nodes', accepted before the regulator cosigned.
        assert found(verification) == {*(("V3", node) for node in NODES), ("V5", "bank")}
        late = [finding for finding in verification.findings if finding.check == "V3"]
        assert len(late) == 12  # of the void reservation nothing left
        assert "more than 120 seconds apart" in reasons(verification, "V3")


def test_a_reservation_that_waited_for_the_regulator_must_be_renewed(build: Build) -> None:
    verification = build(once("jing", "renew", drop)).verify()
    assert found(verification) == {("V3", "jing")}


def test_a_renewal_of_what_has_ended_is_found(build: Build) -> None:
    verification = build(once("jing", "renew", put(reservation=3))).verify()
    assert "was never reserved, or has ended" in reasons(verification, "V4")


class Unwatched(Consortium):
    """A consortium whose jing does not wait for the regulator in the third round."""

    def mirror(self, connection: Connection, party: Party) -> None:
        unwatched = party.id == "jing" and len(party.notes["release"]) == 2
        if not unwatched or self.rounds[3:]:
            super().mirror(connection, party)


def test_a_release_before_the_cosignature_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    verification = Unwatched(tmp_path / "export").run().verify()
    assert ("V4", "jing") in found(verification)
    assert "had not cosigned the reservation" in reasons(verification, "V4")
    assert {member for check, member in found(verification) if check == "V4"} == {"jing"}


class Slow(Consortium):
    """A consortium whose last round leaves its nodes long after it was charged."""

    def before_release(self, number: int) -> None:
        if number == 4 and self.moment.month == 11:
            self.moment += timedelta(days=41)


def test_a_release_after_plan_and_period_are_over_is_found(tmp_path: Path) -> None:
    verification = Slow(tmp_path / "export").run().verify()
    late = [f for f in verification.findings if f.seq is not None and f.member == "anping"]
    assert {f.check for f in late} == {"V7", "V8"}
    assert "the plan had expired" in reasons(verification, "V7")
    assert "of another budget period" in reasons(verification, "V8")


class Lost(Consortium):
    """anping loses its database between its last reservation and what its bank tells it of it."""

    def before_release(self, number: int) -> None:
        anping = self.parties["anping"]
        if number == 4 and self.moment.month == 11:
            self._recover(self.connection, anping)
            self.moment += timedelta(days=41)

    def live(self, connection: Connection) -> None:
        self.connection = connection
        super().live(connection)


def test_what_a_bank_tells_a_node_that_lost_its_database_may_be_logged_late(
    tmp_path: Path,
) -> None:
    verification = Lost(tmp_path / "export").run().verify()
    assert not [f for f in verification.findings if f.member == "anping"]
    assert [f for f in verification.findings if f.member == "jing"]


def test_a_run_that_goes_on_after_its_node_lost_its_database_is_found(tmp_path: Path) -> None:
    class Undead(Consortium):
        """jing loses its database after the second round, and answers the third all the same."""

        def _round(self, connection: Connection, number: int) -> None:
            if number == 3:
                self._recover(connection, self.parties["jing"])
            super()._round(connection, number)

    verification = Undead(tmp_path / "export").run().verify()
    assert found(verification) == {("V4", "jing")}
    assert "had lost its database" in reasons(verification, "V4")


# -- V1: recoveries ----------------------------------------------------------------------


def test_a_recovery_without_its_approval_is_found(consortium: Consortium) -> None:
    for path in (consortium.folder / "yongnian" / "documents").glob("*.json"):
        path.unlink()
    verification = consortium.verify()
    assert found(verification) == {("V1", "yongnian")}
    assert len(verification.findings) == 2  # in both logs


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(put(approval="ab" * 32), id="no such approval"),
        pytest.param(put(size=10_000), id="more than was approved"),
    ],
)
def test_a_recovery_that_was_not_approved_so_is_found(
    build: Build, lie: Callable[[Body], Body]
) -> None:
    verification = build(once("yongnian", "recover", lie)).verify()
    assert found(verification) == {("V1", "yongnian")}


def test_an_approval_serves_one_recovery(tmp_path: Path) -> None:
    class Twice(Consortium):
        """yongnian goes back a second time by the approval of the first."""

        def _recover(self, connection: Connection, party: Party) -> None:
            super()._recover(connection, party)
            digest, _ = party.documents[0]
            body: Body = {"approval": digest, "reason": "again", "size": 3}
            self.log(connection, party.internal, "recover", body)

    verification = Twice(tmp_path / "export").run().verify()
    assert found(verification) == {("V1", "yongnian")}
    assert "each needs its own" in reasons(verification, "V1")


def test_an_approval_of_after_the_recovery_is_found(tmp_path: Path) -> None:
    class Later(Consortium):
        def _recover(self, connection: Connection, party: Party) -> None:
            self.moment += timedelta(hours=1)
            super()._recover(connection, party)

        def log(self, connection: Connection, log: Log, kind: str, body: Body) -> int:
            if kind == "recover":
                self.moment = AT + OUTAGE
            return super().log(connection, log, kind, body)

    verification = Later(tmp_path / "export").run().verify()
    assert ("V1", "yongnian") in found(verification)
    assert "after it was done" in reasons(verification, "V1")


def test_an_acceptance_long_before_the_cosignature_is_found(tmp_path: Path) -> None:
    """The bank takes a proof at an hour when the regulator had not seen the reservation."""

    class Early(Consortium):
        def _accept(self, connection: Connection, party: Party, asked: Asked, *sent: Any) -> None:
            self.moment -= timedelta(hours=1)
            super()._accept(connection, party, asked, *sent)
            self.moment += timedelta(hours=1)

        def _found(self, connection: Connection, party: Party) -> None:
            self.moment = AT - timedelta(hours=2)  # so that no time goes back in the bank's log
            super()._found(connection, party)
            self.moment = AT

        def _approve(self, connection: Connection) -> None:
            self.moment = AT - timedelta(hours=2)
            super()._approve(connection)
            self.moment = AT

    class First(Early):
        """Of the first round alone, for the bank's log to go on."""

        def _round(self, connection: Connection, number: int) -> None:
            if number == 1:
                super()._round(connection, number)

    verification = First(tmp_path / "export").run().verify()
    told = [f.reason.en for f in verification.findings if f.check == "V5" and f.member == "bank"]
    assert len(told) == 3
    assert all("and cosigned only at" in reason for reason in told)


def test_an_approval_of_another_member_or_by_somebody_else_is_found(
    consortium: Consortium,
) -> None:
    (path,) = (consortium.folder / "yongnian" / "documents").glob("*.json")
    document = json.loads(path.read_bytes())
    document["signatures"][0]["sig"] = "A" * 86 + "=="
    path.write_bytes(encode(document))
    assert found(consortium.verify()) == {("V1", "yongnian")}
