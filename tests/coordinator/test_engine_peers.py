"""One member's certificate cannot speak for another member's node: real engine, real mTLS."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import (
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    Message,
    Metadata,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest

sys.path.insert(0, str(Path(__file__).parents[1]))
from fleet_world import (
    FLEET,
    Bank,
    Consortium,
    Raw,
    Signer,
    answer,
    consortium,
    start_bank,
)

from hejin_coordinator.binding import BURST
from hejin_trust.fleet import Payload

PARTIES = consortium(3)


@pytest.fixture
def bank() -> Iterator[Bank]:
    made = start_bank(PARTIES)
    yield made
    made.server.stop(0).wait()


class Asking:
    """A question that waits in another thread, so that the test can be its nodes."""

    def __init__(self, bank: Bank, *members: str, timeout: float = 10) -> None:
        self.run, self.got = bank.engine.open_run(), dict[str, Payload]()
        asked = {member: {"q": member.encode()} for member in members}
        answers = self.run.ask(asked, timeout=timeout, reissue_after=timeout)
        self._stop = threading.Event()

        def collect() -> None:
            for member, payload in answers:
                self.got[member] = payload

        self._thread = threading.Thread(target=collect)
        self._thread.start()

    def done(self) -> dict[str, Payload]:
        self._thread.join()
        self.run.close()
        return self.got


class Two:
    """node-0 and node-1, both registered, both with a question pulled."""

    def __init__(self, bank: Bank) -> None:
        self.first = Raw(PARTIES, "node-0", bank.address).register()
        self.second = Raw(PARTIES, "node-1", bank.address).register()
        self.asking = Asking(bank, "node-0", "node-1", timeout=2)
        (self.head_0, self.objects_0) = self.first.pull()
        (self.head_1, self.objects_1) = self.second.pull()

    def finish(self) -> dict[str, Payload]:
        """Both answer properly: whatever was tried before did no harm."""
        self.first.push(self.head_0, answer(self.head_0, me=b"0"))
        self.second.push(self.head_1, answer(self.head_1, me=b"1"))
        got = self.asking.done()
        self.close()
        return got

    def close(self) -> None:
        self.first.close()
        self.second.close()


@pytest.fixture
def two(bank: Bank) -> Iterator[Two]:
    made = Two(bank)
    yield made
    assert made.finish() == {"node-0": {"me": b"0"}, "node-1": {"me": b"1"}}


def refused(call: Callable[[], Any], status: grpc.StatusCode, words: str) -> None:
    with pytest.raises(grpc.RpcError) as reason:
        call()
    assert reason.value.code() == status, reason.value.details()
    assert words in (reason.value.details() or "")


DENIED = grpc.StatusCode.PERMISSION_DENIED


def test_another_members_flower_key_is_refused(bank: Bank, two: Two) -> None:
    thief = Raw(PARTIES, "node-2", bank.address, two.first.signer)
    thief.node = two.first.node
    refused(thief.register, DENIED, "Flower key")
    refused(
        lambda: thief.fleet.PullMessages(PullMessagesRequest(node=thief.node)),
        DENIED,
        "Flower key",
    )
    thief.close()


def test_registering_a_key_that_did_not_sign_the_call_is_refused(bank: Bank, two: Two) -> None:
    thief = Raw(PARTIES, "node-2", bank.address)
    wanted = RegisterNodeFleetRequest(public_key=Signer().public)
    refused(lambda: thief.fleet.RegisterNode(wanted), DENIED, "Flower key")
    thief.close()


def test_another_members_node_id_is_refused(two: Two) -> None:
    fleet, other = two.second.fleet, two.first.node
    for call in (
        lambda: fleet.PullMessages(PullMessagesRequest(node=other)),
        lambda: fleet.DeactivateNode(DeactivateNodeRequest(node_id=other.node_id)),
        lambda: fleet.SendNodeHeartbeat(
            SendNodeHeartbeatRequest(node=other, heartbeat_interval=30)
        ),
    ):
        refused(call, grpc.StatusCode.UNAUTHENTICATED, "Invalid node ID")


def test_another_members_src_node_id_is_refused(two: Two) -> None:
    refused(
        lambda: two.second.push(two.head_1, answer(two.head_1), src_node_id=two.first.node.node_id),
        DENIED,
        "node id",
    )


def test_a_second_message_in_one_push_is_refused(two: Two) -> None:
    mine = Metadata(
        src_node_id=two.second.node.node_id,
        run_id=two.head_1.run_id,
        reply_to_message_id=two.head_1.message_id,
    )
    theirs = Metadata(src_node_id=two.first.node.node_id, run_id=two.head_1.run_id)
    for heads, words in (((mine, theirs), "node id"), ((mine, mine), "messages in one call")):
        request = PushMessagesRequest(
            node=two.second.node, messages_list=[Message(metadata=head) for head in heads]
        )
        with pytest.raises(grpc.RpcError, match=words):
            two.second.fleet.PushMessages(request)


def test_another_members_question_cannot_be_answered(two: Two) -> None:
    refused(lambda: two.second.push(two.head_0, answer(two.head_0)), DENIED, "request id")


def test_a_run_id_that_is_not_open_is_refused(two: Two) -> None:
    run = two.head_1.run_id + 1
    refused(lambda: two.second.object(run, two.objects_1[0]), DENIED, "run id")
    refused(lambda: two.second.push(two.head_1, answer(two.head_1), run_id=run), DENIED, "run id")


def test_another_members_question_cannot_be_read(two: Two) -> None:
    for identity in two.objects_0:
        refused(lambda i=identity: two.second.object(two.head_1.run_id, i), DENIED, "object id")  # type: ignore[misc]
    assert b"node-1" in two.second.object(two.head_1.run_id, two.objects_1[2])


def test_another_members_object_cannot_be_pushed(bank: Bank) -> None:
    two = Two(bank)
    two.first.push(two.head_0, answer(two.head_0, me=b"0"))
    leaf = answer(two.head_0, me=b"0")["hejin"]
    refused(
        lambda: two.second.fleet.PushObject(
            PushObjectRequest(
                node=two.second.node,
                run_id=two.head_1.run_id,
                object_id=leaf.object_id,
                object_content=leaf.deflate(),
            )
        ),
        DENIED,
        "object id",
    )
    # Naming the other's answer would hand it in without knowing it.
    refused(lambda: two.second.push(two.head_1, answer(two.head_0, me=b"0")), DENIED, "object id")
    two.second.push(two.head_1, answer(two.head_1, me=b"1"))
    assert two.asking.done() == {"node-0": {"me": b"0"}, "node-1": {"me": b"1"}}
    two.close()


def test_a_second_answer_is_refused(bank: Bank) -> None:
    two = Two(bank)
    two.first.push(two.head_0, answer(two.head_0, me=b"0"))
    refused(
        lambda: two.first.push(two.head_0, answer(two.head_0, me=b"changed")),
        grpc.StatusCode.FAILED_PRECONDITION,
        "not awaited",
    )
    two.second.push(two.head_1, answer(two.head_1, me=b"1"))
    assert two.asking.done()["node-0"] == {"me": b"0"}
    two.close()


def test_code_and_other_methods_are_denied(bank: Bank, two: Two) -> None:
    fleet, node, run = two.second.fleet, two.second.node, two.head_1.run_id
    for call in (
        lambda: fleet.GetFab(GetFabRequest(node=node, hash_str="x", run_id=run)),
        lambda: fleet.UnregisterNode(UnregisterNodeFleetRequest(node_id=node.node_id)),
        lambda: fleet.GetRun(GetRunRequest(node=node, run_id=run)),
        lambda: fleet.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=node, run_id=run, message_object_id=two.objects_0[0])
        ),
        lambda: two.second.channel.unary_unary(FLEET + "Invented", None, None)(b""),
    ):
        refused(call, DENIED, "not served here")
    elsewhere = two.second.channel.unary_unary("/flwr.proto.Control/StartRun", None, None)
    refused(lambda: elsewhere(b""), DENIED, "may not call")


@pytest.mark.parametrize("key", [b"no key", b"", b"\xff" * 5000])
def test_a_flower_key_that_does_not_parse_is_refused(bank: Bank, key: bytes) -> None:
    with PARTIES.dial("node-0", bank.address) as channel:
        call = channel.unary_unary(FLEET + "PullMessages", None, None)
        headers = (
            ("flwr-public-key-bin", key),
            ("flwr-timestamp", "yesterday"),
            ("flwr-signature-bin", b"x"),
        )
        with pytest.raises(grpc.RpcError) as reason:
            call(b"", metadata=headers)
    assert reason.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_bank_may_not_be_a_node(bank: Bank) -> None:
    raw = Raw(PARTIES, "bank", bank.address)
    with pytest.raises(grpc.RpcError) as reason:
        raw.register()
    assert reason.value.code() == DENIED
    raw.close()


def test_a_revoked_member_gets_nothing_from_the_next_call_on(bank: Bank) -> None:
    parties = Consortium(
        type(PARTIES.charters)(PARTIES.charters.charter), PARTIES.keys, PARTIES.certificates
    )
    other = start_bank(parties)
    raw = Raw(PARTIES, "node-0", other.address).register()
    with other.engine.open_run() as run:
        assert run.online() == {"node-0"}
        parties.charters.revoke("node-0")
        assert run.online() == set()
        with pytest.raises(grpc.RpcError) as reason:
            raw.fleet.PullMessages(PullMessagesRequest(node=raw.node))
        assert reason.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert dict(run.ask({"node-0": {}}, timeout=0.3, reissue_after=0.1)) == {}
    raw.close()
    other.server.stop(0).wait()


def test_registering_again_and_again_is_limited(bank: Bank) -> None:
    raws = [Raw(PARTIES, "node-0", bank.address) for _ in range(int(BURST) + 1)]
    for raw in raws[:-1]:
        raw.register()
    with pytest.raises(grpc.RpcError) as reason:
        raws[-1].register()
    assert reason.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    for raw in raws:
        raw.close()


def test_a_head_of_many_bytes_is_refused(two: Two) -> None:
    head = Metadata(
        src_node_id=two.second.node.node_id, run_id=two.head_1.run_id, group_id="x" * 20_000
    )
    request = PushMessagesRequest(node=two.second.node, messages_list=[Message(metadata=head)])
    refused(
        lambda: two.second.fleet.PushMessages(request),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "bytes in one call",
    )


def test_an_answer_of_another_shape_is_ignored(bank: Bank) -> None:
    raw = Raw(PARTIES, "node-0", bank.address).register()
    with bank.engine.open_run() as run:
        asked = run.ask({"node-0": {"q": b"1"}}, timeout=5, reissue_after=0.2)
        shapes = [
            lambda head: RecordDict({"hejin": ConfigRecord({"k": [1, 2]})}),
            lambda head: RecordDict({"other": ConfigRecord({"request": head.group_id.encode()})}),
            lambda head: RecordDict({"hejin": ConfigRecord({"request": b"of another question"})}),
            lambda head: answer(head, me=b"right"),
        ]

        def answer_all() -> None:
            for shape in shapes:
                head, _ = raw.pull()
                raw.push(head, shape(head))

        thread = threading.Thread(target=answer_all)
        thread.start()
        began = time.monotonic()
        assert list(asked) == [("node-0", {"me": b"right"})]
        # Three shapes were wrong, and each cost one wait: never a tight loop.
        assert time.monotonic() - began > 0.6
        thread.join()
    raw.close()


def test_a_node_that_never_registered_gets_nothing(bank: Bank) -> None:
    raw = Raw(PARTIES, "node-2", bank.address)
    refused(
        lambda: raw.fleet.PullObject(PullObjectRequest(node=Node(), run_id=1, object_id="x")),
        grpc.StatusCode.UNAUTHENTICATED,
        "Invalid node ID",
    )
    raw.close()
