"""A masked plan carried out over sessions of this process: totals, drop-outs, burned rounds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from bank_world import Bank, Fault, Wire, body_of, findings, keep_vectors, lost, open_world, silent
from sqlalchemy import event

from hejin_coordinator import disputes, parts, store
from hejin_coordinator.errors import PlanLostError, RoundFailedError, RunPausedError
from hejin_coordinator.receipts import receipt_for
from hejin_coordinator.rounds import PlanRun
from hejin_coordinator.service import Worker
from hejin_models.features import FeatureView
from hejin_models.sums import NoisySum
from hejin_models.training import train
from hejin_node import account
from hejin_node.masking import Masking, run_table, vote_table
from hejin_privacy import shamir
from hejin_privacy.accounting import round_up
from hejin_privacy.secure_sum import node as masking_node
from hejin_trust.database import reading, writing
from hejin_trust.envelope import NOT_RECEIVED, RECEIPT, open_envelope
from hejin_trust.fleet import Payload, pack, unpack

NODES = tuple(f"node-{n}" for n in range(1, 6))  # a plan of five: quorum and least survivors 4


@dataclass
class Engine:
    """Opens runs over the wire, as the worker wants them."""

    wire: Wire

    def open_run(self) -> nullcontext[Wire]:
        return nullcontext(self.wire)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A bank that many tests propose plans at: founding one costs seconds."""
    with ExitStack() as stack:
        yield open_world(tmp_path_factory.mktemp("bank"), stack, nodes=5)


@pytest.fixture
def bank(standing: Bank) -> Iterator[Bank]:
    yield standing
    standing.wire.faults.clear()
    standing.wire.silent.clear()
    standing.wire.asked.clear()
    end_plans(standing)


def end_plans(bank: Bank) -> None:
    """Give up what a test left open, and settle its disputes."""
    with writing(bank.home.database) as connection:
        for stored in store.plans(connection):
            if stored.state not in ("done", "dropped"):
                store.set_state(connection, stored.digest, "dropped")
        for found in disputes.disputes(connection):
            if not found.settled:
                disputes.settle(connection, found.id)


def sum_once(bank: Bank, run: PlanRun) -> NoisySum:
    """Ask for the plan's first sum."""
    return run._sum(next(train(FeatureView.parse(run._stored.view))))


def rounds(bank: Bank, run: PlanRun) -> list[store.Round]:
    with reading(bank.home.database) as connection:
        return store.rounds(connection, run.run)


def outcomes(bank: Bank, run: PlanRun, number: int, phase: str) -> dict[str, str]:
    with reading(bank.home.database) as connection:
        found = parts.parts(connection, run.run)
    return {p.node: p.outcome for p in found if (p.round, p.phase) == (number, phase)}


def logged(bank: Bank, node: str, kind: str, run: PlanRun) -> list[int]:
    """Return the rounds of a run of which a node's release log has an entry of one type."""
    home = bank.nodes[node]
    with reading(home.database) as connection:
        entries = [json.loads(raw) for raw in home.release_log.entries(connection)]
    return [
        entry["body"]["round"]
        for entry in entries
        if entry["type"] == kind and entry["body"]["run"] == run.run
    ]


def charged(bank: Bank, node: str, run: PlanRun) -> Fraction:
    with reading(bank.nodes[node].database) as connection:
        return account.spent_by_plan(connection, run._stored.digest)[0].train


def total_of(stored: store.Round) -> list[int]:
    assert stored.total is not None
    return [int(value) for value in np.frombuffer(stored.total, "<i8")]


def exact(
    vectors: dict[tuple[str, int], list[np.ndarray]], number: int, nodes: tuple[str, ...]
) -> list[int]:
    """Add up what nodes masked in a round, with Python's own integers, mod 2^64."""
    columns = zip(*(vectors[node, number][0].view("<i8").tolist() for node in nodes), strict=True)
    return [(sum(column) + 2**63) % 2**64 - 2**63 for column in columns]


def leaving(bank: Bank, node: str) -> Fault:
    """Return the fault that the node goes offline just before a message comes."""

    def fault(_: Payload, __: object) -> None:
        bank.wire.silent.add(node)

    return fault


def test_a_masked_plan_ends_with_a_model_and_every_total_is_that_of_all_nodes(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    run = bank.run(bank.propose(epsilon=20.0))
    run.carry_out()
    for found in rounds(bank, run):
        assert total_of(found) == exact(vectors, found.round, NODES)
        assert len(unpack(found.votes or b"", 5)) >= 4
    # With nobody gone, votes and shares came in one trip.
    assert bank.wire.sent("votes") == []
    for node in NODES:
        assert logged(bank, node, "result", run) == [r.round for r in rounds(bank, run)]
        assert logged(bank, node, "receipt", run) == [r.round for r in rounds(bank, run)]


def test_what_a_node_sends_is_not_what_it_masked(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    sent: list[bytes] = []

    def keep(_: str, answer: Payload) -> Payload:
        sent.append(answer.get("vector", b""))
        return answer

    bank.wire.change = keep
    sum_once(bank, bank.run(bank.propose()))
    bank.wire.change = lambda _, answer: answer
    for (vector,) in vectors.values():
        assert not any(vector.tobytes()[:16] in answer for answer in sent)


@pytest.mark.parametrize("fault", [silent, lost])
def test_the_total_without_a_node_that_is_gone_before_its_answer_is_that_of_the_others(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    bank.wire.faults["node-3", "query", 1] = fault
    run = bank.run(bank.propose())
    sum_once(bank, run)
    (found,) = rounds(bank, run)
    assert found.survivors == 4
    assert total_of(found) == exact(vectors, 1, ("node-1", "node-2", "node-4", "node-5"))
    assert outcomes(bank, run, 1, "masked")["node-3"] == "silent"
    assert {node for node, _, _ in bank.wire.sent("votes")} == set(NODES) - {"node-3"}
    # Whether its answer is late or never was: the bank signs that it has nothing of it.
    word = receipt_for(bank.home, run.run, 1, "node-3")
    body = open_envelope(word, NOT_RECEIVED, bank.world.bank.identity.public).body
    assert (body["node"], body["round"]) == ("node-3", 1)
    bank.wire.sessions["node-3"].fetch_receipts()
    assert logged(bank, "node-3", "receipt", run) == ([1] if fault is lost else [])


def test_a_node_that_is_gone_after_its_upload_is_in_the_total(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    bank.wire.faults["node-5", "survivors", 1] = silent
    run = bank.run(bank.propose())
    sum_once(bank, run)
    (found,) = rounds(bank, run)
    assert total_of(found) == exact(vectors, 1, NODES)


def test_a_round_that_loses_a_survivor_between_its_trips_is_burned_and_asked_again(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    bank.wire.faults["node-5", "query", 1] = silent
    bank.wire.faults["node-4", "votes", 1] = silent
    run = bank.run(bank.propose())
    sum_once(bank, run)
    burned, found = rounds(bank, run)
    assert burned.burned
    assert burned.total is None
    assert burned.masked is None
    assert (burned.round, found.round, burned.sum, found.sum) == (1, 2, 0, 0)
    assert total_of(found) == exact(vectors, 2, NODES)
    price = round_up(run._query(found).mechanism.cost())
    for node in NODES[:4]:
        # New noise: the same input is never masked for two sets.
        first, second = vectors[node, 1][0], vectors[node, 2][0]
        assert not np.array_equal(first, second)
        assert charged(bank, node, run) == 2 * price
    assert charged(bank, "node-5", run) == price
    with reading(bank.home.database) as connection:
        entries = [json.loads(raw) for raw in bank.home.release_log.entries(connection)]
    assert entries[-1]["type"] == "result"
    named = [e["body"] for e in entries if e["type"] == "burn" and e["body"]["run"] == run.run]
    assert named == [{"run": run.run, "round": 1, "giver": "", "taker": ""}]
    # The burned round is receipted all the same.
    key = bank.world.bank.identity.public
    assert open_envelope(receipt_for(bank.home, run.run, 1, "node-4"), RECEIPT, key)


def test_a_plan_without_a_spare_round_waits_for_the_survivor_and_goes_on(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    bank.wire.faults["node-5", "query", 1] = silent
    bank.wire.faults["node-4", "votes", 1] = silent
    digest = bank.propose(spare_rounds=0)
    with pytest.raises(RunPausedError, match="3 of the 4 nodes that its total needs"):
        sum_once(bank, bank.run(digest))
    bank.wire.faults.clear()
    run = bank.run(digest)
    sum_once(bank, run)
    (found,) = rounds(bank, run)
    # The survivors stay who they were: node-5 is back, and still not in it.
    assert total_of(found) == exact(vectors, 1, NODES[:4])
    assert logged(bank, "node-1", "reserve", run) == [1]


def test_a_round_that_waits_for_a_survivor_is_burned_once_other_nodes_are_back(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    bank.wire.faults["node-5", "query", 1] = leaving(bank, "node-5")
    bank.wire.faults["node-4", "votes", 1] = leaving(bank, "node-4")
    digest = bank.propose()
    with pytest.raises(RunPausedError, match="3 of the 4 nodes that its total needs"):
        sum_once(bank, bank.run(digest))
    bank.wire.silent.remove("node-5")
    run = bank.run(digest)
    sum_once(bank, run)
    burned, found = rounds(bank, run)
    assert burned.burned
    assert total_of(found) == exact(vectors, 2, ("node-1", "node-2", "node-3", "node-5"))


def test_with_too_few_nodes_a_run_pauses_and_goes_on_with_the_same_round(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    bank.wire.silent |= {"node-1", "node-2"}
    digest = bank.propose()
    with pytest.raises(RunPausedError, match="3 nodes gave a key, 4 are needed"):
        sum_once(bank, bank.run(digest))
    bank.wire.silent.clear()
    bank.wire.faults["node-1", "query", 1] = silent
    bank.wire.faults["node-2", "query", 1] = lost
    with pytest.raises(RunPausedError, match="3 of 5 nodes answered, 4 are needed, 2 are silent"):
        sum_once(bank, bank.run(digest))
    bank.wire.faults.clear()
    run = bank.run(digest)
    sum_once(bank, run)
    (found,) = rounds(bank, run)
    assert total_of(found) == exact(vectors, 1, NODES)
    assert all(len(kept) == 1 for kept in vectors.values())
    price = round_up(run._query(found).mechanism.cost())
    assert {charged(bank, node, run) for node in NODES} == {price}


def test_a_run_that_loses_too_many_after_their_upload_pauses_and_opens_the_same_round(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    for node in ("node-1", "node-2"):
        bank.wire.faults[node, "survivors", 1] = leaving(bank, node)
    digest = bank.propose()
    with pytest.raises(RunPausedError, match="3 of the 4 nodes"):
        sum_once(bank, bank.run(digest))
    bank.wire.faults.clear()
    bank.wire.silent.clear()
    run = bank.run(digest)
    sum_once(bank, run)
    (found,) = rounds(bank, run)
    assert total_of(found) == exact(vectors, 1, NODES)
    asked = [p for _, p in bank.wire.asked if p["kind"] == b"survivors"]
    assert len({payload["survivors"] for payload in asked}) == 1


@pytest.mark.parametrize("kind", ["survivors", "votes"])
def test_a_node_that_restarts_between_the_trips_repeats_its_bytes_and_does_not_vote(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    bank.wire.faults["node-2", kind, 1] = bank.restarting("node-2")
    if kind == "votes":
        bank.wire.faults["node-5", "query", 1] = silent
    run = bank.run(bank.propose())
    sum_once(bank, run)
    found = rounds(bank, run)
    phase = {"survivors": "survivors", "votes": "shares"}[kind]
    assert outcomes(bank, run, 1, phase)["node-2"] == "round-before-restart"
    if kind == "survivors":
        # The other four are a quorum.
        assert total_of(found[0]) == exact(vectors, 1, NODES)
    else:
        assert found[0].burned
        assert total_of(found[1]) == exact(vectors, 2, NODES)
    # The last round's: those before it have a receipt, and their bytes were let go.
    query = [p for node, p in bank.wire.asked if p["kind"] == b"query" and node == "node-2"][-1]
    again = bank.wire.sessions["node-2"].answer(query)
    assert again["kind"] == b"masked"
    bank.restart("node-2")
    assert bank.wire.sessions["node-2"].answer(query)["header"] == again["header"]
    assert all(len(kept) == 1 for kept in vectors.values())


def test_a_bank_that_dies_before_any_of_its_steps_goes_on_and_opens_one_set_a_round(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    digest = bank.propose(epsilon=20.0)
    for number in range(1, 20):
        bank.wire.faults["node-5", "query", number] = silent
    crash_at, commits = 0, 0

    def count(_: object) -> None:
        nonlocal commits
        commits += 1
        if commits == crash_at:
            raise KeyboardInterrupt

    event.listen(bank.home.database, "commit", count)
    training = train(FeatureView.parse(bank.run(digest)._stored.view))
    request, closed, crashes = next(training), 0, 0
    try:
        for attempt in range(40):
            # The later the attempt, the later its process dies: each commit is once the last.
            crash_at, commits = attempt % 16 + 1, 0
            try:
                run = bank.run(digest)
                total = run._sum(request)
            except KeyboardInterrupt:
                crashes += 1
                continue
            closed += 1
            if closed == 4:
                break
            request = training.send(total)
    finally:
        event.remove(bank.home.database, "commit", count)
    assert closed == 4
    assert crashes >= 10
    found = rounds(bank, run)
    assert [r.round for r in found] == [1, 2, 3, 4]
    assert not any(r.burned for r in found)
    for each in found:
        assert total_of(each) == exact(vectors, each.round, NODES[:4])
        for kind in ("query", "survivors"):
            asked = {
                p[kind] for _, p in bank.wire.asked
                if kind in p and p["kind"].decode() in (kind, "votes")
                and body_of(p[kind])["round"] == each.round
            }  # fmt: skip
            assert len(asked) == 1
    assert len({p["keyads"] for _, p in bank.wire.asked if "keyads" in p}) == 1


def work(bank: Bank, digest: str) -> store.StoredPlan:
    """Carry a plan out as the bank's worker does; return it as it stands then."""
    with reading(bank.home.database) as connection:
        stored = store.find_plan(connection, digest)
    Worker(bank.home, Engine(bank.wire), bank.world.witness(bank.home))._carry_out(stored, NODES)  # type: ignore[arg-type]
    with reading(bank.home.database) as connection:
        return store.find_plan(connection, digest)


def test_a_plan_whose_budget_cannot_pay_a_lost_round_again_is_over(bank: Bank) -> None:
    bank.wire.faults["node-5", "query", 1] = silent
    bank.wire.faults["node-4", "votes", 1] = bank.restarting("node-4")
    digest = bank.propose(spare_rounds=0)
    assert work(bank, digest).state == "dropped"
    (found,) = rounds(bank, bank.run(digest))
    assert found.burned
    # A bank that died before it wrote down that the plan is over asks nothing more of it.
    with writing(bank.home.database) as connection:
        store.set_state(connection, digest, "running")
    asked = len(bank.wire.asked)
    with pytest.raises(PlanLostError):
        sum_once(bank, bank.run(digest))
    assert len(bank.wire.asked) == asked


Plant = Callable[[Bank, pytest.MonkeyPatch], None]


def spoil_commitment(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """node-2 commits to another share for node-4 than it sends, in round 1."""
    true = masking_node.share_commitment

    def false(round_ctx: bytes, giver: int, taker: int, share: bytes) -> str:
        if bank.wire.now == ("node-2", "query", 1) and taker == 4:
            return "0" * 64
        return true(round_ctx, giver, taker, share)

    monkeypatch.setattr(masking_node, "share_commitment", false)


def spoil_polynomial(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """node-2 gives node-1 a share that is off its polynomial, and commits to it, in round 1."""
    true = shamir.split

    def false(*arguments: object) -> list[int]:
        shares = list(true(*arguments))  # type: ignore[arg-type]
        if bank.wire.now == ("node-2", "query", 1):
            shares[0] ^= 1
        return shares

    monkeypatch.setattr(masking_node, "split", false)


def spoil_secret(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """node-2 commits to another secret than it shares, in round 1."""
    true = masking_node.secret_commitment

    def false(round_ctx: bytes, index: int, secret: int) -> str:
        if bank.wire.now == ("node-2", "query", 1):
            return "0" * 64
        return true(round_ctx, index, secret)

    monkeypatch.setattr(masking_node, "secret_commitment", false)


def spoil_answer(bank: Bank, _: pytest.MonkeyPatch) -> None:
    """node-4 answers another share of node-2 than it was given, in round 1."""

    def fault(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload | None:
        answer = ask(payload)
        shares = list(unpack(answer["shares"], 5))
        shares[1] = bytes(31) + b"\1"
        return {**answer, "shares": pack(shares)}

    bank.wire.faults["node-4", "survivors", 1] = fault


@pytest.mark.parametrize(
    ("plant", "giver", "taker"),
    [
        pytest.param(spoil_commitment, "node-2", "node-4", id="against-its-commitment"),
        pytest.param(spoil_answer, "node-2", "node-4", id="answered-falsely"),
        pytest.param(spoil_polynomial, "node-2", "node-2", id="off-the-polynomial"),
        pytest.param(spoil_secret, "node-2", "node-2", id="another-secret"),
    ],
)
def test_a_share_that_does_not_fit_burns_the_round_and_keeps_its_pair_out(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, plant: Plant, giver: str, taker: str
) -> None:
    vectors = keep_vectors(bank.wire, monkeypatch)
    if plant is spoil_commitment:
        # All of the quorum must be heard, or the pair is not needed and not seen.
        bank.wire.faults["node-1", "survivors", 1] = silent
    plant(bank, monkeypatch)
    run = bank.run(bank.propose())
    sum_once(bank, run)
    burned, found = rounds(bank, run)
    assert f"the share of {giver} for {taker}" in burned.burned
    # In the same run, too, they are asked again only where too few are left without them.
    asked = [node for node in NODES if giver != taker or node != giver]
    assert total_of(found) == exact(vectors, 2, asked)
    with reading(bank.home.database) as connection:
        (dispute,) = [d for d in disputes.disputes(connection) if not d.settled]
        entries = [json.loads(raw) for raw in bank.home.release_log.entries(connection)]
    assert (dispute.run, dispute.round) == (run.run, 1)
    assert (dispute.giver, dispute.taker) == (giver, taker)
    (entry,) = [e["body"] for e in entries if e["type"] == "burn" and e["body"]["run"] == run.run]
    assert entry == {"run": run.run, "round": 1, "giver": giver, "taker": taker}
    digest = bank.propose()
    if giver != taker:
        with pytest.raises(RoundFailedError, match="node-2, node-4 stay out until"):
            sum_once(bank, bank.run(digest))
        assert {n for n, _, _ in bank.wire.sent("keys")[-3:]} == {"node-1", "node-3", "node-5"}
        with writing(bank.home.database) as connection:
            disputes.settle(connection, dispute.id)
    following = bank.run(digest)
    sum_once(bank, following)
    assert rounds(bank, following)[0].survivors == (5 if giver != taker else 4)


def written(bank: Bank, secrets: list[bytes]) -> list[str]:
    """Return the names of the nodes' files that hold any of these bytes."""
    files = [path for node in bank.nodes.values() for path in node.path.rglob("*")]
    return [
        f"{path.parent.name}/{path.name}"
        for path in files
        if path.is_file() and any(secret in path.read_bytes() for secret in secrets)
    ]


def test_keys_and_what_was_revealed_are_erased_when_the_run_ends(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.wire.faults["node-5", "query", 1] = silent
    secrets: list[bytes] = []
    sealed = Masking._sealed

    def kept(self: Masking, run: str, secret: bytes) -> bytes:
        made = sealed(self, run, secret)
        secrets.extend([secret[:32], secret[-32:], made[:32], made[-32:]])
        return made

    monkeypatch.setattr(Masking, "_sealed", kept)
    run = bank.run(bank.propose(epsilon=20.0))
    run._sum(next(train(FeatureView.parse(run._stored.view))))
    home = bank.nodes["node-1"]
    with reading(home.database) as connection:
        votes = [v for v in connection.execute(vote_table.select()) if v.run == run.run]
    secrets += [vote.opened for vote in votes]
    assert len(secrets) > 20
    assert written(bank, secrets)
    run._close()
    for node in bank.nodes.values():
        with reading(node.database) as connection:
            for table in (run_table, vote_table):
                assert not [r for r in connection.execute(table.select()) if r.run == run.run]
    assert written(bank, secrets) == []


def test_the_ledger_of_a_plan_with_drop_outs_burned_rounds_and_restarts_verifies(
    bank: Bank, tmp_path: Path
) -> None:
    """And with it the ledger of every test before."""
    faults = bank.wire.faults
    faults["node-5", "query", 1] = lost
    faults["node-4", "votes", 1] = bank.restarting("node-4")  # round 1 is burned
    faults["node-1", "survivors", 2] = silent
    faults["node-2", "query", 3] = silent
    faults["node-3", "query", 4] = bank.restarting("node-3")
    digest = bank.propose(epsilon=20.0)
    assert work(bank, digest).state == "done"
    end_plans(bank)
    assert findings(bank, tmp_path / "export") == ()
