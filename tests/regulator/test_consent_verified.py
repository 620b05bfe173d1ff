"""V7: snapshots rest on exactly the authorisations that stood for the plan's view when taken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from ledger_lies import Build, drop, found, once, put, reasons
from ledger_papers import AT
from ledger_world import GRANTS, Body, Consortium, Party
from sqlalchemy import Connection

from hejin_trust.canonical import encode, time_text

REFUSED: Body = {"plan": "ab" * 32, "bank": "bank", "code": "other", "reason": "another plan"}


def resting_on(*grants: int) -> Callable[[Body], Body]:
    return put(authorisations=hashlib.sha256(encode(list(grants))).hexdigest())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"features": ["amount", "year"]}, id="a feature less"),
        pytest.param({"categories": ["logistics"]}, id="another category"),
        pytest.param({"purposes": ["credit-approval"]}, id="another purpose"),
        pytest.param({"banks": ["other-bank"]}, id="another bank"),
        pytest.param({"valid_from": "2026-12-01T00:00:00Z"}, id="not begun"),
        pytest.param({"valid_to": "2026-11-22T19:00:00Z"}, id="ended"),
    ],
)
def test_a_snapshot_on_a_grant_that_does_not_cover_the_plan_is_found(
    build: Build, changes: dict[str, object]
) -> None:
    """The node counts an enterprise in that did not allow this use."""
    verification = build(once("jing", "authorisation.grant", put(**changes), nth=0)).verify()
    assert found(verification) == {("V7", "jing")}
    assert "not in force for this bank and purpose" in reasons(verification, "V7")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"features": ["*"]}, id="every feature"),
        pytest.param({"categories": ["*"]}, id="every category"),
        pytest.param({"banks": ["bank", "other"]}, id="this bank by name"),
        pytest.param({"features": ["more", "amount", "margin", "year"]}, id="more features"),
    ],
)
def test_a_grant_that_covers_more_is_as_good(build: Build, changes: dict[str, object]) -> None:
    assert build(once("jing", "authorisation.grant", put(**changes), nth=0)).verify().ok


@pytest.mark.parametrize("grants", [(1,), (3,), (1, 2), (1, 3, 4), (1, 3, 5), ()])
def test_a_snapshot_on_other_grants_than_stood_is_found(
    build: Build, grants: tuple[int, ...]
) -> None:
    verification = build(once("jing", "snapshot", resting_on(*grants))).verify()
    assert found(verification) == {("V7", "jing")}


class Slow(Consortium):
    """A consortium whose jing takes its snapshot a while before it logs it."""

    waited = timedelta(0)

    def _approve(self, connection: Connection) -> None:
        super()._approve(connection)
        self.moment += self.waited


@pytest.mark.parametrize(("minutes", "holds"), [(5, True), (15, False)])
def test_a_grant_may_end_while_the_snapshot_is_being_taken(
    tmp_path: Path, minutes: int, holds: bool
) -> None:
    """It was taken at AT, and a grant it rests on ended a minute later."""
    ended = put(valid_to=time_text(AT + timedelta(minutes=1)))
    consortium = Slow(tmp_path / "export", once("jing", "authorisation.grant", ended, nth=0))
    consortium.waited = timedelta(minutes=minutes)
    verification = consortium.run().verify()
    assert verification.ok == holds


def test_a_revocation_after_the_snapshot_does_not_reach_it(tmp_path: Path) -> None:
    class Later(Consortium):
        """jing's first enterprise revokes after the first round."""

        def _round(self, connection: Connection, number: int) -> None:
            super()._round(connection, number)
            if number == 1:
                jing = self.parties["jing"]
                body: Body = {"grant": 1, "reason": "changed its mind"}
                self.log(connection, jing.internal, "authorisation.revoke", body)

    assert Later(tmp_path / "export").run().verify().ok


class Stale(Consortium):
    """jing's first enterprise revokes; a while later jing counts it in as it stood before."""

    def _approve(self, connection: Connection) -> None:
        super()._approve(connection)
        jing = self.parties["jing"].internal
        self.before = (jing.size(connection), jing.root(connection).hex())
        self.moment += timedelta(minutes=20)
        self.log(connection, jing, "authorisation.revoke", {"grant": 1, "reason": "no more"})
        self.moment += timedelta(minutes=self.since)

    since = 11


@pytest.mark.parametrize(("minutes", "holds"), [(9, True), (11, False)])
def test_a_snapshot_on_the_log_of_before_a_revocation_is_found(
    tmp_path: Path, minutes: int, holds: bool
) -> None:
    """Taking a snapshot may take a while; resting on what was revoked long before may not be."""
    consortium = Stale(tmp_path / "export")
    consortium.since = minutes

    def lie(body: Body) -> Body:
        size, root = consortium.before
        return {**body, "internal_size": size, "internal_root": root}

    consortium.tamper = once("jing", "snapshot", lie)
    verification = consortium.run().verify()
    assert verification.ok == holds
    if not holds:
        assert found(verification) == {("V7", "jing")}
        assert "others had been logged since" in reasons(verification, "V7")


def test_a_run_that_begins_long_after_its_snapshot_is_found(tmp_path: Path) -> None:
    class Late(Consortium):
        """jing logs its rows in time, and begins when authorisations have ended."""

        def _snapshot(self, connection: Connection, party: Party) -> int:
            seq = super()._snapshot(connection, party)
            if party.id == "jing":
                self.log(connection, party.release, "plan.refuse", REFUSED)
            return seq

    verification = Late(tmp_path / "export").run().verify()
    assert "does not follow its snapshot directly" in reasons(verification, "V4")


@pytest.mark.parametrize(("seconds", "holds"), [(120, True), (121, False)])
def test_a_run_that_begins_later_than_its_snapshot_is_found(
    tmp_path: Path, seconds: int, holds: bool
) -> None:
    """Nothing is in between, but the time is another one: the grants may have ended since."""

    class Waits(Consortium):
        def _snapshot(self, connection: Connection, party: Party) -> int:
            seq = super()._snapshot(connection, party)
            self.moment += timedelta(seconds=seconds) if party.id == "jing" else timedelta(0)
            return seq

    verification = Waits(tmp_path / "export").run().verify()
    assert ("directly and at once" not in reasons(verification, "V4")) == holds


def test_a_second_snapshot_of_a_run_is_found(tmp_path: Path) -> None:
    class Twice(Consortium):
        """jing takes other rows in the middle of a run."""

        def _round(self, connection: Connection, number: int) -> None:
            super()._round(connection, number)
            if number == 2:
                self._snapshot(connection, self.parties["jing"])

    verification = Twice(tmp_path / "export").run().verify()
    assert "has a snapshot already" in reasons(verification, "V4")


def test_a_snapshot_for_a_plan_that_nobody_approved_is_found(build: Build) -> None:
    verification = build(once("jing", "snapshot", put(plan="ab" * 32))).verify()
    assert "not approved or is missing" in reasons(verification, "V7")


@pytest.mark.parametrize("revokes", [True, False])
def test_a_grant_that_outlives_its_enterprises_data_is_found(tmp_path: Path, revokes: bool) -> None:
    class Erasing(Consortium):
        """After the first round jing erases its first enterprise."""

        def _round(self, connection: Connection, number: int) -> None:
            super()._round(connection, number)
            if number == 1:
                jing = self.parties["jing"].internal
                if revokes:
                    ended: Body = {"grant": 1, "reason": "asked for it"}
                    self.log(connection, jing, "authorisation.revoke", ended)
                body: Body = {"enterprise": GRANTS[0]["enterprise"], "reason": "asked for it"}
                self.log(connection, jing, "erase", body)

    verification = Erasing(tmp_path / "export").run().verify()
    assert verification.ok == revokes
    if not revokes:
        assert found(verification) == {("V7", "jing")}
        assert "erased here, and the grant still stands" in reasons(verification, "V7")


@pytest.mark.parametrize("log", ["internal", "release"])
def test_a_withdrawn_load_is_counted_and_stands_in_the_internal_log_only(
    tmp_path: Path, log: str
) -> None:
    class Withdrawing(Consortium):
        """After the first round jing takes out what a file brought."""

        def _round(self, connection: Connection, number: int) -> None:
            super()._round(connection, number)
            if number == 1:
                body: Body = {
                    "dataset": "invoices", "load": 3, "source": "ab" * 32, "rows": 12,
                    "completed": "2026-11-01T00:00:00Z", "reason": "wrong mapping",
                }  # fmt: skip
                self.log(connection, getattr(self.parties["jing"], log), "withdraw", body)

    verification = Withdrawing(tmp_path / "export").run().verify()
    assert verification.ok == (log == "internal")
    assert verification.counts.get("withdraw", 0) == (log == "internal")


# -- what each sum rests on ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(drop, "does not say which authorisations", id="not said"),
        pytest.param(put(reservation=1), "does not say which authorisations", id="of another"),
        pytest.param(resting_on(1), "leaves out some that were", id="one less"),
        pytest.param(resting_on(1, 3, 5), "leaves out some that were", id="one more"),
        pytest.param(put(internal_size=2), "leaves out some that were", id="of an older log"),
        pytest.param(put(internal_size=99), "leaves out some that were", id="of what is to come"),
    ],
)
def test_a_sum_that_rests_on_other_authorisations_than_stood_is_found(
    build: Build, change: Callable[[Body], Body | None], said: str
) -> None:
    verification = build(once("jing", "authorisation.use", change, nth=1)).verify()
    assert found(verification) == {("V7", "jing")}
    assert said in reasons(verification, "V7")


def test_authorisations_of_a_sum_that_was_not_released_are_found(tmp_path: Path) -> None:
    class Twice(Consortium):
        """jing names those of its second sum once more."""

        def _use(self, connection: Connection, party: Party, reservation: int) -> None:
            super()._use(connection, party, reservation)
            if (party.id, len(self.rounds)) == ("jing", 2):
                super()._use(connection, party, reservation)

    verification = Twice(tmp_path / "export").run().verify()
    assert found(verification) == {("V7", "jing")}
    assert "has named them before" in reasons(verification, "V7")


@pytest.mark.parametrize("forgets", [False, True])
def test_a_node_that_goes_on_with_a_revoked_enterprise_is_found(
    tmp_path: Path, forgets: bool
) -> None:
    class Forgets(Consortium):
        """An enterprise of jing revokes after the second round."""

        def _round(self, connection: Connection, number: int) -> None:
            super()._round(connection, number)
            if number == 2:
                body: Body = {"grant": 1, "reason": "no more"}
                self.log(connection, self.parties["jing"].internal, "authorisation.revoke", body)

        def standing(self, connection: Connection, party: Party) -> str:
            told = super().standing(connection, party)
            if forgets and party.id == "jing":
                return hashlib.sha256(encode([1, 3])).hexdigest()
            return told

    verification = Forgets(tmp_path / "export").run().verify()
    assert verification.ok != forgets
    if forgets:
        assert found(verification) == {("V7", "jing")}
        assert "the sum of reservation" in reasons(verification, "V7")
