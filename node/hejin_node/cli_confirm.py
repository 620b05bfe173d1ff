"""Ask whoever sits at the terminal before a command removes data."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from hejin_node.errors import NodeError
from hejin_trust.text import Text

Yes = Annotated[bool, typer.Option("--yes"), Text("Do not ask.", "不再询问。")]

_YES: Final = frozenset({"y", "yes", "是"})


class NotConfirmedError(NodeError):
    """Somebody was asked and did not say yes; nothing was changed."""

    code = "not-confirmed"


class UnaskedError(NodeError):
    """Nobody can be asked; nothing was changed."""

    code = "unasked"
    exit_code = 2


def confirm(question: Text, *, yes: bool) -> None:
    """Return if the answer is yes; with `yes` nobody is asked.

    question   what will happen, on stderr: stdout may be a file
    raises     UnaskedError: there is no terminal; NotConfirmedError
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UnaskedError(
            "Data would be removed, and there is no terminal to ask at: give --yes. "
            "Nothing was changed.",
            "此操作将移除数据，而没有可供确认的终端：请加 --yes。未作任何更改。",
        )
    sys.stderr.write(f"{question} {Text('[y/N]', '[y/N，y 表示是]')} ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() not in _YES:
        raise NotConfirmedError("Not confirmed: nothing was changed.", "未确认：未作任何更改。")
