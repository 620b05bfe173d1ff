"""What the coordinator's engine relies on inside flwr 1.41: if one fails, read engine.py again."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common import constant
from flwr.proto import fleet_pb2_grpc
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager

import hejin_coordinator
from hejin_coordinator.binding import ALLOWED_METHODS
from hejin_coordinator.engine import TASK_BEAT
from hejin_trust.fleet import MESSAGE_TYPE, RECORD, open_objects

ROOMS = Path(hejin_coordinator.__file__).parents[2]


def state() -> InMemoryLinkState:
    made = LinkStateFactory(
        FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME)
    ).state()
    assert isinstance(made, InMemoryLinkState), "the in-memory LinkState has another class"
    return made


def started(made: InMemoryLinkState) -> tuple[int, int]:
    run = made.create_run(
        None, None, None, {}, NOOP_FEDERATION_ID, None, constant.NOOP_FLWR_AID, TaskType.SERVER_APP
    )
    task = made.get_run_info(run_ids=[run])[0].primary_task_id
    assert task is not None, "a run has no primary task"
    assert made.claim_task(task), "a fresh task cannot be claimed"
    assert made.activate_task(task), "a claimed task cannot be started"
    return run, task


def message(run: int, node: int, **parts: bytes) -> Any:
    made = make_message(
        metadata=Metadata(
            run_id=run,
            message_id="",
            src_node_id=constant.SUPERLINK_NODE_ID,
            dst_node_id=node,
            reply_to_message_id="",
            group_id="key",
            created_at=now().timestamp(),
            ttl=60.0,
            message_type=MESSAGE_TYPE,
        ),
        content=RecordDict({RECORD: ConfigRecord(dict(parts))}),
    )
    made.metadata.__dict__["_message_id"] = made.object_id
    return made


def stored(made: InMemoryLinkState, run: int, sent: Any) -> None:
    session = made.start_session(run)
    ok, missing = made.store_message_and_object_tree(
        remove_content_from_message(sent), get_object_tree(sent), session
    )
    assert ok, "LinkState refused a message to an active node"
    objects = get_all_nested_objects(sent)
    for identity in missing:
        assert made.store_object(run, session, identity, objects[identity].deflate())


def active(made: InMemoryLinkState, key: bytes = b"k") -> int:
    node = made.create_node(constant.NOOP_FLWR_AID, constant.NOOP_ACCOUNT_NAME, key, 0)
    assert made.activate_node(node, 30)
    return node


def test_the_pinned_version_is_installed() -> None:
    assert importlib.metadata.version("flwr") == "1.41.0"


def test_flower_is_told_to_stay_at_home() -> None:
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"


def test_flowers_own_console_handler_is_gone() -> None:
    flower = logging.getLogger("flwr")
    kinds = [type(handler).__module__ for handler in flower.handlers]
    assert "hejin_trust.fleet" in kinds
    assert not [kind for kind in kinds if kind.startswith(("flwr", "logging"))]
    assert not flower.propagate


def test_only_the_two_engine_modules_import_flower() -> None:
    importing = set()
    for path in ROOMS.glob("*/hejin_*/**/*.py"):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in item.names] if isinstance(item, ast.Import) else []
            if isinstance(item, ast.ImportFrom):
                names = [item.module or ""]
            if any(name.split(".")[0] == "flwr" for name in names):
                importing.add(str(path.relative_to(ROOMS)))
    assert importing == {
        "coordinator/hejin_coordinator/engine.py",
        "node/hejin_node/engine.py",
    }


def test_the_fleet_service_has_the_methods_we_know() -> None:
    known = ALLOWED_METHODS | {"UnregisterNode", "GetRun", "GetFab", "ConfirmMessageReceived"}
    served = {name for name in dir(fleet_pb2_grpc.FleetServicer) if not name.startswith("_")}
    assert served == known, "decide whether a node needs the new method; binding.ALLOWED_METHODS"


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (InMemoryLinkState.start_session, "run_id"),
        (InMemoryLinkState.store_message_and_object_tree, "message object_tree session_id"),
        (InMemoryLinkState.store_object, "run_id session_id object_id object_content"),
        (InMemoryLinkState.get_object, "run_id object_id"),
        (InMemoryLinkState.delete_messages, "message_ins_ids"),
        (InMemoryLinkState.cleanup_run, "run_id"),
        (InMemoryLinkState.get_node_info, "node_ids owner_aids statuses"),
        (InMemoryLinkState.get_run_status, "run_ids"),
        (InMemoryLinkState.claim_task, "task_id"),
        (InMemoryLinkState.activate_task, "task_id"),
        (InMemoryLinkState.finish_task, "task_id sub_status details"),
        (InMemoryLinkState.acknowledge_task_heartbeat, "task_id"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_linkstate_method_takes_what_we_give(
    function: Callable[..., Any], parameters: str
) -> None:
    taken = list(inspect.signature(function).parameters)[1:]
    assert taken == parameters.split(), f"{function.__name__} takes {taken}"


def test_a_run_without_an_app_starts() -> None:
    made = state()
    run, _ = started(made)
    info = made.get_run_info(run_ids=[run])[0]
    assert (info.fab_hash, info.fab_id) == ("", ""), "a run without an app names one"


def test_a_run_dies_without_a_heartbeat_in_a_minute() -> None:
    patience = constant.HEARTBEAT_PATIENCE * constant.HEARTBEAT_DEFAULT_INTERVAL
    assert patience > TASK_BEAT * 3, "Flower ends a task sooner; lower TASK_BEAT"


def test_an_object_is_what_our_reader_reads() -> None:
    made = state()
    run, _ = started(made)
    sent = message(run, active(made), question=b"q", empty=b"", long=bytes(1000))
    objects = get_all_nested_objects(sent)
    order = [t.object_id for t in iterate_object_tree(get_object_tree(sent))][::-1]
    assert order[0] == sent.metadata.message_id, "the root's id is not the message's"
    contents = [objects[identity].deflate() for identity in order]
    assert open_objects(contents, order) == {"question": b"q", "empty": b"", "long": bytes(1000)}


def test_a_message_is_delivered_once() -> None:
    made = state()
    run, _ = started(made)
    node = active(made)
    stored(made, run, message(run, node, a=b"1"))
    assert len(made.get_message_ins(node, 1)) == 1
    assert made.get_message_ins(node, 1) == [], "Flower delivers again; re-issuing doubles it"


def test_a_message_is_delivered_to_its_node_only() -> None:
    made = state()
    run, _ = started(made)
    node, other = active(made), active(made, b"other")
    stored(made, run, message(run, node, a=b"1"))
    assert made.get_message_ins(other, 1) == []


def test_a_cleaned_run_keeps_nothing() -> None:
    made = state()
    run, _ = started(made)
    stored(made, run, message(run, active(made), a=b"1"))
    made.cleanup_run(run)
    assert made.num_message_ins() == 0
    assert len(made.object_store) == 0
    assert made._object_push_sessions == {}, "cleanup_run leaves push sessions"


def test_equal_content_is_stored_once_and_goes_with_its_last_message() -> None:
    made = state()
    run, _ = started(made)
    first = message(run, active(made), a=b"1")
    second = message(run, active(made, b"other"), a=b"1")
    stored(made, run, first)
    stored(made, run, second)
    assert len(made.object_store) == 4
    made.object_store.delete(first.metadata.message_id)
    assert made.get_object(run, get_object_tree(second).children[0].object_id)
    made.object_store.delete(second.metadata.message_id)
    assert len(made.object_store) == 0


def test_an_object_that_is_on_its_way_is_empty() -> None:
    made = state()
    run, _ = started(made)
    sent = message(run, active(made), a=b"1")
    made.store_message_and_object_tree(
        remove_content_from_message(sent), get_object_tree(sent), made.start_session(run)
    )
    assert made.get_object(run, sent.metadata.message_id) == b""
    assert made.get_object(run, "0" * 64) is None


def test_replaced_nodes_can_be_taken_out() -> None:
    made = state()
    node = active(made, b"key")
    assert made.nodes[node].public_key == b"key"
    assert made.node_public_key_to_node_id == {b"key": node}
    assert made.owner_to_node_ids == {made.nodes[node].owner_aid: {node}}
    assert made.lock.acquire(timeout=1), "LinkState's lock is not a lock"
    made.lock.release()


def test_an_error_message_is_one_object() -> None:
    made = make_message(metadata=message(1, 2).metadata, error=Error(1, "why"))
    assert len(get_all_nested_objects(made)) == 1
    assert remove_content_from_message(made) is made


def test_no_message_needs_the_process_wide_task_identity() -> None:
    with pytest.raises(RuntimeError):
        _ = TaskIdentity.run_id
    assert message(1, 2).metadata.run_id == 1
