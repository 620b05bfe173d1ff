"""The session: nothing leaves before it is charged; repeats are the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from node_world import (
    BANK,
    VIEW,
    World,
    approved,
    fill,
    found_world,
    new_session,
    open_envelope_body,
    terms,
)
from sqlalchemy import event, update

from hejin_models.plan import ViewReference
from hejin_models.pricing import mechanism_for
from hejin_models.state import encode_state
from hejin_models.statistics import SCORE_BINS
from hejin_models.uscc import make_code
from hejin_node import account, offers
from hejin_node.consent import grant_many, revoke
from hejin_node.home import NodeHome, open_home
from hejin_node.offers import PlanNotApprovableError
from hejin_node.pinned import Pinned, SnapshotStore
from hejin_node.results import void_interrupted
from hejin_node.session import Session
from hejin_node.views import install_view
from hejin_privacy.mechanism import SCALE
from hejin_trust.canonical import fraction_from, time_text
from hejin_trust.checkpoint import open_checkpoint, parse_proof
from hejin_trust.database import reading, writing
from hejin_trust.entries import parse
from hejin_trust.envelope import REFUSAL, SUM_QUERY, SUM_RESULT, open_envelope, seal
from hejin_trust.files import FileError
from hejin_trust.fleet import Payload
from hejin_trust.merkle import check_inclusion

RUN = "ab" * 16


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], world.clock) as opened:
        yield opened


def code_of(answer: Payload, home: NodeHome) -> str:
    assert answer["kind"] == b"refusal"
    opened = open_envelope(answer["refusal"], REFUSAL, home.identity.public, home.member_id)
    return str(opened.body["code"])


def types(home: NodeHome) -> list[str]:
    with reading(home.database) as connection:
        return [parse(raw).type for raw in home.release_log.entries(connection)]


def spent(home: NodeHome) -> Fraction:
    with reading(home.database) as connection:
        return account.spent(connection, home.charter.period_from)


def test_a_query_is_answered_with_the_sum_of_the_authorised_plus_noise(
    world: World, home: NodeHome
) -> None:
    fill(home, world, 400, authorised=300)
    plan, digest = approved(home, world, rho=Fraction(1, 2), sums=[("histogram", "train")])
    session = new_session(home, world.receipts(home))
    counts = np.frombuffer(session.answer(world.query(plan, digest, run=RUN))["vector"], "<i8")
    cells = world.view.features[0].grid.cells
    with reading(home.database) as connection:
        reserve = next(home.release_log.of_type(connection, "reserve"))
    mechanism = reserve.body["mechanism"]
    assert isinstance(mechanism, dict)
    sigma = float(fraction_from(mechanism["sigma"]))
    # The split key depends on the plan's random nonce: 240 +- 5 * 7 of the 300 are training rows.
    noise = 6 * sigma / SCALE * cells**0.5
    assert abs(counts[:cells].sum() / SCALE - 240) < noise + 5 * 7
    # The same sum over all 400 would be 320.
    assert counts[:cells].sum() / SCALE < 320


def test_the_charge_is_logged_before_the_release_and_proven_beside_it(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    answer = new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    assert types(home) == ["genesis", "plan.approve", "snapshot", "reserve", "release"]
    proof = parse_proof(answer["proof"].decode())
    checkpoint = open_checkpoint(
        proof.checkpoint, home.release_log.origin, home.membership.log_key.public
    )
    check_inclusion(answer["entry"], proof.index, checkpoint.size, proof.path, checkpoint.root)
    assert parse(answer["entry"]).body["plan"] == digest
    header = open_envelope_body(answer["header"], world)
    assert header["vector"] == hashlib.sha256(answer["vector"]).hexdigest()
    assert Fraction(0) < spent(home) <= plan.sums[0].rho


def test_a_repeat_sends_the_same_bytes_and_costs_nothing(world: World, home: NodeHome) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    query = world.query(plan, digest, run=RUN)
    first, before = session.answer(query), spent(home)
    second = session.answer(query)
    assert (first["header"], first["vector"]) == (second["header"], second["vector"])
    assert spent(home) == before
    with open_home(home.path, world.clock) as again:
        third = new_session(again, world.receipts(again)).answer(query)
    assert (third["header"], third["vector"]) == (first["header"], first["vector"])


def test_a_whole_run_logs_results_and_receipts_and_then_answers_nothing_more(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    first = session.answer(world.query(plan, digest, run=RUN))
    result, named = world.result(first)
    second = session.answer(
        world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
    )
    last, _ = world.result(second)
    assert session.answer({"kind": b"result", "result": last}) == {"kind": b"noted"}
    assert types(home) == [
        "genesis", "plan.approve", "snapshot", "reserve", "release", "receipt", "result",
        "reserve", "release", "receipt", "result",
    ]  # fmt: skip
    again = session.answer(world.query(plan, digest, run=RUN, number=3))
    assert code_of(again, home) == "query-out-of-order"
    assert not list((home.path / "snapshots").iterdir())


def test_another_query_for_an_answered_round_is_refused(world: World, home: NodeHome) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    session.answer(world.query(plan, digest, run=RUN))
    before = spent(home)
    other = session.answer(world.query(plan, digest, run=RUN, index=1))
    assert code_of(other, home) == "query-out-of-order"
    assert spent(home) == before


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"plan": "0" * 64}, "plan-unknown", id="a plan that was never offered"),
        pytest.param({"sum": 9}, "query-refused", id="a sum that the plan has not"),
        pytest.param({"part": "holdout"}, "query-refused", id="the other part"),
        pytest.param({"state": "0" * 64}, "query-refused", id="another state than signed"),
        pytest.param({"previous": "0" * 64}, "bad-envelope", id="a previous result not sent"),
    ],
)
def test_a_query_that_is_not_the_plans_is_refused_and_charged_nothing(
    world: World, home: NodeHome, changes: dict[str, object], code: str
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    answer = session.answer(world.query(plan, digest, run=RUN, forged=changes))
    assert code_of(answer, home) == code
    assert spent(home) == 0
    assert "reserve" not in types(home)


def test_less_noise_than_the_plan_pays_for_is_refused(world: World, home: NodeHome) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    _, _, dearer = world.propose(rho=Fraction(2, 5))
    loud = mechanism_for(dearer, dearer.sums[0], world.view, {}, 1)
    answer = new_session(home, world.receipts(home)).answer(
        world.query(plan, digest, run=RUN, forged={"mechanism": loud})
    )
    assert code_of(answer, home) == "query-refused"
    assert spent(home) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_without_meaning_in_a_query_are_refused(
    world: World, home: NodeHome, value: float
) -> None:
    fill(home, world)
    plan, digest = approved(home, world, sums=[("score_histogram", "holdout")])
    state = {
        "values": np.zeros(world.view.total_cells),
        "edges": np.arange(SCORE_BINS - 1, dtype=np.float64),
    }
    forged = bytearray(encode_state(state))
    forged[-8:] = np.array([value], "<f8").tobytes()  # the last number of the last array
    answer = new_session(home, world.receipts(home)).answer(
        world.query(plan, digest, run=RUN, state=state, forged_state=bytes(forged))
    )
    assert code_of(answer, home) == "bad-state"
    assert spent(home) == 0


def test_a_state_of_the_wrong_shape_is_refused(world: World, home: NodeHome) -> None:
    fill(home, world)
    plan, digest = approved(home, world, sums=[("score_histogram", "holdout")])
    state = {"values": np.zeros(world.view.total_cells), "edges": np.zeros(SCORE_BINS - 1)}
    short = encode_state({**state, "values": np.zeros(3)})
    answer = new_session(home, world.receipts(home)).answer(
        world.query(plan, digest, run=RUN, state=state, forged_state=short)
    )
    assert code_of(answer, home) == "bad-state"


def test_a_plan_that_was_not_approved_is_not_answered(world: World, home: NodeHome) -> None:
    fill(home, world)
    envelope, digest, plan = world.propose()
    offers.receive(home, envelope)
    session = new_session(home, world.receipts(home))
    assert code_of(session.answer(world.query(plan, digest, run=RUN)), home) == "query-refused"
    offers.refuse(home, digest, "operator-refused", "not now")
    assert code_of(session.answer(world.query(plan, digest, run=RUN)), home) == "query-refused"


def test_a_second_run_of_one_plan_is_refused(world: World, home: NodeHome) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    session.answer(world.query(plan, digest, run=RUN))
    other = session.answer(world.query(plan, digest, run="cd" * 16, number=2, index=1))
    assert code_of(other, home) == "query-out-of-order"


def test_an_expired_plan_is_refused(world: World, home: NodeHome) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    world.clock.turn(timedelta(days=31))
    session = new_session(home, world.receipts(home))
    assert code_of(session.answer(world.query(plan, digest, run=RUN)), home) == "query-refused"


def test_a_period_that_has_not_begun_is_not_charged(world: World, home: NodeHome) -> None:
    """A plan dated ahead would be paid from the next period while this one's is used up too."""
    fill(home, world)
    charter = world.office.charter
    begins = world.clock() + timedelta(days=365)
    ahead = replace(
        charter,
        serial=charter.serial + 1,
        period_from=time_text(begins),
        period_to=time_text(begins + timedelta(days=365)),
    )
    home.charters.update(ahead.seal(world.office.identity))
    dates = {
        "created": begins, "expires": begins + timedelta(days=30), "charter": ahead.digest
    }  # fmt: skip
    with pytest.raises(PlanNotApprovableError, match="must have begun"):
        approved(home, world, **dates)
    world.clock.turn(timedelta(days=365))
    plan, digest = approved(home, world, **dates)
    world.clock.turn(timedelta(seconds=-100))  # no further than a log's clock may go back
    answer = new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    assert code_of(answer, home) == "period-not-begun"
    assert spent(home) == 0


def test_a_plan_that_expires_while_the_snapshot_is_taken_is_not_charged(
    world: World, home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    pin = SnapshotStore.pin

    def slowly(self: SnapshotStore, *args: object) -> Pinned:
        world.clock.turn(timedelta(days=31))
        return pin(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(SnapshotStore, "pin", slowly)
    answer = new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    assert code_of(answer, home) == "query-refused"
    assert spent(home) == 0


def test_sql_that_fails_on_a_value_is_answered_with_noise_and_charged(
    world: World, home: NodeHome
) -> None:
    """A refusal would tell the bank, for nothing, what some enterprise's row holds."""
    fill(home, world)
    source = b"SELECT enterprise, CAST(kind AS INTEGER) AS staff, kind FROM firms"
    view = VIEW.replace(b"SELECT enterprise, staff, kind FROM firms", source)
    view = view.replace(b"version = 1", b"version = 2")
    world.view, _ = install_view(home.views_folder, view, home.schemas(), home.now().date())
    plan, digest = approved(home, world)
    answer = new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    assert answer["kind"] == b"masked"
    assert spent(home) > 0


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"round_ctx": "e" * 64}, id="another context"),
        pytest.param({"round": 7}, id="a round this node never answered"),
    ],
)
def test_a_result_that_contradicts_what_the_node_answered_is_not_logged(
    world: World, home: NodeHome, forged: dict[str, object]
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    true, _ = world.result(session.answer(world.query(plan, digest, run=RUN)))
    body = open_envelope(true, SUM_RESULT, world.bank.identity.public).body
    lie = seal(SUM_RESULT, {**body, **forged}, world.bank.identity, BANK)
    named = open_envelope(lie, SUM_RESULT, world.bank.identity.public).digest
    answer = session.answer(
        world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=lie)
    )
    assert code_of(answer, home) == "query-refused"
    assert code_of(session.answer({"kind": b"result", "result": lie}), home) == "query-refused"
    missed = seal(
        SUM_RESULT, {**body, "round": 7, "survivors": ["node-2"]}, world.bank.identity, BANK
    )
    assert session.answer({"kind": b"result", "result": missed}) == {"kind": b"noted"}
    again = session.answer({"kind": b"result", "result": true})
    assert code_of(again, home) == "query-out-of-order"
    assert types(home).count("result") == 1


def test_a_query_that_another_member_signed_is_refused(world: World, home: NodeHome) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    query = world.query(plan, digest, run=RUN)
    forged = seal(
        SUM_QUERY,
        open_envelope(query["query"], SUM_QUERY, world.bank.identity.public).body,
        home.identity,
        BANK,
    )
    answer = new_session(home, world.receipts(home)).answer({**query, "query": forged})
    assert code_of(answer, home) == "bad-envelope"


def test_a_revoked_bank_is_refused(world: World, home: NodeHome) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    world.office.revoke(BANK, world.clock())
    home.charters.update(world.office.charters.signed())
    answer = new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    assert answer["kind"] == b"refusal"
    assert spent(home) == 0


def test_the_same_sum_twice_exceeds_the_plans_own_cap(world: World, home: NodeHome) -> None:
    fill(home, world)
    plan, digest = approved(home, world, sums=[("histogram", "train")])
    session = new_session(home, world.receipts(home))
    first = session.answer(world.query(plan, digest, run=RUN))
    result, named = world.result(first)
    again = session.answer(
        world.query(plan, digest, run=RUN, number=2, previous=named, result=result)
    )
    assert code_of(again, home) == "plan-budget-exhausted"


def test_a_plan_over_the_budget_is_not_approvable_and_reads_nothing(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    envelope, digest, _ = world.propose(rho=Fraction(51, 100))
    offers.receive(home, envelope)
    with pytest.raises(PlanNotApprovableError, match=r"only 0\.500000 is left"):
        offers.approve(home, digest, "test")
    assert types(home) == ["genesis"]


def test_an_unknown_statistic_is_not_approvable(world: World, home: NodeHome) -> None:
    envelope, digest, _ = world.propose(sums=[("raw_rows", "train")])
    offers.receive(home, envelope)
    with pytest.raises(PlanNotApprovableError, match="raw_rows"):
        offers.approve(home, digest, "test")


def test_a_view_that_is_not_installed_is_not_approvable(world: World, home: NodeHome) -> None:
    envelope, digest, _ = world.propose(view=ViewReference("firms", 1, "0" * 64))
    offers.receive(home, envelope)
    with pytest.raises(PlanNotApprovableError, match="view install"):
        offers.approve(home, digest, "test")


def test_two_missing_receipts_stop_the_bank_and_one_does_not(world: World, home: NodeHome) -> None:
    fill(home, world)
    sums = [("histogram", "train")] * 3
    plan, digest = approved(home, world, sums=sums)
    desk = world.receipts(home)
    desk.down = True
    session = new_session(home, desk)
    result, named = world.result(session.answer(world.query(plan, digest, run=RUN)))
    answer = session.answer(
        world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
    )
    assert answer["kind"] == b"masked"
    result, named = world.result(answer)
    third = world.query(plan, digest, run=RUN, number=3, index=2, previous=named, result=result)
    assert code_of(session.answer(third), home) == "receipt-missing"
    desk.down = False
    assert session.answer(third)["kind"] == b"masked"


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"vector": "0" * 64}, id="other bytes"),
        pytest.param({"checkpoint": "note"}, id="no checkpoint of the bank's log"),
    ],
)
def test_a_receipt_that_verification_would_refuse_is_not_logged(
    world: World, home: NodeHome, forged: dict[str, object]
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home, **forged))
    result, named = world.result(session.answer(world.query(plan, digest, run=RUN)))
    session.answer(
        world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
    )
    assert "receipt" not in types(home)


def test_a_node_without_an_authorised_enterprise_sends_noise_and_pays(
    world: World, home: NodeHome
) -> None:
    fill(home, world, authorised=0)
    envelope, digest, plan = world.propose()
    offers.receive(home, envelope)
    assert any(
        "noise alone" in warning.en for warning in offers.approve(home, digest, "t").warnings
    )
    answer = new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    assert answer["kind"] == b"masked"
    assert np.any(np.frombuffer(answer["vector"], "<i8"))
    assert spent(home) > 0


def test_a_revocation_counts_from_the_next_reservation(world: World, home: NodeHome) -> None:
    fill(home, world, 200)
    plan, digest = approved(home, world, sums=[("histogram", "train")] * 2)
    session = new_session(home, world.receipts(home))
    first = session.answer(world.query(plan, digest, run=RUN))
    store = SnapshotStore(home)
    pinned = store.pin(plan, world.view, RUN)
    assert store.still_entitled(pinned.snapshot, plan, world.view).rows.sum() == 200
    with writing(home.database) as connection:
        revoke(connection, home.internal_log, "asked to", code=make_code(7))
    entitled = store.still_entitled(pinned.snapshot, plan, world.view).rows
    assert entitled.sum() == 199
    assert not entitled[pinned.snapshot.codes.index(make_code(7))]
    result, named = world.result(first)
    second = session.answer(
        world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
    )
    assert second["kind"] == b"masked"


def test_new_data_and_grants_wait_for_the_next_run(world: World, home: NodeHome) -> None:
    fill(home, world, 50, authorised=40)
    plan, digest = approved(home, world)
    new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    with writing(home.database) as connection:
        grant_many(
            connection, home.internal_log, home.pseudonym_key, [(make_code(45), terms(world))]
        )
    pinned = SnapshotStore(home).pin(plan, world.view, RUN)
    assert len(pinned.snapshot.codes) == 40


@pytest.mark.parametrize("damage", [lambda data: data[:7], lambda data: data[:100] + data[101:]])
def test_a_damaged_stored_snapshot_stops_the_run(
    world: World, home: NodeHome, damage: Callable[[bytes], bytes]
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    result, named = world.result(session.answer(world.query(plan, digest, run=RUN)))
    path = home.path / "snapshots" / f"{RUN}.sealed"
    path.write_bytes(damage(path.read_bytes()))
    answer = new_session(home, world.receipts(home)).answer(
        world.query(plan, digest, run=RUN, number=2, index=1, previous=named, result=result)
    )
    assert code_of(answer, home) == "snapshot-lost"


def test_no_enterprise_code_is_stored_in_clear_with_a_snapshot(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
    sealed = (home.path / "snapshots" / f"{RUN}.sealed").read_bytes()
    code = make_code(3)
    assert code.encode() not in sealed
    assert code.encode("utf-32-le") not in sealed


def test_rows_that_a_crash_left_behind_are_erased_at_the_next_start(
    world: World, home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    answer = session.answer(world.query(plan, digest, run=RUN))
    folder = home.path / "snapshots"
    (folder / f"{'cd' * 16}.sealed").write_bytes(b"of a run that was never logged")
    (folder / f".{RUN}.sealed.x1").write_bytes(b"half written")
    SnapshotStore(home).sweep()
    assert [path.name for path in folder.iterdir()] == [f"{RUN}.sealed"]
    with monkeypatch.context() as patched:
        patched.setattr(SnapshotStore, "forget", lambda *_, **__: None)
        session.answer({"kind": b"result", "result": world.result(answer)[0]})
    SnapshotStore(home).sweep()
    assert list(folder.iterdir()) == []


def test_rows_that_cannot_be_stored_or_erased_are_told_and_end_no_thread(
    world: World, home: NodeHome
) -> None:
    """As a folder of another owner would; an error that is none of ours would end the process."""
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    query, folder = world.query(plan, digest, run=RUN), home.path / "snapshots"
    folder.write_bytes(b"in the way")
    assert code_of(session.answer(query), home) == "file-error"
    assert spent(home) == 0
    folder.unlink()
    answer = session.answer(query)
    rows = (folder / f"{RUN}.sealed").rename(home.path / "rows")
    (folder / f"{RUN}.sealed").mkdir()
    ended = {"kind": b"result", "result": world.result(answer)[0]}
    assert code_of(session.answer(ended), home) == "file-error"
    with pytest.raises(FileError, match="cannot be removed"):
        SnapshotStore(home).sweep()
    (folder / f"{RUN}.sealed").rmdir()
    rows.rename(folder / f"{RUN}.sealed")
    assert session.answer(ended) == {"kind": b"noted"}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("step", ["_compute", "_release"])
def test_a_crash_between_reservation_and_release_is_voided_and_stays_charged(
    world: World, home: NodeHome, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    query = world.query(plan, digest, run=RUN)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Session, step, crash)
        with pytest.raises(KeyboardInterrupt):
            new_session(home, world.receipts(home)).answer(query)
    charged = spent(home)
    assert charged > 0
    assert void_interrupted(home) == 1
    assert types(home)[-2:] == ["reserve", "void"]
    session = new_session(home, world.receipts(home))
    assert code_of(session.answer(query), home) == "round-void"
    assert spent(home) == charged
    following = session.answer(world.query(plan, digest, run=RUN, number=2, index=1))
    assert following["kind"] == b"masked"


def test_a_sum_that_fails_after_its_charge_is_voided_at_once_and_stays_charged(
    world: World, home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    query = world.query(plan, digest, run=RUN)

    def fail(*_: object) -> None:
        raise ValueError("a value of a row")

    session = new_session(home, world.receipts(home))
    with monkeypatch.context() as patched:
        patched.setattr(Session, "_compute", fail)
        with pytest.raises(ValueError):
            session.answer(query)
    assert types(home)[-2:] == ["reserve", "void"]
    assert spent(home) > 0
    assert void_interrupted(home) == 0
    assert code_of(session.answer(query), home) == "round-void"


def test_nothing_leaves_for_a_reservation_that_was_voided_meanwhile(
    world: World, home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a second process on the same home would do at its start."""
    fill(home, world)
    plan, digest = approved(home, world)
    compute = Session._compute

    def voided_meanwhile(self: Session, *arguments: object) -> object:
        computed = compute(self, *arguments)  # type: ignore[arg-type]
        assert void_interrupted(home) == 1
        return computed

    monkeypatch.setattr(Session, "_compute", voided_meanwhile)
    session = new_session(home, world.receipts(home))
    answer = session.answer(world.query(plan, digest, run=RUN))
    assert code_of(answer, home) == "reservation-ended"
    assert "release" not in types(home)
    assert types(home).count("void") == 1


def test_receipts_are_fetched_without_a_query_as_soon_as_the_bank_gives_them(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    bank = world.receipts(home)
    bank.down = True
    session = new_session(home, bank)
    session.answer(world.query(plan, digest, run=RUN))
    session.fetch_receipts()
    assert types(home)[-1] == "release"
    bank.down = False
    session.fetch_receipts()
    session.fetch_receipts()
    assert types(home)[-2:] == ["release", "receipt"]


def test_a_full_disk_at_the_reservation_refuses_and_charges_nothing(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    plan, digest = approved(home, world, sums=[("histogram", "train")] * 100)
    session = new_session(home, world.receipts(home))
    with writing(home.database) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    event.listen(
        home.database,
        "begin",
        lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}"),
    )
    result, named = b"", ""
    for number in range(1, 100):
        before, logged = spent(home), types(home)
        query = world.query(
            plan, digest, run=RUN, number=number, index=number - 1, previous=named, result=result
        )
        answer = session.answer(query)
        if answer["kind"] == b"refusal":
            break
        result, named = world.result(answer)
    assert code_of(answer, home) == "storage-failed"
    after = types(home)
    assert after[: len(logged)] == logged
    # Either the reservation found no room, or its release did: then it is charged, not sent.
    assert (spent(home) == before) == (after[len(logged) :] == [])


def test_two_banks_cannot_overdraw_one_account_between_them(world: World, home: NodeHome) -> None:
    fill(home, world)
    plans = [
        approved(home, world, rho=Fraction(3, 10), sums=[("histogram", "train")]) for _ in range(2)
    ]
    session = new_session(home, world.receipts(home))
    answers = [
        session.answer(world.query(plan, digest, run=f"{n:032x}"))
        for n, (plan, digest) in enumerate(plans)
    ]
    assert answers[0]["kind"] == b"masked"
    assert code_of(answers[1], home) == "budget-exhausted"
    # What other banks left is not this bank's to know.
    refusal = open_envelope(answers[1]["refusal"], REFUSAL, home.identity.public)
    assert not any(character.isdigit() for character in str(refusal.body["reason"]))
    assert spent(home) <= Fraction(1, 2)


def test_a_query_for_shared_noise_is_refused_before_its_roster_is_known(
    tmp_path: Path,
) -> None:
    world = found_world(tmp_path / "five", nodes=5, rho_alone_cap=Fraction(5))
    with open_home(world.nodes["node-1"], world.clock) as home:
        fill(home, world)
        plan, digest = approved(home, world, mode="shared", minimum_nodes=4, quorum=4, colluders=1)
        answer = new_session(home, world.receipts(home)).answer(world.query(plan, digest, run=RUN))
        assert code_of(answer, home) == "roster-refused"
        with reading(home.database) as connection:
            assert account.spent(connection, home.charter.period_from) == 0


def test_the_cap_on_collusion_of_all_others_holds_when_a_sum_is_charged(
    world: World, home: NodeHome
) -> None:
    """As if shared sums of other plans had used that account up since the plan was approved."""
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    earlier = session.answer(world.query(plan, digest, run=RUN))
    assert earlier["kind"] == b"masked"
    cap = home.charter.rho_alone_cap
    with writing(home.database) as connection:
        connection.execute(update(account.reservation).values(charge_alone=str(cap)))
    answer = session.answer(world.query(plan, digest, run=RUN, number=2, index=1))
    assert code_of(answer, home) == "alone-budget-exhausted"
    told = open_envelope(answer["refusal"], REFUSAL, home.identity.public).body
    assert "0.5" not in str(told["reason"])


def test_both_accounts_are_charged_and_alike_where_each_node_adds_the_whole_noise(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    plan, digest = approved(home, world)
    session = new_session(home, world.receipts(home))
    answer = session.answer(world.query(plan, digest, run=RUN))
    entry = parse(answer["entry"])
    assert entry.body["rho_alone"] == entry.body["rho"]
    assert entry.body["charge_alone"] == entry.body["charge"]
    with reading(home.database) as connection:
        period = home.charter.period_from
        spent = account.spent(connection, period)
        assert account.alone_spent(connection, period) == spent > 0
        logged = [
            parse(raw).body
            for raw in home.internal_log.entries(connection)
            if parse(raw).type == "account"
        ]
    assert fraction_from(logged[0]["alone_before"]) == 0
    assert fraction_from(logged[0]["alone_after"]) == spent


def test_a_refusal_is_logged_and_names_no_content(world: World, home: NodeHome) -> None:
    session = new_session(home, world.receipts(home))
    answer = session.answer({"kind": b"shell", "query": b"rm -rf /"})
    assert code_of(answer, home) == "message-malformed"
    with reading(home.database) as connection:
        entry = list(home.internal_log.of_type(connection, "refusal"))[-1]
    assert entry.body == {
        "request": hashlib.sha256(b"rm -rf /").hexdigest(),
        "code": "message-malformed",
        "peer": BANK,
    }
    assert b"rm -rf" not in entry.raw
