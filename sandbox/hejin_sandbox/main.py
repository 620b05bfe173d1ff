"""The `hejin` command: one door to every role, each loaded only when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hejin_sandbox.spoken import Context, mark, speak
from hejin_trust.errors import HejinError
from hejin_trust.text import Text

if TYPE_CHECKING:
    import typer


@dataclass(frozen=True, slots=True)
class Door:
    """Where a subcommand lives (`module:attribute`), what it says of itself, what it needs."""

    target: str
    summary: Text
    extra: str | None


DOORS: Mapping[str, Door] = {
    "node": Door(
        "hejin_node.cli:app",
        Text(
            "Data node of a cluster: data, authorisations, plans, budget.",
            "集群数据节点：数据、授权、计划与预算。",
        ),
        "node",
    ),
    "coordinator": Door(
        "hejin_coordinator.cli:app",
        Text("A bank's coordinator: plans, runs, models.", "银行协调端：计划、运行与模型。"),
        "coordinator",
    ),
    "regulator": Door(
        "hejin_regulator.cli:app",
        Text(
            "Regulator: admission, charter, verification.",
            "监管端：准入、章程与核验。",
        ),
        None,
    ),
    "ledger": Door(
        "hejin_trust.cli_ledger:app",
        Text(
            "A node's or bank's ledger: read it, prove entries, archive.",
            "节点或银行的账本：查看、证明与归档。",
        ),
        None,
    ),
    "sandbox": Door(
        "hejin_sandbox.cli:app",
        Text(
            "A whole consortium on this machine, on your table.",
            "在本机用您的数据表运行一个完整联盟。",
        ),
        "sandbox",
    ),
    "demo": Door(
        "hejin_sandbox.cli:demo_app",
        Text(
            "The five pilot clusters on synthetic data, from start to verified model.",
            "五个试点集群（合成数据），从组建到核验通过的模型。",
        ),
        "sandbox",
    ),
}


class MissingExtraError(HejinError):
    """A role was asked for whose libraries are not installed here."""

    code = "missing-extra"

    def __init__(self, role: str, module: str, extra: str) -> None:
        super().__init__(
            f"`hejin {role}` needs the library {module}, which is not installed here; "
            f"run: pip install 'hejin[{extra}]'.",
            f"`hejin {role}` 需要的程序库 {module} 尚未安装；"
            f"请执行：pip install 'hejin[{extra}]'。",
        )


class StoppedError(HejinError):
    """Ctrl-C ended a command."""

    code = "stopped"

    def __init__(self) -> None:
        super().__init__(
            "stopped by Ctrl-C: nothing half done counts; run the same command again to go on.",
            "已按 Ctrl-C 中止：未完成的部分不生效；再次执行同一命令即可继续。",
        )


_OPTIONS: Mapping[str, Text] = {
    "lang": Text(
        "Language 语言 (default: $HEJIN_LANG, else the locale's).",
        "Language 语言（默认：环境变量 HEJIN_LANG，否则按系统区域）。",
    ),
    "version": Text("Show the version and exit.", "显示版本并退出。"),
}


class _Umbrella(click.Group):
    """Lists every subcommand from DOORS; imports the one that is run.

    `hejin --help` must stay under a second of CPU; flwr alone costs more.
    """

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click names it
        return list(DOORS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click names it
        door = DOORS.get(cmd_name)
        return None if door is None else _open(cmd_name, door)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _spoken_usage():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        # A role's commands load their engines late: `serve` may lack what `--help` did not need.
        try:
            with _spoken_usage():
                return super().invoke(ctx)
        except ModuleNotFoundError as missing:
            role = ctx.invoked_subcommand
            if role is not None and role in DOORS:
                _explain(role, DOORS[role], missing)
            raise
        except KeyboardInterrupt:
            raise StoppedError from None

    def get_help(self, ctx: click.Context) -> str:
        mark(self)
        for option in self.params:
            said = _OPTIONS.get(option.name or "")
            if isinstance(option, click.Option) and said is not None:
                option.help = str(said)
        return super().get_help(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click names it
        with formatter.section(str(Text("Commands", "命令"))):
            formatter.write_dl([(name, str(door.summary)) for name, door in DOORS.items()])

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click names it
        formatter.write_paragraph()
        formatter.write_text(
            str(
                Text(
                    "Hejin: many data owners, one credit model, no data moved.",
                    "合金：多方数据，一个信用模型，数据不出域。",
                )
            )
        )


def _open(name: str, door: Door) -> click.Command:
    module, attribute = door.target.split(":")
    try:
        app: typer.Typer = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as missing:
        _explain(name, door, missing)
        raise
    from typer.main import get_command

    command = get_command(app)
    speak(command)
    return command


@contextmanager
def _spoken_usage() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        from hejin_sandbox.usage import spoken

        raise spoken(error) from error


def _explain(role: str, door: Door, missing: ModuleNotFoundError) -> None:
    """Raise MissingExtraError if a library of the role's extra is what is missing."""
    library = (missing.name or "").partition(".")[0]
    if door.extra is not None and not library.startswith("hejin"):
        raise MissingExtraError(role, library, door.extra) from missing


def _speak(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    del ctx, param
    if value is not None:
        os.environ["HEJIN_LANG"] = value  # read by hejin_trust.text, and by child processes


@click.group(
    cls=_Umbrella,
    context_settings={"help_option_names": ["--help"], "max_content_width": 100},
)
@click.option(
    "--lang",
    type=click.Choice(["en", "zh"]),
    callback=_speak,
    is_eager=True,
    expose_value=False,
)
@click.version_option(package_name="hejin", prog_name="hejin", message="%(prog)s %(version)s")
def hejin() -> None:
    """Hejin 合金."""


def main() -> NoReturn:
    """Run the command line; a HejinError becomes one line on stderr and its exit code."""
    try:
        hejin.main(prog_name="hejin")
    except HejinError as error:
        click.echo(f"hejin: {error.text}", err=True)
        sys.exit(error.exit_code)
    sys.exit(0)


if __name__ == "__main__":
    main()
