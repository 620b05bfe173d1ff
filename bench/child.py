"""Run a command and print what it took as JSON: `python -m bench.child COMMAND ...`.

A process of its own, and a small one: Linux counts the memory of whoever starts a command towards
the command's peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Took:
    """Exit code; wall clock and CPU, seconds; peak resident memory, MB; what it printed."""

    code: int
    wall: float
    cpu: float
    peak: float
    said: str


def run(command: Sequence[str]) -> Took:
    """Return what a command took, whatever its exit code."""
    done = subprocess.run(  # noqa: S603 - our own command, no shell
        [sys.executable, "-m", "bench.child", *command], stdout=subprocess.PIPE, check=True
    )
    return Took(**json.loads(done.stdout))


def main() -> None:
    """Run the command on the command line; its standard error goes where this one's does."""
    begin = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)  # noqa: S603 - as above
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall, cpu = time.perf_counter() - begin, used.ru_utime + used.ru_stime
    took = Took(process.returncode, wall, cpu, used.ru_maxrss * 1024 / 1e6, said)
    print(json.dumps(asdict(took)))  # noqa: T201 - our protocol


if __name__ == "__main__":
    main()
