"""How fast `hejin regulator verify` reads an export, its peak memory, and what an audit takes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from bench import child
from bench.figures import Figure
from bench.ledger_bare import SECTION, Bare
from bench.ledger_books import Books, releases_in, write_books

SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 10_000)
RELEASES, QUICK_RELEASES = 10_000, 100
TO_REACH = 0.3
"""Of the speed at which checking every signature and hashing every leaf alone would go."""
AUDIT_SECONDS = 60.0
"""In which the audit of 10,000 releases must be done."""


def measure(folder: Path, quick: bool, bare: Bare) -> list[Figure]:
    """Return the figures of exports of 10^4, 10^5 and 10^6 entries, and of the audit."""
    figures: list[Figure] = []
    peaks: list[float] = []
    for entries in QUICK_SIZES if quick else SIZES:
        export = folder / str(entries)
        books = write_books(export, releases_in(entries))
        took = _verify(export, books)
        shutil.rmtree(export)
        peaks.append(took.peak)
        figures += _figures(books, took, bare)
    grown = peaks[-1] / peaks[0]
    figures.append(Figure(SECTION, "verify: peak, largest to smallest", grown, "times"))
    return [*figures, _audit(folder / "audit", QUICK_RELEASES if quick else RELEASES)]


def _figures(books: Books, took: child.Took, bare: Bare) -> list[Figure]:
    limit = bare.limit(books.signatures, books.entries)
    name = f"verify {books.entries:,} entries, {books.signatures:,} signatures"
    against = f"the limit; {TO_REACH} to reach"
    return [
        Figure(SECTION, name, books.entries / took.cpu, "entries/CPU s", limit / took.cpu, against),
        Figure(SECTION, f"{name}: wall clock", took.wall, "s", took.wall / took.cpu, "CPU"),
        Figure(SECTION, f"{name}: peak memory", took.peak, "MB"),
    ]


def _audit(export: Path, releases: int) -> Figure:
    """Return the seconds of the one command, its printable report included."""
    books = write_books(export, releases)
    took = _verify(export, books, "--report", str(export.with_suffix(".html")))
    shutil.rmtree(export)
    name = f"audit of {books.releases:,} releases, report included"
    return Figure(SECTION, name, took.wall, "s", took.wall / AUDIT_SECONDS, "limit of a minute")


def _verify(export: Path, books: Books, *more: str) -> child.Took:
    """Run the command; the export is honest, so anything but exit 0 is an error here."""
    command = [sys.executable, "-m", "hejin_sandbox.main", "regulator", "verify", str(export)]
    took = child.run([*command, "--regulator-key", books.regulator_key.hex(), "--json", *more])
    if took.code != 0:
        raise RuntimeError(f"an honest export is not verified: {took.said[-2000:]}")
    heads = json.loads(took.said)["heads"]
    assert sum(head["size"] for head in heads) == books.entries
    return took
