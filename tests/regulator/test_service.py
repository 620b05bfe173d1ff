"""The charter over mutual TLS, from the regulator's own process and within this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import Queue

import grpc
import pytest
from mirror_world import Time, books
from sqlalchemy import text
from structlog.testing import capture_logs

from hejin.v1.certificates_pb2 import GetStatusRequest
from hejin.v1.certificates_pb2_grpc import CertificateServiceStub
from hejin_regulator import authority, fair_use, service
from hejin_regulator.authority import Office, Terms
from hejin_regulator.certificate_status import CertificateStatus
from hejin_regulator.mirror import open_mirror
from hejin_regulator.mirror_check import MirrorDamagedError
from hejin_trust import membership
from hejin_trust.certificates import CertificateError
from hejin_trust.channels import (
    PeerRefused,
    PeerUnreachable,
    PortTakenError,
    dial,
    fetch_charter,
)
from hejin_trust.charter import Charter
from hejin_trust.cosignature import open_cosigned, witness_name
from hejin_trust.database import StorageError, writing
from hejin_trust.files import HeldError
from hejin_trust.mirroring import LogUpdate
from hejin_trust.stored_log import StoredLog
from hejin_trust.witness_channel import WitnessChannel

NOW = datetime.now(UTC).replace(microsecond=0)
Ask = Callable[..., Path]


@contextmanager
def serving(home: Path) -> Iterator[int]:
    """Serve in a thread; give the port."""
    port: Queue[int] = Queue()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(service.serve, home, "127.0.0.1:0", port.put, stop)
        try:
            yield port.get(timeout=20)
        finally:
            stop.set()
            done.result(timeout=20)


@contextmanager
def dialled(home: Path, member: str, office: Office, port: int) -> Iterator[grpc.Channel]:
    """Give a channel to the regulator from an admitted member's folder."""
    role = office.charter.member(member).role
    me = membership.load(home, member, role, office.identity.public)
    channel = dial(
        f"127.0.0.1:{port}",
        me.charter.regulator,
        me.charters,
        me.tls_key_pem,
        me.certificate_pem,
    )
    try:
        yield channel
    finally:
        channel.close()


@pytest.fixture
def home(office: Office, ask: Ask, tmp_path: Path) -> Path:
    """The folder of node-a, admitted and joined; bank-a too."""
    for item in office.admit([ask("node-a"), ask("bank-a", "bank")], tmp_path / "out", NOW):
        membership.join(
            tmp_path / item.member.id,
            item.member.id,
            office.identity.public,
            item.file.read_bytes(),
        )
    return tmp_path / "node-a"


def test_nodes_and_banks_get_the_charter_in_force(
    office: Office, home: Path, ask: Ask, tmp_path: Path
) -> None:
    with serving(office.home) as port:
        for member in ("node-a", "bank-a"):
            with dialled(tmp_path / member, member, office, port) as channel:
                data = fetch_charter(channel, "regulator", 5.0)
                assert Charter.parse(data, office.identity.public) == office.charter
        office.admit([ask("node-b")], tmp_path / "out", NOW)
        me = membership.load(home, "node-a", "node", office.identity.public)
        with dialled(home, "node-a", office, port) as channel:
            updated = me.charters.update(fetch_charter(channel, "regulator", 5.0))
        assert updated.serial == 3
        assert updated.member("node-b").admitted


def test_a_revoked_member_gets_nothing_from_the_next_call_on(office: Office, home: Path) -> None:
    with serving(office.home) as port, dialled(home, "node-a", office, port) as channel:
        fetch_charter(channel, "regulator", 5.0)
        office.revoke("node-a", NOW)
        with pytest.raises(PeerRefused, match="not admitted"):
            fetch_charter(channel, "regulator", 5.0)


def test_a_second_regulator_on_the_port_is_told_so(
    office: Office, home: Path, terms: Terms, tmp_path: Path
) -> None:
    authority.init(tmp_path / "other", terms, NOW)
    with serving(office.home) as port, pytest.raises(PortTakenError):
        service.serve(tmp_path / "other", f"127.0.0.1:{port}", lambda _: None, threading.Event())


def test_only_one_process_serves_from_a_folder(office: Office, home: Path) -> None:
    with serving(office.home), pytest.raises(HeldError):
        service.serve(office.home, "127.0.0.1:0", lambda _: None, threading.Event())


def test_a_damaged_mirror_is_not_served(office: Office, home: Path, tmp_path: Path) -> None:
    with open_mirror(office) as mirror:
        (release, _) = next(books(office, tmp_path, ["node-a"]))
        mirror.door("node-a").add([release.fill(3).update(0)])
        with writing(mirror.engine) as connection:
            connection.execute(text("DELETE FROM log_entry WHERE seq = 2"))
    with pytest.raises(MirrorDamagedError):
        service.serve(office.home, "127.0.0.1:0", lambda _: None, threading.Event())


def test_a_member_mirrors_its_logs_and_gets_them_back_over_the_network(
    office: Office, home: Path, tmp_path: Path
) -> None:
    release, internal = next(books(office, tmp_path, ["node-a"]))
    charter = office.charter
    with serving(office.home) as port, dialled(home, "node-a", office, port) as channel:
        witness = WitnessChannel(channel, "regulator")
        assert [log.size for log in witness.standing()] == [0, 0]
        assert witness.charter_serial() == charter.serial
        update = release.fill(5).update(0)
        lines = witness.add([update, internal.fill(2).update(0)])
        cosigned = open_cosigned(
            update.checkpoint + lines[0],
            release.origin,
            release.key.public,
            witness_name(charter.consortium, "regulator"),
            charter.regulator.log_key,
        )
        assert cosigned.checkpoint.root == release.root()
        assert abs(cosigned.time - datetime.now(UTC)) < timedelta(minutes=1)
        assert [(log.size, log.root) for log in witness.standing()] == [
            (5, release.root()),
            (2, internal.root()),
        ]
        assert list(witness.entries(release.origin, 1)) == release.leaves[1:]
    # A restart forgets nothing.
    with serving(office.home) as port, dialled(home, "node-a", office, port) as channel:
        assert [log.size for log in WitnessChannel(channel, "regulator").standing()] == [5, 2]


def test_the_network_tells_members_apart_by_their_certificates(
    office: Office, home: Path, tmp_path: Path
) -> None:
    release, _ = next(books(office, tmp_path, ["node-a"]))
    update = release.fill(1).update(0)
    with capture_logs() as logged, serving(office.home) as port:
        with dialled(tmp_path / "bank-a", "bank-a", office, port) as channel:
            witness = WitnessChannel(channel, "regulator")
            for refused in (
                lambda: witness.add([update]),
                lambda: witness.entries(release.origin, 0),
            ):
                with pytest.raises(PeerRefused, match="not the caller's") as reason:
                    refused()
                assert reason.value.peer_code == "witness-unknown-log"
                assert "不属于调用方" in reason.value.text.zh
        with dialled(home, "node-a", office, port) as channel:
            office.revoke("node-a", NOW)
            with pytest.raises(PeerRefused, match="not admitted"):
                WitnessChannel(channel, "regulator").add([update])
    assert [line["member"] for line in logged if line.get("code") == "witness-unknown-log"] == [
        "bank-a",
        "bank-a",
    ]


def test_a_regulator_is_no_member_of_its_own_mirror(office: Office, home: Path) -> None:
    key, certificate = office.tls()
    with serving(office.home) as port:
        charter = office.charter
        channel = dial(f"127.0.0.1:{port}", charter.regulator, charter, key, certificate)
        with pytest.raises(PeerRefused) as refused:
            WitnessChannel(channel, "regulator").standing()
        channel.close()
    assert refused.value.peer_code == "not-allowed"


def test_a_mirror_that_cannot_store_is_out_of_reach_and_says_why_to_its_operator(
    office: Office,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise StorageError("The disk is full.", "磁盘已满。")

    release, _ = next(books(office, tmp_path, ["node-a"]))
    with (
        capture_logs() as logged,
        serving(office.home) as port,
        dialled(home, "node-a", office, port) as channel,
    ):
        witness = WitnessChannel(channel, "regulator")
        with monkeypatch.context() as patch:
            patch.setattr(StoredLog, "extend", full)
            with pytest.raises(PeerUnreachable):
                witness.add([release.fill(1).update(0)])
        assert [log.size for log in witness.standing()] == [0, 0]
        witness.add([release.update(0)])
    assert any("disk is full" in line.get("reason", "") for line in logged)


def test_a_message_of_more_than_is_taken_is_refused_before_it_is_opened(
    office: Office, home: Path, tmp_path: Path
) -> None:
    release, _ = next(books(office, tmp_path, ["node-a"]))
    with serving(office.home) as port, dialled(home, "node-a", office, port) as channel:
        witness = WitnessChannel(channel, "regulator")
        many = LogUpdate(release.origin, 0, (b"",) * 300_000, (), "")
        with pytest.raises(PeerRefused, match="300000 entries") as refused:
            witness.add([many])
        assert refused.value.peer_code == "witness-too-large"
        with pytest.raises(PeerRefused, match="one log twice"):
            witness.add([LogUpdate(release.origin, 0, (), (), "")] * 100_000)
        with pytest.raises(PeerRefused, match="larger than max"):
            witness.add([replace(many, entries=(bytes(service.LARGEST_MESSAGE),))])
        assert witness.add([release.fill(3).update(0)])


def test_a_member_that_brings_half_messages_keeps_nobody_else_waiting(
    office: Office, home: Path, tmp_path: Path
) -> None:
    over = threading.Event()
    with serving(office.home) as port, ExitStack() as opened:
        hostile = [
            opened.enter_context(dialled(tmp_path / "bank-a", "bank-a", office, port))
            for _ in range(4)
        ]
        calls = [
            channel.stream_unary("/hejin.v1.WitnessService/AddEntries").future(
                iter(over.wait, True), timeout=30.0
            )
            for channel in hostile
            for _ in range(20)
        ]
        honest = WitnessChannel(
            opened.enter_context(dialled(home, "node-a", office, port)), "regulator"
        )
        for _ in range(20):
            began = time.monotonic()
            honest.standing()
            assert time.monotonic() - began < 3.0
        assert not all(call.done() for call in calls)
        over.set()


def test_a_member_that_must_wait_takes_it_for_no_refusal(
    office: Office, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, _ = next(books(office, tmp_path, ["node-a"]))
    monkeypatch.setattr(fair_use, "MOST_AN_HOUR", 10)
    with (
        capture_logs() as logged,
        serving(office.home) as port,
        dialled(home, "node-a", office, port) as channel,
        pytest.raises(PeerUnreachable, match=r"does not serve this now.*within an hour"),
    ):
        WitnessChannel(channel, "regulator").add([release.fill(1).update(0)])
    assert [line["code"] for line in logged if line["event"] == "not now"] == ["witness-allowance"]


def test_a_clock_that_went_back_is_told_to_both_sides(
    office: Office, home: Path, tmp_path: Path
) -> None:
    release, _ = next(books(office, tmp_path, ["node-a"]))
    with open_mirror(office, lambda: NOW + timedelta(hours=1)) as mirror:
        mirror.door("node-a").add([release.fill(1).update(0)])
    with (
        capture_logs() as logged,
        serving(office.home) as port,
        dialled(home, "node-a", office, port) as channel,
    ):
        with pytest.raises(PeerRefused, match="regulator's clock") as refused:
            WitnessChannel(channel, "regulator").add([release.update(1)])
        assert refused.value.peer_code == "witness-clock"
    assert any(line["event"] == "clock was set" for line in logged)


def test_a_clock_that_is_set_ahead_while_it_serves_is_told_too(
    office: Office, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, _ = next(books(office, tmp_path, ["node-a"]))
    clock = Time(NOW)
    monkeypatch.setattr(service, "open_mirror", partial(open_mirror, clock=clock))
    with serving(office.home) as port, dialled(home, "node-a", office, port) as channel:
        witness = WitnessChannel(channel, "regulator")
        witness.add([release.fill(1).update(0)])
        clock.on(3600)
        with pytest.raises(PeerRefused, match="restart") as refused:
            witness.add([release.update(1)])
        assert refused.value.peer_code == "witness-clock"
        clock.on(-3600)
        witness.add([release.update(1)])


def test_nodes_and_banks_get_the_certificate_status(
    office: Office, home: Path, tmp_path: Path
) -> None:
    with serving(office.home) as port:
        office.revoke("node-a", NOW)
        with dialled(tmp_path / "bank-a", "bank-a", office, port) as channel:
            stub = CertificateServiceStub(channel)  # type: ignore[no-untyped-call]
            reply = stub.GetStatus(GetStatusRequest(), timeout=5.0)
    status = CertificateStatus.parse(bytes(reply.envelope), office.identity.public)
    assert {(item.member, item.reason) for item in status.certificates} == {
        ("regulator", ""),
        ("bank-a", ""),
        ("node-a", "revoked"),
    }


def test_an_expired_own_certificate_is_said_at_start(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "now", lambda: NOW + timedelta(days=4000))
    with pytest.raises(CertificateError, match="expired"):
        service.serve(office.home, "127.0.0.1:0", lambda _: None, threading.Event())


def test_the_process_says_its_port_serves_and_stops_on_sigterm(office: Office, home: Path) -> None:
    command = [sys.executable, "-m", "hejin_sandbox.main", "regulator", "serve"]
    command += ["--home", str(office.home), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HEJIN_LANG": "en"},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on 127.0.0.1:"), process.communicate()
            with dialled(home, "node-a", office, int(line.rpartition(":")[2])) as channel:
                fetch_charter(channel, "regulator", 5.0)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "")
    assert 'event="regulator serves"' in err
    assert 'event="charter given"' in err
    assert 'event="regulator stopped"' in err
