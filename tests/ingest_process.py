"""Ingests in processes of their own, killed at a named step or whenever the test likes.

Each is forked from a server that has imported everything. The product has no crash points: where
one is wanted, a function is replaced here.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from multiprocessing.connection import Connection
from pathlib import Path

from hejin_node import ingest as ingest_module
from hejin_node import manifest, source_csv
from hejin_node.giving_way import GivingWay
from hejin_node.home import MIGRATIONS
from hejin_node.ingest import ingest, ingest_corrected
from hejin_node.loading import Loading
from hejin_node.mapping import SourceMapping
from hejin_node.warehouse import Warehouse
from hejin_trust.database import open_database
from hejin_trust.errors import HejinError

KEY = bytes(range(32))
CHUNK = 3000
"""Rows that become durable together: a small file has several parts then."""

_TESTS = str(Path(__file__).parent)

STEPS: dict[str, tuple[object, str, bool]] = {
    "before a part is durable": (Loading, "_finish", False),
    "before a part is listed": (manifest, "list_segments", False),
    "after a part is listed": (manifest, "list_segments", True),
    "before the place is kept": (manifest, "advance_load", False),
    "before the load is complete": (manifest, "complete_load", False),
    "after the load is complete": (manifest, "complete_load", True),
    "before old segments are swapped": (GivingWay, "swap", False),
    "before old files are removed": (GivingWay, "remove_old", False),
}
"""Where a process kills itself: an attribute, and whether before or after it does its work."""


@contextmanager
def opened(home: Path) -> Iterator[Warehouse]:
    """Open the warehouse in a folder, which is made."""
    home.mkdir(exist_ok=True)
    database = open_database(home / "node.db", MIGRATIONS)
    try:
        yield Warehouse(home / "warehouse", KEY, database, KEY)
    finally:
        database.dispose()


class Ingest:
    """A process that ingests files and says of each when it was done."""

    def __init__(
        self,
        home: Path,
        files: list[Path],
        mapping: bytes,
        *,
        corrects: int | None = None,
        killed: tuple[str, int] | None = None,
        most_bytes: int | None = None,
    ) -> None:
        """Start it.

        killed      a step of STEPS, and at which time it comes there
        most_bytes  that a file may have, as on a disk that is full
        """
        server = multiprocessing.get_context("forkserver")
        os.environ["PYTHONPATH"] = os.pathsep.join(
            dict.fromkeys([_TESTS, *filter(None, os.environ.get("PYTHONPATH", "").split(":"))])
        )
        server.set_forkserver_preload(["ingest_process"])
        self._said, theirs = server.Pipe(duplex=False)
        self._process = server.Process(
            target=_run, args=(theirs, home, files, mapping, corrects, killed, most_bytes)
        )
        self._process.start()
        theirs.close()

    def wait_until_it_began(self) -> None:
        """Return when the process is about to ingest."""
        assert self._said.recv() == "began"

    def kill(self) -> None:
        """Kill it, if it still runs."""
        self._process.kill()

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end; return its exit code, negative for a signal, and what it said."""
        said: list[str] = []
        try:
            while True:
                said.append(self._said.recv())
        except EOFError:
            pass
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        return code, [word for word in said if word != "began"]


def _run(
    said: Connection,
    home: Path,
    files: list[Path],
    mapping: bytes,
    corrects: int | None,
    killed: tuple[str, int] | None,
    most_bytes: int | None,
) -> None:
    ingest_module.CHUNK = CHUNK  # type: ignore[misc]
    source_csv._BLOCK = 1 << 15  # type: ignore[misc]
    if killed is not None:
        _arm(*killed)
    rules = SourceMapping.parse(mapping)
    with opened(home) as warehouse:
        if most_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        said.send("began")
        for file in files:
            try:
                if corrects is None:
                    ingest(warehouse, file, rules)
                else:
                    ingest_corrected(warehouse, file, rules, corrects)
            except HejinError as reason:
                said.send(f"{reason.code}: {reason.text.en}")
            else:
                said.send(file.name)


def _arm(step: str, time: int) -> None:
    owner, name, after = STEPS[step]
    real: Callable[..., object] = getattr(owner, name)
    left = time

    @wraps(real)
    def armed(*args: object, **kwargs: object) -> object:
        nonlocal left
        left -= 1
        if after:
            found = real(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found if after else real(*args, **kwargs)

    setattr(owner, name, armed)
