"""A figure and how it is measured: medians, CPU seconds, exponents, and on which machine."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

LIBRARIES = (
    "hejin",
    "flwr",
    "grpcio",
    "numpy",
    "opendp",
    "pyarrow",
    "duckdb",
    "sqlalchemy",
    "torch",
    "opacus",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; `ratio` to `against`, measured in the same run, where that helps."""

    section: str
    name: str
    value: float
    unit: str
    ratio: float | None = None
    against: str = ""


def median_of(repeats: int, measure: Callable[[], float]) -> float:
    """Return the median of `repeats` measurements."""
    return statistics.median(measure() for _ in range(repeats))


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds that this process spends in `work`, all threads."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def wall_seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds that `work` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return b of the least-squares fit cost = a size^b; 1 is linear."""
    x = [math.log(size) for size in sizes]
    y = [math.log(cost) for cost in costs]
    return statistics.linear_regression(x, y).slope


def machine(folder: Path) -> dict[str, object]:
    """Return what the figures depend on: processor, memory, load, versions, file system."""
    partitions = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    mount = next(str(p) for p in (folder, *folder.parents) if str(p) in partitions)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "file_system": partitions[mount],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
