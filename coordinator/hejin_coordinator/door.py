"""The gRPC interceptors around Flower's Fleet service: what gets in, and in whose name."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeAlias

import grpc

from hejin_coordinator.binding import (
    ALLOWED_METHODS,
    Binding,
    FleetCall,
    FleetRefusedError,
    MethodDeniedError,
    UnknownNodeError,
)
from hejin_trust.channels import peer_of

_LOG = logging.getLogger("hejin.engine")

FLEET: Final = "/flwr.proto.Fleet/"

HOLD: Final = 0.25
"""Seconds a node's pull may wait for a request while a run is open. A node then polls 4
times a second rather than 50 and still gets a request at once."""

HOLDERS: Final = 40
"""Pulls that may wait at the same time; each takes one of the server's threads (64), and the
rest must do for everything else. Nodes beyond it poll."""

TOLD_EVERY: Final = 60.0
"""Seconds between log lines about the same refusal of the same member."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Interceptor: TypeAlias = "grpc.ServerInterceptor[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Handler | None]"


class Bell:
    """Wakes waiting threads; a ring between looking and waiting is not lost."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.rings = 0

    def ring(self) -> None:
        """Wake everyone who waits."""
        with self._changed:
            self.rings += 1
            self._changed.notify_all()

    def wait(self, seen: int, seconds: float) -> None:
        """Return after a ring later than number `seen`, or after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self.rings != seen, seconds)


class _Told:
    """Logs a member's refusals of one kind once a minute, so that a flood of calls is none here."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}

    def tell(self, member: str, method: str, refusal: FleetRefusedError) -> None:
        now, what = time.monotonic(), (member, refusal.code)
        if now - self._last.get(what, -TOLD_EVERY) >= TOLD_EVERY:
            self._last[what] = now
            _LOG.warning("%s of %s refused (%s)", method, member, refusal.code)


_TOLD = _Told()


def _refuse(
    member: str, method: str, refusal: FleetRefusedError, context: grpc.ServicerContext
) -> NoReturn:
    _TOLD.tell(member, method, refusal)
    context.abort(refusal.status, str(refusal))


def _denied(method: str, refusal: FleetRefusedError) -> Handler:
    def deny(_request: bytes, context: grpc.ServicerContext) -> NoReturn:
        _refuse(peer_of(context).id, method, refusal, context)

    return grpc.unary_unary_rpc_method_handler(deny)


class AllowList(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Denies every Fleet method that a Hejin node does not need, before anything is parsed.

    Outermost, because Flower's node auth raises on unknown methods and on keys that are
    no keys.
    """

    def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Let allowed Fleet methods and all other services through."""
        if not details.method.startswith("/flwr."):
            return continuation(details)
        method = details.method.removeprefix(FLEET)
        if method not in ALLOWED_METHODS:
            return _denied("a denied method", MethodDeniedError())
        try:
            return continuation(details)
        except (ValueError, TypeError, AttributeError):
            # Flower's node auth on a key, signature or time that does not even parse.
            return _denied(method, UnknownNodeError())


class FleetOnly(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Lets another interceptor see Fleet calls alone."""

    def __init__(self, inner: Interceptor) -> None:
        self._inner = inner

    def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Ask the inner interceptor about Fleet calls."""
        if not details.method.startswith(FLEET):
            return continuation(details)
        return self._inner.intercept_service(continuation, details)


class BindingInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Binds every Fleet call to the TLS peer. Last of all: it needs the parsed request."""

    def __init__(
        self,
        binding: Binding,
        key_header: str,
        forget_node: Callable[[int], None],
        arrived: Bell,
        leaving: Bell,
    ) -> None:
        """Wrap the handlers.

        key_header    metadata key of the Flower public key that signed the call
        forget_node   called with the id of a node that a newer one replaced
        arrived       rung when a node came, or something from one
        leaving       rung by the engine when a request was put out for a node
        """
        self._binding, self._key_header, self._forget_node = binding, key_header, forget_node
        self._arrived, self._leaving = arrived, leaving
        self._places = threading.BoundedSemaphore(HOLDERS)

    def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Check the call against its peer, then let Flower handle it."""
        handler = continuation(details)
        if handler is None or not details.method.startswith(FLEET):
            return handler
        method, inner = details.method.removeprefix(FLEET), handler.unary_unary
        assert inner is not None, "every Fleet method takes one message and returns one"

        # The messages are protobuf classes of Flower's; _describe says what is read of them.
        def bound(request: Any, context: grpc.ServicerContext) -> Any:
            member = peer_of(context).id
            key = dict(context.invocation_metadata())[self._key_header]
            assert isinstance(key, bytes), "its name ends in -bin"
            try:
                with self._binding.call(member, describe(method, request, key)):
                    if method == "PullMessages":
                        self._hold(member)
                    response = inner(request, context)
                    self._note(method, member, request, response)
                    return response
            except FleetRefusedError as refusal:
                _refuse(member, method, refusal, context)

        return grpc.unary_unary_rpc_method_handler(
            bound, handler.request_deserializer, handler.response_serializer
        )

    def _hold(self, member: str) -> None:
        """Wait a little for a request to `member`, so that it need not ask again and again."""
        until = time.monotonic() + HOLD
        if not self._places.acquire(blocking=False):
            return
        try:
            while (left := until - time.monotonic()) > 0:
                seen = self._leaving.rings
                if not self._binding.is_open() or self._binding.has_mail(member):
                    return
                self._leaving.wait(seen, left)
        finally:
            self._places.release()

    def _note(self, method: str, member: str, request: Any, response: Any) -> None:
        if method == "RegisterNode":
            old = self._binding.registered(member, response.node_id, request.public_key)
            if old:
                _LOG.info("%s has a new node", member)
                self._forget_node(old)
        elif method in ("ActivateNode", "DeactivateNode"):
            self._binding.activated(member, method == "ActivateNode")
        elif method == "PullMessages":
            for message in response.messages_list:
                self._binding.pulled(message.metadata.message_id)
            return
        if method not in ("PullObject", "SendNodeHeartbeat"):
            self._arrived.ring()


def describe(method: str, request: Any, key: bytes) -> FleetCall:
    """Return what a Fleet request claims; `request` is a message of flwr's fleet.proto."""
    size = request.ByteSize()
    if method in ("RegisterNode", "ActivateNode"):
        return FleetCall(method, key, size, keys=(request.public_key,))
    if method == "DeactivateNode":
        return FleetCall(method, key, size, nodes=(request.node_id,))
    if method in ("PullObject", "PushObject"):
        return FleetCall(
            method,
            key,
            size,
            nodes=(request.node.node_id,),
            runs=(request.run_id,),
            objects=(request.object_id,),
        )
    if method == "PushMessages":
        heads = [message.metadata for message in request.messages_list]
        trees = [tuple(_flat(tree)) for tree in request.message_object_trees]
        return FleetCall(
            method,
            key,
            size,
            nodes=(request.node.node_id, *(head.src_node_id for head in heads)),
            runs=tuple(head.run_id for head in heads),
            answers=tuple(
                (head.message_id, head.reply_to_message_id, tree)
                for head, tree in zip(heads, trees, strict=False)
            )
            if len(heads) == len(trees)
            else (),
        )
    return FleetCall(method, key, size, nodes=(request.node.node_id,))


def _flat(tree: Any) -> list[str]:
    """Return the object ids of a tree from the root down; protobuf limits depth to 100."""
    ids = [tree.object_id]
    for child in tree.children:
        ids += _flat(child)
    return ids
