"""libsodium's ristretto255, loaded from memory: no file stays behind, none need be executable."""

from __future__ import annotations

import os
import tempfile
from types import ModuleType, SimpleNamespace


def _load() -> ModuleType:
    """Return rbcl, whose functions are libsodium's.

    At its import rbcl writes its library into a named temporary file, one for each process that
    stays for ever, and loads it from there, which fails where /tmp is mounted noexec, as Docker
    does it. It is given a file in memory instead (memfd_create(2)), by its name under /proc.
    """
    handle = os.memfd_create("libsodium", os.MFD_CLOEXEC)
    named, in_memory = tempfile.NamedTemporaryFile, SimpleNamespace(name=f"/proc/self/fd/{handle}")
    tempfile.NamedTemporaryFile = lambda *_, **__: in_memory  # type: ignore[assignment]
    try:
        import rbcl
    finally:
        tempfile.NamedTemporaryFile = named
        os.close(handle)  # the mapped library stays
    module: ModuleType = rbcl
    return module


rbcl = _load()
