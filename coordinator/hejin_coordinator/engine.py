"""Flower's LinkState and Fleet service inside the bank's own server, and questions over it.

The only module of the coordinator that imports flwr (1.41.0). What it relies on is pinned
by tests/coordinator/test_engine_contract.py.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import grpc

from hejin_coordinator.asking import Answers
from hejin_coordinator.binding import Binding
from hejin_coordinator.door import AllowList, Bell, BindingInterceptor, FleetOnly, Interceptor
from hejin_trust.charter import Charters
from hejin_trust.errors import HejinError
from hejin_trust.fleet import (
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

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import (
    NOOP_FLWR_AID,
    PUBLIC_KEY_HEADER,
    SUPERLINK_NODE_ID,
    Status,
    SubStatus,
)
from flwr.proto.fleet_pb2_grpc import add_FleetServicer_to_server
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.fleet.grpc_rere.fleet_servicer import FleetServicer
from flwr.server.superlink.fleet.grpc_rere.node_auth_server_interceptor import (
    NodeAuthServerInterceptor,
)
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import (
    FLWR_IN_MEMORY_DB_NAME,
    NOOP_FEDERATION_ID,
    NodeStatus,
    TaskType,
)
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.interceptors import RpcErrorTranslationServerInterceptor
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

quiet_flower()

_LOG = logging.getLogger("hejin.engine")

TICK: Final = 0.1
"""Longest wait, in seconds, before a question looks whom to ask again."""

TASK_BEAT: Final = 10.0
"""Seconds between signs of life for the run; Flower ends it after 60 without."""


AWAY: Final = 15.0
"""Seconds offline after which a member went away; a node that restarts is back before."""


class EngineError(HejinError):
    """The engine cannot do what was asked in the state it is in."""

    code = "engine"


class RunOpenError(EngineError):
    """A run, or a question of the run, is already going on."""

    code = "engine-busy"


class RunLostError(EngineError):
    """Flower ended the run, or it was closed."""

    code = "engine-run-lost"


@dataclass(slots=True)
class _Request:
    """One member's part of a question and the messages that carry it."""

    member: str
    payload: Payload
    key: str
    node: int = 0
    asked: float = 0.0
    messages: list[str] = field(default_factory=list)


class Engine:
    """Flower in the coordinator: its Fleet service for the server, runs for the bank."""

    def __init__(self, charters: Charters) -> None:
        """Start with no nodes: the state is in memory and disposable by design."""
        self._charters = charters
        objects = ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME)
        self._links = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), objects)
        self._servicer = FleetServicer(self._links, objects, enable_supernode_auth=False)
        state = self._links.state()
        assert isinstance(state, InMemoryLinkState)
        self._state = state
        self._binding = Binding()
        self._arrived, self._leaving = Bell(), Bell()
        self._lock = threading.Lock()
        self._run: EngineRun | None = None

    def interceptors(self) -> list[Interceptor]:
        """Return the server's interceptors for Fleet calls, in order.

        Put trust's PeerInterceptor before them: the last one asks who the TLS peer is.
        They leave calls of other services alone.
        """
        return [
            AllowList(),
            FleetOnly(RpcErrorTranslationServerInterceptor()),
            NodeAuthServerInterceptor(self._links),
            BindingInterceptor(
                self._binding,
                PUBLIC_KEY_HEADER,
                self._forget_node,
                self._arrived,
                self._leaving,
            ),
        ]

    def add_to(self, server: grpc.Server) -> None:
        """Serve Flower's Fleet service on `server`."""
        add_FleetServicer_to_server(self._servicer, server)

    def open_run(self) -> EngineRun:
        """Begin a run; raises RunOpenError while another is open. Close it when done."""
        with self._lock:
            if self._run is not None:
                raise RunOpenError(
                    "A run is already open; one runs at a time. Wait until it ends.",
                    "已有一个训练在运行;同一时间只能运行一个。请等待其结束。",
                )
            self._run = EngineRun(
                self._state,
                self._binding,
                self._charters,
                (self._arrived, self._leaving),
                self.online,
                self._closed,
            )
            return self._run

    def online(self) -> set[str]:
        """Return the admitted members whose newest node is there now; no run need be open."""
        online = self._state.get_node_info(statuses=[NodeStatus.ONLINE])
        alive, nodes = {node.node_id for node in online}, self._binding.nodes()
        admitted = _admitted(self._charters)
        return {member for node, member in nodes.items() if node in alive and member in admitted}

    def _forget_node(self, node: int) -> None:
        """Take a replaced node out of LinkState, which itself keeps every node for ever."""
        state = self._state
        with state.lock:
            info = state.nodes.pop(node, None)
            if info is not None:
                state.node_public_key_to_node_id.pop(info.public_key, None)
                state.owner_to_node_ids[info.owner_aid].discard(node)

    def _closed(self) -> None:
        with self._lock:
            self._run = None


class EngineRun:
    """One Flower run without an app: questions to members, answers as they come."""

    def __init__(
        self,
        state: InMemoryLinkState,
        binding: Binding,
        charters: Charters,
        bells: tuple[Bell, Bell],
        online: Callable[[], set[str]],
        closed: Callable[[], None],
    ) -> None:
        """Use Engine.open_run."""
        self._state, self._binding, self._charters = state, binding, charters
        (self._arrived, self._leaving), self._online, self._on_close = bells, online, closed
        self._run, self._task = _new_run(state)
        # When a member was last online; who has not come since this bank started may yet.
        self._seen: dict[str, float] = {}
        self._asking = threading.Lock()
        self._stop = threading.Event()
        binding.open(self._run)
        self._beat = threading.Thread(target=self._keep_alive, name="hejin-run-beat")
        self._beat.start()

    def __enter__(self) -> EngineRun:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the run."""
        self.close()

    def _keep_alive(self) -> None:
        while not self._stop.wait(TASK_BEAT):
            self._state.acknowledge_task_heartbeat(self._task)

    def online(self) -> set[str]:
        """Return the admitted members whose newest node is there now."""
        return self._online()

    def close(self) -> None:
        """End the run and drop all it left; a second close does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._beat.join()
        self._binding.close()
        self._state.finish_task(self._task, SubStatus.COMPLETED, "")
        self._state.cleanup_run(self._run)
        self._on_close()

    def ask(
        self,
        requests: Mapping[str, Payload],
        *,
        timeout: float,
        reissue_after: float,
        enough: int | None = None,
    ) -> Answers:
        """Send each member its payload; yield (member, answer) in order of arrival.

        timeout         seconds until the iterator ends, whoever is silent by then
        reissue_after   seconds after which a member that took its request and stayed silent,
                        or whose node is another by now, gets it again, and one that True was
                        sent for; Flower itself delivers a message at most once
        enough          answers after which members that went away or were revoked are not waited
                        for, nor those that this run has once waited for in vain; None: everybody
                        is waited for until the timeout
        raises          PayloadError at once; RunOpenError if another question is being
                        asked; RunLostError if the run ended

        At most one answer a member, unless the caller sends True for it: then it is asked once
        more. Answers to earlier questions are dropped. A member that is not there yet gets its
        request when it comes, one that is not admitted never.
        """
        for payload in requests.values():
            check_payload(payload)
        waiting = {
            member: _Request(member, payload, secrets.token_hex(16))
            for member, payload in requests.items()
        }
        return self._answers(waiting, timeout, reissue_after, enough)

    def _answers(
        self,
        waiting: dict[str, _Request],
        timeout: float,
        reissue_after: float,
        enough: int | None,
    ) -> Answers:
        asked = len(waiting)
        if not self._asking.acquire(blocking=False):
            raise RunOpenError(
                "The run is asking another question; finish that one first.",
                "该训练正在进行另一轮询问;请先完成。",
            )
        try:
            deadline = time.monotonic() + timeout
            while waiting and (left := deadline - time.monotonic()) > 0:
                seen = self._arrived.rings
                self._issue(waiting, left, reissue_after)
                for member, payload in self._collect(waiting):
                    request = waiting.pop(member)
                    if (yield member, payload):
                        request.asked = time.monotonic()
                        waiting[member] = request
                away = self._away() | (waiting.keys() - _admitted(self._charters))
                if enough is not None and asked - len(waiting) >= enough and away >= waiting.keys():
                    return
                if waiting:
                    self._arrived.wait(seen, min(left, TICK))
            self._seen.update((member, 0.0) for member in waiting.keys() - self.online())
        finally:
            # Nothing may pile up: the run's messages, objects and push sessions go.
            self._binding.forget()
            self._state.cleanup_run(self._run)
            self._asking.release()

    def _away(self) -> set[str]:
        """Return the members that went away: longer ago than a restart takes."""
        moment = time.monotonic()
        self._seen.update(dict.fromkeys(self.online(), moment))
        return {member for member, at in self._seen.items() if moment - at > AWAY}

    def _issue(self, waiting: dict[str, _Request], left: float, reissue_after: float) -> None:
        admitted, moment, any_left = _admitted(self._charters), time.monotonic(), False
        for request in waiting.values():
            node = self._binding.node_of(request.member)
            if node is None or request.member not in admitted:
                continue
            if node != request.node:
                self._drop(request)
            elif moment - request.asked < reissue_after:
                continue
            elif request.messages and not self._binding.was_pulled(request.messages[-1]):
                continue  # it still waits at the door
            self._send(request, node, left)
            request.node, request.asked, any_left = node, moment, True
        if any_left:
            self._leaving.ring()

    def _send(self, request: _Request, node: int, ttl: float) -> None:
        content = RecordDict({RECORD: ConfigRecord(dict(request.payload))})
        metadata = Metadata(
            run_id=self._run,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=node,
            reply_to_message_id="",
            group_id=request.key,
            created_at=now().timestamp(),
            ttl=ttl,
            message_type=MESSAGE_TYPE,
        )
        message = make_message(metadata=metadata, content=content)
        with no_object_id_recompute():
            identity = message.object_id
            metadata.__dict__["_message_id"] = identity
            objects = get_all_nested_objects(message)
            tree = get_object_tree(message)
        self._binding.sent(identity, request.member, frozenset(objects))
        if not self._store(message, tree, {i: o.deflate for i, o in objects.items()}):
            self._binding.drop(identity)
            return
        request.messages.append(identity)

    def _store(
        self, message: Message, tree: ObjectTree, contents: Mapping[str, Callable[[], bytes]]
    ) -> bool:
        """Put one message and its objects into LinkState; False if its node just left."""
        session = self._state.start_session(self._run)
        stored, missing = self._state.store_message_and_object_tree(
            remove_content_from_message(message), tree, session
        )
        if not stored:
            status = self._state.get_run_status({self._run})[self._run].status
            if status == Status.FINISHED:
                raise RunLostError(
                    "Flower ended this run; was the machine asleep for a minute? Start it again.",
                    "Flower 已结束该训练;机器是否休眠超过一分钟?请重新开始。",
                )
        for identity in missing:
            self._state.store_object(self._run, session, identity, contents[identity]())
        return stored

    def _drop(self, request: _Request) -> None:
        """Take back what a member was sent: it answered, or its node is another."""
        for message in request.messages:
            reply = self._binding.drop(message)
            for root in (message, *reply[:1]):
                self._state.object_store.delete(root)
        self._state.delete_messages(set(request.messages))
        request.messages.clear()

    def _collect(self, waiting: dict[str, _Request]) -> list[tuple[str, Payload]]:
        """Return the answers that are complete now."""
        complete: list[tuple[str, Payload]] = []
        admitted = _admitted(self._charters)
        for request in waiting.values():
            for message in list(request.messages):
                answer = self._answer_to(message, request)
                if answer is not None and request.member in admitted:
                    complete.append((request.member, answer))
                    self._drop(request)
                    break
        return complete

    def _answer_to(self, message: str, request: _Request) -> Payload | None:
        """Return the answer to `message`, None if it is not (all) there, unusable or wrong."""
        reply = self._binding.answer_to(message)
        if not reply:
            return None
        try:
            contents = self._contents(reply) if len(reply) > 1 else []
            if contents is None:
                return None
            payload = open_objects(contents, reply)
            _check_key(payload, request)
        except PayloadError as reason:
            # An error reply (one object) ends here too: the member gets its request again.
            _LOG.warning("answer of %s ignored (%s)", request.member, reason.code)
            self._binding.drop(message)
            request.messages.remove(message)
            return None
        return payload

    def _contents(self, objects: Sequence[str]) -> list[bytes] | None:
        """Return the objects' bytes, None until all are there."""
        contents = [self._state.get_object(self._run, identity) or b"" for identity in objects]
        return contents if all(contents) else None


def _admitted(charters: Charters) -> set[str]:
    return {m.id for m in charters.current().members if m.role == "node" and m.admitted}


def _check_key(payload: Payload, request: _Request) -> None:
    """Take the request's key out of an answer; raise PayloadError if it is another's."""
    if payload.pop(REQUEST, b"") != request.key.encode():
        raise PayloadError(
            "An answer is to another request; it was ignored.", "一条应答对应另一请求,已忽略。"
        )


def _new_run(state: InMemoryLinkState) -> tuple[int, int]:
    """Create and start a run with no app bundle; return (run id, task id)."""
    run = state.create_run(
        fab_id=None,
        fab_version=None,
        fab_hash=None,
        override_config={},
        federation_id=NOOP_FEDERATION_ID,
        federation_config=None,
        flwr_aid=NOOP_FLWR_AID,
        primary_task_type=TaskType.SERVER_APP,
    )
    task = state.get_run_info(run_ids=[run])[0].primary_task_id if run else None
    if task is None or not state.claim_task(task) or not state.activate_task(task):
        raise RunLostError(
            "Flower did not start a run; restart the coordinator.",
            "Flower 未能启动训练;请重启协调端。",
        )
    return run, task
