"""Questions and answers between the real engines over real mutual TLS on loopback."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from fleet_world import (
    Bank,
    Charters,
    Consortium,
    Nodes,
    Raw,
    answer,
    consortium,
    start_bank,
)

from hejin_coordinator.engine import EngineRun, RunLostError, RunOpenError
from hejin_trust.charter import Charter
from hejin_trust.errors import RefusedError
from hejin_trust.fleet import MAX_PAYLOAD, Payload, PayloadError

PARTIES = consortium(3)
ROUNDS = int(os.environ.get("HEJIN_ENGINE_ROUNDS", "300"))
ALL = ["node-0", "node-1", "node-2"]


@pytest.fixture
def bank() -> Iterator[Bank]:
    made = start_bank(PARTIES)
    yield made
    made.server.stop(0).wait()


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    made.stop()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("hejin-")]


def echo(payload: Payload) -> Payload:
    return {**payload, "kind": b"masked"}


def online(run: EngineRun, count: int) -> None:
    until = time.monotonic() + 10
    while len(run.online()) < count:
        assert time.monotonic() < until, f"only {run.online()} came"
        time.sleep(0.01)


def test_every_member_gets_its_own_question_and_answers_it(bank: Bank, nodes: Nodes) -> None:
    for member in ALL:
        nodes.start(PARTIES, member, bank.address, echo)
    with bank.engine.open_run() as run:
        online(run, 3)
        asked = {m: {"q": m.encode(), "empty": b"", "vector": bytes(100_000)} for m in ALL}
        got = dict(run.ask(asked, timeout=10, reissue_after=5))
    assert got == {m: {**asked[m], "kind": b"masked"} for m in ALL}


def test_equal_answers_of_two_members_are_two_answers(bank: Bank, nodes: Nodes) -> None:
    for member in ALL:
        nodes.start(PARTIES, member, bank.address, lambda _: {"kind": b"refusal"})
    with bank.engine.open_run() as run:
        for _ in range(3):
            got = dict(run.ask({m: {"q": b"same"} for m in ALL}, timeout=10, reissue_after=5))
            assert got == {m: {"kind": b"refusal"} for m in ALL}


def test_a_member_that_comes_late_is_asked_when_it_comes(bank: Bank, nodes: Nodes) -> None:
    with bank.engine.open_run() as run:
        later = threading.Timer(0.5, nodes.start, (PARTIES, "node-0", bank.address, echo))
        later.start()
        assert dict(run.ask({"node-0": {}}, timeout=10, reissue_after=5)) == {
            "node-0": {"kind": b"masked"}
        }
        later.join()


def test_a_silent_member_is_left_out_at_the_timeout(bank: Bank, nodes: Nodes) -> None:
    nodes.start(PARTIES, "node-0", bank.address, echo)
    began = time.monotonic()
    with bank.engine.open_run() as run:
        got = dict(run.ask({"node-0": {}, "node-1": {}}, timeout=1, reissue_after=0.2))
    assert set(got) == {"node-0"}
    assert 0.9 < time.monotonic() - began < 3


def test_a_member_that_was_revoked_is_not_waited_for_where_the_others_suffice(nodes: Nodes) -> None:
    """It is never asked, so its silence tells nothing; revocation is final."""
    parties = Consortium(Charters(PARTIES.charters.charter), PARTIES.keys, PARTIES.certificates)
    bank = start_bank(parties)
    nodes.start(PARTIES, "node-0", bank.address, echo)
    parties.charters.revoke("node-1")
    began = time.monotonic()
    with bank.engine.open_run() as run:
        asked = run.ask({"node-0": {}, "node-1": {}}, timeout=20, reissue_after=5, enough=1)
        assert dict(asked) == {"node-0": {"kind": b"masked"}}
    assert time.monotonic() - began < 10
    bank.server.stop(0).wait()


def test_a_pulled_question_without_an_answer_is_sent_again(bank: Bank) -> None:
    raw = Raw(PARTIES, "node-0", bank.address).register()
    with bank.engine.open_run() as run:

        def lose_the_first() -> None:
            lost, _ = raw.pull()
            head, _ = raw.pull()
            assert head.group_id == lost.group_id
            raw.push(head, answer(head, n=b"2"))

        node = threading.Thread(target=lose_the_first)
        node.start()
        got = dict(run.ask({"node-0": {"q": b""}}, timeout=10, reissue_after=0.3))
        node.join()
    assert got == {"node-0": {"n": b"2"}}
    raw.close()


def test_the_first_copy_may_still_be_answered_after_a_second_was_sent(bank: Bank) -> None:
    raw = Raw(PARTIES, "node-0", bank.address).register()
    with bank.engine.open_run() as run:

        def slow() -> None:
            head, _ = raw.pull()
            time.sleep(1)  # two more copies would be due by now; one waits
            raw.push(head, answer(head, n=b"1"))

        node = threading.Thread(target=slow)
        node.start()
        got = dict(run.ask({"node-0": {}}, timeout=10, reissue_after=0.3))
        node.join()
        assert got == {"node-0": {"n": b"1"}}
        with pytest.raises(AssertionError, match="no message"):
            raw.pull(0.5)
    raw.close()


def test_a_member_whose_answer_is_no_final_word_is_asked_again(bank: Bank) -> None:
    raw = Raw(PARTIES, "node-0", bank.address).register()
    with bank.engine.open_run() as run:

        def wait_and_answer() -> None:
            for word in (b"not now", b"not now", b"yes"):
                head, _ = raw.pull()
                raw.push(head, answer(head, n=word))

        node = threading.Thread(target=wait_and_answer)
        node.start()
        began = time.monotonic()
        asking = run.ask({"node-0": {"q": b""}}, timeout=10, reissue_after=0.3)
        got = [next(asking)]
        got += [asking.send(True), asking.send(True)]
        # It was given its time before each repeat.
        assert time.monotonic() - began >= 0.6
        with pytest.raises(StopIteration):
            asking.send(False)
        node.join()
    assert got == [("node-0", {"n": word}) for word in (b"not now", b"not now", b"yes")]
    raw.close()


def test_a_member_that_is_asked_again_is_not_waited_for_beyond_the_timeout(bank: Bank) -> None:
    raw = Raw(PARTIES, "node-0", bank.address).register()
    with bank.engine.open_run() as run:

        def never() -> None:
            head, _ = raw.pull()
            raw.push(head, answer(head, n=b"not now"))

        node = threading.Thread(target=never)
        node.start()
        began = time.monotonic()
        asking = run.ask({"node-0": {"q": b""}}, timeout=1, reissue_after=0.3)
        next(asking)
        with pytest.raises(StopIteration):
            asking.send(True)
        assert 0.9 < time.monotonic() - began < 3
        node.join()
    raw.close()


def test_a_late_answer_to_an_earlier_question_is_refused(bank: Bank) -> None:
    raw = Raw(PARTIES, "node-0", bank.address).register()
    with bank.engine.open_run() as run:
        pulled: list[object] = []
        node = threading.Thread(target=lambda: pulled.extend(raw.pull()))
        node.start()
        assert dict(run.ask({"node-0": {}}, timeout=0.7, reissue_after=9)) == {}
        node.join()
        head = pulled[0]
        with pytest.raises(grpc.RpcError) as reason:
            raw.push(head, answer(head, n=b"late"))
        assert reason.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    raw.close()


def test_a_restarted_node_is_asked_again_at_once(bank: Bank, nodes: Nodes) -> None:
    gone = Raw(PARTIES, "node-0", bank.address).register()
    with bank.engine.open_run() as run:

        def restart() -> None:
            gone.pull()
            nodes.start(PARTIES, "node-0", bank.address, echo)

        node = threading.Thread(target=restart)
        node.start()
        got = dict(run.ask({"node-0": {}}, timeout=10, reissue_after=60))
        node.join()
        assert got == {"node-0": {"kind": b"masked"}}
        assert run.online() == {"node-0"}
    gone.close()


def test_replaced_nodes_do_not_pile_up(bank: Bank) -> None:
    for _ in range(5):
        raw = Raw(PARTIES, "node-0", bank.address).register()
        raw.close()
    state = bank.engine._state
    assert len(state.nodes) == len(state.node_public_key_to_node_id) == 1


def test_nodes_come_back_after_the_coordinator_restarted(nodes: Nodes) -> None:
    first = start_bank(PARTIES)
    nodes.start(PARTIES, "node-0", first.address, echo)
    with first.engine.open_run() as run:
        online(run, 1)
    first.server.stop(0).wait()
    second = start_bank(PARTIES, first.port)
    with second.engine.open_run() as run:
        got = dict(run.ask({"node-0": {}}, timeout=25, reissue_after=5))
    assert got == {"node-0": {"kind": b"masked"}}
    nodes.stop()
    second.server.stop(0).wait()


def test_a_node_waits_until_the_bank_is_admitted_again(bank: Bank, nodes: Nodes) -> None:
    charters = Charters(PARTIES.charters.charter)
    theirs = Consortium(charters, PARTIES.keys, PARTIES.certificates)
    nodes.start(theirs, "node-0", bank.address, echo)
    with bank.engine.open_run() as run:
        online(run, 1)
        charters.revoke("bank")
        time.sleep(0.2)
        assert dict(run.ask({"node-0": {}}, timeout=0.5, reissue_after=0.1)) == {}
        charters.charter = PARTIES.charters.charter
        assert set(dict(run.ask({"node-0": {}}, timeout=20, reissue_after=1))) == {"node-0"}


def test_a_charter_that_cannot_be_read_does_not_end_the_loop(bank: Bank, nodes: Nodes) -> None:
    class Broken(Charters):
        def current(self) -> Charter:
            if broken.is_set():
                raise OSError("disk gone")
            return self.charter

    broken = threading.Event()
    theirs = Consortium(Broken(PARTIES.charters.charter), PARTIES.keys, PARTIES.certificates)
    nodes.start(theirs, "node-0", bank.address, echo)
    broken.set()
    time.sleep(0.3)
    broken.clear()
    with bank.engine.open_run() as run:
        assert set(dict(run.ask({"node-0": {}}, timeout=20, reissue_after=1))) == {"node-0"}


class OddError(Exception):
    """Not one of ours; its text must not travel."""


def test_an_answer_that_fails_is_asked_again_and_the_loop_goes_on(
    bank: Bank, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter(
        [OddError("customer 4711"), RefusedError("no", "否"), {"k": "text"}, {"k": b"right"}]
    )

    def fail(_: Payload) -> Payload:
        result = next(failures)
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[return-value]

    nodes.start(PARTIES, "node-0", bank.address, fail)
    with bank.engine.open_run() as run, caplog.at_level(logging.INFO):
        got = dict(run.ask({"node-0": {}}, timeout=20, reissue_after=0.2))
    assert got == {"node-0": {"k": b"right"}}
    assert "OddError" in caplog.text
    assert "4711" not in caplog.text


def test_one_run_at_a_time(bank: Bank) -> None:
    run = bank.engine.open_run()
    with pytest.raises(RunOpenError):
        bank.engine.open_run()
    run.close()
    run.close()
    bank.engine.open_run().close()


def test_one_question_at_a_time(bank: Bank) -> None:
    raw = Raw(PARTIES, "node-0", bank.address).register()
    with bank.engine.open_run() as run:
        thread = threading.Thread(
            target=lambda: list(run.ask({"node-0": {}}, timeout=1.5, reissue_after=9))
        )
        thread.start()
        raw.pull()
        with pytest.raises(RunOpenError):
            list(run.ask({"node-0": {}}, timeout=1, reissue_after=1))
        thread.join()
    raw.close()


def test_a_payload_that_cannot_travel_is_refused_before_it_is_sent(bank: Bank) -> None:
    with bank.engine.open_run() as run, pytest.raises(PayloadError):
        run.ask({"node-0": {"k": bytes(MAX_PAYLOAD + 1)}}, timeout=1, reissue_after=1)


def test_a_run_that_flower_ended_says_so(bank: Bank) -> None:
    raw = Raw(PARTIES, "node-0", bank.address).register()
    with bank.engine.open_run() as run:
        assert bank.engine._state.stop_run(run._run)
        with pytest.raises(RunLostError):
            list(run.ask({"node-0": {}}, timeout=5, reissue_after=1))
    raw.close()


def test_an_open_run_survives_long_silence(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hejin_coordinator.engine.TASK_BEAT", 0.05)
    beaten = threading.Event()
    state = bank.engine._state
    inner = state.acknowledge_task_heartbeat

    def beat(task: int) -> bool:
        beaten.set()
        return inner(task)

    monkeypatch.setattr(state, "acknowledge_task_heartbeat", beat)
    with bank.engine.open_run():
        assert beaten.wait(5)


def test_round_after_round_leaves_nothing_behind(bank: Bank, nodes: Nodes) -> None:
    def resident() -> int:
        gc.collect()
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * 4096

    nodes.start(PARTIES, "node-0", bank.address, echo)
    state = bank.engine._state
    with bank.engine.open_run() as run:
        online(run, 1)
        for round_ in range(ROUNDS):
            asked = {"node-0": {"q": round_.to_bytes(2, "big"), "v": bytes(10_000)}}
            assert len(list(run.ask(asked, timeout=10, reissue_after=5))) == 1
            if round_ == ROUNDS // 3:
                early = resident()
        assert resident() - early < ROUNDS * 10_000, "every later round kept its payload"
        for kept in (
            state.message_ins_store,
            state.message_res_store,
            state.message_ins_id_to_message_res_id,
            state._object_push_sessions,
            state.object_store.store,  # type: ignore[attr-defined]
            bank.engine._binding._sent,
        ):
            assert len(kept) == 0
