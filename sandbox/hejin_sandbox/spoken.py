"""The command tree in the language that is spoken: help texts and the headings around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from hejin_trust.text import Text

_USAGE: Final = Text("Usage: ", "用法：")
_OPTIONS: Final = Text("Options", "选项")
_COMMANDS: Final = Text("Commands", "命令")
_SECTIONS: Final = {"Options": _OPTIONS, "Commands": _COMMANDS}
_MARKS: Final = (Text("[OPTIONS]", "[选项]"), Text("COMMAND [ARGS]...", "命令 [参数]..."))
_HELP: Final = Text("Show this message and exit.", "显示本帮助并退出。")


class _Formatter(click.HelpFormatter):
    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix or str(_USAGE))

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        with super().section(str(_SECTIONS.get(name, name))):
            yield


class Context(click.Context):
    """Writes headings in the language."""

    formatter_class = _Formatter


class _TyperContext(Context):
    def get_help(self) -> str:
        from typer import rich_utils

        from hejin_sandbox.folding import Folding  # rich: only help pays for it

        rich_utils.ARGUMENTS_PANEL_TITLE = str(Text("Arguments", "参数"))
        rich_utils.OPTIONS_PANEL_TITLE = str(_OPTIONS)
        rich_utils.COMMANDS_PANEL_TITLE = str(_COMMANDS)
        rich_utils.DEFAULT_STRING = str(Text("[default: {}]", "[默认：{}]"))
        rich_utils.ENVVAR_STRING = str(Text("[env var: {}]", "[环境变量 {}]"))
        rich_utils.REQUIRED_LONG_STRING = str(Text("[required]", "[必填]"))
        rich_utils.highlighter = Folding()
        return super().get_help()


def speak(command: click.Command) -> None:
    """Put a command that typer made, and all below it, into the language."""
    from hejin_trust.commands import help_of, parameter_help

    text = help_of(command)
    if text is not None:
        command.help = str(text)
    command.context_class = _TyperContext
    mark(command)
    texts = parameter_help(command)
    for parameter in command.params:
        said = texts.get(parameter.name or "")
        if said is not None:
            vars(parameter)["help"] = str(said)  # typer gives arguments one too, click does not
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        speak(below)


def mark(command: click.Command) -> None:
    """Put what every command has into the language: `--help`, and the marks of its usage line."""
    options, commands = map(str, _MARKS)
    command.options_metavar = options
    if isinstance(command, click.Group):
        command.subcommand_metavar = commands
    shown = command.get_help_option(command.context_class(command))
    if shown is not None:
        shown.help = str(_HELP)
