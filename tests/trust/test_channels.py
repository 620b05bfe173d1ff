"""Channels: real mutual TLS on loopback; who gets through, and how refusals travel."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest

from hejin.v1 import charter_pb2, charter_pb2_grpc
from hejin_trust import certificates, channels
from hejin_trust.channels import (
    MOST_CALLS,
    NoPeerError,
    PeerInterceptor,
    PeerRefused,
    PeerUnreachable,
    PortTakenError,
    as_peer,
    asking,
    bind,
    dial,
    fetch_charter,
    peer_of,
    refusals,
    server,
    server_credentials,
)
from hejin_trust.charter import CharterError, NotAMemberError
from hejin_trust.errors import RefusedError
from hejin_trust.keys import new_tls_key

METHOD = "/hejin.v1.CharterService/GetCharter"
NODES = {"/hejin.v1.CharterService/": frozenset({"node"})}


class OverBudgetError(RefusedError):
    code = "over-budget"


class Servicer(charter_pb2_grpc.CharterServiceServicer):
    """Answers with its caller's name, or raises what it was told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failure: Exception | None = None

    def GetCharter(self, request: Any, context: grpc.ServicerContext) -> Any:
        with refusals(context):
            if self.failure is not None:
                raise self.failure
            self.calls.append(peer_of(context).id)
            return charter_pb2.GetCharterResponse(envelope=peer_of(context).id.encode())


class Door:
    """A bank's server in this process, on a free port, with a movable clock and charter."""

    def __init__(
        self, house: Any, roles: Any, *inner: grpc.ServerInterceptor, threads: int = 4
    ) -> None:
        self.house, self.servicer = house, Servicer()
        self.now: datetime = house.now
        self.charter_error: CharterError | None = None
        bank = house.people["bank-a"]
        self.server = server([PeerInterceptor(self, roles, lambda: self.now), *inner], threads)
        charter_pb2_grpc.add_CharterServiceServicer_to_server(self.servicer, self.server)
        credentials = server_credentials(bank.tls_key, bank.certificate.encode(), house.authority)
        self.port = bind(self.server, "127.0.0.1:0", credentials)
        self.server.start()
        self.channels: list[grpc.Channel] = []

    def current(self) -> Any:
        if self.charter_error is not None:
            raise self.charter_error
        return self.house.charter

    def dial(self, name: str, **changes: Any) -> grpc.Channel:
        """Return a channel from `name` to the bank."""
        person = self.house.people[name]
        values: dict[str, Any] = {
            "address": f"127.0.0.1:{self.port}",
            "expected": self.house.people["bank-a"].member,
            "charters": self.house.charter,
            "key_pem": person.tls_key,
            "certificate_pem": person.certificate.encode(),
        }
        channel = dial(**{**values, **changes})
        self.channels.append(channel)
        return channel

    def ask(self, name: str, **changes: Any) -> str:
        """Return whom the bank takes `name` for."""
        return fetch_charter(self.dial(name, **changes), "bank-a", 5.0).decode()

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.server.stop(0).wait()


@pytest.fixture
def open_door(house: Any) -> Iterator[Callable[..., Door]]:
    doors: list[Door] = []

    def make(roles: Any = NODES, *inner: grpc.ServerInterceptor, threads: int = 4) -> Door:
        doors.append(Door(house, roles, *inner, threads=threads))
        return doors[-1]

    yield make
    for door in doors:
        door.close()


def test_an_admitted_member_is_known_by_name(open_door: Callable[..., Door]) -> None:
    door = open_door()
    assert door.ask("node-a") == "node-a"
    assert door.ask("node-b") == "node-b"


def test_one_connection_serves_many_calls(open_door: Callable[..., Door]) -> None:
    door = open_door()
    channel = door.dial("node-a")
    assert {fetch_charter(channel, "bank-a", 5.0) for _ in range(20)} == {b"node-a"}


def test_revocation_ends_an_open_connections_calls(
    house: Any, open_door: Callable[..., Door]
) -> None:
    door = open_door()
    channel = door.dial("node-a")
    fetch_charter(channel, "bank-a", 5.0)
    house.revoke("node-a")
    with pytest.raises(PeerRefused, match="not admitted") as caught:
        fetch_charter(channel, "bank-a", 5.0)
    assert caught.value.peer_code == "no-peer"
    assert "未获" in caught.value.text.zh
    assert door.servicer.calls == ["node-a"]


def test_expiry_ends_an_open_connections_calls(house: Any, open_door: Callable[..., Door]) -> None:
    door = open_door()
    channel = door.dial("node-a")
    fetch_charter(channel, "bank-a", 5.0)
    door.now = house.now + timedelta(days=366)
    with pytest.raises(PeerRefused, match="expired") as caught:
        fetch_charter(channel, "bank-a", 5.0)
    assert caught.value.peer_code == "bad-certificate"
    door.now = house.now - timedelta(hours=1)
    with pytest.raises(PeerRefused, match="clock"):
        fetch_charter(channel, "bank-a", 5.0)


def test_a_certificate_expired_at_the_start_does_not_even_connect(
    house: Any, open_door: Callable[..., Door]
) -> None:
    house.now -= timedelta(days=2)
    house.enrol("node-c", "node", lifetime=timedelta(days=1))
    house.now += timedelta(days=2)
    with pytest.raises(PeerUnreachable):
        open_door().ask("node-c")


def test_another_role_is_denied(open_door: Callable[..., Door]) -> None:
    door = open_door()
    for name in ("bank-a", "regulator"):
        with pytest.raises(PeerRefused, match="may not call") as caught:
            door.ask(name)
        assert caught.value.peer_code == "not-allowed"
    assert door.servicer.calls == []


def test_the_longest_prefix_decides_and_unlisted_methods_are_denied(
    open_door: Callable[..., Door],
) -> None:
    everyone = frozenset({"node", "bank"})
    narrow = open_door({"/hejin.v1.": everyone, METHOD: frozenset({"bank"})})
    assert narrow.ask("bank-a") == "bank-a"
    with pytest.raises(PeerRefused, match="may not call"):
        narrow.ask("node-a")
    with pytest.raises(PeerRefused, match="may not call"):
        open_door({"/flwr.": everyone}).ask("node-a")


def test_a_certificate_the_charter_does_not_name_is_denied(
    house: Any, open_door: Callable[..., Door]
) -> None:
    key = new_tls_key()
    second = house.certify("node-a", "node", key).encode()
    with pytest.raises(PeerRefused, match="not admitted"):
        open_door().ask("node-a", key_pem=key, certificate_pem=second)


def test_a_stranger_does_not_connect(
    house: Any, make_house: Callable[[], Any], open_door: Callable[..., Door]
) -> None:
    stranger = make_house().people["node-a"]
    with pytest.raises(PeerUnreachable):
        open_door().ask(
            "node-a", key_pem=stranger.tls_key, certificate_pem=stranger.certificate.encode()
        )


def test_nobody_connects_without_a_certificate_or_without_tls(
    house: Any, open_door: Callable[..., Door]
) -> None:
    door = open_door()
    address = f"127.0.0.1:{door.port}"
    options = [("grpc.ssl_target_name_override", "bank-a.hebei.hejin")]
    credentials = grpc.ssl_channel_credentials(house.authority.encode())
    bare = grpc.secure_channel(address, credentials, options)
    plain = grpc.insecure_channel(address)
    for channel in (bare, plain):
        with pytest.raises(PeerUnreachable):
            fetch_charter(channel, "bank-a", 3.0)
        channel.close()
    assert door.servicer.calls == []


def test_a_server_with_another_members_certificate_is_not_talked_to(
    house: Any, open_door: Callable[..., Door]
) -> None:
    door = open_door()
    house.enrol("bank-b", "bank")
    expected = house.people["bank-b"].member
    with pytest.raises(PeerUnreachable):
        door.ask("node-a", expected=expected, charters=house.charter)
    assert door.servicer.calls == []


def test_a_node_certificate_cannot_serve(house: Any) -> None:
    node = house.people["node-a"]
    listening = server([], 2)
    credentials = server_credentials(node.tls_key, node.certificate.encode(), house.authority)
    port = bind(listening, "127.0.0.1:0", credentials)
    listening.start()
    channel = dial(
        f"127.0.0.1:{port}", node.member, house.charter, node.tls_key, node.certificate.encode()
    )
    with pytest.raises(PeerUnreachable):
        fetch_charter(channel, "node-a", 3.0)
    channel.close()
    listening.stop(0).wait()


def test_the_caller_too_asks_the_charter_before_each_call(
    house: Any, open_door: Callable[..., Door]
) -> None:
    door = open_door()
    channel = door.dial("node-a", charters=door)
    fetch_charter(channel, "bank-a", 5.0)
    house.revoke("bank-a")
    with pytest.raises(NotAMemberError, match="revoked"):
        fetch_charter(channel, "bank-a", 5.0)
    with pytest.raises(NotAMemberError, match="revoked"):
        door.dial("node-a", charters=house.charter)
    assert door.servicer.calls == ["node-a"]


def test_without_a_charter_nobody_is_served(open_door: Callable[..., Door]) -> None:
    door = open_door()
    door.charter_error = CharterError("the charter is refused", "章程被拒绝")
    with pytest.raises(PeerRefused, match="charter") as caught:
        door.ask("node-a")
    assert caught.value.peer_code == "bad-charter"


def test_a_refusal_travels_with_its_code_and_both_languages(
    open_door: Callable[..., Door],
) -> None:
    door = open_door()
    door.servicer.failure = OverBudgetError("only 0.1 is left; ask for less", "仅余 0.1；请减少")
    channel = door.dial("node-a")
    with pytest.raises(PeerRefused) as caught:
        fetch_charter(channel, "bank-a", 5.0)
    assert caught.value.peer_code == "over-budget"
    assert caught.value.text.en == "bank-a refuses: only 0.1 is left; ask for less"
    assert caught.value.text.zh == "bank-a 拒绝：仅余 0.1；请减少"
    cause = caught.value.__cause__
    assert isinstance(cause, grpc.RpcError)
    assert cause.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_an_unforeseen_error_is_no_refusal(open_door: Callable[..., Door]) -> None:
    door = open_door()
    door.servicer.failure = ZeroDivisionError("secret of the bank")
    with pytest.raises(PeerUnreachable) as caught:
        door.ask("node-a")
    assert "secret" not in str(caught.value)


def test_a_long_or_rude_reason_is_cut_and_cleaned(open_door: Callable[..., Door]) -> None:
    door = open_door()
    door.servicer.failure = OverBudgetError("a\x1b[2J" + "x" * 5000, "请" * 5000)
    with pytest.raises(PeerRefused) as caught:
        door.ask("node-a")
    assert caught.value.text.en.isprintable()
    assert max(len(caught.value.text.en), len(caught.value.text.zh)) < 700


class Recorder(grpc.ServerInterceptor):
    """Another author's interceptor: replaces the handler and asks who calls."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        if handler is None:
            return None

        def wrapped(request: Any, context: grpc.ServicerContext) -> Any:
            self.seen.append(peer_of(context).id)
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            wrapped, handler.request_deserializer, handler.response_serializer
        )


def test_inner_interceptors_know_the_peer_and_only_see_checked_calls(
    house: Any, open_door: Callable[..., Door]
) -> None:
    first, second = Recorder(), Recorder()
    door = open_door(NODES, first, second)
    assert door.ask("node-b") == "node-b"
    with pytest.raises(PeerRefused):
        door.ask("bank-a")
    assert first.seen == second.seen == ["node-b"]


class Terminator(grpc.ServerInterceptor):
    """Like Flower's node auth: answers by itself, with a handler that has no deserializer."""

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        def terminate(_: Any, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid node ID")

        return grpc.unary_unary_rpc_method_handler(terminate)


def test_an_inner_interceptor_may_end_the_call_itself(open_door: Callable[..., Door]) -> None:
    with pytest.raises(PeerRefused, match="Invalid node ID") as caught:
        open_door(NODES, Terminator()).ask("node-a")
    assert caught.value.peer_code == "refused"


def test_unknown_methods_and_streams_are_not_served(open_door: Callable[..., Door]) -> None:
    class Streams(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            if handler_call_details.method.endswith("/Stream"):
                return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([b"x"]))
            return None

    door = open_door()
    door.server.add_generic_rpc_handlers((Streams(),))
    channel = door.dial("node-a")
    for method in ("/hejin.v1.CharterService/Stream", "/hejin.v1.CharterService/None"):
        call = channel.unary_unary(method)
        with pytest.raises(PeerRefused) as caught, asking("bank-a"):
            call(b"", timeout=5.0)
        cause = caught.value.__cause__
        assert isinstance(cause, grpc.RpcError)
        assert cause.code() is grpc.StatusCode.UNIMPLEMENTED


def test_messages_of_many_megabytes_pass_and_larger_ones_do_not(
    monkeypatch: pytest.MonkeyPatch, open_door: Callable[..., Door]
) -> None:
    door = open_door()
    channel = door.dial("node-a")
    call = channel.unary_unary(METHOD, response_deserializer=bytes)
    field = b"\x12" + _varint(32 << 20) + bytes(32 << 20)  # an unknown field of the request
    assert call(field, timeout=30.0)
    over = channels.LARGEST_MESSAGE
    field = b"\x12" + _varint(over) + bytes(over)
    with pytest.raises(PeerRefused), asking("bank-a"):
        call(field, timeout=30.0)


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


class Half:
    """Calls of a member that end when they are told to, and bring no message before."""

    def __init__(self, door: Door, name: str, calls: int) -> None:
        self._go = threading.Event()
        self.calls = [
            door.dial(name).stream_unary(METHOD).future(self._message(), timeout=30.0)
            for _ in range(calls)
        ]

    def _message(self) -> Iterator[bytes]:
        self._go.wait(30.0)
        yield b""

    def wait(self) -> None:
        """Wait until all are told that they are too many but `MOST_CALLS`, which wait on."""
        until(lambda: sum(call.done() for call in self.calls) == len(self.calls) - MOST_CALLS)

    def finish(self) -> None:
        self._go.set()


def test_calls_that_bring_no_message_keep_nobody_else_waiting(
    open_door: Callable[..., Door],
) -> None:
    door = open_door(threads=MOST_CALLS + 2)
    honest = door.dial("node-b")
    half = Half(door, "node-a", 3 * MOST_CALLS)
    try:
        half.wait()
        for _ in range(20):
            assert fetch_charter(honest, "bank-a", 2.0) == b"node-b"
        with pytest.raises(PeerUnreachable, match=f"{MOST_CALLS} calls under way") as caught:
            door.ask("node-a")
        assert "上限" in caught.value.text.zh
    finally:
        half.finish()
    until(lambda: all(call.done() for call in half.calls))
    assert sum(call.code() is grpc.StatusCode.OK for call in half.calls) == MOST_CALLS
    # Their share is given back.
    for _ in range(2 * MOST_CALLS):
        assert door.ask("node-a") == "node-a"


def test_calls_that_their_caller_gave_up_hold_nothing(open_door: Callable[..., Door]) -> None:
    door = open_door(threads=MOST_CALLS + 2)
    half = Half(door, "node-a", MOST_CALLS + 1)
    half.wait()
    for call in half.calls:
        call.cancel()
    half.finish()
    until(lambda: _is_served(door, "node-a"))


def _is_served(door: Door, name: str) -> bool:
    try:
        return door.ask(name) == name
    except PeerUnreachable:
        return False


def test_a_revoked_member_is_not_even_listened_to(
    house: Any, open_door: Callable[..., Door]
) -> None:
    door = open_door()
    house.revoke("node-a")
    half = Half(door, "node-a", 20)
    for call in half.calls:
        with pytest.raises(PeerRefused, match="not admitted"), asking("bank-a"):
            call.result()
    half.finish()


def test_a_member_that_is_revoked_while_its_message_is_awaited_is_not_served(
    house: Any, open_door: Callable[..., Door]
) -> None:
    door = open_door(threads=MOST_CALLS + 2)
    half = Half(door, "node-a", MOST_CALLS + 1)
    half.wait()
    waiting = [call for call in half.calls if not call.done()]
    house.revoke("node-a")
    half.finish()
    for call in waiting:
        with pytest.raises(PeerRefused, match="not admitted"), asking("bank-a"):
            call.result()
    assert door.servicer.calls == []


def test_a_call_without_a_message_is_ended(open_door: Callable[..., Door]) -> None:
    call = open_door().dial("node-a").stream_unary(METHOD)
    with pytest.raises(PeerRefused, match="no message"), asking("bank-a"):
        call(iter(()), timeout=5.0)


def test_a_connection_ends_with_its_age_and_calls_go_on_over_another(
    monkeypatch: pytest.MonkeyPatch, open_door: Callable[..., Door]
) -> None:
    aged = [
        (name, {"grpc.max_connection_age_ms": 500, "grpc.max_connection_age_grace_ms": 500}[name])
        if name.startswith("grpc.max_connection_age")
        else (name, value)
        for name, value in channels._SERVER_OPTIONS
    ]
    monkeypatch.setattr(channels, "_SERVER_OPTIONS", aged)
    door = open_door(threads=MOST_CALLS + 2)
    channel = door.dial("node-b")
    half = Half(door, "node-a", 1)
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        assert fetch_charter(channel, "bank-a", 5.0) == b"node-b"
    # What never brought its message ended with its connection.
    assert half.calls[0].code() is grpc.StatusCode.UNAVAILABLE
    half.finish()


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.01)


def test_a_second_server_on_the_port_is_told_so(house: Any, open_door: Callable[..., Door]) -> None:
    door = open_door()
    bank = house.people["bank-a"]
    second = server([], 1)
    credentials = server_credentials(bank.tls_key, bank.certificate.encode(), house.authority)
    for address in (f"127.0.0.1:{door.port}", "192.0.2.1:1", "no.such.host.invalid:1"):
        with pytest.raises(PortTakenError, match="cannot listen"):
            bind(second, address, credentials)
    second.stop(0).wait()


def test_nobody_home_is_unreachable(house: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    node, bank = house.people["node-a"], house.people["bank-a"]
    channel = dial(
        f"127.0.0.1:{port}", bank.member, house.charter, node.tls_key, node.certificate.encode()
    )
    with pytest.raises(PeerUnreachable, match="check its address"):
        fetch_charter(channel, "bank-a", 2.0)
    channel.close()


def test_the_peer_is_unknown_where_nobody_checked(
    house: Any, open_door: Callable[..., Door]
) -> None:
    context: Any = object()
    with pytest.raises(NoPeerError, match="PeerInterceptor first"):
        peer_of(context)
    door = open_door()
    door.ask("node-a")
    with pytest.raises(NoPeerError):
        peer_of(context)


def test_servicers_can_be_tested_without_a_network(house: Any) -> None:
    context: Any = object()
    member = house.people["node-a"].member
    with as_peer(member):
        assert peer_of(context) == member
    with pytest.raises(NoPeerError):
        peer_of(context)


def test_a_renewed_certificate_replaces_the_old_one(
    house: Any, open_door: Callable[..., Door]
) -> None:
    door = open_door()
    person = house.people["node-a"]
    renewed = house.certify("node-a", "node", person.tls_key)
    member = replace(person.member, certificate_fingerprint=certificates.fingerprint(renewed))
    old = person.certificate.encode()
    house.people["node-a"] = replace(person, member=member, certificate=renewed)
    assert door.ask("node-a") == "node-a"
    with pytest.raises(PeerRefused, match="not admitted"):
        door.ask("node-a", certificate_pem=old)
