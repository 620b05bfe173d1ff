"""Files that are old or new whenever the power fails, and folders that one process holds."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hejin_trust.errors import HejinError


class FileError(HejinError):
    """A file cannot be read or written."""

    code = "file-error"


class HeldError(HejinError):
    """Another process serves from this folder."""

    code = "already-served"


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Make `data` the content of `path`; see `replace_stream`."""
    replace_stream(path, (data,), mode=mode)


def replace_stream(path: Path, parts: Iterable[bytes], *, mode: int = 0o644) -> None:
    """Make the parts in a row the content of `path`: written aside, synced, renamed over it.

    raises   FileError with the reason (no space, no permission, ...)
    """
    aside = None
    try:
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(aside).replace(path)
        aside = None
        sync_folder(path.parent)
    except OSError as reason:
        raise FileError(
            f"{path} cannot be written ({reason.strerror}); check the folder and free space",
            f"无法写入 {path}（{reason.strerror}）；请检查目录和磁盘空间",
        ) from reason
    finally:
        if aside is not None:
            Path(aside).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a folder's new names durable; raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there; raises FileError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as reason:
        raise FileError(
            f"{path} cannot be removed ({reason.strerror}); check the folder and its rights",
            f"无法删除 {path}（{reason.strerror}）；请检查目录及其权限",
        ) from reason


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make `folder` and what it lies in, if it is not there; raises FileError."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as reason:
        raise FileError(
            f"{folder} cannot be made ({reason.strerror}); name another folder",
            f"无法建立 {folder}（{reason.strerror}）；请换一个目录",
        ) from reason


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold `folder` for the one process that may serve from it; the kernel lets go at its death.

    raises   HeldError if another process holds it, FileError if it cannot be written
    """
    try:
        handle = os.open(folder / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as reason:
        raise FileError(
            f"{folder} cannot be written ({reason.strerror}); check the folder and its rights",
            f"无法写入 {folder}（{reason.strerror}）；请检查目录及其权限",
        ) from reason
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as reason:
            raise HeldError(
                f"another process already serves from {folder}; stop that one first",
                f"已有其他进程在 {folder} 上运行服务；请先停止该进程",
            ) from reason
        yield
    finally:
        os.close(handle)
