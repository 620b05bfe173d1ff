"""Which Flower node belongs to which member, and what that member may say about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Final

import grpc

from hejin_trust.errors import HejinError
from hejin_trust.fleet import MAX_PAYLOAD

ALLOWED_METHODS: Final = frozenset(
    {
        "RegisterNode",
        "ActivateNode",
        "DeactivateNode",
        "SendNodeHeartbeat",
        "PullMessages",
        "PullObject",
        "PushMessages",
        "PushObject",
    }
)
"""All that our nodes call. Everything else is denied, first of all GetFab (code) and
UnregisterNode (which crashes in Flower 1.41 for a node that was never activated)."""

TREE: Final = 3
"""Objects in one message: Message -> RecordDict -> ConfigRecord."""

MAX_HEAD: Final = 16 << 10
"""Most bytes in any call but PushObject; a PushMessages head has about 700."""

MAX_OBJECT: Final = MAX_PAYLOAD + MAX_HEAD
"""Most bytes in one object: a payload and its headers."""

CALLS_A_SECOND: Final = 400.0
"""A member's call rate. A node makes 8 calls a round and 50 polls a second."""

REGISTRATIONS_A_SECOND: Final = 0.2
"""A member's rate of new node identities: one a process start or coordinator restart."""

BURST: Final = 10.0
"""Registrations at once; for calls, two seconds' worth."""

CONCURRENT: Final = 6
"""A member's calls at the same time; a node makes at most two."""


class FleetRefusedError(HejinError):
    """A Fleet call is refused; `status` is what the peer sees."""

    code = "fleet-refused"
    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.PERMISSION_DENIED


class MethodDeniedError(FleetRefusedError):
    """The Fleet method is not one that a Hejin node needs."""

    code = "fleet-method-denied"

    def __init__(self) -> None:
        super().__init__(
            "This Fleet method is not served here; use a Hejin node.",
            "此处不提供该 Fleet 方法;请使用合金节点。",
        )


class NotYoursError(FleetRefusedError):
    """The call names something that belongs to another member."""

    code = "fleet-not-yours"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The {what} in this call is not this member's; use your own node's.",
            f"此调用中的 {what} 不属于该成员;请使用本节点自己的标识。",
        )


class UnknownNodeError(FleetRefusedError):
    """The member has no node, or a newer one than the caller: it must register again."""

    code = "fleet-unknown-node"
    status = grpc.StatusCode.UNAUTHENTICATED

    def __init__(self) -> None:
        # Flower's own words, so that a node needs to know one sentence.
        super().__init__("Invalid node ID", "节点编号无效,请重新注册。")


class NotAwaitedError(FleetRefusedError):
    """The answer is to no open request: it is late, repeated or invented."""

    code = "fleet-not-awaited"
    status = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self) -> None:
        super().__init__(
            "This answer is not awaited: the request is over or was answered. Drop it.",
            "该应答已不再需要:请求已结束或已应答。请丢弃。",
        )


class QuotaExceededError(FleetRefusedError):
    """The member calls too often, or with too much."""

    code = "fleet-quota"
    status = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, what: str) -> None:
        super().__init__(
            f"This member's quota of {what} is used up; wait and try again.",
            f"该成员的 {what} 配额已用完;请稍后再试。",
        )


@dataclass(frozen=True, slots=True)
class FleetCall:
    """One Fleet request, reduced to what it claims.

    key        Flower public key (PEM) that signed the call
    keys       public keys named in the body
    nodes      node ids named in the body, `src_node_id` of every message among them
    runs       run ids named in the body
    answers    per message: (message id, id of the request it answers, object tree root first)
    objects    object ids named outside of trees
    size       bytes of the request
    """

    method: str
    key: bytes
    size: int
    keys: tuple[bytes, ...] = ()
    nodes: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()
    answers: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    objects: tuple[str, ...] = ()


@dataclass(slots=True)
class _Bucket:
    """A token bucket: `rate` a second, at most `burst` saved up."""

    rate: float
    burst: float
    level: float
    at: float

    def take(self, now: float) -> bool:
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


@dataclass(slots=True)
class _Sent:
    """A request on its way: the member's objects of it, and what became of it."""

    member: str
    objects: frozenset[str]
    pulled: bool = False
    answer: tuple[str, ...] = ()


@dataclass(slots=True)
class _Peer:
    """What is known of one member; `node` 0 is none."""

    calls: _Bucket
    registrations: _Bucket
    node: int = 0
    key: bytes = b""
    active: bool = False
    running: int = 0
    pushes: set[str] = field(default_factory=set)


class Binding:
    """Thread-safe map of member -> newest node, and the checks that follow from it.

    Decides only; `engine` turns gRPC calls into `FleetCall`s and refusals into statuses.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._peers: dict[str, _Peer] = {}
        self._sent: dict[str, _Sent] = {}
        self._run: int | None = None

    # What a member may do

    @contextmanager
    def call(self, member: str, call: FleetCall) -> Iterator[None]:
        """Hold one of the member's places while its call runs; raise FleetRefusedError first.

        Everything the call names must be this member's: see the module and FleetCall.
        """
        with self._lock:
            peer = self._peer(member)
            self._check_quota(peer, call)
            self._check_identity(member, peer, call)
            self._check_content(member, peer, call)
            peer.running += 1
        try:
            yield
        finally:
            with self._lock:
                peer.running -= 1

    def _peer(self, member: str) -> _Peer:
        found = self._peers.get(member)
        if found is None:
            now = self._clock()
            found = self._peers[member] = _Peer(
                _Bucket(CALLS_A_SECOND, 2 * CALLS_A_SECOND, 2 * CALLS_A_SECOND, now),
                _Bucket(REGISTRATIONS_A_SECOND, BURST, BURST, now),
            )
        return found

    def _check_quota(self, peer: _Peer, call: FleetCall) -> None:
        if call.method not in ALLOWED_METHODS:
            raise MethodDeniedError
        now = self._clock()
        if not peer.calls.take(now):
            raise QuotaExceededError("calls a second")
        if call.method == "RegisterNode" and not peer.registrations.take(now):
            raise QuotaExceededError("registrations")
        if peer.running >= CONCURRENT:
            raise QuotaExceededError("calls at the same time")
        if call.size > (MAX_OBJECT if call.method == "PushObject" else MAX_HEAD):
            raise QuotaExceededError("bytes in one call")

    def _check_identity(self, member: str, peer: _Peer, call: FleetCall) -> None:
        for other, known in self._peers.items():
            if other != member and known.key and known.key == call.key:
                raise NotYoursError("Flower key")
        if any(key != call.key for key in call.keys):
            raise NotYoursError("Flower key")
        if call.method == "RegisterNode":
            return
        if not peer.node or call.key != peer.key:
            raise UnknownNodeError
        # An Activate has only its key; all others must name their node, and no other.
        if call.method != "ActivateNode" and not call.nodes:
            raise NotYoursError("node id")
        if any(node != peer.node for node in call.nodes):
            raise NotYoursError("node id")

    def _check_content(self, member: str, peer: _Peer, call: FleetCall) -> None:
        if any(run != self._run for run in call.runs):
            raise NotYoursError("run id")
        if call.method == "PullObject":
            mine = [s.objects for s in self._sent.values() if s.member == member]
            if not all(any(o in objects for objects in mine) for o in call.objects):
                raise NotYoursError("object id")
        if call.method == "PushObject" and not peer.pushes.issuperset(call.objects):
            raise NotYoursError("object id")
        if call.method == "PushMessages":
            self._check_answers(member, peer, call)

    def _check_answers(self, member: str, peer: _Peer, call: FleetCall) -> None:
        if len(call.answers) != 1:
            raise QuotaExceededError("messages in one call")
        [(message, request, tree)] = call.answers
        sent = self._sent.get(request)
        if sent is not None and sent.member != member:
            raise NotYoursError("request id")
        if sent is None or sent.answer:
            raise NotAwaitedError
        # An error reply is one object; content is exactly three.
        if len(tree) not in (1, TREE) or len(set(tree)) != len(tree) or tree[0] != message:
            raise NotYoursError("object tree")
        # Objects are content-addressed and shared: naming another member's object would
        # hand in its answer without knowing it.
        taken = [p.pushes for name, p in self._peers.items() if name != member]
        taken += [set(s.objects) for s in self._sent.values()]
        if any(o in objects for objects in taken for o in tree):
            raise NotYoursError("object id")
        sent.answer = tree
        peer.pushes.update(tree)

    # What happened to the member's node

    def registered(self, member: str, node: int, key: bytes) -> int:
        """Bind `member` to a new node; return the id of the one it replaces, or 0."""
        with self._lock:
            peer = self._peer(member)
            old, peer.node, peer.key, peer.active = peer.node, node, key, False
            return old

    def activated(self, member: str, active: bool) -> None:
        """Note that the member's node asked to be given messages, or to get no more."""
        with self._lock:
            self._peer(member).active = active

    # What the coordinator sends

    def open(self, run: int) -> None:
        """Let calls name `run`, and no other."""
        with self._lock:
            self._run = run

    def close(self) -> None:
        """Let calls name no run."""
        self.forget()
        with self._lock:
            self._run = None

    def is_open(self) -> bool:
        """Return whether a run is open."""
        with self._lock:
            return self._run is not None

    def node_of(self, member: str) -> int | None:
        """Return the member's newest node id if it is active, else None."""
        with self._lock:
            peer = self._peers.get(member)
            return peer.node if peer is not None and peer.active else None

    def nodes(self) -> Mapping[int, str]:
        """Return node id -> member for every active node."""
        with self._lock:
            return {p.node: member for member, p in self._peers.items() if p.active}

    def sent(self, message: str, member: str, objects: frozenset[str]) -> None:
        """Let `member` pull `objects` and answer `message`. Call before it can be pulled."""
        with self._lock:
            self._sent[message] = _Sent(member, objects)

    def pulled(self, message: str) -> None:
        """Note that `message` left; Flower will not deliver it again."""
        with self._lock:
            if message in self._sent:
                self._sent[message].pulled = True

    def was_pulled(self, message: str) -> bool:
        """Return whether `message` left."""
        with self._lock:
            return message in self._sent and self._sent[message].pulled

    def has_mail(self, member: str) -> bool:
        """Return whether a request for `member` waits to be pulled."""
        with self._lock:
            return any(s.member == member and not s.pulled for s in self._sent.values())

    def answer_to(self, message: str) -> tuple[str, ...]:
        """Return the object ids of the answer to `message`, root first; () if none came."""
        with self._lock:
            sent = self._sent.get(message)
            return sent.answer if sent else ()

    def drop(self, message: str) -> tuple[str, ...]:
        """Expect no answer to `message` any more; return what `answer_to` did."""
        with self._lock:
            sent = self._sent.pop(message, None)
            return sent.answer if sent else ()

    def forget(self) -> None:
        """Expect no answers and no objects any more: the question is over."""
        with self._lock:
            self._sent.clear()
            for peer in self._peers.values():
                peer.pushes.clear()
