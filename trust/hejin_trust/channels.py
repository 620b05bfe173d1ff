"""gRPC between members: mutual TLS, who may call what, and refusals as errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc

from hejin.v1 import charter_pb2, charter_pb2_grpc
from hejin_trust.calls import BusyError, Shares, only_message
from hejin_trust.certificates import CertificateError, check_certificate, fingerprint, server_name
from hejin_trust.charter import CharterError, Charters
from hejin_trust.clock import Clock, now
from hejin_trust.errors import HejinError
from hejin_trust.members import Member, Role

if TYPE_CHECKING:  # the stubs' classes are generic, grpcio's own are not
    _ServerInterceptor = grpc.ServerInterceptor[Any, Any]
    _ClientInterceptor = grpc.UnaryUnaryClientInterceptor[Any, Any]
else:
    _ServerInterceptor = grpc.ServerInterceptor
    _ClientInterceptor = grpc.UnaryUnaryClientInterceptor

LARGEST_MESSAGE: Final = 64 << 20
"""Bytes of one message either way: a noisy sum of 8 million coordinates."""

MOST_CALLS: Final = 8
"""Calls of one member at the same time, each on a thread of the server; a node makes up to five."""

_CODE: Final = "hejin-code"
_CHINESE: Final = "hejin-zh-bin"
_LONGEST_REASON: Final = 600
_LOOPBACK: Final = ("127.", "localhost:", "[::1]:")

_SERVER_OPTIONS: Final = (
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    # Without it a second process silently shares the port and takes half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # More calls of one connection wait at the caller.
    ("grpc.max_concurrent_streams", 2 * MOST_CALLS),
    # A caller that went without a word gives back what its calls held.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Also a call that its caller never ends; the longest honest one has a minute.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 90_000),
)
_CLIENT_OPTIONS: Final = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    # Firewalls drop idle connections: a ping every 30 s keeps the node reachable.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 10_000),
)
_NOT_NOW: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)

_peer: ContextVar[Member] = ContextVar("hejin_peer")


class PortTakenError(HejinError):
    """A server cannot listen on its address."""

    code = "port-taken"


class NoPeerError(HejinError):
    """A call arrived without an identity that was checked."""

    code = "no-peer"


class NotAllowedError(HejinError):
    """A member of this role may not call this method."""

    code = "not-allowed"


class PeerRefused(HejinError):
    """The peer understood the call and refuses it; `peer_code` is the peer's reason."""

    code = "peer-refused"

    def __init__(self, en: str, zh: str, peer_code: str) -> None:
        super().__init__(en, zh)
        self.peer_code = peer_code


class PeerUnreachable(HejinError):
    """The peer did not answer; trying again later may help."""

    code = "peer-unreachable"


def dial(
    address: str, expected: Member, charters: Charters, key_pem: bytes, certificate_pem: bytes
) -> grpc.Channel:
    """Return a channel to `expected` at HOST:PORT, by mutual TLS.

    The server must hold a certificate of the consortium's authority for exactly this member:
    its name is checked instead of the host's. Before each call the charter is asked again.

    charters          the charter source (or a fixed charter); names the authority
    key_pem           own TLS key
    certificate_pem   own certificate
    raises            NotAMemberError now or at a call if the member is not admitted
    """
    charter = charters.current()
    charter.admitted(expected.id, expected.role)
    credentials = grpc.ssl_channel_credentials(
        charter.ca_certificate.encode(), key_pem, certificate_pem
    )
    options = [
        *_CLIENT_OPTIONS,
        ("grpc.ssl_target_name_override", server_name(expected.id, charter.consortium)),
    ]
    if address.startswith(_LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))
    channel = grpc.secure_channel(address, credentials, options)
    return grpc.intercept_channel(channel, _StillAdmitted(charters, expected))


class _StillAdmitted(_ClientInterceptor):
    """Asks the charter before each call whether the other side is still admitted."""

    def __init__(self, charters: Charters, expected: Member) -> None:
        self._charters, self._expected = charters, expected

    def intercept_unary_unary(
        self,
        continuation: Callable[[Any, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Go on with the call, or raise NotAMemberError."""
        self._charters.current().admitted(self._expected.id, self._expected.role)
        return continuation(client_call_details, request)


def server(
    interceptors: Sequence[grpc.ServerInterceptor[Any, Any]],
    threads: int,
    largest: int = LARGEST_MESSAGE,
) -> grpc.Server:
    """Return a server that is not listening yet.

    interceptors   outermost first: `PeerInterceptor` belongs at the front
    threads        calls that are served at the same time; several times `MOST_CALLS`
    largest        bytes of the longest message that is taken
    """
    return grpc.server(
        futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
        interceptors=list(interceptors),
        options=[*_SERVER_OPTIONS, ("grpc.max_receive_message_length", largest)],
    )


def server_credentials(
    key_pem: bytes, certificate_pem: bytes, authority_pem: str
) -> grpc.ServerCredentials:
    """Return credentials that admit only clients with a certificate of the authority."""
    return grpc.ssl_server_credentials(
        [(key_pem, certificate_pem)],
        root_certificates=authority_pem.encode(),
        require_client_auth=True,
    )


def bind(listening: grpc.Server, address: str, credentials: grpc.ServerCredentials) -> int:
    """Let a server listen on HOST:PORT (port 0: any free one) and return the port.

    raises   PortTakenError if another process listens there, or the host is not this machine
    """
    try:
        port = listening.add_secure_port(address, credentials)
    except RuntimeError as reason:
        raise _taken(address) from reason
    if port == 0:
        raise _taken(address)
    return port


def _taken(address: str) -> PortTakenError:
    return PortTakenError(
        f"cannot listen on {address}: another process uses the port, or the host is not this "
        "machine; stop that process or choose another address",
        f"无法监听 {address}：端口已被占用，或主机不是本机；请停止占用进程或更换地址",
    )


class PeerInterceptor(_ServerInterceptor):
    """Lets a call through only for an admitted member whose role may call the method.

    Checked at every call, not only at the handshake: certificate present, inside its validity,
    named by the current charter, admitted, of a permitted role. `peer_of` then names the member
    to everything further in. Methods that no prefix covers, and streams, are denied to all.

    The message is read after the check, and a member has at most `MOST_CALLS` calls at a time, so
    that who sends half a message keeps nobody else waiting.

    roles   method prefix such as "/hejin.v1.PlanService/" -> roles; the longest prefix decides
    """

    def __init__(
        self,
        charters: Charters,
        roles: Mapping[str, frozenset[Role]],
        clock: Clock = now,
    ) -> None:
        self._charters, self._clock = charters, clock
        self._roles = sorted(roles.items(), key=lambda item: -len(item[0]))
        self._calls = Shares(MOST_CALLS)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a unary method in the checks; see the class."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method: str = handler_call_details.method
        inner = handler.unary_unary or _no_streams

        def checked(messages: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            self._take_share(self._checked_peer(method, context), context)
            request = only_message(messages, handler.request_deserializer, context)
            # Asked again: the message may have come a long time after the call.
            token = _peer.set(self._checked_peer(method, context))
            try:
                return inner(request, context)
            finally:
                _peer.reset(token)

        # A unary handler only runs once gRPC has read the message, which keeps a thread waiting
        # for a stranger; the messages of a stream are read by whom they are for.
        return grpc.stream_unary_rpc_method_handler(
            checked, response_serializer=handler.response_serializer
        )

    def _take_share(self, member: Member, context: grpc.ServicerContext) -> None:
        """End the call if it is one too many of its member's."""
        if not self._calls.take_call(member.id, context):
            busy = BusyError(
                f"{member.id} has {MOST_CALLS} calls under way, the most of one member; ask again",
                f"{member.id} 已有 {MOST_CALLS} 个调用在进行，为单个成员的上限；请稍后再试",
            )
            abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, busy)

    def _checked_peer(self, method: str, context: grpc.ServicerContext) -> Member:
        try:
            return self._peer(method, context)
        except CharterError as reason:
            abort(context, grpc.StatusCode.UNAVAILABLE, reason)
        except (NoPeerError, CertificateError) as reason:
            abort(context, grpc.StatusCode.UNAUTHENTICATED, reason)
        except NotAllowedError as reason:
            abort(context, grpc.StatusCode.PERMISSION_DENIED, reason)

    def _peer(self, method: str, context: grpc.ServicerContext) -> Member:
        shown = context.auth_context().get("x509_pem_cert", ())
        if len(shown) != 1:
            raise NoPeerError(
                "the call carries no certificate; dial with the member's certificate",
                "调用未携带证书；请使用成员证书连接",
            )
        pem = bytes(shown[0])
        check_certificate(pem, self._clock())
        charter = self._charters.current()
        member = charter.by_fingerprint(fingerprint(pem))
        if member is None or not member.admitted:
            raise NoPeerError(
                f"the certificate is not admitted by charter {charter.serial}; ask the regulator",
                f"证书未获第 {charter.serial} 号章程准入；请咨询监管方",
            )
        allowed = next((r for prefix, r in self._roles if method.startswith(prefix)), frozenset())
        if member.role not in allowed:
            raise NotAllowedError(
                f"a {member.role} may not call {method}; use the service meant for this role",
                f"{member.role} 角色不得调用 {method}；请使用本角色对应的服务",
            )
        return member


def _no_streams(_: Any, context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "streams are not served here")
    raise AssertionError("abort returned")


def peer_of(context: grpc.ServicerContext) -> Member:  # noqa: ARG001 - ties it to a call
    """Return the member whose call is being served, in its handler or an inner interceptor.

    It follows the thread that serves the call, not `context`, which interceptors may replace.
    raises   NoPeerError where no `PeerInterceptor` checked the call
    """
    member = _peer.get(None)
    if member is None:
        raise NoPeerError(
            "the caller of this method was not checked; put PeerInterceptor first",
            "该方法的调用方未经核验；请将 PeerInterceptor 置于最前",
        )
    return member


@contextmanager
def as_peer(member: Member) -> Iterator[None]:
    """Serve in this thread as if `member` called: for tests of servicers without a network."""
    token = _peer.set(member)
    try:
        yield
    finally:
        _peer.reset(token)


def abort(context: grpc.ServicerContext, status: grpc.StatusCode, error: HejinError) -> NoReturn:
    """End the call with `error` in both languages and its code as trailing metadata."""
    chinese = error.text.zh[:_LONGEST_REASON].encode()
    context.set_trailing_metadata(((_CODE, error.code), (_CHINESE, chinese)))
    context.abort(status, error.text.en[:_LONGEST_REASON])
    raise AssertionError("abort returned")


@contextmanager
def refusals(context: grpc.ServicerContext) -> Iterator[None]:
    """Tell the peer about refusals; anything else stays an error without details."""
    try:
        yield
    except HejinError as refusal:
        abort(context, grpc.StatusCode.FAILED_PRECONDITION, refusal)


@contextmanager
def asking(member_id: str) -> Iterator[None]:
    """Turn a failed call to `member_id` into PeerRefused or PeerUnreachable."""
    try:
        yield
    except grpc.RpcError as reason:
        raise from_rpc_error(reason, member_id) from reason


def from_rpc_error(error: grpc.RpcError, member_id: str) -> PeerRefused | PeerUnreachable:
    """Return a failed call to `member_id` as one of our errors.

    What the peer wrote is shortened and stripped of control characters.
    """
    status: grpc.StatusCode = error.code()
    trailing = {pair.key: pair.value for pair in error.trailing_metadata() or ()}
    if _CODE not in trailing and status in _NOT_NOW:
        return PeerUnreachable(
            f"{member_id} does not answer ({status.name.lower()}); "
            "check its address and that it is running",
            f"{member_id} 没有应答（{status.name.lower()}）；请检查其地址以及是否在运行",
        )
    said = _plain(error.details() or status.name.lower())
    chinese = _plain(trailing.get(_CHINESE) or said)
    if _CODE in trailing and status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return PeerUnreachable(
            f"{member_id} does not serve this now: {said}",
            f"{member_id} 暂不处理：{chinese}",
        )
    return PeerRefused(
        f"{member_id} refuses: {said}",
        f"{member_id} 拒绝：{chinese}",
        _plain(trailing.get(_CODE, "refused")),
    )


def _plain(said: str | bytes) -> str:
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    return "".join(c for c in said[:_LONGEST_REASON] if c.isprintable())


def fetch_charter(channel: grpc.Channel, regulator_id: str, timeout: float) -> bytes:
    """Return the regulator's current charter envelope, for `CharterSource.update`.

    timeout   seconds
    raises    PeerRefused, PeerUnreachable
    """
    with asking(regulator_id):
        stub = charter_pb2_grpc.CharterServiceStub(channel)  # type: ignore[no-untyped-call]
        reply = stub.GetCharter(charter_pb2.GetCharterRequest(), timeout=timeout)
    return bytes(reply.envelope)
