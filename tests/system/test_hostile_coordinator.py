"""A hostile coordinator of stock Flower parts cannot make a node process run or keep anything."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.proto.fab_pb2 import GetFabRequest
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
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.interceptors import RpcErrorTranslationServerInterceptor
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

sys.path.insert(0, str(Path(__file__).parents[1]))
from fleet_world import CONSORTIUM, Consortium, Raw, consortium

from hejin_trust import channels
from hejin_trust.certificates import server_name
from hejin_trust.fleet import MAX_PAYLOAD, MESSAGE_TYPE, RECORD

pytestmark = pytest.mark.system

DRIVER = Path(__file__).with_name("fleet_node_process.py")


class CountingCalls(grpc.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.calls[details.method.rpartition("/")[2]] += 1
        return continuation(details)


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


class Hostile:
    """A stock SuperLink with mTLS: no binding, no checks, a run with an app bundle."""

    def __init__(self, parties: Consortium, witness: Path) -> None:
        objects = ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME)
        links = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), objects)
        self.state: Any = links.state()
        self.counting = CountingCalls()
        self.server = grpc.server(
            ThreadPoolExecutor(8),
            interceptors=[
                self.counting,
                RpcErrorTranslationServerInterceptor(),
                NodeAuthServerInterceptor(links),
            ],
            options=[("grpc.max_send_message_length", -1)],
        )
        add_FleetServicer_to_server(FleetServicer(links, objects, False), self.server)
        self.port = self.server.add_secure_port(
            "127.0.0.1:0",
            channels.server_credentials(
                parties.keys["bank"],
                parties.certificates["bank"],
                parties.charters.charter.ca_certificate,
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

    def node(self) -> int:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if nodes := self.state.get_nodes(self.run):
                return int(min(nodes))
            time.sleep(0.05)
        raise AssertionError("the node did not come")

    def send(
        self,
        content: RecordDict | Error,
        kind: str = MESSAGE_TYPE,
        tree: ObjectTree | None = None,
        swap: bytes | None = None,
        **changes: Any,
    ) -> str:
        """Put a message out for the node; `tree` and `swap` replace what Flower would send."""
        fields: dict[str, Any] = {
            "run_id": self.run,
            "message_id": "",
            "src_node_id": SUPERLINK_NODE_ID,
            "dst_node_id": self.node(),
            "reply_to_message_id": "",
            "group_id": "1",
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
        session = self.state.start_session(self.run)
        head = remove_content_from_message(message)
        stored, missing = self.state.store_message_and_object_tree(
            head, tree or get_object_tree(message), session
        )
        assert stored
        for name, part in get_all_nested_objects(message).items():
            if name in missing:
                self.state.store_object(self.run, session, name, part.deflate())
        if swap is not None:
            for entry in self.state.object_store.store.values():
                entry.content, entry.is_available = swap, True
        return identity

    def reply(self, message: str, seconds: float = 30) -> Any:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := self.state.get_message_res({message}, self.run):
                return found[0]
            time.sleep(0.02)
        return None


@dataclass
class NodeProcess:
    """A real node process, its folder, and what it printed."""

    process: subprocess.Popen[str]
    folder: Path
    lines: list[str]

    def files(self) -> dict[str, tuple[int, str]]:
        """Every file below the node's home, temporary and working folder, with its content."""
        return {
            str(path.relative_to(self.folder)): (
                path.stat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def children(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def resident(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


PARTIES = consortium(1)


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Hostile]:
    made = Hostile(PARTIES, tmp_path / "node" / "witness")
    yield made
    made.server.stop(0).wait()


@pytest.fixture
def node(tmp_path: Path, hostile: Hostile) -> Iterator[NodeProcess]:
    folder, keys = tmp_path / "node", tmp_path / "keys"
    folder.mkdir()
    keys.mkdir()
    (keys / "key").write_bytes(PARTIES.keys["node-0"])
    (keys / "certificate").write_bytes(PARTIES.certificates["node-0"])
    (keys / "authority").write_text(PARTIES.charters.charter.ca_certificate, encoding="ascii")
    process = subprocess.Popen(
        [
            sys.executable,
            str(DRIVER),
            str(keys / "key"),
            str(keys / "certificate"),
            str(keys / "authority"),
            f"127.0.0.1:{hostile.port}",
            server_name("bank", CONSORTIUM),
        ],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "COV_"))},
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    made = NodeProcess(process, folder, [])
    out = process.stdout
    assert out is not None

    def read() -> None:
        made.lines.extend(line.strip() for line in out)

    reader = threading.Thread(target=read)
    reader.start()
    yield made
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 0
    reader.join()
    out.close()


def question(**parts: Any) -> RecordDict:
    return RecordDict({RECORD: ConfigRecord(parts)})


def weird() -> Iterator[tuple[RecordDict | Error, dict[str, Any]]]:
    """Every message type of Flower with every kind of content."""
    contents: list[RecordDict | Error] = [
        RecordDict(),
        RecordDict({"arrays": ArrayRecord([np.zeros(1000)])}),
        RecordDict({"metrics": MetricRecord({"loss": 1.0}), "config": ConfigRecord({"lr": 0.1})}),
        RecordDict(
            {"config": ConfigRecord({"fab_hash": "x", "run": "rm -rf /", "b": b"\x80\x04."})}
        ),
        question(q=b"1"),
        Error(1, "you failed"),
    ]
    kinds = ["train", "evaluate", "query", "system", "train.custom", "query.custom"]
    kinds += ["get_parameters", "get_properties", "reconnect", "system.exec", "../..", " "]
    for kind in kinds:
        for content in contents:
            yield content, {"kind": kind}
    for content in contents[:4]:
        yield content, {}
    yield question(q="text"), {}
    yield question(q=[b"1", b"2"]), {}
    yield question(q=[False] * 100_000), {}
    yield question(request=b"reserved"), {}
    yield question(**{f"k{i}": b"" for i in range(50)}), {}
    yield question(q=bytes(MAX_PAYLOAD + 1)), {}
    yield RecordDict({RECORD: ConfigRecord({"q": b"1"}), "more": ConfigRecord({"q": b"2"})}), {}
    yield question(q=b"1"), {"group_id": "x" * 1000}
    yield question(q=b"1"), {"created_at": float("inf")}
    deep = ObjectTree(object_id="0" * 64)
    for _ in range(40):
        deep = ObjectTree(object_id="0" * 64, children=[deep, ObjectTree(object_id="1" * 64)])
    yield question(q=b"deep"), {"tree": deep}
    for swap in (b"garbage", b"CustomDataClass  0\0", b"ArrayRecord  3\0abc", b"Message  0\0"):
        yield question(q=swap), {"swap": swap}


def test_no_message_makes_a_node_fetch_start_or_write_anything(
    hostile: Hostile, node: NodeProcess
) -> None:
    first = hostile.send(question(vector=b"before"), MESSAGE_TYPE)
    assert hostile.reply(first).has_content()
    files, children = node.files(), node.children()
    resident = node.resident()

    sent = 0
    for content, options in weird():
        hostile.send(content, options.pop("kind", MESSAGE_TYPE), **options)
        sent += 1

    last = hostile.send(question(vector=b"after"), MESSAGE_TYPE)
    reply = hostile.reply(last, 60)
    assert reply is not None, "the node no longer answers"
    assert reply.has_content()

    calls = hostile.counting.calls
    assert calls["PushMessages"] >= sent * 0.9, "most of the messages were not even refused"
    assert calls["GetFab"] == calls["GetRun"] == calls["UnregisterNode"] == 0
    assert set(calls) <= {
        "RegisterNode",
        "ActivateNode",
        "DeactivateNode",
        "SendNodeHeartbeat",
        "PullMessages",
        "PullObject",
        "PushMessages",
        "PushObject",
    }
    assert node.children() == children == []
    assert node.files() == files
    assert not (node.folder / "witness").exists()
    answered = [line for line in node.lines if line.startswith("answered")]
    assert answered.count("answered vector") == 2
    assert set(answered) <= {"answered vector", "answered q"}
    assert node.resident() < resident + (6 * MAX_PAYLOAD), "a refused message stayed in memory"
    print(f"resident {resident / 1e6:.0f} MB, then {node.resident() / 1e6:.0f} MB; {sent} messages")


def test_a_node_without_messages_makes_no_other_call(hostile: Hostile, node: NodeProcess) -> None:
    hostile.node()
    time.sleep(1)
    assert set(hostile.counting.calls) == {"RegisterNode", "ActivateNode", "PullMessages"}
    assert node.children() == []
    assert node.files() == {}
    assert node.resident() < 150e6


def test_the_bundle_is_really_there_for_those_who_ask(hostile: Hostile) -> None:
    """The control: a node that calls GetFab gets the code, and the count shows it."""
    raw = Raw(PARTIES, "node-0", f"127.0.0.1:{hostile.port}").register()
    request = GetFabRequest(node=raw.node, hash_str=hostile.app, run_id=hostile.run)
    assert b"evil" in raw.fleet.GetFab(request).fab.content
    assert hostile.counting.calls["GetFab"] == 1
    raw.close()
