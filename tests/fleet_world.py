"""A small consortium with real certificates and a coordinator's server, for engine tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import grpc
from flwr.app import ConfigRecord, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.primitives.asymmetric import (
    generate_key_pairs,
    public_key_to_bytes,
    sign_message,
)

from hejin_coordinator.engine import Engine
from hejin_node.engine import FleetLoop
from hejin_trust import channels
from hejin_trust.certificates import fingerprint, issue, make_request, new_authority, requested_key
from hejin_trust.charter import Charter
from hejin_trust.fleet import RECORD, REQUEST, Payload
from hejin_trust.keys import SigningKey, new_tls_key
from hejin_trust.members import Member, Role
from hejin_trust.text import Text

CONSORTIUM = "test"
FLEET = "/flwr.proto.Fleet/"
ROLES: Mapping[str, frozenset[Role]] = {FLEET: frozenset({"node"})}


@dataclass
class Charters:
    """A source of charters that a test can change."""

    charter: Charter

    def current(self) -> Charter:
        return self.charter

    def revoke(self, member: str) -> None:
        self.charter = replace(
            self.charter,
            serial=self.charter.serial + 1,
            members=tuple(
                replace(m, status="revoked") if m.id == member else m for m in self.charter.members
            ),
        )


@dataclass
class Consortium:
    """Members, their TLS keys and certificates, and the charter that names them."""

    charters: Charters
    keys: dict[str, bytes]
    certificates: dict[str, bytes]

    def dial(self, member: str, address: str) -> grpc.Channel:
        bank = self.charters.current().member("bank")
        return channels.dial(
            address, bank, self.charters, self.keys[member], self.certificates[member]
        )


def consortium(nodes: int) -> Consortium:
    """Return a consortium of one bank and node-0 .. node-(nodes-1)."""
    at = datetime.now(UTC)
    authority_key = new_tls_key()
    authority = new_authority(CONSORTIUM, authority_key, at)
    keys: dict[str, bytes] = {}
    certificates: dict[str, bytes] = {}

    def member(name: str, role: Role) -> Member:
        keys[name] = new_tls_key()
        certificates[name] = issue(
            authority,
            authority_key,
            requested_key(make_request(name, keys[name])),
            member_id=name,
            role=role,
            consortium=CONSORTIUM,
            at=at,
        ).encode()
        return Member(
            id=name,
            role=role,
            name=Text(name, name),
            identity_key=SigningKey.generate().public,
            log_key=SigningKey.generate().public,
            certificate_fingerprint=fingerprint(certificates[name]),
            size_band=(20, 4000) if role == "node" else None,
        )

    charter = Charter(
        consortium=CONSORTIUM,
        serial=1,
        issued="2026-01-01T00:00:00Z",
        regulator=member("regulator", "regulator"),
        ca_certificate=authority,
        members=(
            member("bank", "bank"),
            *(member(f"node-{i}", "node") for i in range(nodes)),
        ),
        rho_cap=Fraction(1),
        rho_alone_cap=Fraction(1),
        delta=Fraction(1, 10**6),
        period_from="2026-01-01T00:00:00Z",
        period_to="2027-01-01T00:00:00Z",
        minimum_nodes=2,
        minimum_enterprises=20,
        r=1,
        nonce=bytes(32),
    )
    return Consortium(Charters(charter), keys, certificates)


@dataclass
class Bank:
    """A coordinator's server with the engine in it, on a loopback port."""

    parties: Consortium
    engine: Engine
    server: grpc.Server
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


def start_bank(parties: Consortium, port: int = 0) -> Bank:
    """Serve the engine the way the coordinator does."""
    engine = Engine(parties.charters)
    server = channels.server(
        [channels.PeerInterceptor(parties.charters, ROLES), *engine.interceptors()], 64
    )
    engine.add_to(server)
    credentials = channels.server_credentials(
        parties.keys["bank"],
        parties.certificates["bank"],
        parties.charters.current().ca_certificate,
    )
    bound = channels.bind(server, f"127.0.0.1:{port}", credentials)
    server.start()
    return Bank(parties, engine, server, bound)


@dataclass
class Nodes:
    """FleetLoops in threads of this process."""

    running: dict[str, tuple[threading.Event, threading.Thread, grpc.Channel]] = field(
        default_factory=dict
    )

    def start(
        self,
        parties: Consortium,
        member: str,
        address: str,
        answer: Callable[[Payload], Payload],
        poll: float = 0.05,
    ) -> None:
        stop, channel = threading.Event(), parties.dial(member, address)
        thread = threading.Thread(target=FleetLoop(channel, answer, poll).run, args=(stop,))
        thread.start()
        self.running[member] = (stop, thread, channel)

    def stop(self, *members: str) -> None:
        chosen = [self.running.pop(m) for m in members or list(self.running)]
        for stop, _, _ in chosen:
            stop.set()
        for _, thread, channel in chosen:
            thread.join()
            channel.close()


class Signer(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    """Signs calls with a Flower key of the test's choice."""

    def __init__(self) -> None:
        self.private, public = generate_key_pairs()
        self.public = public_key_to_bytes(public)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        at = datetime.now(UTC).isoformat()
        signed = [
            (PUBLIC_KEY_HEADER, self.public),
            (TIMESTAMP_HEADER, at),
            (SIGNATURE_HEADER, sign_message(self.private, at.encode())),
        ]
        return continuation(details._replace(metadata=signed), request)


class Raw:
    """A node without our engine: makes any Fleet call, with any key and any ids."""

    def __init__(
        self, parties: Consortium, member: str, address: str, signer: Signer | None = None
    ) -> None:
        self.signer = signer or Signer()
        self.channel = parties.dial(member, address)
        self.fleet = FleetStub(grpc.intercept_channel(self.channel, self.signer))
        self.node = Node()

    def register(self) -> Raw:
        key = self.signer.public
        self.fleet.RegisterNode(RegisterNodeFleetRequest(public_key=key))
        made = self.fleet.ActivateNode(ActivateNodeRequest(public_key=key, heartbeat_interval=30))
        self.node = Node(node_id=made.node_id)
        return self

    def pull(self, seconds: float = 5) -> Any:
        """Return (head, object ids) of the next message."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            reply = self.fleet.PullMessages(PullMessagesRequest(node=self.node))
            if reply.messages_list:
                tree = reply.message_object_trees[0]
                return reply.messages_list[0].metadata, [
                    t.object_id for t in reversed(list(iterate_object_tree(tree)))
                ]
        raise AssertionError("no message came")

    def object(self, run: int, identity: str) -> bytes:
        reply = self.fleet.PullObject(
            PullObjectRequest(node=self.node, run_id=run, object_id=identity)
        )
        return bytes(reply.object_content)

    def push(self, head: Any, content: RecordDict, **changes: Any) -> Any:
        """Answer `head` with any content; `changes` overwrite metadata of the pushed head."""
        fields = {
            "run_id": head.run_id,
            "message_id": "",
            "src_node_id": self.node.node_id,
            "dst_node_id": head.src_node_id,
            "reply_to_message_id": head.message_id,
            "group_id": head.group_id,
            "created_at": head.created_at,
            "ttl": head.ttl,
            "message_type": head.message_type,
        }
        message = make_message(metadata=Metadata(**{**fields, **changes}), content=content)
        message.metadata.__dict__["_message_id"] = message.object_id
        pushed = self.fleet.PushMessages(
            PushMessagesRequest(
                node=self.node,
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[get_object_tree(message)],
            )
        )
        objects = get_all_nested_objects(message)
        for identity in pushed.objects_to_push:
            self.fleet.PushObject(
                PushObjectRequest(
                    node=self.node,
                    run_id=head.run_id,
                    session_id=pushed.session_id,
                    object_id=identity,
                    object_content=objects[identity].deflate(),
                )
            )
        return message

    def close(self) -> None:
        self.channel.close()


def answer(head: Any, **parts: bytes) -> RecordDict:
    """Return content that answers the question with this head the way our nodes do."""
    return RecordDict({RECORD: ConfigRecord({**parts, REQUEST: head.group_id.encode()})})
