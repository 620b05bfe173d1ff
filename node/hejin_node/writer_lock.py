"""The lock of whoever writes the warehouse; who has to wait says so on stderr, and for what."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from hejin_trust.text import Text

Work = Literal["load", "compact", "give-up", "erase", "withdraw", "backup", "restore", "sweep"]

_WORDS: Final[Mapping[str, Text]] = {
    "load": Text("loads data", "导入数据"),
    "compact": Text("merges segments", "合并分段文件"),
    "give-up": Text("gives up a load", "放弃导入"),
    "erase": Text("erases an enterprise", "删除企业数据"),
    "withdraw": Text("withdraws a load", "撤回导入"),
    "backup": Text("makes a backup", "备份"),
    "restore": Text("puts a backup back", "恢复备份"),
    "sweep": Text("clears up", "清理"),
}
#: Between two files of one long ingest the lock is free for a few milliseconds.
_LOOKS_EVERY_SECONDS: Final = 0.02
_MOST_BYTES: Final = 4096


@contextmanager
def holding(path: Path, work: Work, alive: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock; where another process holds it, say so in one line and wait.

    alive   called again and again while it waits; what it raises ends the waiting
    """
    with _opened(path) as handle:
        if not _taken(handle):
            sys.stderr.write(f"{_waits_for(handle)}\n")
            sys.stderr.flush()
            while not _taken(handle):
                alive()
                time.sleep(_LOOKS_EVERY_SECONDS)
        _sign(handle, work)
        yield


@contextmanager
def holding_if_free(path: Path, work: Work) -> Iterator[bool]:
    """Hold the lock if nobody does; yields whether it is held."""
    with _opened(path) as handle:
        free = _taken(handle)
        if free:
            _sign(handle, work)
        yield free


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(handle: int, work: Work) -> None:
    """Leave word of what the lock is held for; on a full disk without."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "work": work}).encode(), 0)


def _waits_for(handle: int) -> Text:
    try:
        told = json.loads(os.pread(handle, _MOST_BYTES, 0))
        doing, process = _WORDS[told["work"]], int(told["pid"])
    except (OSError, ValueError, KeyError, TypeError):  # it has not signed yet, or could not
        return Text(
            "Waiting for another process that writes the warehouse; Ctrl-C ends the waiting.",
            "正在等待另一进程写完数据仓库；按 Ctrl-C 停止等待。",
        )
    return Text(
        f"Waiting for process {process}, which {doing.en}; Ctrl-C ends the waiting.",
        f"正在等待进程 {process} 完成（{doing.zh}）；按 Ctrl-C 停止等待。",
    )
