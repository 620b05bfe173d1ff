"""Tables on a terminal: nothing is cut off, and a value is what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal; what is wider than its column goes on below.

    Chinese has no spaces to break a line at, and half a hash or a time tells nothing. Square
    brackets in a value, such as a file's name, are no markup.
    """
    from rich.console import Console

    for column in table.columns:
        column.overflow = "fold"
    Console(markup=False).print(table)
