"""No row leaves a node: not on the wire, in a ledger, a log, an export or an error's text.

Whole runs of real processes; every request and response of each node is recorded as serialized,
before TLS, and searched together with all that others keep. The same search catches three nodes
that leak on purpose.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from leak_search import Canary, Hit, Search
from leak_world import (
    Message,
    canaries,
    leak_beside,
    leak_in_log,
    leak_in_vector,
    messages,
    plant_rows,
    record,
    record_and_fail_once,
    rows_of,
    said_of_bad_files,
)
from node_world import BANK
from process_world import Members, prepared

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

DONE = re.compile(r"event=run-done\b")
NODES = ("node-1", "node-2", "node-3")


def carried_out(folder: Path, plants: dict[str, Callable[[Path], None]]) -> Members:
    """Carry out a plan to its model with recorded nodes; export."""
    members = prepared(folder, plant=plant_rows)
    members.plants.update(plants)
    with members:
        members.start_all()
        members.wait_for(BANK, DONE)
        members.stop_all()
    assert members.nodes == NODES
    members.export()
    return members


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Members:
    return carried_out(
        tmp_path_factory.mktemp("honest"),
        {"node-1": record, "node-2": record, "node-3": record_and_fail_once},
    )


@pytest.fixture(scope="module")
def search() -> Search:
    return Search(canaries(NODES))


def wire(members: Members, node: str) -> list[Message]:
    return list(messages((members.folder / node).with_suffix(".wire")))


def in_wire(search: Search, members: Members, node: str) -> Iterator[Hit]:
    for message in wire(members, node):
        yield from search.in_bytes(f"{node} {message.direction} {message.method}", message.data)


def in_files(search: Search, members: Members) -> Iterator[Hit]:
    """Search all files outside the nodes' homes and the recordings."""
    for path in sorted(members.folder.rglob("*")):
        inside = path.relative_to(members.folder)
        if path.is_file() and inside.parts[0] not in NODES and path.suffix != ".wire":
            yield from search.in_bytes(str(inside), path.read_bytes())


def test_no_canary_crosses_the_boundary_of_a_node(honest: Members, search: Search) -> None:
    for node in NODES:
        assert list(in_wire(search, honest, node)) == []


def test_no_canary_is_in_logs_ledgers_exports_or_what_the_bank_keeps(
    honest: Members, search: Search
) -> None:
    names = {path.name for path in honest.folder.rglob("*")}
    assert {"coordinator.db", "release.jsonl", "internal.jsonl", "node-1.log"} <= names
    assert list(in_files(search, honest)) == []


def test_an_error_that_quotes_customers_is_logged_by_type_and_place_alone(honest: Members) -> None:
    said = honest.said("node-3")
    assert "ValueError at " in said
    assert "cannot add" not in said


def test_the_recording_is_of_whole_runs_and_readable_to_the_search(honest: Members) -> None:
    leaves = (honest.folder / "export" / BANK / "release.jsonl").read_text().splitlines()
    run = next(entry for entry in map(json.loads, leaves) if entry["type"] == "result")
    for node in NODES:
        recorded = wire(honest, node)
        called = {message.method.rpartition("/")[2] for message in recorded}
        assert {"ListOffers", "GetReceipt", "PullObject", "PushMessages", "PushObject"} <= called
        for direction in ("out", "in"):
            seen = [message.data for message in recorded if message.direction == direction]
            # The run's id is deep inside: a signed header in base64, in JSON, in protobuf.
            assert Search([run["body"]["run"]]).in_bytes(direction, b"".join(seen))
        assert any(message.direction == "metadata" for message in recorded)


def test_the_canaries_are_in_the_rows_that_the_nodes_used(honest: Members) -> None:
    from hejin_node.home import open_home

    for node in NODES:
        with open_home(honest.folder / node) as home:
            batches = [batch.to_pylist() for batch in home.warehouse.read("data", "firms")]
        held = {row["enterprise"]: row for batch in batches for row in batch}
        for row in rows_of(node):
            assert (held[row.code]["kind"], held[row.code]["staff"]) == (row.kind, row.staff)


def test_what_commands_say_of_bad_files_quotes_no_row(
    honest: Members, search: Search, tmp_path: Path
) -> None:
    said = said_of_bad_files(honest.folder / "node-1", tmp_path / "bad")
    assert said.count("\n") > 30
    assert search.in_bytes("commands", said.encode()) == []


def test_nodes_that_leak_on_purpose_are_caught(
    tmp_path_factory: pytest.TempPathFactory, search: Search
) -> None:
    leaking = carried_out(
        tmp_path_factory.mktemp("leaking"),
        {"node-1": leak_beside, "node-2": leak_in_vector, "node-3": leak_in_log},
    )
    beside = {hit.canary for hit in in_wire(search, leaking, "node-1")}
    assert {row.code for row in rows_of("node-1")} <= beside
    in_vector = {hit.form for hit in in_wire(search, leaking, "node-2")}
    assert in_vector == {"float32 <"}
    # The total that the bank keeps gives the forged vector away as well.
    assert {hit.source for hit in in_files(search, leaking)} == {
        "node-3.log",
        f"{BANK}/coordinator.db",
    }


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda data: data,
    "base64": base64.b64encode,
    "base64 at another alignment": lambda data: base64.b64encode(b"x" + data),
    "base64 at the third alignment": lambda data: base64.b64encode(b"xy" + data),
    "base64 in lines": lambda data: base64.encodebytes(b"z" * 50 + data),
    "urlsafe base64 without padding": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
    "hex": lambda data: data.hex().encode(),
    "upper-case hex": lambda data: data.hex().upper().encode(),
    "zlib": lambda data: b"head" + zlib.compress(data),
    "zlib at level 1": lambda data: zlib.compress(data, 1),
    "gzip": lambda data: gzip.compress(data),
    "gzip in base64 in JSON in base64": lambda data: base64.b64encode(
        json.dumps({"a": base64.b64encode(gzip.compress(data)).decode()}).encode()
    ),
}
WRITINGS: dict[str, tuple[Canary, Callable[[Canary], bytes]]] = {
    "text": ("CANARY~0123456789", lambda v: str(v).encode()),
    "Chinese text": ("金丝雀企业", lambda v: str(v).encode()),
    "Chinese text, GB18030": ("金丝雀企业", lambda v: str(v).encode("gb18030")),
    "JSON escapes": ("金丝雀企业", lambda v: json.dumps(v).encode()),
    "UTF-16": ("CANARY~0123456789", lambda v: str(v).encode("utf-16-le")),
    "UTF-32, as NumPy has it": ("CANARY~0123456789", lambda v: str(v).encode("utf-32-le")),
    "decimal": (73.90128456712, lambda v: repr(v).encode()),
    "float64": (73.90128456712, lambda v: struct.pack("<d", v)),
    "float64, big-endian": (73.90128456712, lambda v: struct.pack(">d", v)),
    "int64": (384756102938, lambda v: struct.pack("<q", v)),
    "int64, big-endian": (384756102938, lambda v: struct.pack(">q", v)),
    "fixed point": (384756102938, lambda v: struct.pack("<q", int(v) << 20)),
    "an integer as float64": (384756102938, lambda v: struct.pack("<d", v)),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("writing", WRITINGS)
def test_the_search_finds_a_value_however_it_is_written_and_wrapped(
    wrapping: str, writing: str
) -> None:
    canary, write = WRITINGS[writing]
    data = b'{"run":"' + WRAPPINGS[wrapping](write(canary)) + b'","vector":"'
    if len(write(canary)) * 4 / 3 < 24 and wrapping.startswith(("base64 in l", "gzip in")):
        data = b'{"run":"' + WRAPPINGS[wrapping](write(canary) + bytes(24)) + b'","vector":"'
    assert {hit.canary for hit in Search([canary]).in_bytes("planted", data)} == {canary}


@pytest.mark.parametrize("form", ["<f", ">f", "<i", ">i"])
def test_two_values_of_four_bytes_are_found_and_one_is_chance(form: str) -> None:
    values: list[Canary] = [1_234_567_890, 1_987_654_321, 1_555_444_333]
    pair = struct.pack(form, values[0]) + b"between" + struct.pack(form, values[1])
    found = Search(values).in_bytes("planted", zlib.compress(pair))
    assert {hit.canary for hit in found} == set(values[:2])
    assert Search(values).in_bytes("planted", struct.pack(form, values[0])) == []
