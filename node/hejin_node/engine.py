"""The node's side of Flower: pull a question, answer it, push the answer; run nobody's code.

The only module of the node that imports flwr (1.41.0). What it relies on is pinned by
tests/node/test_engine_node_contract.py. GetFab is never called: nothing here mentions it.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
from cryptography.hazmat.primitives.asymmetric import ec

from hejin_trust.errors import HejinError
from hejin_trust.fleet import (
    HEARTBEAT,
    MESSAGE_TYPE,
    RECORD,
    REQUEST,
    Payload,
    PayloadError,
    check_payload,
    open_objects,
    quiet_flower,
)

# Flower reads both when it is imported.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

from flwr.app import ConfigRecord, Error, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import (
    PUBLIC_KEY_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    ErrorCode,
)
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import Metadata as Head
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

quiet_flower()

_LOG = logging.getLogger("hejin.engine")

SMALL_CALL: Final = 10.0
"""Seconds that a call without a payload may take."""

BIG_CALL: Final = 60.0
"""Seconds that a call with a payload (32 MiB) may take."""

FAST: Final = 0.02
"""Seconds between polls while a run is active."""

ACTIVE: Final = 5.0
"""Seconds after the last question during which the next one is expected soon. Short: while a
run is open the bank holds pulls anyway, and eight nodes polling fast cost half a core."""

RETRY_FIRST: Final = 0.2
RETRY_MOST: Final = 15.0
"""Back-off in seconds while the bank cannot be reached or refuses; doubles in between."""

PATIENCE: Final = 10.0
"""Seconds to wait for the objects of a question; the bank stores them at once."""

CLOCKS_APART: Final = timedelta(seconds=120)
"""How far our signature is dated back. Flower takes -5..305 s, so the bank's clock may be
two minutes behind ours or three ahead; who we are is decided by TLS, not by this."""

SIGNATURE_LIFE: Final = 30.0
"""Seconds for which one signature serves: Flower signs the time alone."""

HELD: Final = 0.1
"""A pull that took longer was held by the bank, which it does while a run is open."""

OBJECTS: Final = 3
"""Objects of a question: Message -> RecordDict -> ConfigRecord."""

LONGEST_KEY: Final = 64
"""Most characters in the key of a request, which an answer repeats."""

Answer = Callable[[Payload], Payload]


@dataclass(frozen=True, slots=True)
class _Question:
    """A pulled message: its head and its object ids, root first."""

    head: Head
    objects: tuple[str, ...]


@dataclass(slots=True)
class _BackOff:
    """Longer and longer waits, a fifth at random so that nodes do not come back together."""

    seconds: float = RETRY_FIRST

    def wait(self, stop: threading.Event) -> None:
        stop.wait(self.seconds * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret
        self.seconds = min(2 * self.seconds, RETRY_MOST)

    def reset(self) -> None:
        self.seconds = RETRY_FIRST


class _Signed(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    """Signs calls the way Flower's node auth expects, with a key of this registration."""

    def __init__(self) -> None:
        # P-256, not Flower's default P-384: 15 times quicker to check, and TLS decides.
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = public_key_to_bytes(self._key.public_key())
        self._lock = threading.Lock()
        self._metadata: list[tuple[str, str | bytes]] = []
        self._until = 0.0

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Add Flower's three headers."""
        metadata = [*(details.metadata or ()), *self._headers()]
        return continuation(details._replace(metadata=metadata), request)

    def _headers(self) -> list[tuple[str, str | bytes]]:
        with self._lock:
            if time.monotonic() >= self._until:
                at = (datetime.now(UTC) - CLOCKS_APART).isoformat()
                self._metadata = [
                    (PUBLIC_KEY_HEADER, self.public),
                    (TIMESTAMP_HEADER, at),
                    (SIGNATURE_HEADER, sign_message(self._key, at.encode("ascii"))),
                ]
                self._until = time.monotonic() + SIGNATURE_LIFE
            return self._metadata


class _Link:
    """One registration at the bank: a fresh key, a node id, and the calls made with them."""

    def __init__(self, channel: grpc.Channel) -> None:
        """Register and activate; raises grpc.RpcError."""
        signed = _Signed()
        self._fleet = FleetStub(grpc.intercept_channel(channel, signed))
        self._fleet.RegisterNode(
            RegisterNodeFleetRequest(public_key=signed.public), timeout=SMALL_CALL
        )
        activated = self._fleet.ActivateNode(
            ActivateNodeRequest(public_key=signed.public, heartbeat_interval=HEARTBEAT),
            timeout=SMALL_CALL,
        )
        self._node = Node(node_id=activated.node_id)

    def beat(self) -> None:
        """Say that this node is there."""
        self._fleet.SendNodeHeartbeat(
            SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT),
            timeout=SMALL_CALL,
        )

    def leave(self) -> None:
        """Say that this node goes."""
        self._fleet.DeactivateNode(
            DeactivateNodeRequest(node_id=self._node.node_id), timeout=SMALL_CALL / 5
        )

    def pull(self) -> _Question | None:
        """Take the next message from the bank, if there is one. It is never offered again."""
        reply = self._fleet.PullMessages(PullMessagesRequest(node=self._node), timeout=SMALL_CALL)
        if not reply.messages_list or not reply.message_object_trees:
            return None
        ids: list[str] = []
        tree = reply.message_object_trees[0]
        while len(ids) <= OBJECTS:
            ids.append(tree.object_id)
            if len(tree.children) != 1:
                break
            tree = tree.children[0]
        return _Question(reply.messages_list[0].metadata, tuple(ids))

    def payload(self, question: _Question) -> Payload:
        """Return the question's payload; raises PayloadError for anything else."""
        head = question.head
        if head.message_type != MESSAGE_TYPE or len(question.objects) != OBJECTS:
            raise _not_understood()
        if len(head.group_id) > LONGEST_KEY:
            raise _not_understood()
        contents = [self._object(head.run_id, identity) for identity in question.objects]
        payload = open_objects(contents, question.objects)
        check_payload(payload)
        return payload

    def _object(self, run: int, identity: str) -> bytes:
        request = PullObjectRequest(node=self._node, run_id=run, object_id=identity)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            reply = self._fleet.PullObject(request, timeout=BIG_CALL)
            if reply.object_available:
                content: bytes = reply.object_content
                return content
            if not reply.object_found:
                break
            time.sleep(FAST / 2)
        raise _not_understood()

    def push(self, question: _Question, answer: Payload | Error) -> None:
        """Answer a question with a payload, or with an error that has no effect at the bank."""
        head = question.head
        # Created when the question was, by the bank's clock: ours may differ by more than
        # the question lives.
        metadata = Metadata(
            run_id=head.run_id,
            message_id="",
            src_node_id=self._node.node_id,
            dst_node_id=head.src_node_id,
            reply_to_message_id=head.message_id,
            group_id=head.group_id,
            created_at=head.created_at,
            ttl=head.ttl,
            message_type=MESSAGE_TYPE,
        )
        if isinstance(answer, Error):
            message = make_message(metadata=metadata, error=answer)
        else:
            record = ConfigRecord({**answer, REQUEST: head.group_id.encode()})
            message = make_message(metadata=metadata, content=RecordDict({RECORD: record}))
        with no_object_id_recompute():
            metadata.__dict__["_message_id"] = message.object_id
            objects = get_all_nested_objects(message)
            tree = get_object_tree(message)
        pushed = self._fleet.PushMessages(
            PushMessagesRequest(
                node=self._node,
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[tree],
            ),
            timeout=SMALL_CALL,
        )
        for identity in pushed.objects_to_push:
            if identity in objects and not isinstance(answer, Error):
                self._fleet.PushObject(
                    PushObjectRequest(
                        node=self._node,
                        run_id=head.run_id,
                        session_id=pushed.session_id,
                        object_id=identity,
                        object_content=objects[identity].deflate(),
                    ),
                    timeout=BIG_CALL,
                )


class FleetLoop:
    """Answers one bank's questions until told to stop, across restarts of either side."""

    def __init__(self, channel: grpc.Channel, answer: Answer, poll: float = 1.0) -> None:
        """Remember what to do; nothing is called before `run`.

        channel   mTLS channel to the bank (hejin_trust.channels.dial); stays the caller's
        answer    payload -> payload; runs in the thread of `run`, one question at a time. It
                  sees a question again if the bank missed the answer, and must give the same
        poll      seconds between looks for a question while no run is active
        """
        self._channel, self._answer, self._poll = channel, answer, poll
        self._told = ""

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set. Returns within about ten seconds of that and of `answer`.

        No error of the bank, the network or `answer` ends it.
        """
        back_off = _BackOff()
        while not stop.is_set():
            began = time.monotonic()
            try:
                link = _Link(self._channel)
                self._told = ""
                self._serve(link, stop)
            except (grpc.RpcError, HejinError) as reason:
                self._tell(reason)
            except Exception as reason:  # noqa: BLE001 - whatever it is, the loop goes on
                _log_place("the link to the bank failed", reason)
            # Only a link that lasted shows that the trouble is over.
            if time.monotonic() - began > RETRY_MOST:
                back_off.reset()
            if not stop.is_set():
                back_off.wait(stop)

    def _serve(self, link: _Link, stop: threading.Event) -> None:
        """Serve over one registration; returns, or raises, when another is needed."""
        over = threading.Event()
        beats = threading.Thread(target=_beat, args=(link, over), name="hejin-fleet-beat")
        beats.start()
        try:
            back_off, asked = _BackOff(), -ACTIVE
            while not stop.is_set():
                began = time.monotonic()
                try:
                    question = link.pull()
                    if question is not None:
                        self._respond(link, question)
                        asked = time.monotonic()
                    back_off.reset()
                except (grpc.RpcError, HejinError) as reason:
                    if _is_lost(reason):
                        raise
                    self._tell(reason)
                    back_off.wait(stop)
                    continue
                self._pause(question is not None, began, asked, stop)
        finally:
            over.set()
            beats.join()
            with suppress(grpc.RpcError, HejinError):
                link.leave()

    def _pause(self, busy: bool, began: float, asked: float, stop: threading.Event) -> None:
        """Wait before the next look: not at all after a question or a pull the bank held."""
        self._told = ""
        if busy or time.monotonic() - began > HELD:
            return
        stop.wait(min(FAST, self._poll) if time.monotonic() - asked < ACTIVE else self._poll)

    def _respond(self, link: _Link, question: _Question) -> None:
        try:
            answer: Payload | Error = self._reply(link, question)
        except HejinError as reason:
            _LOG.warning("a question was not answered (%s)", reason.code)
            answer = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason.code)
        try:
            link.push(question, answer)
        except grpc.RpcError as reason:
            if reason.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            _LOG.info("an answer came too late; the bank asks again if it needs it")

    def _reply(self, link: _Link, question: _Question) -> Payload:
        payload = link.payload(question)
        try:
            answer = self._answer(payload)
        except HejinError:
            raise
        except Exception as reason:  # whatever it is, the loop goes on
            # Type and place alone: the text of a stranger's error may quote a customer.
            place = traceback.extract_tb(reason.__traceback__)[-1]
            _LOG.error(
                "answering failed: %s at %s:%s", type(reason).__name__, place.filename, place.lineno
            )
            raise AnswerFailedError from reason
        check_payload(answer)
        return answer

    def _tell(self, reason: grpc.RpcError | HejinError) -> None:
        """Log trouble once, not at every try."""
        text = reason.code if isinstance(reason, HejinError) else _status(reason)
        if text != self._told:
            _LOG.warning("the bank cannot be served now (%s); trying again", text)
            self._told = text


class AnswerFailedError(HejinError):
    """Answering a question failed for a reason that the bank is not told."""

    code = "answer-failed"

    def __init__(self) -> None:
        super().__init__(
            "Answering failed; the node's log says where.", "应答失败;详情见节点日志。"
        )


def _log_place(what: str, reason: Exception) -> None:
    """Log type and place alone: the text of a stranger's error may quote a customer."""
    place = traceback.extract_tb(reason.__traceback__)[-1]
    _LOG.error("%s: %s at %s:%s", what, type(reason).__name__, place.filename, place.lineno)


def _beat(link: _Link, over: threading.Event) -> None:
    while not over.wait(HEARTBEAT / 3):
        # The serving thread meets the same trouble at its next pull and sees to it.
        with suppress(Exception):
            link.beat()


def _is_lost(reason: grpc.RpcError | HejinError) -> bool:
    """Return whether the bank does not know this node any more: restarted, or a newer one."""
    return (
        isinstance(reason, grpc.RpcError)
        and reason.code() == grpc.StatusCode.UNAUTHENTICATED
        and reason.details() == "Invalid node ID"
    )


def _status(reason: grpc.RpcError) -> str:
    said = "".join(c for c in (reason.details() or "")[:200] if c.isprintable())
    return f"{reason.code().name.lower()}: {said}"


def _not_understood() -> PayloadError:
    return PayloadError(
        "A message is not a question of this protocol; it was not read.",
        "一条消息不是本协议的询问,未予读取。",
    )
