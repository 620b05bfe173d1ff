"""What is wrong with a command line, in both languages, without the values that were typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import IO, Any, Final

import click
from click.exceptions import BadOptionUsage, NoArgsIsHelpError, NoSuchOption

from hejin_trust.text import Text

# click's only word on it: the error has no field for what was typed.
_NO_COMMAND: Final = re.compile(r"No such command (?P<quote>['\"])(?P<name>.*?)(?P=quote)")
_PATH: Final = re.compile(r" '(?P<path>[^']+)' (does not exist|is |cannot)")


class WrongUsageError(click.UsageError):
    """One line that says what is wrong with the command line; exit code 2."""

    def __init__(self, text: Text, ctx: click.Context | None) -> None:
        super().__init__(str(text), ctx)
        self.text = text

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line to stderr."""
        click.echo(f"hejin: {self.text}", file=file, err=True)


def spoken(error: click.UsageError) -> click.UsageError:
    """Return click's error in both languages; help that was printed instead stays as it is."""
    if isinstance(error, NoArgsIsHelpError | WrongUsageError):
        return error
    said = _explained(error)
    if error.ctx is not None:
        more = f"{error.ctx.command_path} --help"
        said = Text(f"{said.en}; see `{more}`", f"{said.zh}；详见 `{more}`")
    return WrongUsageError(said, error.ctx)


def _explained(error: click.UsageError) -> Text:
    match error:
        case NoSuchOption():
            return _no_option(error.option_name, sorted(error.possibilities or ()))
        case BadOptionUsage():
            return _bad_option(error.option_name, error.message)
        case click.MissingParameter(param=click.Parameter() as parameter):
            return _missing(parameter)
        case click.BadParameter(param=click.Parameter() as parameter):
            return _bad_value(parameter, error.message)
        case click.BadParameter():  # raised by a command itself, in the language that is spoken
            return Text(error.message, error.message)
        case _ if error.ctx is not None:
            return _misplaced(error.ctx, error.message)
        case _:
            return Text("the command line makes no sense", "命令行有误")


def _no_option(name: str, near: Sequence[str]) -> Text:
    if not near:
        return Text(f"there is no option {name}", f"没有选项 {name}")
    return Text(
        f"there is no option {name}, perhaps {' or '.join(near)} is meant",
        f"没有选项 {name}，可能是 {'、'.join(near)}",
    )


def _bad_option(name: str, message: str) -> Text:
    if "does not take" in message:  # click tells the two apart by these words only
        return Text(f"{name} takes no value", f"{name} 不带值")
    return Text(f"{name} needs a value", f"{name} 需要一个值")


def _missing(parameter: click.Parameter) -> Text:
    name, taken = _name(parameter), _taken(parameter.type)
    en, zh = f"{name} is missing", f"缺少 {name}"
    if taken is not None:
        en, zh = f"{en}: give {taken.en}", f"{zh}：请给出{taken.zh}"
    if isinstance(parameter.envvar, str):
        variable = parameter.envvar
        en, zh = f"{en}, or set {variable}", f"{zh}，或设置环境变量 {variable}"
    return Text(en, zh)


def _bad_value(parameter: click.Parameter, message: str) -> Text:
    name, taken = _name(parameter), _taken(parameter.type)
    if taken is None:  # a type of this project's own: its message is in the language spoken
        return Text(f"{name}: {message}", f"{name}：{message}")
    found = _PATH.search(message) if isinstance(parameter.type, click.Path) else None
    if found is not None:
        name = f"{name} {found['path']}"
    return Text(f"{name} must be {taken.en}", f"{name} 应为{taken.zh}")


def _misplaced(ctx: click.Context, message: str) -> Text:
    path, command = ctx.command_path, ctx.command
    if isinstance(command, click.Group):
        names = command.list_commands(ctx)
        typed = _NO_COMMAND.match(message)
        near = get_close_matches(typed["name"], names) if typed is not None else []
        if near:
            return Text(
                f"`{path}` has no such command, perhaps {' or '.join(near)} is meant",
                f"`{path}` 没有该命令，可能是 {'、'.join(near)}",
            )
        return Text(
            f"`{path}` has no such command, only {', '.join(names)}",
            f"`{path}` 没有该命令，可用命令：{'、'.join(names)}",
        )
    taken = [_name(one) for one in command.params if isinstance(one, click.Argument)]
    if not taken:
        return Text(
            f"`{path}` takes options only, and more was given",
            f"`{path}` 只接受选项，命令行中还有多余内容",
        )
    return Text(
        f"`{path}` takes {' '.join(taken)} and options, and more was given",
        f"`{path}` 只接受 {' '.join(taken)} 与选项，命令行中还有多余内容",
    )


def _name(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name.upper()
    return max(parameter.opts, key=len)


def _taken(kind: click.ParamType) -> Text | None:
    """Return what one of click's types takes; None for a text, or a type that is not click's."""
    match kind:
        case click.Choice():
            names = [str(getattr(one, "value", one)) for one in kind.choices]
            return Text(f"one of {', '.join(names)}", f"以下之一：{'、'.join(names)}")
        case click.IntRange():
            return _ranged(Text("a whole number", "整数"), kind)
        case click.FloatRange():
            return _ranged(Text("a number", "数字"), kind)
        case click.types.IntParamType():
            return Text("a whole number", "整数")
        case click.types.FloatParamType():
            return Text("a number", "数字")
        case click.DateTime():
            return Text("a day, YYYY-MM-DD, also with a time", "日期 YYYY-MM-DD，可带时刻")
        case click.Path():
            return _path(kind)
        case _:
            return None


def _ranged(number: Text, kind: click.IntRange | click.FloatRange) -> Text:
    if kind.min is None and kind.max is None:
        return number
    if kind.max is None:
        return Text(f"{number.en}, at least {kind.min}", f"不小于 {kind.min} 的{number.zh}")
    if kind.min is None:
        return Text(f"{number.en}, at most {kind.max}", f"不大于 {kind.max} 的{number.zh}")
    return Text(
        f"{number.en} from {kind.min} to {kind.max}",
        f"介于 {kind.min} 与 {kind.max} 之间的{number.zh}",
    )


def _path(kind: click.Path) -> Text:
    if not kind.dir_okay:
        what = Text("a file", "文件")
    elif not kind.file_okay:
        what = Text("a folder", "目录")
    else:
        what = Text("a file or folder", "文件或目录")
    if kind.exists:
        return Text(f"{what.en} that is there and may be read", f"已存在且可读的{what.zh}")
    return what
