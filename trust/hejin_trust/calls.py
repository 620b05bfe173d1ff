"""One call at a server: its caller's share of the threads, and the one message that it brings."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from hejin_trust.errors import HejinError


class BusyError(HejinError):
    """A member has more calls under way than one member may."""

    code = "busy"


class Shares:
    """Counts what each holder has of something; safe to use from several threads."""

    def __init__(self, most: int) -> None:
        """Let every holder have up to `most` at the same time."""
        self._most = most
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    def take(self, holder: str) -> bool:
        """Take one more for a holder, at once; False, and nothing taken, if it has its share."""
        with self._lock:
            if self._held[holder] >= self._most:
                return False
            self._held[holder] += 1
            return True

    def give_back(self, holder: str) -> None:
        """Give back one that was taken."""
        with self._lock:
            self._held[holder] -= 1

    def take_call(self, holder: str, context: grpc.ServicerContext) -> bool:
        """Take one until the call has ended, answer and all; False as `take`."""
        taken = self.take(holder)
        if taken and not context.add_callback(lambda: self.give_back(holder)):
            self.give_back(holder)  # it has ended already
        return taken


def only_message(
    messages: Iterator[bytes],
    read: Callable[[bytes], Any] | None,
    context: grpc.ServicerContext,
) -> Any:
    """Wait for the first message of a call and return it as `read` does; ends the call if none."""
    message = next(messages, None)
    if message is None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call carries no message")
    try:
        return message if read is None else read(message)
    except Exception:  # noqa: BLE001 - every service has its own format
        context.abort(grpc.StatusCode.INTERNAL, "the message cannot be read")
