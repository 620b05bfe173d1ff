"""libsodium is loaded without a file: nothing stays behind, and /tmp may be mounted noexec."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hejin_privacy.sodium import rbcl

PROBE = "from hejin_privacy.sodium import rbcl; print(len(rbcl.crypto_core_ristretto255_random()))"


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "32\n"
    assert list(tmp_path.iterdir()) == []


def test_it_loads_where_no_file_of_the_temporary_folder_may_be_executed(tmp_path: Path) -> None:
    mounted = f"mount -t tmpfs -o noexec none {tmp_path} && exec {sys.executable} -c '{PROBE}'"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert (done.stdout, done.returncode) == ("32\n", 0), done.stderr


def test_other_temporary_files_are_real_again() -> None:
    assert rbcl is not None
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).is_file()
