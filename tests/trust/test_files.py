"""A folder is served by one process at a time, and its death frees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hejin_trust.files import FileError, HeldError, held

HOLD = """
import sys
from pathlib import Path
from hejin_trust.files import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_and_free_again_after_it(tmp_path: Path) -> None:
    with held(tmp_path):
        with pytest.raises(HeldError, match="already serves from"), held(tmp_path):
            pass
        with pytest.raises(HeldError), held(tmp_path):
            pass
    with held(tmp_path):
        pass


def test_a_killed_process_lets_go_of_its_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(HeldError), held(tmp_path):
            pass
        other.kill()
        other.wait()
        with held(tmp_path):
            pass


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="absent"), held(tmp_path / "absent"):
        pass
