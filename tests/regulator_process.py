"""The real `hejin regulator serve` as a process that can be killed at a named step.

    python regulator_process.py HOME ARMED

ARMED is a file that names a step; the process kills itself there and removes it. What it does
beyond serving is installed here, by replacing functions: the product has no crash points.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hejin_regulator import stamps
from hejin_regulator.mirror import LogMirror
from hejin_regulator.stamps import Stamps
from hejin_trust.stored_log import StoredLog

#: Whether what was sent is held after a kill there.
STEPS = {
    "asked": False,
    "time to be reserved": False,
    "checked, with a time": False,
    "entries written": False,
    "all written": False,
    "stored, not answered": True,
}


class RegulatorProcess:
    """Serves a home until it is stopped, killed, or reaches the step that it was armed with."""

    def __init__(self, home: Path, log: Path) -> None:
        self._armed = home / "armed"
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(home), str(self._armed)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "HEJIN_LANG": "en"},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("listening on "), log.read_text()
        self.port = int(line.rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def arm(self, step: str) -> None:
        assert step in STEPS
        aside = self._armed.with_suffix(".new")
        aside.write_text(step)
        aside.replace(self._armed)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)
        self._armed.unlink(missing_ok=True)

    def wait_for_death(self) -> None:
        """Wait until it was killed at the step that it was armed with."""
        self._process.wait(timeout=60)
        assert self._process.returncode == -signal.SIGKILL, self._log.read_text()
        assert not self._armed.exists()

    def stop(self) -> int:
        """End it as an operator does; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)
        return self._process.returncode


def _install(armed: Path) -> None:
    def reach(step: str) -> None:
        with suppress(FileNotFoundError):
            if armed.read_text() == step:
                armed.unlink()
                os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str, before: str = "", after: str = "") -> None:
        original: Callable[..., Any] = getattr(owner, name)

        @wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            reach(before)
            result = original(*arguments, **named)
            reach(after)
            return result

        setattr(owner, name, wrapped)

    around(LogMirror, "add", before="asked", after="stored, not answered")
    around(Stamps, "_reserve", before="time to be reserved")
    around(Stamps, "next", after="checked, with a time")
    around(StoredLog, "extend", after="entries written")
    around(StoredLog, "keep_cosigned", after="all written")
    # Every stamp is written, so that this step is reached each time.
    stamps.AHEAD = timedelta(0)  # type: ignore[misc]


if __name__ == "__main__":
    _install(Path(sys.argv[2]))
    sys.argv = ["hejin", "regulator", "serve", "--home", sys.argv[1], "--listen", "127.0.0.1:0"]
    from hejin_sandbox.main import main

    main()
