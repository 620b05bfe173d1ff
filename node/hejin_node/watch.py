"""Sources on an interval: files of a folder that stopped changing, each once, or a database."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hejin_node.errors import IngestError, MappingError, SourceGoneError
from hejin_node.sources import Progress, file_name
from hejin_trust.errors import HejinError

SUFFIXES: Final = (".csv", ".parquet", ".xlsx")

Stamp = tuple[int, int, int]
"""Size, time of the last change in ns, and inode of a file."""


class StoppedError(HejinError):
    """The process was asked to stop; what a source was read up to is kept where it is durable."""

    code = "stopped"


@dataclass(slots=True)
class Folder:
    """Which files are to be taken: those that look the same twice, until they change again."""

    _before: Mapping[str, Stamp] = field(default_factory=dict)
    _done: dict[str, Stamp] = field(default_factory=dict)

    def settled(self, found: Mapping[str, Stamp]) -> list[str]:
        """Return the names of new files that stopped changing since the last call, in order."""
        ready = [
            name
            for name, stamp in sorted(found.items())
            if self._before.get(name) == stamp and self._done.get(name) != stamp
        ]
        self._before = dict(found)
        self._done = {name: stamp for name, stamp in self._done.items() if name in found}
        return ready

    def done(self, name: str) -> None:
        """Take note that a file is not to be taken again, unless it changes."""
        self._done[name] = self._before[name]


def source_files(folder: Path) -> dict[str, Stamp]:
    """Return the files of a folder that may be sources; IngestError if it cannot be read.

    Links and pipes are none: whoever may put files there could name any file of the node, or
    hold up all that come after.
    """
    found: dict[str, Stamp] = {}
    try:
        for path in folder.iterdir():
            # Hidden files and Excel's "~$" are still being written, or never were data.
            if path.suffix.lower() in SUFFIXES and not path.name.startswith((".", "~")):
                with suppress(FileNotFoundError):  # it went away meanwhile
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode):
                        found[path.name] = (status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError:
        raise _unreadable(folder) from None
    return found


def watch_folder(
    folder: Path,
    take: Callable[[Path], None],
    after: Callable[[], None],
    failed: Callable[[str, HejinError], None],
    stop: threading.Event,
    seconds: float,
) -> None:
    """Take each file of a folder once, looking every `seconds`, until `stop`.

    after   called at the end of each look, whatever there was
    A file that is refused is left until it changes; where something else failed (the disk, the
    database) it is tried again. Each reason is told once.
    """
    files, told = Folder(), _Told(failed)
    while not stop.is_set():
        try:
            ready = files.settled(source_files(folder))
        except IngestError as reason:
            told.failure(file_name(folder), reason)
            ready = []
        for name in ready:
            if stop.is_set():
                return
            shown = file_name(folder / name)
            if told.tried(shown, lambda name=name: take(folder / name)):  # type: ignore[misc]
                files.done(name)
        told.tried("quality", after)
        stop.wait(seconds)


def watch_database(
    take: Callable[[], None],
    failed: Callable[[str, HejinError], None],
    stop: threading.Event,
    seconds: float,
) -> None:
    """Ask a database every `seconds`, until `stop`; each reason of a failure is told once."""
    told = _Told(failed)
    while not stop.is_set():
        told.tried("sql", take)
        stop.wait(seconds)


def stopping(progress: Progress, stop: threading.Event) -> Progress:
    """Return a progress callback that ends the reading once `stop` is set."""

    def told(done: int, size: int) -> None:
        if stop.is_set():
            raise StoppedError(
                "Asked to stop; the next attempt goes on from what is durable.",
                "已按要求停止；下次将从已持久化处继续。",
            )
        progress(done, size)

    return told


class _Told:
    """Tries work and tells of failures, one and the same once until it changes or goes away."""

    def __init__(self, failed: Callable[[str, HejinError], None]) -> None:
        self._failed = failed
        self._last: dict[str, str] = {}

    def tried(self, name: str, work: Callable[[], None]) -> bool:
        """Return whether there is nothing to try again: it went well, or it was refused."""
        try:
            work()
        except StoppedError:
            return False
        except HejinError as reason:
            self.failure(name, reason)
            final = isinstance(reason, IngestError | MappingError)
            return final and not isinstance(reason, SourceGoneError)
        self._last.pop(name, None)
        return True

    def failure(self, name: str, reason: HejinError) -> None:
        """Tell of a failure if it is news."""
        if self._last.get(name) != reason.text.en:
            self._last[name] = reason.text.en
            self._failed(name, reason)


def files_in(paths: Iterable[Path]) -> list[Path]:
    """Return files as they are, and the source files of folders by name; raises IngestError."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(source_files(path)) if path.is_dir() else None
        if inside == []:
            raise IngestError(
                f"The folder {path} holds no {', '.join(SUFFIXES)} file: check the path.",
                f"目录 {path} 中没有 {'、'.join(SUFFIXES)} 文件：请检查路径。",
            )
        found += [path] if inside is None else [path / name for name in inside]
    return found


def _unreadable(folder: Path) -> IngestError:
    return IngestError(
        f"The folder {folder} cannot be read: check the path and rights.",
        f"无法读取目录 {folder}：请检查路径与权限。",
    )
