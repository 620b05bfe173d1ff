"""A hostile bank with the real bank's keys cannot make a real node run, keep or tell anything."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from fleet_world import Signer
from flwr.app import ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from hostile_world import (
    MARK,
    HostileBank,
    NodeProcess,
    broken,
    failing,
    listing,
    question,
    receipt,
    signed,
    wait_for,
)
from leak_search import Search
from node_world import BANK, World, approved, fill, found_world, new_session
from serving import serving

from hejin.v1 import coordinator_pb2 as pb
from hejin_models.plan import Plan
from hejin_models.state import MAX_BYTES, encode_state
from hejin_models.uscc import make_code
from hejin_node import inbox
from hejin_node.config import FILE, NodeSettings
from hejin_node.home import NodeHome, open_home
from hejin_privacy.messages import NotReceived, Receipt
from hejin_regulator import service as regulator_service
from hejin_trust.database import reading, writing
from hejin_trust.entries import Entry, parse
from hejin_trust.envelope import (
    NOT_RECEIVED,
    PLAN,
    RECEIPT,
    REFUSAL,
    SUM_QUERY,
    SUM_RESULT,
    open_envelope,
    seal,
)
from hejin_trust.fleet import MAX_PAYLOAD, RECORD, Payload
from hejin_trust.keys import SigningKey
from hejin_trust.settings import read_settings, write_settings
from hejin_trust.worth_logging import MOST_LOGGED

pytestmark = pytest.mark.system

NODE = "node-1"
FIRMS = 40
RUN = "ab" * 16
SUMS = (("label_histogram", "train"), ("histogram", "train"), ("label_histogram", "holdout"))
MOST_RESIDENT = 1 << 30
MOST_OTHER_LINES = 200
ODD: tuple[Any, ...] = (
    "", "x" * 9, -1, 0, 1 << 52, True, None, [], ["a", ["b"]], [{}], {}, {"num": "1", "den": "0"},
)  # fmt: skip


@dataclass
class Victim:
    """An admitted node that answered two rounds of an approved plan; the bank owes receipts."""

    world: World
    home: Path
    plan: Plan
    digest: str
    offered: bytes

    def entries(self, kind: str) -> list[Entry]:
        """Return the entries of this type in both of the node's ledgers."""
        with open_home(self.home) as home, reading(home.database) as connection:
            raw = [
                leaf
                for log in (home.release_log, home.internal_log)
                for leaf in log.entries(connection)
            ]
        return [entry for entry in map(parse, raw) if entry.type == kind]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    world = found_world(tmp_path_factory.mktemp("hostile"))
    path = world.nodes[NODE]
    with open_home(path) as home:
        fill(home, world, FIRMS)
        plan, digest = approved(home, world, sums=SUMS)
        with writing(home.database) as connection:
            inbox.mark_sent(connection, digest)
        desk = world.receipts(home)
        desk.down = True
        session = new_session(home, desk)
        for number in (1, 2):
            query = world.query(plan, digest, run=RUN, number=number, index=number - 1)
            assert session.answer(query)["kind"] == b"masked"
    offered, _, _ = world.propose(rho=Fraction(1, 100))
    return Victim(world, path, plan, digest, offered)


@pytest.fixture
def hostile(victim: Victim) -> Iterator[HostileBank]:
    made = HostileBank(victim.world.bank, victim.home / "witness")
    file = victim.home / FILE
    settings = read_settings(file, NodeSettings)
    with serving(regulator_service.serve, victim.world.office.home) as port:
        known = {"banks": {BANK: made.address}, "regulator": f"127.0.0.1:{port}"}
        write_settings(file, settings.model_copy(update=known))
        yield made
    made.server.stop(0).wait()


def flower_messages() -> Iterator[tuple[RecordDict | Error, dict[str, Any]]]:
    """Every message type of Flower with every kind of content; ours with shapes that are not."""

    def ours(**parts: Any) -> RecordDict:
        return question(parts)

    contents: list[RecordDict | Error] = [
        RecordDict(),
        RecordDict({"arrays": ArrayRecord([np.zeros(1000)])}),
        RecordDict({"metrics": MetricRecord({"loss": 1.0}), "config": ConfigRecord({"lr": 0.1})}),
        RecordDict(
            {"config": ConfigRecord({"fab_hash": "x", MARK: "rm -rf /", "b": b"\x80\x04."})}
        ),
        ours(kind=b"query", query=MARK.encode()),
        Error(1, MARK),
    ]
    kinds = ["train", "evaluate", "query", "system", "train.custom", "query.custom"]
    kinds += ["get_parameters", "get_properties", "reconnect", "system.exec", "../..", " "]
    for kind in kinds:
        for content in contents:
            yield content, {"kind": kind}
    for content in (*contents[:4], contents[5]):
        yield content, {}
    yield ours(q=MARK), {}
    yield ours(q=[b"1", b"2"]), {}
    yield ours(q=[False] * 100_000), {}
    yield ours(request=MARK.encode()), {}
    yield ours(**{f"{MARK}{i}": b"" for i in range(50)}), {}
    yield RecordDict({RECORD: ConfigRecord({"q": b"1"}), "more": ConfigRecord({"q": b"2"})}), {}
    yield ours(q=b"1"), {"group_id": "x" * 1000}
    deep = ObjectTree(object_id="0" * 64)
    for _ in range(40):
        deep = ObjectTree(object_id="0" * 64, children=[deep, ObjectTree(object_id="1" * 64)])
    yield ours(q=b"deep"), {"tree": deep}
    yield ours(q=b"large"), {"swap": bytes(MAX_PAYLOAD + 1)}
    for swap in (b"garbage", b"CustomDataClass  0\0", b"ArrayRecord  3\0abc", b"Message  0\0"):
        yield ours(q=swap), {"swap": swap}


def no_documents() -> Iterator[bytes]:
    """Payloads that a valid signature makes no better."""
    yield from (b"", b"\xff\xfe{", MARK.encode(), b"null", b"1e999", b"[" * 100_000)
    yield b'{"a":' * 50_000
    yield b'{"v":1,"v":1}'
    yield b'{"v":' + b"9" * 5000 + b"}"
    yield b'{"v":NaN}'
    yield b'{"' + MARK.encode() + b'":1}'


def altered(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every field of a document, also inside others, replaced by odd values or left out."""
    for key, value in body.items():
        for odd in ODD:
            yield {**body, key: odd}
        yield {k: v for k, v in body.items() if k != key}
        if isinstance(value, dict):
            yield from ({**body, key: inner} for inner in altered(value))
        if isinstance(value, list) and isinstance(value[0], dict):
            yield from ({**body, key: [inner, *value[1:]]} for inner in altered(value[0]))
    yield {**body, MARK: 1}


def written(body: dict[str, Any]) -> bytes:
    """The canonical form, also of what has none."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def no_plans(victim: Victim) -> Iterator[bytes]:
    """Signed by the bank as plans, and none."""
    key = victim.world.bank.identity
    for payload in no_documents():
        yield signed(PLAN, payload, key, BANK)
    for body in altered(victim.plan.body()):
        try:
            Plan.parse(body)
        except Exception:
            yield signed(PLAN, written(body), key, BANK)
    body = victim.plan.body()
    yield seal(PLAN, body, SigningKey.generate(), BANK)
    yield seal(SUM_QUERY, body, key, BANK)
    yield from (seal(PLAN, body, key, signer) for signer in (NODE, "regulator", "nobody"))


def offers(victim: Victim) -> Iterator[Any]:
    junk = MARK.encode()
    yield listing(b"", junk, b"\xff" * 1000, b"{" * 100_000, b"[]", b"null")
    yield listing(*no_plans(victim))
    yield listing(*[junk] * 20_000)
    yield listing(junk * (50 << 20 >> 5))
    yield listing(bytes(70 << 20))  # more than a channel lets through
    yield broken
    yield failing
    yield listing()


def receipts(victim: Victim) -> Iterator[Any]:
    """Receipts for nothing: of other rounds, runs, nodes and bytes, and no receipts at all."""
    key, at = victim.world.bank.identity, "2026-01-01T00:00:00Z"
    zero = "0" * 64
    yield receipt(b"")
    yield receipt(MARK.encode())
    yield receipt(MARK.encode() * (50 << 20 >> 5))
    yield broken
    yield failing
    for run, number, node in [(RUN, 9, NODE), ("00" * 16, 1, NODE), (RUN, 1, "node-2")]:
        yield receipt(seal(NOT_RECEIVED, NotReceived(run, number, node, at).body(), key, BANK))
    for run, number in [(RUN, 1), (RUN, 2), (RUN, 10_000), ("00" * 16, 1)]:
        forged = Receipt(run, number, NODE, zero, zero, MARK, at)
        yield receipt(seal(RECEIPT, forged.body(), key, BANK))
    for payload in no_documents():
        yield receipt(signed(RECEIPT, payload, key, BANK))


def questions(victim: Victim) -> Iterator[Payload]:
    """Queries and results that arrive whole, and that no bank may ask; the plan is approved."""
    world, plan, digest = victim.world, victim.plan, victim.digest
    key, junk = world.bank.identity, MARK.encode()

    def query(**changes: Any) -> Payload:
        asked: Any = {"number": 3, "index": 2, **changes}
        return world.query(plan, digest, run=RUN, **asked)

    right = query()
    yield {}
    yield {"kind": junk}
    yield {"kind": b"query"}
    yield {"kind": b"query", "query": junk, "state": junk, "result": junk}
    yield {"kind": b"query", "query": bytes(4 << 20)}
    yield {"kind": b"result", "result": junk}
    yield {**right, "kind": b"result", "result": right["query"]}
    yield {**right, "query": victim.offered}
    yield {**right, "state": junk}
    yield {**right, "state": bytes(MAX_BYTES + 1)}
    yield {**right, "result": junk}
    for payload in no_documents():
        yield {**right, "query": signed(SUM_QUERY, payload, key, BANK)}
        yield {"kind": b"result", "result": signed(SUM_RESULT, payload, key, BANK)}
    body = open_envelope(right["query"], SUM_QUERY, key.public, BANK).body
    for number, changed in enumerate(altered(body)):
        if number % 9 == 0:
            yield {**right, "query": signed(SUM_QUERY, written(changed), key, BANK)}
    yield {**right, "query": seal(SUM_QUERY, body, SigningKey.generate(), BANK)}
    yield {**right, "query": seal(SUM_QUERY, body, key, NODE)}
    yield query(forged={"plan": "0" * 64})
    yield query(forged={"run": "cd" * 16})
    yield query(forged={"part": "train"})
    yield query(forged={"previous": "0" * 64})
    yield query(forged_state=junk)
    yield query(forged_state=encode_state({"x": np.array([0.5])}))
    yield query(forged_state=encode_state({"x": np.array([0.5])})[:-8] + b"\xff" * 8)  # NaN
    yield query(number=2)  # another question under a round that was answered
    # What an honest bank asks next; the receipts that it owes decide.
    for _ in range(8):
        yield right


def refusal(victim: Victim, asked: Payload, answer: Payload | str) -> dict[str, object]:
    """Return the node's signed refusal; it says nothing but code and reason."""
    assert isinstance(answer, dict), answer
    assert set(answer) == {"kind", "refusal"}
    assert answer["kind"] == b"refusal"
    key = victim.world.office.charter.member(NODE).identity_key
    body = open_envelope(answer["refusal"], REFUSAL, key, NODE).body
    assert set(body) == {"v", "request", "code", "reason", "time"}
    request = asked.get("query") or asked.get("result") or b""
    assert body["request"] == hashlib.sha256(request).hexdigest()
    return body


def check_untouched(node: NodeProcess, names: set[str]) -> None:
    assert node.alive(), node.lines[-20:]
    assert node.children() == []
    assert {str(path) for path in node.file_names()} == names


def test_a_hostile_bank_gets_refusals_and_nothing_else(
    victim: Victim, hostile: HostileBank, tmp_path: Path
) -> None:
    reserved, released = victim.entries("reserve"), victim.entries("release")
    with NodeProcess(victim.home, tmp_path / "scratch") as node:
        node.wait_until_it_serves()
        wait_for(lambda: hostile.calls["PullMessages"] >= 2, "the node does not look")
        idle = {"RegisterNode", "ActivateNode", "PullMessages", "ListOffers", "GetReceipt"}
        assert set(hostile.calls) <= idle
        before, names = node.files(), {str(path) for path in node.file_names()}
        resident, quiet = node.resident(), len(node.lines)

        hostile.offers, hostile.receipts = list(offers(victim)), list(receipts(victim))
        errors = 0
        for content, options in flower_messages():
            assert hostile.ask(content, **options) == "payload-refused"
            check_untouched(node, names)
            errors += 1
        codes: list[tuple[object, object]] = []
        for asked in questions(victim):
            said = refusal(victim, asked, hostile.ask(question(asked)))
            codes.append((said["request"], said["code"]))
            check_untouched(node, names)
        wait_for(
            lambda: len(hostile.offers) == len(hostile.receipts) == 1,
            "not all were taken",
        )
        check_untouched(node, names)

        # Nothing was run or kept: no bundle fetched, no process ever, no file but the database's.
        calls = hostile.calls
        assert calls["GetFab"] == calls["GetRun"] == calls["UnregisterNode"] == 0
        assert calls["AnswerOffer"] == 0
        assert set(calls) <= idle | {
            "SendNodeHeartbeat",
            "PullObject",
            "PushMessages",
            "PushObject",
        }
        assert not node.ever_had_a_child()
        after = node.files()
        changed = {Path(name).name for name in after if after[name] != before.get(name)}
        assert changed <= {"node.db", "node.db-wal", "node.db-shm"}
        assert {"node.db", "serve.lock"} <= {Path(name).name for name in names}
        assert not [c for c in node.seen.net_connections() if c.status == "LISTEN"]

        # Nothing was told: no charge, no release, no firm in any byte that the node sent.
        assert victim.entries("reserve") == reserved
        assert victim.entries("release") == released
        assert victim.entries("receipt") == []
        firms = Search([make_code(n) for n in range(FIRMS)])
        assert firms.in_bytes("wire", hostile.sent_bytes()) == []
        assert MARK.encode() not in hostile.sent_bytes()

        # Refusals are in the ledger with code and peer, as many as one bank may cause a minute, and
        # with no word of the message.
        logged = victim.entries("refusal")
        told = [(e.body["request"], e.body["code"]) for e in logged]
        rest = iter(codes)
        assert all(each in rest for each in told), "they are logged in their order"
        assert set(list(dict.fromkeys(codes))[:MOST_LOGGED]) <= set(told)
        assert {tuple(sorted(e.body)) for e in logged} == {("code", "peer", "request")}
        assert {e.body["peer"] for e in logged} == {BANK}
        assert [code for _, code in codes[-8:]] == ["receipt-missing"] * 8
        assert not [name for name in after if MARK.encode() in Path(name).read_bytes()]
        printed = "\n".join(node.lines)
        assert printed.count("(payload-refused)") == errors
        assert "code=offers-too-many" in printed
        assert MARK not in printed
        assert len(node.lines) - quiet < errors + len(codes) + MOST_OTHER_LINES
        assert not re.search(r"\x1b|^level=error|Traceback", printed, re.MULTILINE)

        peak, late = node.most_resident(), node.resident()
        print(
            f"{errors} Flower messages, {len(codes)} questions, {calls['ListOffers']} listings,"
            f" {calls['GetReceipt']} receipts; {len(node.lines)} lines; resident"
            f" {resident >> 20} MiB, then {late >> 20}, at most {peak >> 20}"
        )
        assert peak < MOST_RESIDENT
        check_still_honest(victim, hostile)
        assert node.end() == 0, node.lines[-20:]


def check_still_honest(victim: Victim, hostile: HostileBank) -> None:
    """The same process takes a true plan, and answers as soon as the bank gives its receipts."""
    world = victim.world
    with open_home(victim.home) as home:
        hostile.receipts = [lambda request, _: honest(world, home, request)]
        hostile.offers = [listing(victim.offered)]
        right = world.query(victim.plan, victim.digest, run=RUN, number=3, index=2)
        answer = hostile.ask(question(right))
        assert isinstance(answer, dict)
        assert answer["kind"] == b"masked"
        assert len(victim.entries("receipt")) == 2
        digest = open_envelope(victim.offered, PLAN, world.bank.identity.public, BANK).digest

        def arrived() -> bool:
            with reading(home.database) as connection:
                return digest in {offer.digest for offer in inbox.offers(connection)}

        wait_for(arrived, "the node takes no plan any more")


def honest(world: World, home: NodeHome, request: bytes) -> bytes:
    asked = pb.GetReceiptRequest.FromString(request)
    given = world.receipts(home)(asked.run, asked.round)
    return pb.GetReceiptResponse(receipt=given).SerializeToString()


def test_the_bundle_is_really_there_for_those_who_ask(victim: Victim, hostile: HostileBank) -> None:
    """The control: a node that calls GetFab gets the code, and the count shows it."""
    signer = Signer()
    with open_home(victim.home) as home, home.dial(BANK, hostile.address) as channel:
        fleet = FleetStub(grpc.intercept_channel(channel, signer))
        fleet.RegisterNode(RegisterNodeFleetRequest(public_key=signer.public))
        made = fleet.ActivateNode(
            ActivateNodeRequest(public_key=signer.public, heartbeat_interval=30)
        )
        request = GetFabRequest(
            node=Node(node_id=made.node_id), hash_str=hostile.app, run_id=hostile.run
        )
        assert b"evil" in fleet.GetFab(request).fab.content
    assert hostile.calls["GetFab"] == 1
