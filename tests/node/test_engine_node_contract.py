"""What the node's engine relies on inside flwr 1.41: if one fails, read engine.py again."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from flwr.common import constant
from flwr.proto import fleet_pb2, message_pb2
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature

from hejin_node import engine
from hejin_trust.fleet import HEARTBEAT


def test_flowers_headers_have_the_known_names() -> None:
    names = (constant.PUBLIC_KEY_HEADER, constant.TIMESTAMP_HEADER, constant.SIGNATURE_HEADER)
    assert names == ("flwr-public-key-bin", "flwr-timestamp", "flwr-signature-bin")


def test_a_signature_is_what_flowers_node_auth_checks() -> None:
    signed = engine._Signed()
    headers = dict(signed._headers())
    at, signature = headers["flwr-timestamp"], headers["flwr-signature-bin"]
    assert isinstance(at, str)
    assert isinstance(signature, bytes)
    key = bytes_to_public_key(signed.public)
    assert verify_signature(key, at.encode("ascii"), signature), "Flower refuses a P-256 key"


def test_flower_takes_a_time_that_is_two_minutes_back() -> None:
    headers = dict(engine._Signed()._headers())
    age = datetime.now(UTC) - datetime.fromisoformat(str(headers["flwr-timestamp"]))
    oldest = constant.TIMESTAMP_TOLERANCE + constant.SYSTEM_TIME_TOLERANCE
    assert 0 < age.total_seconds() + engine.SIGNATURE_LIFE < oldest - 60


def test_the_heartbeat_is_one_that_flower_allows() -> None:
    assert constant.HEARTBEAT_MIN_INTERVAL <= HEARTBEAT <= constant.HEARTBEAT_MAX_INTERVAL


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (fleet_pb2.RegisterNodeFleetRequest, {"public_key"}),
        (fleet_pb2.ActivateNodeRequest, {"public_key", "heartbeat_interval"}),
        (fleet_pb2.PullMessagesRequest, {"node", "message_ids"}),
        (
            fleet_pb2.PullMessagesResponse,
            {"reconnect", "messages_list", "message_object_trees"},
        ),
        (
            fleet_pb2.PushMessagesRequest,
            {"node", "messages_list", "message_object_trees", "clientapp_runtime_list"},
        ),
        (
            fleet_pb2.PushMessagesResponse,
            {"reconnect", "results", "objects_to_push", "session_id"},
        ),
        (message_pb2.PullObjectRequest, {"node", "run_id", "object_id"}),
        (
            message_pb2.PullObjectResponse,
            {"object_found", "object_available", "object_content"},
        ),
        (
            message_pb2.PushObjectRequest,
            {"node", "run_id", "object_id", "object_content", "session_id"},
        ),
        (message_pb2.ObjectTree, {"object_id", "children"}),
    ],
    ids=lambda value: value.DESCRIPTOR.name if hasattr(value, "DESCRIPTOR") else "",
)
def test_a_message_has_the_fields_we_use(message: type, fields: set[str]) -> None:
    have = {field.name for field in message.DESCRIPTOR.fields}  # type: ignore[attr-defined]
    assert have == fields, "a new field may name something that the binding must check"


def test_the_nodes_engine_has_no_word_for_fetching_code() -> None:
    tree = ast.parse(inspect.getsource(engine))
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    used |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert not used & {"GetFab", "GetRun", "GetFabRequest", "eval", "exec", "__import__"}
    imported = {
        n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module is not None
    }
    assert not {m for m in imported if "client" in m or "supernode" in m or "simulation" in m}


def test_importing_the_engine_is_light() -> None:
    """Measured: 75 MB resident; a whole node must stay under 300."""
    code = (
        "import hejin_node.engine, psutil, sys;"
        "print(psutil.Process().memory_info().rss);"
        "print(*(m for m in ('torch', 'ray', 'pandas', 'sqlalchemy', 'sklearn')"
        " if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    resident, heavy = done.stdout.split("\n")[:2]
    assert int(resident) < 120e6, f"{int(resident) / 1e6:.0f} MB resident"
    assert heavy == "", f"imported without need: {heavy}"
