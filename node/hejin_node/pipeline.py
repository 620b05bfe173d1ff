"""Work in step with a thread of its own: reading ahead of it, writing behind it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

T = TypeVar("T")

#: Items that wait; with the one being made and the one in use, so many are in memory and two more.
_DEPTH: Final = 2
_LOOK_SECONDS: Final = 0.1


@contextmanager
def ahead(items: Generator[T]) -> Iterator[Iterator[T]]:
    """Run a generator in a thread, a few items ahead of whoever takes them.

    What it raises is raised where the item would have been taken. At the end, also an early one,
    the generator is closed in its thread, and the thread joined.
    """
    waiting: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(_DEPTH)
    ended = threading.Event()

    def put(item: tuple[T] | BaseException | None) -> bool:
        while not ended.is_set():
            try:
                waiting.put(item, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        last: BaseException | None = None
        try:
            for item in items:
                if not put((item,)):
                    break
        except BaseException as reason:  # noqa: BLE001 - raised in the taker's thread
            last = reason
        finally:
            items.close()
        put(last)

    def taken() -> Iterator[T]:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]

    thread = threading.Thread(target=run, name="read-ahead")
    thread.start()
    try:
        yield taken()
    finally:
        ended.set()
        thread.join()


class Behind:
    """Runs tasks in their order in a thread, at most one waiting; their errors come a task later.

    Leave it before what the tasks work on is closed.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, "write-behind")
        self._last: Future[None] | None = None

    def __enter__(self) -> Behind:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the task that runs; whether it failed is `wait`'s to tell."""
        self._threads.shutdown(wait=True)

    def run(self, task: Callable[[], None]) -> None:
        """Run a task once the last one is done; raises what that one raised."""
        self.wait()
        self._last = self._threads.submit(task)

    def wait(self) -> None:
        """Wait until all is done; raises what a task raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
