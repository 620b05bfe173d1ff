"""The charter over mutual TLS, from the regulator's own process and within this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Queue

import grpc
import pytest

from hejin_regulator import service
from hejin_regulator.authority import Office
from hejin_trust import membership
from hejin_trust.certificates import CertificateError
from hejin_trust.channels import PeerRefused, PortTakenError, dial, fetch_charter
from hejin_trust.charter import Charter

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


def test_a_second_regulator_on_the_port_is_told_so(office: Office, home: Path) -> None:
    with serving(office.home) as port, pytest.raises(PortTakenError):
        service.serve(office.home, f"127.0.0.1:{port}", lambda _: None, threading.Event())


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
