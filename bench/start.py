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
from hejin_coordinator import config as bank_config
from hejin_coordinator.config import CoordinatorSettings
from hejin_node import config as node_config
from hejin_node.config import NodeSettings
from hejin_sandbox.memory import found_homes
from hejin_sandbox.supervisor import LISTENING, Service, Supervisor
from hejin_sandbox.tables import BANK, REGULATOR
from hejin_trust.settings import read_settings, write_settings

SECTION = "start-up"
NODE = "node-01"
NODE_READY = re.compile(r"^node serves", re.MULTILINE)
MB = 1e6
_READY_SECONDS = 60.0
HELP_LIMIT = 1.0
"""CPU seconds that `hejin --help` may take."""


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return start-up and idle figures of `hejin --help` and of every role."""
    found_homes(folder, {NODE: 100}, VIEW_FILE, epsilon_cap=1.0)
    seconds = median_of(1 if quick else 5, _help)
    figures = [
        Figure(SECTION, "hejin --help, CPU", seconds, "s", seconds / HELP_LIMIT, "limit of 1 s")
    ]
    idle = 0.2 if quick else 5.0
    with Supervisor(folder / "logs") as supervisor:
        # The regulator goes on: neither bank nor node is ready without its mirror.
        regulator, found = _role(supervisor, "regulator", folder / REGULATOR, idle)
        figures += found
        office = regulator.wait_for(LISTENING, _READY_SECONDS).group(1)
        tell_bank(folder / BANK, office)
        tell_node(folder / NODE, office, {})
        for role, home in (("coordinator", BANK), ("node", NODE)):
            service, found = _role(supervisor, role, folder / home, idle)
            service.stop()
            figures += found
    return figures


def tell_bank(home: Path, regulator: str) -> None:
    """Write the regulator's HOST:PORT into a bank's settings."""
    path = home / bank_config.FILE
    settings = read_settings(path, CoordinatorSettings)
    write_settings(path, settings.model_copy(update={"regulator": regulator}))


def tell_node(home: Path, regulator: str, banks: dict[str, str]) -> None:
    """Write the regulator's HOST:PORT, and each bank's, into a node's settings."""
    path = home / node_config.FILE
    settings = read_settings(path, NodeSettings)
    write_settings(path, settings.model_copy(update={"regulator": regulator, "banks": banks}))


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


def _role(
    supervisor: Supervisor, role: str, home: Path, idle: float
) -> tuple[Service, list[Figure]]:
    """Start a role and let it idle for `idle` seconds, twice; it is left running."""
    listen = [] if role == "node" else ["--listen", "127.0.0.1:0"]
    begin = time.monotonic()
    service = supervisor.serve(f"start-{role}", [role, "serve", *listen], home)
    service.wait_for(NODE_READY if role == "node" else LISTENING, _READY_SECONDS)
    wall, used = time.monotonic() - begin, cpu_of(service.pid)
    time.sleep(idle)
    resting = cpu_of(service.pid)
    time.sleep(idle)
    rate = (cpu_of(service.pid) - resting) / idle
    held, _ = resident(service.pid)
    return service, [
        Figure(SECTION, f"{role} serve, wall clock until ready", wall, "s"),
        Figure(SECTION, f"{role} serve, CPU until ready", used, "s"),
        Figure(SECTION, f"{role} serve, resident when idle", held, "MB"),
        Figure(SECTION, f"{role} serve, CPU when idle", 100.0 * rate, "% of a core"),
    ]
