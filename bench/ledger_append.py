"""What an entry costs until it is durable, and until a regulator's process has cosigned it."""

from __future__ import annotations

import secrets
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Connection

from bench.figures import Figure, median_of, wall_seconds
from bench.ledger_bare import SECTION, Bare
from bench.population import VIEW_FILE
from bench.start import tell_node
from hejin_node.home import NodeHome, open_home
from hejin_regulator.mirror import DATABASE
from hejin_sandbox.memory import found_homes
from hejin_sandbox.supervisor import LISTENING, Supervisor
from hejin_sandbox.tables import BANK, REGULATOR
from hejin_trust.database import erase_deleted, open_existing, writing
from hejin_trust.entries import Body, Entry
from hejin_trust.mirroring import LogUpdate
from hejin_trust.witness import Witness
from hejin_trust.witness_channel import WitnessChannel

NODE = "node-01"
BATCH = 100
THREADS = (2, 10, 50)
# A multiple of 2^-64, as most exact costs are.
_RHO = {"num": "25734820347328643", "den": str(1 << 64)}
_MECHANISM = {
    "mode": "shared",
    "sigma": {"num": "123456789", "den": "1024"},
    "delta_squared": "3298534883328",
    "scale": 1 << 20,
    "nonzeros": 14,
    "dimension": 120,
    "bound_squared": {"num": "3", "den": "1"},
    "statistic": "label_histogram",
    "version": 1,
    "n": 8,
    "tau": 6,
    "m": 5,
    "t": 2,
    "r": 1,
}


class CountedChannel(WitnessChannel):
    """The gRPC way to the regulator; counts its messages."""

    messages = 0

    def add(self, updates: Sequence[LogUpdate]) -> tuple[str, ...]:
        """Send as the product does."""
        self.messages += 1
        return super().add(updates)


def measure(folder: Path, quick: bool, bare: Bare) -> list[Figure]:
    """Return what a node's entries cost, its regulator serving in a process of its own."""
    found_homes(folder, {NODE: 100}, VIEW_FILE, epsilon_cap=1.0)
    with Supervisor(folder / "logs") as supervisor:
        serving = ["regulator", "serve", "--listen", "127.0.0.1:0"]
        regulator = supervisor.serve(REGULATOR, serving, folder / REGULATOR)
        office = regulator.wait_for(LISTENING, 60.0).group(1)
        tell_node(folder / NODE, office, {})
        with open_home(folder / NODE) as home, home.dial(REGULATOR, office) as channel:
            figures = _durable(home, quick, bare)
            mirror = CountedChannel(channel, REGULATOR)
            witness = Witness(home, mirror)
            witness.start()
            figures += _cosigned(home, witness, mirror, quick, bare)
            figures += _kept(folder / REGULATOR / DATABASE, home, witness, quick)
    return figures


def _durable(home: NodeHome, quick: bool, bare: Bare) -> list[Figure]:
    repeats = 10 if quick else 200

    def append(entries: int) -> None:
        with writing(home.database) as connection:
            home.release_log.append_many(
                connection, [("reserve", _reserve()) for _ in range(entries)]
            )

    one = median_of(repeats, lambda: wall_seconds(lambda: append(1)))
    many = median_of(repeats // 5, lambda: wall_seconds(lambda: append(BATCH))) / BATCH
    return [
        _beside("append, durable", one, bare),
        _beside(f"append, {BATCH} in a transaction, each", many, bare),
    ]


def _cosigned(
    home: NodeHome, witness: Witness, mirror: CountedChannel, quick: bool, bare: Bare
) -> list[Figure]:
    """Reservations as `reserving.reserve` logs them: an entry in each log, then a cosignature."""
    reserving, asking = [], []
    for _ in range(10 if quick else 200):
        begin = time.perf_counter()
        seq = _charge(home)
        reserved = time.perf_counter()
        witness.cover(seq)
        reserving.append(reserved - begin)
        asking.append(time.perf_counter() - reserved)
    whole = [sum(pair) for pair in zip(reserving, asking, strict=True)]
    figures = [
        _beside("reserve and cosign", statistics.median(whole), bare),
        _beside("of which reserve", statistics.median(reserving), bare),
        _beside("of which cosign", statistics.median(asking), bare),
    ]
    for threads in THREADS:
        before, rounds = mirror.messages, 2 if quick else 10
        seconds = _at_once(lambda: witness.cover(_charge(home)), threads, rounds)
        reservations = threads * rounds
        shared = (mirror.messages - before) / reservations
        name = f"reserve and cosign, {threads} at once"
        figures += [
            _beside(f"{name}, each", seconds / reservations, bare),
            Figure(SECTION, f"{name}, messages each", shared, "messages"),
        ]
    return figures


def _at_once(work: Callable[[], object], threads: int, rounds: int) -> float:
    """Return the wall-clock seconds in which each of `threads` does the work `rounds` times."""
    start = threading.Barrier(threads + 1)

    def run() -> None:
        start.wait()
        for _ in range(rounds):
            work()

    with ThreadPoolExecutor(threads) as pool:
        done = [pool.submit(run) for _ in range(threads)]
        start.wait()
        begin = time.perf_counter()
        for future in done:
            future.result()
        return time.perf_counter() - begin


def _kept(database: Path, home: NodeHome, witness: Witness, quick: bool) -> list[Figure]:
    """Return what the mirror's database grows by, each entry: cosigned one by one, and at once."""
    rounds, backlog = (20, 200) if quick else (500, 5_000)
    sizes = [_stored(database)]
    for _ in range(rounds):
        witness.cover(_charge(home))
    sizes.append(_stored(database))
    with writing(home.database) as connection:
        entries = [_log_charge(home, connection) for _ in range(backlog)]
    witness.cover(entries[-1][0].seq)
    sizes.append(_stored(database))
    weight = statistics.fmean(len(entry.raw) for pair in entries for entry in pair)
    figures = []
    for name, place, number in (("one by one", 0, rounds), ("in one message", 1, backlog)):
        grown = (sizes[place + 1] - sizes[place]) / (2 * number)
        name = f"the mirror's database, cosigned {name}"
        against = f"the entry's own {weight:.0f} bytes"
        figures.append(Figure(SECTION, name, grown, "bytes an entry", grown / weight, against))
    return figures


def _stored(database: Path) -> int:
    engine = open_existing(database)
    erase_deleted(engine)  # what is in the write-ahead log goes to the file
    engine.dispose()
    return database.stat().st_size


def _charge(home: NodeHome) -> int:
    """Log a reservation in a transaction of its own; return its entry's index."""
    with writing(home.database) as connection:
        return _log_charge(home, connection)[0].seq


def _log_charge(home: NodeHome, connection: Connection) -> tuple[Entry, Entry]:
    reserve = home.release_log.append(connection, "reserve", _reserve())
    return reserve, home.internal_log.append(connection, "account", _account(reserve.seq))


def _reserve() -> Body:
    """Return what a reservation of a label histogram looks like; hashes random, as they are."""
    hashes = ("plan", "query", "split_key_hash", "round_ctx", "snapshot")
    return {
        **{name: secrets.token_hex(32) for name in hashes},
        "run": secrets.token_hex(16),
        "round": 3,
        "bank": BANK,
        "part": "train",
        "snapshot_seq": 4,
        "mechanism": _MECHANISM,
        "rho": _RHO,
        "charge": _RHO,
        "rho_alone": _RHO,
        "charge_alone": _RHO,
    }


def _account(reservation: int) -> Body:
    spent = ("spent_before", "spent_after", "plan_spent_after", "bank_spent_after")
    return {
        **dict.fromkeys((*spent, "alone_before", "alone_after"), _RHO),
        "reservation": reservation,
        "period": "2026-01-01T00:00:00Z",
    }


def _beside(name: str, seconds: float, bare: Bare) -> Figure:
    return Figure(SECTION, name, 1e3 * seconds, "ms", seconds / bare.fsync, "fsync")
