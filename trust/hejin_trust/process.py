"""A long-lived process: it ends on a signal, and it ends if one of its threads does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from hejin_trust.errors import HejinError

WAKE_SECONDS: Final = 0.5

_log = structlog.get_logger(__name__)


class ThreadEndedError(HejinError):
    """A thread that should run as long as the process ended by an unforeseen error."""

    code = "thread-ended"


def until_signal() -> threading.Event:
    """Return an event that SIGTERM and Ctrl-C set; to be called in the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


class Threads:
    """Threads that all run until `stop`; where one fails, the whole process stops.

    A process that goes on without its worker or without one of its channels would look well
    and do nothing; one that ends is started again by its supervisor.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._threads: list[threading.Thread] = []
        self._failed: list[str] = []
        self._reasons: list[HejinError] = []

    def start(self, name: str, work: Callable[[threading.Event], None]) -> None:
        """Run `work(stop)` in a thread; it must return soon after `stop` is set."""
        thread = threading.Thread(target=self._run, args=(name, work), name=name)
        self._threads.append(thread)
        thread.start()

    def _run(self, name: str, work: Callable[[threading.Event], None]) -> None:
        ended = False
        try:
            work(self._stop)
            ended = True
        except HejinError as reason:
            self._reasons.append(reason)
        finally:
            # Any other error goes on to threading.excepthook, which prints it.
            if not ended:
                self._failed.append(name)
                self._stop.set()

    def wait(self) -> None:
        """Wait until `stop` is set; raises the refusal that ended a thread, or ThreadEndedError."""
        while not self._stop.wait(WAKE_SECONDS):
            pass  # a signal that comes just before an endless wait would be slept through
        if self._reasons:
            raise self._reasons[0]
        if self._failed:
            raise ThreadEndedError(
                f"the thread {self._failed[0]} ended by an error (see above): the process stops",
                f"线程 {self._failed[0]} 因错误终止（见上文）：进程停止",
            )

    def join(self) -> None:
        """Let all threads end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def repeat(
    work: Callable[[], object],
    seconds: float,
    stop: threading.Event,
    fatal: tuple[type[HejinError], ...] = (),
) -> None:
    """Do `work` every `seconds` until `stop`; a refusal or failure is logged, and tried again.

    One and the same reason is logged once until it changes or goes away. What is `fatal` is raised.
    """
    last = ""
    while True:
        try:
            work()
            last = ""
        except fatal:
            raise
        except HejinError as reason:
            if reason.code != last:
                _log.warning("will-try-again", code=reason.code, reason=reason.text.en)
            last = reason.code
        if stop.wait(seconds):
            return


@contextmanager
def threads(stop: threading.Event) -> Iterator[Threads]:
    """Join all threads at the end, whatever happens."""
    running = Threads(stop)
    try:
        yield running
    finally:
        running.join()
