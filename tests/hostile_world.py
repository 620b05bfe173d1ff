"""A hostile bank of stock Flower parts with the real bank's keys, and its victim: a real node."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from flwr.app import ConfigRecord, Error, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.proto.fleet_pb2_grpc import add_FleetServicer_to_server
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.fleet.grpc_rere.fleet_servicer import FleetServicer
from flwr.server.superlink.fleet.grpc_rere.node_auth_server_interceptor import (
    NodeAuthServerInterceptor,
)
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.date import now
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.interceptors import RpcErrorTranslationServerInterceptor
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

from hejin.v1 import coordinator_pb2 as pb
from hejin_trust import canonical, channels
from hejin_trust.envelope import pae
from hejin_trust.fleet import MESSAGE_TYPE, RECORD, Payload, open_objects
from hejin_trust.keys import SigningKey
from hejin_trust.membership import Membership

MARK = "HOSTILE~CONTENT~0123456789"
"""In everything the bank sends that is nothing; it must be nowhere afterwards."""

Reply = Callable[[bytes, grpc.ServicerContext], bytes]


def bundle(witness: Path) -> bytes:
    """An app bundle whose code, once imported, leaves a file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(
            "pyproject.toml",
            '[project]\nname = "evil"\nversion = "1.0.0"\n[tool.flwr.app]\npublisher = "evil"\n'
            '[tool.flwr.app.components]\nserverapp = "evil:app"\nclientapp = "evil:app"\n',
        )
        archive.writestr("evil/__init__.py", f"open({str(witness)!r}, 'w').write('ran')\n")
    return made.getvalue()


def signed(kind: str, payload: bytes, key: SigningKey, signer: str) -> bytes:
    """Sign any bytes, also such as are no document."""
    return canonical.encode(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": kind,
            "signatures": [
                {
                    "keyid": signer,
                    "sig": base64.b64encode(key.sign(pae(kind, payload))).decode(),
                }
            ],
        }
    )


def question(payload: Mapping[str, Any]) -> RecordDict:
    """Return a payload as the content of one of our messages."""
    return RecordDict({RECORD: ConfigRecord(dict(payload))})


class _Recording(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Counts every call of the node and keeps what it sent."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.storing = threading.Lock()
        self.tree: ObjectTree | None = None
        self.sent: list[tuple[str, Any]] = []

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        self.calls[name] += 1
        handler = continuation(details)
        if handler is None:
            return None

        def record(request: Any, context: grpc.ServicerContext) -> Any:
            self.sent.append((name, request))
            if name != "PullMessages":
                return handler.unary_unary(request, context)
            # Flower drops a message that is pulled before its objects are registered.
            with self.storing:
                reply = handler.unary_unary(request, context)
            if reply.message_object_trees and self.tree is not None:
                reply.message_object_trees[0].CopyFrom(self.tree)
            return reply

        return handler._replace(unary_unary=record)


class HostileBank:
    """A stock SuperLink with the bank's mTLS key, a run with an app bundle, forged services.

    offers, receipts   what ListOffers and GetReceipt return: each once, the last from then on
    """

    def __init__(self, bank: Membership, witness: Path) -> None:
        self.offers: list[Reply] = [lambda *_: b""]
        self.receipts: list[Reply] = [lambda *_: b""]
        objects = ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME)
        links = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), objects)
        self.state: Any = links.state()
        self.recording = _Recording()
        self.server = grpc.server(
            ThreadPoolExecutor(8),
            interceptors=[
                self.recording,
                RpcErrorTranslationServerInterceptor(),
                _ForFleet(NodeAuthServerInterceptor(links)),
            ],
            options=[("grpc.max_send_message_length", -1)],
        )
        add_FleetServicer_to_server(FleetServicer(links, objects, False), self.server)
        self._serve("PlanService", "ListOffers", self._offer)
        self._serve("PlanService", "AnswerOffer", lambda *_: b"")
        self._serve("ReceiptService", "GetReceipt", self._receipt)
        self.port = self.server.add_secure_port(
            "127.0.0.1:0",
            channels.server_credentials(
                bank.tls_key_pem, bank.certificate_pem, bank.charter.ca_certificate
            ),
        )
        self.server.start()
        content = bundle(witness)
        self.app = self.state.store_fab(Fab(hashlib.sha256(content).hexdigest(), content, {}))
        self.run = self.state.create_run(
            "evil/evil",
            "1.0.0",
            self.app,
            {},
            NOOP_FEDERATION_ID,
            None,
            NOOP_FLWR_AID,
            TaskType.SERVER_APP,
        )
        task = self.state.get_run_info(run_ids=[self.run])[0].primary_task_id
        assert task is not None
        assert self.state.claim_task(task)
        assert self.state.activate_task(task)
        self._task = task
        self._groups = itertools.count()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def calls(self) -> Counter[str]:
        return self.recording.calls

    def _serve(self, service: str, method: str, reply: Reply) -> None:
        # Without serializers: bytes as they are, also such as are no message.
        handler = grpc.unary_unary_rpc_method_handler(reply)
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(f"hejin.v1.{service}", {method: handler}),)
        )

    def _offer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        return (self.offers.pop(0) if len(self.offers) > 1 else self.offers[0])(request, context)

    def _receipt(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        left = self.receipts
        return (left.pop(0) if len(left) > 1 else left[0])(request, context)

    def node(self) -> int:
        """Return the id of the node, once it has come."""
        wait_for(lambda: self.state.get_nodes(self.run), "the node did not come")
        return int(min(self.state.get_nodes(self.run)))

    def ask(
        self,
        content: RecordDict | Error,
        *,
        kind: str = MESSAGE_TYPE,
        tree: ObjectTree | None = None,
        swap: bytes | None = None,
        **changes: Any,
    ) -> Payload | str:
        """Send a message; return the node's answer, or the reason of its error.

        tree, swap   what the node is given in place of the object ids and of each object
        """
        # Flower gives up a run whose task is silent for a minute.
        self.state.acknowledge_task_heartbeat(self._task)
        fields: dict[str, Any] = {
            "run_id": self.run,
            "message_id": "",
            "src_node_id": SUPERLINK_NODE_ID,
            "dst_node_id": self.node(),
            "reply_to_message_id": "",
            "group_id": str(next(self._groups)),
            "created_at": now().timestamp(),
            "ttl": 600.0,
            "message_type": "train",
        }
        metadata = Metadata(**{**fields, **changes})
        metadata.__dict__["_message_type"] = kind  # also such as Flower would not let us set
        message = (
            make_message(metadata=metadata, error=content)
            if isinstance(content, Error)
            else make_message(metadata=metadata, content=content)
        )
        identity = message.object_id
        metadata.__dict__["_message_id"] = identity
        with no_object_id_recompute():
            parts, own_tree = get_all_nested_objects(message), get_object_tree(message)
            head = remove_content_from_message(message)
        session = self.state.start_session(self.run)
        with self.recording.storing:
            self.recording.tree = tree
            stored, missing = self.state.store_message_and_object_tree(head, own_tree, session)
            assert stored
            if swap is not None:
                for entry in self.state.object_store.store.values():
                    entry.content, entry.is_available = swap, True
        for name in missing & parts.keys() if swap is None else ():
            self.state.store_object(self.run, session, name, parts[name].deflate())
        return self._answer(identity)

    def _answer(self, identity: str) -> Payload | str:
        answers: list[Any] = []

        def came() -> bool:
            answers[:] = [
                (message, tree)
                for name, request in list(self.recording.sent)
                if name == "PushMessages"
                for message, tree in zip(
                    request.messages_list, request.message_object_trees, strict=True
                )
                if message.metadata.reply_to_message_id == identity
            ]
            return bool(answers)

        wait_for(came, "the node does not answer")
        ((message, tree),) = answers
        if message.HasField("error"):
            return str(message.error.reason)
        ids = [tree.object_id]
        while tree.children:
            (tree,) = tree.children
            ids.append(tree.object_id)
        found: dict[str, bytes] = {}

        def pushed() -> bool:
            found.update(
                (request.object_id, request.object_content)
                for name, request in list(self.recording.sent)
                if name == "PushObject"
            )
            return all(each in found for each in ids)

        wait_for(pushed, "the node's answer is not whole")
        return open_echoed([found[each] for each in ids], ids)

    def sent_bytes(self) -> bytes:
        """Return all that the node ever sent, as serialized."""
        return b"".join(
            request if isinstance(request, bytes) else request.SerializeToString()
            for _, request in list(self.recording.sent)
        )


def open_echoed(contents: list[bytes], ids: list[str]) -> Payload:
    """Return an answer's payload without the key that the engine echoes."""
    payload = open_objects(contents, ids)
    payload.pop("request")
    return payload


class _ForFleet(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Applies Flower's node authentication to Flower's calls alone."""

    def __init__(self, inner: grpc.ServerInterceptor[Any, Any]) -> None:
        self._inner = inner

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        if "Fleet" in details.method:
            return self._inner.intercept_service(continuation, details)
        return continuation(details)


def listing(*plans: bytes) -> Reply:
    """Offer these."""
    data = pb.ListOffersResponse(plans=plans).SerializeToString()
    return lambda *_: data


def receipt(document: bytes) -> Reply:
    """Return this as the receipt, whatever was asked for."""
    data = pb.GetReceiptResponse(receipt=document).SerializeToString()
    return lambda *_: data


def broken(*_: object) -> bytes:
    """Bytes that are no protobuf message."""
    return b"\x0a\xff\xff\xff\xff\xff\xff"


def failing(_: bytes, context: grpc.ServicerContext) -> bytes:
    """An error whose text tries to forge a line of the log and to change the terminal."""
    context.set_trailing_metadata(
        (("hejin-code", "x" * 4000), ("hejin-zh-bin", b"\xff\xfe\x1b[2J" * 100))
    )
    context.abort(grpc.StatusCode.UNKNOWN, "no\nlevel=error event=forged\x1b[2J" + "x" * 4000)
    raise AssertionError("abort returned")


def wait_for(true: Callable[[], Any], otherwise: str, seconds: float = 60) -> None:
    """Wait until `true()`; AssertionError with `otherwise` if it does not come true."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, otherwise
        time.sleep(0.01)


@dataclass
class NodeProcess:
    """`hejin node serve` as an operator starts it, in a home and a scratch folder of its own."""

    home: Path
    scratch: Path
    lines: list[str] = field(default_factory=list)
    """What it printed, both streams."""

    def __enter__(self) -> NodeProcess:
        self.scratch.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hejin_sandbox.main", "node", "serve", "--home", self.home],
            cwd=self.scratch,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "COV_"))},
                "HOME": str(self.scratch),
                "TMPDIR": str(self.scratch),
                "HEJIN_LANG": "en",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.seen = psutil.Process(self._process.pid)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in self._process.stdout)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_until_it_serves(self) -> None:
        wait_for(lambda: "node serves" in self.lines or not self.alive(), "the node did not start")
        assert self.alive(), self.lines

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> int:
        """End it as an operator does; return the exit code."""
        self._process.terminate()
        return self._process.wait(30)

    def files(self) -> dict[str, str]:
        """Every file of its home and scratch folder: path -> SHA-256 of the content."""
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in self.file_names()
        }

    def file_names(self) -> Iterator[Path]:
        for folder in (self.home, self.scratch):
            yield from (path for path in folder.rglob("*") if path.is_file())

    def children(self) -> list[psutil.Process]:
        """Every process below it now, dead ones that were not waited for included."""
        found: list[psutil.Process] = self.seen.children(recursive=True)
        return found

    def ever_had_a_child(self) -> bool:
        """Whether it ever waited for a child: the kernel adds up those children's page faults."""
        # proc_pid_stat(5): fields 11 and 13, cminflt and cmajflt; the name ends with ")".
        stat = Path(f"/proc/{self.seen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[8]), int(stat[10])) != (0, 0)

    def most_resident(self) -> int:
        """Return the highest resident memory it ever had, in bytes."""
        status = Path(f"/proc/{self.seen.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    def resident(self) -> int:
        return int(self.seen.memory_info().rss)
