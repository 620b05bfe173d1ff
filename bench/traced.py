"""The `hejin` command with a stopwatch: when a process computed, waited, synced, was cosigned.

Run as `python -m bench.traced TRACES node serve ...`; spans go to TRACES/MEMBER.jsonl, one JSON
line each, where MEMBER is the name of the home folder.
Nothing but the clock is added: the code that runs is the product's.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Generator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect


def program(traces: Path) -> tuple[str, ...]:
    """Return what a Supervisor runs instead of `hejin`; each member's trace is MEMBER.jsonl."""
    return (sys.executable, "-m", "bench.traced", str(traces))


class Stopwatch:
    """Appends (kind, index, begin, end) to a file; single writes, so threads do not mix."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, kind: str, begin: float, index: int = -1) -> None:
        """Write down that `kind` lasted from `begin` until now."""
        line = json.dumps([kind, index, begin, time.monotonic()]) + "\n"
        os.write(self._file, line.encode())

    def around(self, owner: Any, name: str, kind: str, index: Callable[..., int]) -> None:
        """Time every call of a function or method `owner.name`."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.monotonic()
            try:
                return inner(*arguments, **named)
            finally:
                self.note(kind, begin, index(*arguments))

        setattr(owner, name, timed)

    def waiting(self, owner: Any, name: str) -> None:
        """Time the waits for each item of a method that returns a generator."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*arguments: Any, **named: Any) -> Generator[Any, Any, None]:
            items, sent = inner(*arguments, **named), None
            try:
                while True:
                    begin = time.monotonic()
                    try:
                        item = items.send(sent)
                    except StopIteration:
                        return
                    finally:
                        self.note("wait", begin)
                    sent = yield item
            finally:
                items.close()

        setattr(owner, name, timed)


class WithoutPandas(MetaPathFinder):
    """Lets pandas look as if it were not installed."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Raise ModuleNotFoundError for pandas; say nothing of other modules."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)


def main() -> None:
    """Time what the role on the command line does, then run it."""
    # The test tools bring pandas, a node's own install does not; pyarrow imports it where it can,
    # which would count as 40 MB of ours.
    sys.meta_path.insert(0, WithoutPandas())
    traces = Path(sys.argv.pop(1))
    member = Path(os.environ["HEJIN_HOME"]).name
    watch = Stopwatch(traces / f"{member}.jsonl")
    watch.around(DefaultDialect, "do_commit", "fsync", lambda *_: -1)
    watch.around(os, "fsync", "fsync", lambda *_: -1)
    role = sys.argv[1]
    if role != "regulator":
        from hejin_trust.witness import Witness

        watch.around(Witness, "cover", "cosign", lambda *_: -1)
    if role == "node":
        from hejin_node.service import BankChannel
        from hejin_node.session import Session

        watch.around(Session, "answer", "answer", lambda *_: -1)
        watch.around(BankChannel, "fetch_receipt", "wait", lambda *_: -1)
    elif role == "coordinator":
        from hejin_coordinator.engine import EngineRun
        from hejin_coordinator.rounds import PlanRun

        watch.around(PlanRun, "_sum", "sum", lambda _, request: int(request.index))
        watch.waiting(EngineRun, "ask")

    from hejin_sandbox.main import main as hejin

    hejin()


if __name__ == "__main__":
    main()
