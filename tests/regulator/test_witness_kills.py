"""The real regulator killed at every step of adding: what it cosigned is never lost."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from mirror_world import MEMBERS, Book, admit, books
from regulator_process import STEPS, RegulatorProcess
from typer.testing import CliRunner

from hejin_regulator.authority import Office
from hejin_regulator.cli import app
from hejin_regulator.mirror import open_mirror
from hejin_regulator.mirror_check import check_whole
from hejin_trust import membership
from hejin_trust.channels import PeerUnreachable, dial
from hejin_trust.cosignature import Cosigned, open_cosigned, witness_name
from hejin_trust.database import reading
from hejin_trust.stored_log import StoredLog
from hejin_trust.witness_channel import WitnessChannel

pytestmark = pytest.mark.system


@dataclass
class Sender:
    """A member that sends its logs again and again, and keeps every cosigned head it got."""

    office: Office
    folder: Path
    name: str
    logs: tuple[Book, Book]
    heads: list[Cosigned] = field(default_factory=list)

    @contextmanager
    def witness(self, port: int) -> Iterator[WitnessChannel]:
        charter = self.office.charter
        role = charter.member(self.name).role
        me = membership.load(self.folder / self.name, self.name, role, self.office.identity.public)
        channel = dial(
            f"127.0.0.1:{port}", charter.regulator, me.charters, me.tls_key_pem, me.certificate_pem
        )
        try:
            yield WitnessChannel(channel, "regulator")
        finally:
            channel.close()

    def send(self, witness: WitnessChannel) -> None:
        """Send all that the mirror lacks; raises PeerUnreachable."""
        held = {log.origin: log for log in witness.standing()}
        # Nothing that was cosigned is gone, and it is still the same tree.
        for book in self.logs:
            known = [head for head in self.heads if head.checkpoint.origin == book.origin]
            size = held[book.origin].size
            assert size >= max((head.checkpoint.size for head in known), default=0)
            assert held[book.origin].root == (book.root(size) if size else b"")
        updates = [book.update(held[book.origin].size) for book in self.logs]
        charter = self.office.charter
        for update, line in zip(updates, witness.add(updates), strict=True):
            self.heads.append(
                open_cosigned(
                    update.checkpoint + line,
                    update.origin,
                    self.logs[0].key.public,
                    witness_name(charter.consortium, "regulator"),
                    charter.regulator.log_key,
                )
            )

    def grow(self, count: int = 3) -> None:
        for book in self.logs:
            book.fill(count)

    def check_kept(self) -> None:
        """Raise unless the mirror holds every head that was got, and times never went back."""
        times: dict[str, datetime] = {}
        for head in self.heads:
            origin = head.checkpoint.origin
            assert head.time >= times.get(origin, head.time)
            times[origin] = head.time
        with open_mirror(self.office) as mirror, reading(mirror.engine) as connection:
            for book in self.logs:
                log = StoredLog(book.origin)
                assert list(log.entries(connection)) == book.leaves
                stored = {head.size for head in log.cosigned(connection)}
                got = {h.checkpoint.size for h in self.heads if h.checkpoint.origin == book.origin}
                assert got <= stored


@pytest.fixture
def senders(office: Office, tmp_path: Path) -> list[Sender]:
    admit(office, tmp_path, MEMBERS)
    names = [name for name, _ in MEMBERS]
    return [
        Sender(office, tmp_path, name, logs)
        for name, logs in zip(names, books(office, tmp_path, names), strict=True)
    ]


@pytest.mark.parametrize(("step", "kept"), STEPS.items())
def test_a_regulator_killed_while_it_adds_loses_nothing_that_it_cosigned(
    office: Office, senders: list[Sender], tmp_path: Path, step: str, kept: bool
) -> None:
    sender, log = senders[0], tmp_path / "regulator.log"
    with RegulatorProcess(office.home, log) as regulator, sender.witness(regulator.port) as witness:
        sender.grow()
        sender.send(witness)
        sender.grow()
        # Within one second the time would be known already, and need not be reserved.
        time.sleep(1.1)
        regulator.arm(step)
        with pytest.raises(PeerUnreachable):
            sender.send(witness)
        regulator.wait_for_death()
    with RegulatorProcess(office.home, log) as regulator, sender.witness(regulator.port) as witness:
        assert [held.size for held in witness.standing()] == ([6, 6] if kept else [3, 3])
        sender.send(witness)
        assert [head.checkpoint.size for head in sender.heads[-2:]] == [6, 6]
        assert regulator.stop() == 0
    sender.check_kept()
    with open_mirror(office) as mirror:
        assert check_whole(mirror, lambda _: None) == 12


def test_a_regulator_killed_at_any_moment_loses_nothing_that_it_cosigned(
    office: Office, senders: list[Sender], tmp_path: Path
) -> None:
    moments = random.Random(20261122)
    port, stop = [0], threading.Event()
    failed: list[BaseException] = []

    def work(sender: Sender) -> None:
        try:
            while not stop.is_set():
                with sender.witness(port[0]) as witness:
                    try:
                        while not stop.is_set():
                            sender.grow(1)
                            sender.send(witness)
                    except PeerUnreachable:
                        time.sleep(0.05)
        except BaseException as reason:
            failed.append(reason)

    threads = [threading.Thread(target=work, args=(sender,)) for sender in senders]
    log = tmp_path / "regulator.log"
    for turn in range(5):
        with RegulatorProcess(office.home, log) as regulator:
            port[0] = regulator.port
            if turn == 0:
                for thread in threads:
                    thread.start()
            time.sleep(moments.uniform(0.3, 1.0))
    with RegulatorProcess(office.home, log) as regulator:
        port[0] = regulator.port
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join(60)
        assert not failed
        for sender in senders:
            with sender.witness(regulator.port) as witness:
                sender.send(witness)
        assert regulator.stop() == 0
    for sender in senders:
        assert len(sender.heads) > 20
        sender.check_kept()
    with open_mirror(office) as mirror:
        assert check_whole(mirror, lambda _: None) == sum(
            len(book.leaves) for sender in senders for book in sender.logs
        )


def test_the_export_after_kills_holds_every_head_that_was_cosigned(
    office: Office, senders: list[Sender], tmp_path: Path
) -> None:
    sender, log = senders[0], tmp_path / "regulator.log"
    for _ in range(2):
        with RegulatorProcess(office.home, log) as regulator:
            with sender.witness(regulator.port) as witness:
                sender.grow()
                sender.send(witness)
            # Other commands read while it serves.
            arguments = ["export", str(tmp_path / "export"), "--home", str(office.home)]
            assert CliRunner().invoke(app, arguments).exit_code == 0
    for name, book in zip(("release", "internal"), sender.logs, strict=True):
        path = tmp_path / "export" / "witness" / f"{sender.name}.{name}.jsonl"
        notes = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert notes == [h.note for h in sender.heads if h.checkpoint.origin == book.origin]
