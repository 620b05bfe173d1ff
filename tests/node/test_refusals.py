"""What a bank is told by a refusal, and how much a bank's nonsense makes a node write."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bent_mirror import internal_log
from node_world import BANK, found_world
from structlog.testing import capture_logs
from witnessed_node import Node, opened

from hejin_node.refusals import Refusals
from hejin_node.session import Session
from hejin_trust import worth_logging
from hejin_trust.archived import ArchiveError, ArchiveMissingError
from hejin_trust.database import StorageError
from hejin_trust.envelope import REFUSAL, open_envelope
from hejin_trust.errors import HejinError
from hejin_trust.files import FileError
from hejin_trust.log import ClockError
from hejin_trust.one_history import FrozenError
from hejin_trust.stored_log import LogError
from hejin_trust.witness import WitnessRefusedError
from hejin_trust.worth_logging import MOST_LOGGED, WINDOW_SECONDS

SECRET = "/srv/node/node.db has 4711 entries"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with opened(found_world(tmp_path)) as found:
        found.witness.refresh()
        yield found


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The refusals' clock, seconds, for a test to turn."""
    at = [time.monotonic()]
    monkeypatch.setattr(worth_logging, "WINDOW_SECONDS", WINDOW_SECONDS)
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    return at


def logged(node: Node) -> int:
    return sum(entry.type == "refusal" for entry in internal_log(node.home))


def nonsense() -> dict[str, bytes]:
    return {"kind": b"shell", "run": secrets.token_bytes(16)}


@pytest.mark.parametrize(
    "kind",
    [
        ArchiveError,
        ArchiveMissingError,
        ClockError,
        FileError,
        FrozenError,
        LogError,
        StorageError,
        WitnessRefusedError,
    ],
)
def test_what_is_wrong_inside_the_node_is_told_by_its_code_alone(
    node: Node, kind: type[HejinError]
) -> None:
    with capture_logs() as console:
        answer = Refusals(node.home, BANK).refuse({"run": b"1"}, kind(SECRET, SECRET))
    body = open_envelope(answer["refusal"], REFUSAL, node.home.identity.public).body
    assert body["code"] == kind.code
    told = str(body["reason"])
    assert kind.code in told
    assert "operator" in told
    assert "4711" not in told
    assert "node.db" not in told
    assert console[0]["reason"] == SECRET


def test_a_flood_of_nonsense_is_refused_and_grows_no_log(node: Node, minute: list[float]) -> None:
    with capture_logs() as console:
        answers = [node.ask(nonsense()) for _ in range(MOST_LOGGED + 40)]
    assert set(answers) == {"message-malformed"}
    assert logged(node) == MOST_LOGGED
    assert len(console) == MOST_LOGGED
    minute[0] += 60
    with capture_logs() as console:
        node.ask(nonsense())
    assert logged(node) == MOST_LOGGED + 1
    assert {
        "event": "refusals-not-logged",
        "peer": BANK,
        "refusals": 40,
        "log_level": "warning",
    } in (console)


def test_an_honest_question_that_is_repeated_is_logged_once_a_minute(
    node: Node, minute: list[float]
) -> None:
    asked = nonsense()
    for _ in range(36):
        node.ask(asked)
        minute[0] += 5
    assert logged(node) == 3


def test_one_banks_flood_leaves_another_banks_refusals_logged(
    node: Node, minute: list[float]
) -> None:
    for _ in range(MOST_LOGGED + 1):
        node.ask(nonsense())
    other = Session(node.home, "bank-2", node.witness, node.receipts)
    other.answer(nonsense())
    assert internal_log(node.home)[-1].body["peer"] == "bank-2"
