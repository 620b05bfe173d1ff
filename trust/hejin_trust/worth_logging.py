"""Which refusals are worth a ledger entry: a peer can send nonsense faster than a log should grow.

One refusal per request and code is logged a minute, and at most 60 of a peer; what is beyond is
refused all the same, and only counted.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import structlog

WINDOW_SECONDS: Final = 60.0
MOST_LOGGED: Final = 60
"""Refusals of one peer in a window: an honest one asks again every few seconds, the same."""

_log = structlog.get_logger(__name__)


class WorthLogging:
    """Decides for one peer; safe to use from several threads."""

    def __init__(self, peer: str) -> None:
        """Count what `peer` is refused."""
        self._peer = peer
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._logged: set[tuple[str, str]] = set()
        self._left_out = 0

    def is_worth(self, request: str, code: str) -> bool:
        """Return whether to log a refusal of a request (its hash) with a code; it then counts."""
        with self._lock:
            now = time.monotonic()
            if now - self._since >= WINDOW_SECONDS:
                if self._left_out:
                    _log.warning("refusals-not-logged", peer=self._peer, refusals=self._left_out)
                self._since, self._left_out = now, 0
                self._logged.clear()
            if (request, code) in self._logged or len(self._logged) >= MOST_LOGGED:
                self._left_out += 1
                return False
            self._logged.add((request, code))
            return True
