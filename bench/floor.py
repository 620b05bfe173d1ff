"""The floor under every figure: one fsync, one empty transaction, one mTLS gRPC echo."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from bench.echo import METHOD, SERVICE
from bench.figures import Figure, median_of, wall_seconds
from bench.population import VIEW_FILE
from hejin_node.home import open_home
from hejin_sandbox.memory import found_homes
from hejin_sandbox.tables import BANK
from hejin_trust.channels import dial
from hejin_trust.database import writing

SECTION = "floor"
NODE = "node-01"
ECHO_BYTES = 10_000
"""About what a label histogram of the SBA view weighs."""


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return the floor's figures, milliseconds of wall clock."""
    repeats = 20 if quick else 300
    found_homes(folder, {NODE: 100}, VIEW_FILE, epsilon_cap=1.0)
    fsync = bare_fsync(folder / "fsync", repeats)
    return [
        Figure(SECTION, "fsync of 4 KB", fsync, "ms"),
        _beside("SQLite transaction of one row, durable", _commit(folder, repeats), fsync),
        _beside(f"mTLS gRPC echo of {ECHO_BYTES:,} bytes", _echo(folder, repeats), fsync),
    ]


def _beside(name: str, value: float, fsync: float) -> Figure:
    return Figure(SECTION, name, value, "ms", value / fsync, "fsync")


def bare_fsync(path: Path, repeats: int) -> float:
    """Return the median milliseconds of writing 4 KB to the end of a new file and syncing it."""
    page = os.urandom(4096)
    with path.open("wb", buffering=0) as file:

        def once() -> None:
            file.write(page)
            os.fsync(file.fileno())

        return 1e3 * median_of(repeats, lambda: wall_seconds(once))


def _commit(folder: Path, repeats: int) -> float:
    with open_home(folder / NODE) as home:
        with writing(home.database) as connection:
            connection.execute(text("CREATE TABLE bench (value INTEGER)"))

        def once() -> None:
            with writing(home.database) as connection:
                connection.execute(text("INSERT INTO bench VALUES (1)"))

        return 1e3 * median_of(repeats, lambda: wall_seconds(once))


def _echo(folder: Path, repeats: int) -> float:
    process = subprocess.Popen(  # noqa: S603 - our own module, no shell
        [sys.executable, "-m", "bench.echo", str(folder / BANK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with open_home(folder / NODE) as home:
            membership, charter = home.membership, home.charter
            bank = charter.admitted(BANK)
            keys = (membership.tls_key_pem, membership.certificate_pem)
            with dial(f"127.0.0.1:{port}", bank, home.charters, *keys) as channel:
                call = channel.unary_unary(f"/{SERVICE}/{METHOD}", None, None)
                payload = os.urandom(ECHO_BYTES)
                call(payload, timeout=30.0)  # the handshake is not an echo
                times = [wall_seconds(lambda: call(payload, timeout=30.0)) for _ in range(repeats)]
        return 1e3 * statistics.median(times)
    finally:
        process.communicate("", timeout=30.0)
