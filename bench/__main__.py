"""Measure, print one table, write results.json: `python -m bench [--quick] [PART ...]`."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import (
    floor,
    growth,
    growth_ledger,
    ingest,
    ledger,
    links,
    masks,
    network,
    set_intersection,
    start,
    sums,
    view,
)
from bench.figures import Figure, machine


def _gradients(folder: Path, quick: bool) -> list[Figure]:
    # Torch and Opacus take five seconds to import, and only this part needs them.
    from bench import gradients

    return gradients.measure(folder, quick)


def _accuracy(folder: Path, quick: bool) -> list[Figure]:
    # It needs LightGBM and real data, and no other part does.
    from bench import accuracy

    return accuracy.measure(folder, quick)


PARTS: dict[str, Callable[[Path, bool], list[Figure]]] = {
    "floor": floor.measure,
    "statistics": sums.measure,
    "network-gradient": _gradients,
    "masks": masks.measure,
    "start-up": start.measure,
    "network": network.measure,
    "links": links.measure,
    "growth": growth.measure,
    "ingest": ingest.measure,
    "view": view.measure,
    "set-intersection": set_intersection.measure,
    "ledger": ledger.measure,
    "ledger-year": growth_ledger.measure,
    "accuracy": _accuracy,
}
ON_DEMAND = {"ledger-year", "accuracy"}
"""Parts that run only if they are named: they take long, or data that not everybody has."""
RESULTS = Path(__file__).parent / "results.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are named, or all but those on demand."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--out", type=Path, help="results file; by default bench/results.json")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    parts = asked.parts or [part for part in PARTS if part not in ON_DEMAND]
    out = asked.out or RESULTS
    console = Console()
    # A run that is ended early still stops its processes and removes its folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="hejin-bench-"))
    try:
        facts = machine(folder)
        figures: list[Figure] = []
        begin = time.monotonic()
        for part in parts:
            console.print(f"[dim]{time.monotonic() - begin:6.1f} s  {part}[/dim]")
            (folder / part).mkdir()
            figures += PARTS[part](folder / part, asked.quick)
    finally:
        shutil.rmtree(folder)
    facts["seconds"] = round(time.monotonic() - begin, 1)
    facts["quick"] = asked.quick
    console.print(table(figures))
    report = {"machine": facts, "figures": [asdict(figure) for figure in figures]}
    out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"{facts['seconds']} s; every figure: {out}")


def table(figures: Sequence[Figure]) -> Table:
    """Return the figures as one table, section by section."""
    shown = Table(title="What Hejin costs")
    for heading in ("", "figure", "unit", "ratio", "to"):
        shown.add_column(heading, justify="right" if heading in ("figure", "ratio") else "left")
    section = ""
    for figure in figures:
        if figure.section != section:
            section = figure.section
            shown.add_section()
            shown.add_row(f"[bold]{section}[/bold]")
        ratio = "" if figure.ratio is None else number(figure.ratio)
        shown.add_row(figure.name, number(figure.value), figure.unit, ratio, figure.against)
    return shown


def number(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
