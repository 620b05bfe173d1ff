"""Servers in threads of a test, served as their processes serve."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Protocol


class Serve(Protocol):
    """A role's `service.serve`."""

    def __call__(
        self, home: Path, address: str, listening: Callable[[int], None], stop: threading.Event, /
    ) -> None:
        """Serve until `stop` is set."""


@contextmanager
def serving(serve: Serve, home: Path) -> Iterator[int]:
    """Serve in a thread and yield the port; what it raises before it listens is raised here."""
    told: Queue[int | BaseException] = Queue()
    stop = threading.Event()

    def work() -> None:
        try:
            serve(home, "127.0.0.1:0", told.put, stop)
        except BaseException as reason:
            told.put(reason)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        port = told.get(timeout=60)
        if isinstance(port, BaseException):
            raise port
        yield port
    finally:
        stop.set()
        thread.join()
