"""Work in step with a thread of its own: reading ahead of it, writing behind it."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

T = TypeVar("T")

#: Items that wait; with the one being made and the one in use, so many are in memory and two more.
_AHEAD: Final = 2
#: Tasks that wait behind the one that runs: writing comes in bursts, and nobody is to wait for one.
_BEHIND: Final = 4
_LOOK_SECONDS: Final = 0.1


@contextmanager
def ahead(items: Generator[T]) -> Iterator[Iterator[T]]:
    """Run a generator in a thread, a few items ahead of whoever takes them.

    What it raises is raised where the item would have been taken. At the end, also an early one,
    the generator is closed in its thread, and the thread joined.
    """
    waiting: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(_AHEAD)
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
    """Runs tasks in their order in a thread, a few of them waiting; errors come some tasks later.

    After a task that failed none is run. Leave it before what the tasks work on is closed.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, "write-behind")
        self._tasks: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> Behind:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the task that runs, whether it fails or not; those that wait are given up."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def run(self, task: Callable[[], None]) -> None:
        """Run a task after those before it; raises what one of these raised."""
        while self._tasks and (self._tasks[0].done() or len(self._tasks) > _BEHIND):
            self._tasks.popleft().result()
        self._tasks.append(self._threads.submit(self._run, task))

    def wait(self) -> None:
        """Wait until all is done; raises what a task raised."""
        while self._tasks:
            self._tasks.popleft().result()

    def _run(self, task: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            task()
        except BaseException:
            self._failed = True
            raise
