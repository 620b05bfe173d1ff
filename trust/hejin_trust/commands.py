"""How commands state their help in both languages; the `hejin` command speaks it.

An option or argument holds its text beside typer's own part, as `Annotated[str, typer.Option(),
Text(en, zh)]`; a command's docstring is its help in English.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import TypeVar

import click
import typer

from hejin_trust.text import Text

Function = TypeVar("Function", bound=Callable[..., object])

_SAYS = "says"


def says(zh: str) -> Callable[[Function], Function]:
    """Give a command its help in Chinese, beside its docstring."""

    def decorate(function: Function) -> Function:
        function.__dict__[_SAYS] = Text(inspect.getdoc(function) or "", zh)
        return function

    return decorate


def group(text: Text) -> typer.Typer:
    """Return a group without commands yet; alone it prints its help."""
    app = typer.Typer(no_args_is_help=True, add_completion=False)

    @app.callback()
    def bare() -> None:
        pass

    bare.__dict__[_SAYS] = text
    return app


def help_of(command: click.Command) -> Text | None:
    """Return the help of a command or group that typer made."""
    found = vars(command.callback).get(_SAYS) if command.callback is not None else None
    return found if isinstance(found, Text) else None


def parameter_help(command: click.Command) -> Mapping[str, Text]:
    """Return the help of such a command's options and arguments, by name."""
    if command.callback is None:
        return {}
    hints = typing.get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    return {
        name: one
        for name, hint in hints.items()
        for one in getattr(hint, "__metadata__", ())
        if isinstance(one, Text)
    }


def wrong_usage(en: str, zh: str) -> typer.BadParameter:
    """Return the error that a command raises where its options make no sense; exit code 2."""
    return typer.BadParameter(str(Text(en, zh)))
