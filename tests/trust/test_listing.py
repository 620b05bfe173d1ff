"""Tables on a terminal, read back as an operator sees them."""

from __future__ import annotations

import pytest
from rich.table import Table

from hejin_trust.listing import print_table


def shown(table: Table, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the cells of a table of one column, its lines joined."""
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    return "".join(line.strip("│┃ ") for line in lines if line[:1] in "│┃")


@pytest.mark.parametrize("value", ["0123456789abcdef" * 4, "不含税金额；红字发票为负" * 4])
def test_a_value_wider_than_the_terminal_is_shown_whole(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    table = Table("h")
    table.add_row(value)
    assert shown(table, capsys) == "h" + value


def test_square_brackets_in_a_value_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("h")
    table.add_row("sales[/2025].csv")
    assert shown(table, capsys) == "hsales[/2025].csv"
