"""What a year of daily runs leaves: entries, bytes, and the time to start, price and audit by then.

Every day is a real run: plan, approval, each private sum through the node's session and the
regulator's mirror, all signatures and fsyncs; only the days follow each other without a pause.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path

from bench.figures import Figure, median_of, wall_seconds
from bench.network import names
from bench.population import VIEW_FILE, one_node
from hejin_node import account
from hejin_node.export import export
from hejin_node.home import NodeHome
from hejin_regulator.authority import Office
from hejin_sandbox.memory import MemoryConsortium, fill, found_homes, open_consortium
from hejin_sandbox.tables import BANK, REGULATOR
from hejin_trust.archive import archive
from hejin_trust.canonical import time_text
from hejin_trust.database import compact, reading, writing
from hejin_trust.export import LOG_NAMES
from hejin_trust.ledger import open_ledger

SECTION = "a year of daily runs"
DAYS, QUICK_DAYS = 365, 3
ENTERPRISES = 1500
EPSILON, EPSILON_CAP = 2.0, 200.0
"""A year of runs of epsilon 2 needs a cap that no charter would have; sizes are not changed."""
STEP = 0.001
"""Each run may cost this much more than the last: no two days' charges are equal."""
NODE = names(1)[0]
MB = 1e6


@dataclass(frozen=True, slots=True)
class _Fresh:
    """Seconds on the first day: to verify both logs, to price a sum."""

    verify: float
    price: float


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return what the ledger of one node comes to after a year, and what archiving it gives."""
    days = QUICK_DAYS if quick else DAYS
    found_homes(folder, {NODE: ENTERPRISES}, VIEW_FILE, epsilon_cap=EPSILON_CAP)
    fill(folder, one_node(0, ENTERPRISES))
    database = folder / NODE / "node.db"
    with open_consortium(folder, [NODE]) as consortium:
        home = consortium.nodes[NODE]
        compact(home.database)
        begin, at_first = _entries(home), database.stat().st_size
        fresh = _Fresh(wall_seconds(home.verify_logs), _price(home))
        spent = [_day(consortium, EPSILON + STEP * day) for day in range(days)]
        compact(home.database)
        entries = [now - then for now, then in zip(_entries(home), begin, strict=True)]
        grown = database.stat().st_size - at_first
        figures = [
            Figure(SECTION, f"runs of {spent[0][1]} sums", days, "runs"),
            Figure(SECTION, "release log", entries[0], "entries", entries[0] / days, "a run"),
            Figure(SECTION, "internal log", entries[1], "entries", entries[1] / days, "a run"),
            Figure(SECTION, "node's database grew by", grown / MB, "MB", grown / days / 1e3,
                   "KB a run"),
            Figure(SECTION, "a run on the first days", _median(spent[:5]), "s"),
            Figure(SECTION, "a run on the last days", _median(spent[-5:]), "s",
                   _median(spent[-5:]) / _median(spent[:5]), "the first"),
        ]  # fmt: skip
        for member, file in ((BANK, "coordinator.db"), (REGULATOR, "mirror.db")):
            held = sum(path.stat().st_size for path in (folder / member).glob(f"{file}*"))
            figures.append(Figure(SECTION, f"{member}'s database", held / MB, "MB"))
        total = sum(_entries(home))
        figures += _at_the_end(home, folder, total, fresh)
        _begin_period(home, Office(folder / REGULATOR))
    figures += _archived(folder, total, database)
    return figures


def _day(consortium: MemoryConsortium, epsilon: float) -> tuple[float, int]:
    """Carry out one plan; return its seconds and its number of sums."""
    witness = consortium.witnesses[NODE]
    sums = 0

    def progress(_index: int, count: int, _statistic: str) -> None:
        nonlocal sums
        sums = count
        # A serving node does this every few seconds: about once a sum.
        witness.refresh()

    begin = time.perf_counter()
    plan = consortium.propose(epsilon)
    consortium.train(plan, progress)
    witness.refresh()
    return time.perf_counter() - begin, sums


def _at_the_end(home: NodeHome, folder: Path, total: int, fresh: _Fresh) -> list[Figure]:
    start, price = wall_seconds(home.verify_logs), _price(home)
    out = folder / "export"
    exported = wall_seconds(lambda: export(home, out))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return [
        Figure(
            SECTION, "verify both logs at start", start, "s", start / fresh.verify, "the first day"
        ),
        Figure(SECTION, "that is", total / start, "entries/s"),
        Figure(SECTION, "price one more sum", price * 1e3, "ms", price / fresh.price, "the first"),
        Figure(SECTION, "export takes", exported, "s"),
        Figure(SECTION, "export holds", size / MB, "MB", size / total / 1e3, "KB an entry"),
    ]


def _price(home: NodeHome) -> float:
    """Return the seconds that the account takes to price one more sum, in its transaction."""
    cost = Fraction(1, 1 << 40)

    def once() -> None:
        with writing(home.database) as connection:
            account.price(
                connection,
                home.charter,
                plan="0" * 64,
                bank=BANK,
                part="train",
                cost=cost,
                cost_alone=cost,
                part_cap=Fraction(1),
            )

    return median_of(9, lambda: wall_seconds(once))


def _archived(folder: Path, total: int, database: Path) -> list[Figure]:
    """Archive all that the rules let go, and look at what it gave."""
    before = database.stat().st_size
    begin = time.perf_counter()
    moved = 0
    with open_ledger(folder / NODE) as ledger:
        for name in LOG_NAMES:
            part = partial(ledger.part, folder / "sealed", name)
            done = archive(ledger.engine, ledger.log(name), ledger.charter, part)
            moved += 0 if done.archive is None else done.archive.end - done.archive.start
        sealed = time.perf_counter() - begin
        shrunk = wall_seconds(lambda: compact(ledger.engine))
    left = database.stat().st_size
    with open_consortium(folder, [NODE]) as consortium:
        start = wall_seconds(consortium.nodes[NODE].verify_logs)
    return [
        Figure(SECTION, "archive", sealed, "s", moved / sealed, "entries/s"),
        Figure(SECTION, "compact the database", shrunk, "s"),
        Figure(SECTION, "database before", before / MB, "MB"),
        Figure(SECTION, "database after", left / MB, "MB", left / before, "before"),
        Figure(SECTION, "verify both logs at start after that", start, "s"),
        Figure(SECTION, "entries that stay", total - moved, "entries"),
    ]


def _begin_period(home: NodeHome, office: Office) -> None:
    """Begin a new budget period, so that the year may be archived."""
    old = office.charter
    new = replace(
        old,
        serial=old.serial + 1,
        period_from=old.period_to,
        period_to=time_text(home.now() + timedelta(days=1000)),
    )
    home.charters.update(new.seal(office.identity))


def _entries(home: NodeHome) -> list[int]:
    with reading(home.database) as connection:
        return [log.size(connection) for log in (home.release_log, home.internal_log)]


def _median(days: list[tuple[float, int]]) -> float:
    return sorted(seconds for seconds, _ in days)[len(days) // 2]
