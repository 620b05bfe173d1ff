"""What it takes to start each role and keep it waiting: wall clock, CPU, resident memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil

from bench.figures import Figure, median_of
from bench.population import VIEW_FILE
from hejin_sandbox.memory import found_homes
from hejin_sandbox.supervisor import LISTENING, Service, Supervisor
from hejin_sandbox.tables import BANK, REGULATOR

SECTION = "start-up"
NODE = "node-01"
NODE_READY = re.compile(r"^node serves", re.MULTILINE)
MB = 1e6
HELP_LIMIT = 1.0
"""CPU seconds that `hejin --help` may take."""


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return start-up and idle figures of `hejin --help` and of every role."""
    found_homes(folder, {NODE: 100}, VIEW_FILE, epsilon_cap=1.0)
    seconds = median_of(1 if quick else 5, _help)
    figures = [
        Figure(SECTION, "hejin --help, CPU", seconds, "s", seconds / HELP_LIMIT, "limit of 1 s")
    ]
    with Supervisor(folder / "logs") as supervisor:
        for role, home in (("regulator", REGULATOR), ("coordinator", BANK), ("node", NODE)):
            figures += _role(supervisor, role, folder / home, 0.2 if quick else 5.0)
    return figures


def resident(pid: int) -> tuple[float, float]:
    """Return (resident memory now, its peak) of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert peak is not None
    return psutil.Process(pid).memory_info().rss / MB, int(peak[1]) * 1024 / MB


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _help() -> float:
    process = subprocess.Popen(
        [sys.executable, "-m", "hejin_sandbox.main", "--help"], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


def _role(supervisor: Supervisor, role: str, home: Path, idle: float) -> list[Figure]:
    """Start a role, let it idle for `idle` seconds, and stop it."""
    listen = [] if role == "node" else ["--listen", "127.0.0.1:0"]
    begin = time.monotonic()
    service = supervisor.serve(f"start-{role}", [role, "serve", *listen], home)
    service.wait_for(NODE_READY if role == "node" else LISTENING, 60.0)
    wall, used = time.monotonic() - begin, cpu_of(service.pid)
    time.sleep(idle)
    resting = cpu_of(service.pid)
    time.sleep(idle)
    rate = (cpu_of(service.pid) - resting) / idle
    return [
        Figure(SECTION, f"{role} serve, wall clock until ready", wall, "s"),
        Figure(SECTION, f"{role} serve, CPU until ready", used, "s"),
        Figure(SECTION, f"{role} serve, resident when idle", _stop(service), "MB"),
        Figure(SECTION, f"{role} serve, CPU when idle", 100.0 * rate, "% of a core"),
    ]


def _stop(service: Service) -> float:
    held, _ = resident(service.pid)
    service.stop()
    return held
