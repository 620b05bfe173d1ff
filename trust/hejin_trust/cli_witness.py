"""What nodes and banks tell alike of their witness: preflight, an unwitnessed tail, recovery."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import typer
from rich.table import Table
from rich.text import Text as Marked

from hejin_trust.errors import HejinError
from hejin_trust.listing import print_table
from hejin_trust.preflight import Look
from hejin_trust.text import Text


def tell_looks(looks: Iterable[Look], *, as_json: bool) -> None:
    """Show a preflight as a table or one JSON object, and end the command with exit 0 or 1."""
    found = list(looks)
    well = all(look.ok for look in found)
    if as_json:
        rows = [
            {
                "name": look.name,
                "ok": look.ok,
                "code": look.code,
                "en": look.says.en,
                "zh": look.says.zh,
            }
            for look in found
        ]
        typer.echo(json.dumps({"ok": well, "looks": rows}, ensure_ascii=False))
    else:
        table = Table(show_header=False)
        for look in found:
            mark = Marked("✓", "green") if look.ok else Marked("✗", "red")
            table.add_row(mark, str(look.what), str(look.says))
        print_table(table)
    raise typer.Exit(0 if well else 1)


def tell_not_witnessed(reason: HejinError) -> None:
    """Say on stderr that an export goes beyond what the regulator has cosigned, and why."""
    typer.echo(
        Text(
            f"note: the newest entries are not witnessed yet ({reason.text.en}), and"
            " verification will say so",
            f"注意：最新条目尚未经见证（{reason.text.zh}），核验时会指出",
        ),
        err=True,
    )


def tell_recovered(facts: Mapping[str, tuple[Text, int]], to_do: Text, *, as_json: bool) -> None:
    """Show what a recovery put back: name -> (label, number); to_do: what is left to do by hand."""
    if as_json:
        numbers = {name: number for name, (_, number) in facts.items()}
        typer.echo(json.dumps(numbers, ensure_ascii=False))
        return
    table = Table(show_header=False)
    for label, number in facts.values():
        table.add_row(str(label), str(number))
    print_table(table)
    typer.echo(to_do)
