"""Files that are either the old or the new version, whenever the power fails."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hejin_trust.errors import HejinError


class FileError(HejinError):
    """A file cannot be read or written."""

    code = "file-error"


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Make `data` the content of `path`: written aside, synced, then renamed over it.

    raises   FileError with the reason (no space, no permission, ...)
    """
    aside = None
    try:
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(aside).replace(path)
        aside = None
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as reason:
        raise FileError(
            f"{path} cannot be written ({reason.strerror}); check the folder and free space",
            f"无法写入 {path}（{reason.strerror}）；请检查目录和磁盘空间",
        ) from reason
    finally:
        if aside is not None:
            Path(aside).unlink(missing_ok=True)
