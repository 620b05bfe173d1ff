"""Rows with canaries, a recorder at a node's gRPC boundary, and nodes that leak on purpose.

The functions that take a home are called first in a node's process (member_process.Start.plant).
"""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import structlog
from bank_world import Bank
from leak_search import Canary
from node_world import BANK, DEFINITION, terms

from hejin_models.uscc import make_code
from hejin_node import session
from hejin_node.cli import app as node_commands
from hejin_node.consent import grant_many
from hejin_node.home import NodeHome
from hejin_node.labels import label_spec, load_labels
from hejin_node.session import Session
from hejin_privacy.messages import MaskedHeader
from hejin_trust import channels
from hejin_trust.database import writing
from hejin_trust.envelope import SUM_MASKED, open_envelope, seal

ROWS = 17  # of each of three nodes: 51 rows, 153 canaries


@dataclass(frozen=True, slots=True)
class Row:
    """One enterprise that is all canaries."""

    code: str
    kind: str
    staff: float | int


@dataclass(frozen=True, slots=True)
class Message:
    """What crossed a node's boundary, in plain bytes. `direction` is out, in or metadata."""

    method: str
    direction: str
    data: bytes


def rows_of(node: str) -> list[Row]:
    """Return a node's canaries: long numbers, and texts in two scripts."""
    place = int(node.rpartition("-")[2])
    found = []
    for n in range(ROWS):
        mark = hashlib.sha256(f"{node} {n}".encode()).hexdigest()
        whole = int(mark[:12], 16)
        found.append(
            Row(
                code=make_code(50_000 + 1_000 * place + n),
                kind=f"金丝雀{mark[:4]}企业{mark[4:8]}号" if n % 3 == 0 else f"CANARY~{mark[:16]}",
                staff=(
                    100_000_000_000 + whole % 800_000_000_000,  # an integer that float64 holds
                    100_000_000 + whole % 2_000_000_000,  # one that int32 may hold
                    (whole % 10**11) / 1e9,  # inside of the grid
                )[n % 3],
            )
        )
    return found


def canaries(nodes: tuple[str, ...]) -> list[Canary]:
    """Return everything that must not be found outside the nodes' homes."""
    found: list[Canary] = []
    for node in nodes:
        for row in rows_of(node):
            found += [row.code, row.kind, row.staff]
            if isinstance(row.staff, int):
                found.append(float(row.staff))
    return found


def plant_rows(bank: Bank) -> None:
    """Add the canary rows, with labels and authorisations, to every node."""
    for name, home in bank.nodes.items():
        rows = rows_of(name)
        table = pa.table(
            {
                "enterprise": [row.code for row in rows],
                "staff": pa.array([float(row.staff) for row in rows], pa.float64()),
                "kind": [row.kind for row in rows],
            }
        )
        columns = {"enterprise": "text", "staff": "number", "kind": "text"}
        home.warehouse.append("firms", columns, table.to_batches(), "1" * 64)  # type: ignore[arg-type]
        labels = home.path / "canaries.csv"
        labels.write_text(
            "enterprise,label\n" + "".join(f"{row.code},{n % 2}\n" for n, row in enumerate(rows))
        )
        load_labels(home.warehouse, home.internal_log, labels, label_spec(BANK, DEFINITION))
        with writing(home.database) as connection:
            grant_many(
                connection,
                home.internal_log,
                home.pseudonym_key,
                [(row.code, terms(bank.world)) for row in rows],
            )


MAPPING = """
dataset = "firms"

[enterprise]
column = "enterprise"

[columns.staff]
type = "number"
maximum = 100

[columns.kind]
type = "text"
"""


def said_of_bad_files(node: Path, folder: Path) -> str:
    """Return all that a node's commands say of files full of canaries that they refuse."""
    from typer.testing import CliRunner

    rows = rows_of(node.name)
    folder.mkdir()
    (folder / "mapping.toml").write_text(MAPPING)
    good = f"{rows[0].code},1,{rows[0].kind}\n"
    files = {
        "numbers": "".join(f"{row.code},{row.kind},{row.kind}\n" for row in rows),
        "range": "".join(f"{row.code},{row.staff!r},{row.kind}\n" for row in rows),
        "codes": "".join(f"{row.kind},1,{row.kind}\n" for row in rows),
        "ragged": good + "".join(f"{row.code}\n" for row in rows),
        "quotes": good + f'"{rows[1].code},"{rows[1].kind}"x,1\n',
    }
    said = ""
    for name, lines in files.items():
        file = folder / f"{name}.csv"
        file.write_text("enterprise,staff,kind\n" + lines, "utf-8")
        commands = (
            ["ingest", str(file), "--mapping", str(folder / "mapping.toml")],
            ["labels", "load", str(file), "--bank", BANK, "--definition", DEFINITION],
            ["authorisation", "import", str(file)],
        )
        for command in commands:
            told = CliRunner().invoke(node_commands, [*command, "--home", str(node)])
            text = getattr(told.exception, "text", told.exception)
            said += f"{command[0]} {name}: {told.exit_code}\n{told.output}\n{text!r}\n"
    return said


class _Recorder:
    """Stands where the node's channel is made, below every interceptor."""

    def __init__(self, channel: grpc.Channel, file: Path) -> None:
        self._channel, self._file = channel, file
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def unary_unary(self, method: str, request_serializer: Any, response_deserializer: Any,
                    *rest: Any) -> Any:  # fmt: skip
        def serialize(request: Any) -> bytes:
            data: bytes = request_serializer(request)
            self.note(method, "out", data)
            return data

        def deserialize(data: bytes) -> Any:
            self.note(method, "in", data)
            return response_deserializer(data)

        call = self._channel.unary_unary(method, serialize, deserialize, *rest)
        return _Call(call, lambda data: self.note(method, "metadata", data))

    def note(self, method: str, direction: str, data: bytes) -> None:
        head = json.dumps([method, direction, len(data)]).encode()
        with self._lock, self._file.open("ab") as file:
            file.write(head + b"\n" + data)


class _Call:
    """A method whose metadata is noted as it is sent."""

    def __init__(self, call: Any, note: Any) -> None:
        self._call, self._note = call, note

    def __call__(self, request: Any, **named: Any) -> Any:
        return self._noted(named)(request, **named)

    def with_call(self, request: Any, **named: Any) -> Any:
        self._noted(named)
        return self._call.with_call(request, **named)

    def future(self, request: Any, **named: Any) -> Any:
        self._noted(named)
        return self._call.future(request, **named)

    def _noted(self, named: Any) -> Any:
        for key, value in named.get("metadata") or ():
            data = value if isinstance(value, bytes) else str(value).encode()
            self._note(key.encode() + b": " + data)
        return self._call


def messages(file: Path) -> Iterator[Message]:
    """Yield what a recorder wrote."""
    with file.open("rb") as recorded:
        while head := recorded.readline():
            method, direction, size = json.loads(head)
            yield Message(method, direction, recorded.read(size))


def record(home: Path) -> None:
    """Write every request and response of this node, as serialized, beside its home."""
    secure_channel = grpc.secure_channel
    file = home.with_suffix(".wire")

    def recording(*arguments: Any, **named: Any) -> Any:
        return _Recorder(secure_channel(*arguments, **named), file)

    channels.grpc.secure_channel = recording  # type: ignore[attr-defined]


def record_and_fail_once(home: Path) -> None:
    """Record; the second sum ends in a library's error whose text quotes customers."""
    record(home)
    quantised_sum, calls = session.quantised_sum, []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise ValueError(f"cannot add {rows_of(home.name)}")
        return quantised_sum(*arguments)

    session.quantised_sum = failing  # type: ignore[attr-defined]


def leak_beside(home: Path) -> None:
    """The planted fault: codes and texts travel, packed, in a field beside the answer."""
    record(home)
    outgoing = Session._outgoing

    def leaking(self: Session, *arguments: Any) -> Any:
        secret = "|".join(row.code + row.kind for row in rows_of(home.name))
        return {**outgoing(self, *arguments), "trace": zlib.compress(secret.encode())}

    Session._outgoing = leaking  # type: ignore[method-assign]


def leak_in_vector(home: Path) -> None:
    """The planted fault: rows' values as float32 where the noisy sum should be, signed."""
    record(home)
    compute = Session._compute

    def leaking(self: Session, *arguments: Any) -> Any:
        made = compute(self, *arguments)
        header, vector = made.header, made.vector
        node: NodeHome = self._home
        values = np.array([row.staff for row in rows_of(home.name)], dtype="<f4").tobytes()
        vector = values[: len(vector)] + vector[len(values) :]
        opened = open_envelope(header, SUM_MASKED, node.identity.public)
        signed = replace(MaskedHeader.parse(opened.body), vector=hashlib.sha256(vector).hexdigest())
        header = seal(SUM_MASKED, signed.body(), node.identity, node.member_id)
        return replace(made, header=header, vector=vector)

    Session._compute = leaking  # type: ignore[method-assign]


def leak_in_log(home: Path) -> None:
    """The planted fault: one enterprise's code in one line of the log."""
    record(home)
    release, log = Session._release, structlog.get_logger("leak")

    def leaking(self: Session, *arguments: Any) -> None:
        log.info("released", first=rows_of(home.name)[0].code)
        release(self, *arguments)

    Session._release = leaking  # type: ignore[method-assign]
