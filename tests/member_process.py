"""Nodes and banks as real processes for system tests: killed at a named step, or recorded.

Each is forked from a server that has imported everything, so that a restart costs no import.
What these processes do beyond serving is installed here, by replacing functions: the product
itself has no crash points and records nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np

from hejin_coordinator import collecting, registry, rounds, store
from hejin_coordinator import service as bank_service
from hejin_coordinator.collecting import Collecting
from hejin_coordinator.unmasking import Unmasking
from hejin_node import account, receipts, session
from hejin_node import engine as node_engine
from hejin_node import service as node_service
from hejin_node.masking import Masking
from hejin_node.pinned import SnapshotStore
from hejin_node.session import Session
from hejin_regulator import service as regulator_service
from hejin_regulator.mirror import LogMirror
from hejin_trust.errors import HejinError
from hejin_trust.logs import log_to_stderr
from hejin_trust.stored_log import StoredLog

_TESTS = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class Start:
    """How a member's process is started.

    role     node, coordinator or regulator
    address  where a bank or the regulator listens
    log      what it writes to stdout and stderr
    armed    file that names the step to be killed at; gone once it happened
    sent     file that gets one JSON line for each answer that is about to leave a node
    plant    called first in the process
    """

    role: str
    home: Path
    log: Path
    armed: Path
    sent: Path
    sums: Path
    address: str
    plant: Callable[[Path], None] | None = None


def start(how: Start) -> ForkServerProcess:
    """Start a member; the caller ends it."""
    context = multiprocessing.get_context("forkserver")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        dict.fromkeys([_TESTS, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    )
    context.set_forkserver_preload(["member_process"])
    process = context.Process(target=_run, args=(how,), daemon=True)
    process.start()
    return process


def _run(how: Start) -> None:
    handle = os.open(how.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    log_to_stderr()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if how.plant is not None:
        how.plant(how.home)
    try:
        _serve(how, stop)
    except HejinError as error:  # as `hejin` does
        print(error.text)
        sys.exit(error.exit_code)


def _serve(how: Start, stop: threading.Event) -> None:
    if how.role == "node":
        # Eight restarts of a bank within a minute are the test's doing; waits may stay short.
        node_engine.RETRY_MOST = 1.0  # type: ignore[misc]
        _arm_node(how)
        node_service.serve(how.home, lambda: print("node serves"), stop)
        return
    if how.role == "coordinator":
        _arm_bank(how)
        serve = bank_service.serve
    else:
        _arm_regulator(how)
        serve = regulator_service.serve
    serve(how.home, how.address, lambda port: print(f"listening on 127.0.0.1:{port}"), stop)


def _arm_node(how: Start) -> None:
    at = _Steps(how.armed)
    at.before(session, "reserve", "pinned")
    at.after(account, "insert_reservation", "reserving")
    at.after(session, "reserve", "reserved")
    at.after(Session, "_cosigned", "cosigned")
    at.after(Session, "_compute", "computed")
    at.after(account, "mark_released", "releasing")
    at.after(Session, "_release", "released")
    at.after(Session, "_outgoing", "answered")
    _record_sent(how.sent)
    _record_sums(how.sums)
    at.after(node_engine._Link, "push", "sent")
    at.before(Masking, "vote", "asked to vote")
    at.after(Masking, "vote", "voted")
    at.before(Masking, "reveal", "asked to reveal")
    at.after(Masking, "reveal", "revealed")
    at.before(receipts, "log_receipt", "receipt fetched")
    at.after(receipts, "log_receipt", "receipt being logged")
    # The last result and its receipts are logged, the pinned rows not yet erased.
    at.before(SnapshotStore, "forget", "run closed", lambda *_, erase=False: erase)


def _arm_bank(how: Start) -> None:
    at = _Steps(how.armed)
    at.after(rounds.PlanRun, "_open_run", "run opened")
    at.after(rounds.PlanRun, "_prepare", "query stored")
    at.after(collecting, "read_answer", "some answers in")
    at.after(Collecting, "fix", "survivors fixed")
    at.after(Unmasking, "_votes", "votes in")
    at.after(Unmasking, "_reveal", "shares in")
    at.after(store, "close_round", "closing")
    at.after(rounds.PlanRun, "_close_round", "round closed")
    at.before(rounds.PlanRun, "_close", "last round closed")
    at.after(rounds.PlanRun, "_close", "run closed")
    at.after(registry, "replace_file", "model half written")
    at.before(registry, "writing", "model written")
    at.after(bank_service, "register", "model logged")


def _arm_regulator(how: Start) -> None:
    at = _Steps(how.armed)
    at.before(LogMirror, "add", "asked to cosign")
    at.after(StoredLog, "extend", "storing")
    at.after(LogMirror, "add", "stored")


class _Steps:
    """Kills the process at the step that the file `armed` names."""

    def __init__(self, armed: Path) -> None:
        self._armed = armed
        self._reached: Counter[str] = Counter()

    def before(
        self,
        owner: Any,
        name: str,
        step: str,
        when: Callable[..., bool] = lambda *_, **__: True,
    ) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if when(*arguments, **named):
                self._reach(step)
            return original(*arguments, **named)

        setattr(owner, name, wrapped)

    def after(self, owner: Any, name: str, step: str) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            self._reach(step)
            return result

        setattr(owner, name, wrapped)

    def _reach(self, step: str) -> None:
        if not self._armed.exists():
            return
        named, times = self._armed.read_text().split("\n")
        if named != step:
            return
        self._reached[step] += 1
        if self._reached[step] >= int(times):
            self._armed.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def _record_sums(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    mask = session.mask  # type: ignore[attr-defined]

    def recorded(party: Any, round_ctx: bytes, vector: Any, secret: Any) -> Any:
        np.save(folder / f"{round_ctx.hex()}.npy", vector)
        return mask(party, round_ctx, vector, secret)

    session.mask = recorded  # type: ignore[attr-defined]


def _record_sent(file: Path) -> None:
    push = node_engine._Link.push

    def recorded(self: Any, question: Any, answer: Any) -> None:
        if isinstance(answer, dict) and answer.get("kind") == b"masked":
            line = {name: sha256(answer[name]).hexdigest() for name in ("header", "vector")}
            line["entry"] = answer["entry"].decode()
            line["proof"] = answer["proof"].decode()
            with file.open("a") as out:
                out.write(json.dumps(line) + "\n")
        push(self, question, answer)

    node_engine._Link.push = recorded  # type: ignore[method-assign]


def impatient(_: Path) -> None:
    """Let a node give up a call within the length of a black hole, not after ten times that."""
    node_engine.SMALL_CALL = 1.0  # type: ignore[misc]
    node_engine.BIG_CALL = 1.0  # type: ignore[misc]
