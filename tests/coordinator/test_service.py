"""The coordinator's own services over real mutual TLS: who is served, who is not, which port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from away_mirror import FarMirror, Line
from node_world import BANK, World, found_world

from hejin.v1 import coordinator_pb2 as pb
from hejin.v1 import coordinator_pb2_grpc as pb_grpc
from hejin_coordinator import config, service, store, witnessing
from hejin_coordinator.home import CoordinatorHome, open_home
from hejin_trust import membership
from hejin_trust.canonical import time_text
from hejin_trust.channels import PortTakenError, dial
from hejin_trust.database import reading, writing
from hejin_trust.envelope import APPROVAL, PLAN, open_envelope, seal
from hejin_trust.home import RegulatorMissingError
from hejin_trust.membership import Membership
from hejin_trust.one_history import FrozenError
from hejin_trust.settings import write_settings
from hejin_trust.text import Text
from hejin_trust.witness import Witness


@contextmanager
def serving(home: Path, address: str = "127.0.0.1:0") -> Iterator[int]:
    """Run a coordinator in a thread and yield its port; its error is raised here."""
    stop, bound = threading.Event(), threading.Event()
    ports: list[int] = []
    failures: list[BaseException] = []

    def listening(port: int) -> None:
        ports.append(port)
        bound.set()

    def work() -> None:
        try:
            service.serve(home, address, listening, stop)
        except BaseException as reason:
            failures.append(reason)
            bound.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert bound.wait(60)
        if failures:
            raise failures[0]
        yield ports[0]
    finally:
        stop.set()
        thread.join()


NOBODY = "127.0.0.1:1"
"""The regulator's address; its mirror is asked in this process instead."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = found_world(tmp_path, nodes=2)
    settle(world, world.folder / BANK, BANK)
    reach(world, monkeypatch)
    return world


def settle(world: World, home: Path, member: str, regulator: str | None = NOBODY) -> None:
    """Write a bank's settings."""
    key = world.office.identity.public.hex()
    settings = config.CoordinatorSettings(member=member, regulator_key=key, regulator=regulator)
    write_settings(home / config.FILE, settings)


def reach(world: World, monkeypatch: pytest.MonkeyPatch, line: Line | None = None) -> None:
    """Let banks ask the mirror in this process, over a line that may be cut."""

    @contextmanager
    def dialled(home: CoordinatorHome) -> Iterator[FarMirror]:
        yield FarMirror(world.mirror.door(home.member_id), home.member_id, line or Line())

    monkeypatch.setattr(service, "dialled", dialled)


def node(world: World, name: str) -> Membership:
    return membership.load(world.nodes[name], name, "node", world.office.identity.public)


@contextmanager
def plans(world: World, member: Membership, port: int) -> Iterator[pb_grpc.PlanServiceStub]:
    channel = dial(
        f"127.0.0.1:{port}",
        world.office.charter.member(BANK),
        world.office.charter,
        member.tls_key_pem,
        member.certificate_pem,
    )
    with channel:
        yield pb_grpc.PlanServiceStub(channel)


def offer(world: World) -> tuple[bytes, str]:
    envelope, digest, _ = world.propose()
    opened = open_envelope(envelope, PLAN, world.bank.identity.public)
    with open_home(world.folder / BANK) as home, writing(home.database) as connection:
        store.insert_plan(
            connection, digest, time_text(world.clock()), envelope, opened.payload, b"", False
        )
    return envelope, digest


def approval(world: World, digest: str, member: Membership) -> bytes:
    body = {"v": 1, "plan": digest, "bank": BANK, "time": time_text(world.clock())}
    return seal(APPROVAL, body, member.identity, member.member)


def test_an_invited_node_sees_an_offer_until_it_answered(world: World) -> None:
    envelope, digest = offer(world)
    one = node(world, "node-1")
    with serving(world.folder / BANK) as port, plans(world, one, port) as stub:
        assert list(stub.ListOffers(pb.ListOffersRequest(), timeout=10).plans) == [envelope]
        stub.AnswerOffer(pb.AnswerOfferRequest(answer=approval(world, digest, one)), timeout=10)
        assert list(stub.ListOffers(pb.ListOffersRequest(), timeout=10).plans) == []
    with open_home(world.folder / BANK) as home, reading(home.database) as connection:
        assert store.answers(connection, digest) == {"node-1": True}


def test_a_node_cannot_answer_for_another(world: World) -> None:
    _, digest = offer(world)
    with serving(world.folder / BANK) as port, plans(world, node(world, "node-1"), port) as stub:
        forged = approval(world, digest, node(world, "node-2"))
        with pytest.raises(grpc.RpcError) as refused:
            stub.AnswerOffer(pb.AnswerOfferRequest(answer=forged), timeout=10)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with open_home(world.folder / BANK) as home, reading(home.database) as connection:
        assert store.answers(connection, digest) == {}


def test_a_receipt_for_an_unknown_round_is_refused_with_a_sentence(world: World) -> None:
    one = node(world, "node-1")
    with serving(world.folder / BANK) as port:
        channel = dial(
            f"127.0.0.1:{port}",
            world.office.charter.member(BANK),
            world.office.charter,
            one.tls_key_pem,
            one.certificate_pem,
        )
        with channel, pytest.raises(grpc.RpcError, match="no record of round 1") as refused:
            pb_grpc.ReceiptServiceStub(channel).GetReceipt(
                pb.GetReceiptRequest(run="ab" * 16, round=1), timeout=10
            )
    assert ("hejin-code", "round-unknown") in [tuple(m) for m in refused.value.trailing_metadata()]


def test_a_bank_is_not_served_by_another_bank(world: World) -> None:
    with (
        serving(world.folder / BANK) as port,
        plans(world, world.bank, port) as stub,
        pytest.raises(grpc.RpcError) as refused,
    ):
        stub.ListOffers(pb.ListOffersRequest(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_certificate_that_no_regulator_admitted_gets_nothing(
    world: World, tmp_path: Path
) -> None:
    stranger = found_world(tmp_path / "elsewhere")
    foreign = node(stranger, "node-1")
    with (
        serving(world.folder / BANK) as port,
        plans(world, foreign, port) as stub,
        pytest.raises(grpc.RpcError) as refused,
    ):
        stub.ListOffers(pb.ListOffersRequest(), timeout=10)
    assert refused.value.code() in (
        grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED
    )  # fmt: skip


def test_a_node_revoked_while_connected_gets_nothing_more(world: World) -> None:
    offer(world)
    one = node(world, "node-1")
    with serving(world.folder / BANK) as port, plans(world, one, port) as stub:
        assert len(stub.ListOffers(pb.ListOffersRequest(), timeout=10).plans) == 1
        world.office.revoke("node-1", world.clock())
        world.bank.charters.update(world.office.charters.signed())
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListOffers(pb.ListOffersRequest(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_second_coordinator_on_the_port_is_refused_with_a_sentence(world: World) -> None:
    second = world.folder / "bank-2"
    request = membership.found(second, member="bank-2", role="bank", name=Text("B2", "二行"))
    admitted = world.office.admit([request], world.folder / "more", world.clock())[0]
    key = world.office.identity.public
    membership.join(second, "bank-2", key, admitted.file.read_bytes())
    settle(world, second, "bank-2")
    with (
        serving(world.folder / BANK) as port,
        pytest.raises(PortTakenError, match="another process uses the port"),
        serving(second, f"127.0.0.1:{port}"),
    ):
        pass


def running(world: World, digest: str) -> None:
    with open_home(world.folder / BANK) as home, writing(home.database) as connection:
        store.set_state(connection, digest, "running")


def told(world: World, digest: str) -> tuple[str, str]:
    with open_home(world.folder / BANK) as home, reading(home.database) as connection:
        found = store.find_plan(connection, digest)
    return found.state, found.error


def test_a_bank_without_a_regulator_does_not_serve(world: World) -> None:
    settle(world, world.folder / BANK, BANK, regulator=None)
    with open_home(world.folder / BANK) as home:
        for ask in (witnessing.regulator_address, witnessing.mirror_now):
            with pytest.raises(RegulatorMissingError, match="--regulator HOST:PORT") as refused:
                ask(home)
    assert refused.value.code == "no-regulator"
    with pytest.raises(RegulatorMissingError), serving(world.folder / BANK):
        pass


def test_a_restored_bank_does_not_serve_and_says_why_with_its_plans(
    world: World, tmp_path: Path
) -> None:
    _, digest = offer(world)
    running(world, digest)
    file, copy = world.folder / BANK / "coordinator.db", tmp_path / "copy.db"
    copy.write_bytes(file.read_bytes())
    with open_home(world.folder / BANK, world.clock) as home:
        with writing(home.database) as connection:
            home.release_log.append(
                connection, "plan", {"plan": digest, "purpose": "p", "family": "f"}
            )
        world.witness(home)
    file.write_bytes(copy.read_bytes())
    with pytest.raises(FrozenError) as frozen, serving(world.folder / BANK):
        pass
    assert frozen.value.exit_code == 3
    state, error = told(world, digest)
    assert state == "paused"
    assert error == str(frozen.value.text)
    assert "recover" in error


def test_a_bank_waits_for_the_regulator_before_it_serves_anybody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, digest = offer(world)
    running(world, digest)
    line = Line({BANK})
    reach(world, monkeypatch, line)
    monkeypatch.setattr("hejin_trust.witness.REFRESH_SECONDS", 0.1)
    tried: list[None] = []
    start = Witness.start

    def seen(self: Witness) -> None:
        tried.append(None)
        if len(tried) == 3:
            assert told(world, digest)[0] == "paused"
            assert "the regulator does not answer" in told(world, digest)[1]
            line.cut.clear()
        start(self)

    monkeypatch.setattr(Witness, "start", seen)
    with serving(world.folder / BANK) as port, plans(world, node(world, "node-1"), port) as stub:
        stub.ListOffers(pb.ListOffersRequest(), timeout=10)
    assert len(tried) == 3


def test_an_answer_to_a_plan_that_was_lost_with_the_database_is_taken(world: World) -> None:
    """Refused, the node would send it for ever, and nothing that comes after it."""
    lost, unknown = "ab" * 32, "cd" * 32
    with open_home(world.folder / BANK) as home, writing(home.database) as connection:
        body = {"plan": lost, "purpose": "p", "family": "f"}
        home.release_log.append(connection, "plan", body)
    one = node(world, "node-1")
    with serving(world.folder / BANK) as port, plans(world, one, port) as stub:
        stub.AnswerOffer(pb.AnswerOfferRequest(answer=approval(world, lost, one)), timeout=10)
        with pytest.raises(grpc.RpcError, match="no single plan"):
            stub.AnswerOffer(
                pb.AnswerOfferRequest(answer=approval(world, unknown, one)), timeout=10
            )
