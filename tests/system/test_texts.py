"""Every command says all it says of itself, and what is wrong with a command line, in either
language and in that language only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hejin_sandbox import usage
from hejin_sandbox.main import DOORS, hejin
from hejin_trust.commands import group, says
from hejin_trust.text import Text

HAN = re.compile(r"[\u4e00-\u9fff]")
ENGLISH = re.compile(
    r"Usage|Options|Arguments|Commands|default:|required|env var|OPTIONS|COMMAND|ARGS|Show"
)
#: A text that is to be found by those who cannot read the other language.
BOTH = "Language 语言"
SECRET = "91350100M000100Y43"


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command and group of the tree as it is now, with its path and context."""
    todo = [("hejin", hejin.context_class(hejin, info_name="hejin"))]
    while todo:
        path, ctx = todo.pop()
        yield path, ctx.command, ctx
        if not isinstance(ctx.command, click.Group):
            continue
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            assert command is not None
            todo.append(
                (f"{path} {name}", command.context_class(command, parent=ctx, info_name=name))
            )


def helps(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, str]]:
    """Yield what a command and each of its options and arguments say."""
    if command is not hejin:  # the first line of which is in its rendered help only
        yield "itself", command.help or ""
    command.get_help(ctx)  # the umbrella's own options get their words there
    for parameter in command.get_params(ctx):
        yield parameter.opts[0], getattr(parameter, "help", None) or ""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_help_text_is_in_the_language_that_is_spoken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], language: str
) -> None:
    monkeypatch.setenv("HEJIN_LANG", language)
    wrong, seen = [], 0
    for path, command, ctx in commands():
        for name, text in helps(command, ctx):
            seen += 1
            han = HAN.search(text.replace(BOTH, ""))
            if not text or bool(han) != (language == "zh"):
                wrong.append(f"{path} {name}: {text!r}")
    assert not wrong
    assert seen > 500


def test_a_command_that_lacks_a_language_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.main import get_command

    from hejin_sandbox.spoken import speak

    app = group(Text("Some.", "若干。"))

    @app.command("told")
    @says("有说明。")
    def told() -> None:
        """Tell."""

    @app.command("untold")
    def untold() -> None:
        """Tell nothing."""

    monkeypatch.setenv("HEJIN_LANG", "zh")
    command = get_command(app)
    speak(command)
    assert isinstance(command, click.Group)
    assert command.help == "若干。"
    assert command.commands["told"].help == "有说明。"
    assert command.commands["untold"].help == "Tell nothing."


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("role", ["", *DOORS])
def test_printed_help_has_its_headings_in_the_language_and_nothing_cut_off(
    role: str, language: str
) -> None:
    runner = CliRunner(env={"HEJIN_LANG": language, "COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    for path, command, _ in commands():
        words = path.split()[1:]
        if (words[:1] or [""]) != [role]:
            continue
        done = runner.invoke(hejin, [*words, "--help"])
        assert done.exit_code == 0
        if language == "zh":
            assert not ENGLISH.search(done.output), path
            assert "用法：" in done.output
            assert "选项" in done.output
        else:
            assert done.output.strip().startswith("Usage: ")
        assert "…" not in done.output.replace("……", ""), path
        assert isinstance(command, click.Group) == (
            "命令" in done.output or "Commands" in done.output
        )


def typed(language: str, *words: str) -> str:
    """Carry out a command line that is wrong and return what it is told."""
    done = CliRunner(env={"HEJIN_LANG": language}).invoke(hejin, words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("hejin: ")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr
    assert bool(HAN.search(done.stderr)) == (language == "zh")
    return done.stderr


HOME = ("--home", str(Path(__file__).parent))


@pytest.mark.parametrize(
    ("words", "en", "zh"),
    [
        pytest.param(
            ("node", "serve"),
            "--home is missing: give a folder, or set HEJIN_HOME; see `hejin node serve --help`",
            "缺少 --home：请给出目录，或设置环境变量 HEJIN_HOME；详见 `hejin node serve --help`",
            id="missing option",
        ),
        pytest.param(
            ("ledger", "prove", *HOME),
            "SEQ is missing: give a whole number, at least 0",
            "缺少 SEQ：请给出不小于 0 的整数",
            id="missing argument",
        ),
        pytest.param(
            ("node", "serve", "--hom", "x"),
            "there is no option --hom, perhaps --home is meant",
            "没有选项 --hom，可能是 --home",
            id="misspelt option",
        ),
        pytest.param(
            ("node", "serve", "--zzz", SECRET),
            "there is no option --zzz; see",
            "没有选项 --zzz；详见",
            id="no such option",
        ),
        pytest.param(
            ("node", "plan", "list", "--home"),
            "--home needs a value",
            "--home 需要一个值",
            id="no value",
        ),
        pytest.param(
            ("node", "plan", "list", f"--json={SECRET}"),
            "--json takes no value",
            "--json 不带值",
            id="a flag with a value",
        ),
        pytest.param(
            ("nod",),
            "`hejin` has no such command, perhaps node is meant; see `hejin --help`",
            "`hejin` 没有该命令，可能是 node；详见 `hejin --help`",
            id="misspelt role",
        ),
        pytest.param(
            ("node", "labels", "sesions"),
            "`hejin node labels` has no such command, perhaps sessions is meant",
            "`hejin node labels` 没有该命令，可能是 sessions",
            id="misspelt command",
        ),
        pytest.param(
            ("node", "mapping", SECRET),
            "`hejin node mapping` has no such command, only list, show, check",
            "`hejin node mapping` 没有该命令，可用命令：list、show、check",
            id="no such command",
        ),
        pytest.param(
            ("node", "serve", *HOME, SECRET),
            "`hejin node serve` takes options only, and more was given",
            "`hejin node serve` 只接受选项，命令行中还有多余内容",
            id="too much",
        ),
        pytest.param(
            ("node", "authorisation", "show", *HOME, "1", SECRET),
            "takes SEQ and options, and more was given",
            "只接受 SEQ 与选项，命令行中还有多余内容",
            id="too many arguments",
        ),
        pytest.param(
            ("ledger", "show", *HOME, "--log", SECRET),
            "--log must be one of release, internal",
            "--log 应为以下之一：release、internal",
            id="choice",
        ),
        pytest.param(
            ("sandbox", "run", "--mode", SECRET),
            "--mode must be one of node, shared",
            "--mode 应为以下之一：node、shared",
            id="enumeration",
        ),
        pytest.param(
            ("node", "data", "give-up", *HOME, "x" + SECRET),
            "LOAD must be a whole number",
            "LOAD 应为整数",
            id="whole number",
        ),
        pytest.param(
            ("node", "init", "--approve-up-to", "x" + SECRET),
            "--approve-up-to must be a number",
            "--approve-up-to 应为数字",
            id="number",
        ),
        pytest.param(
            ("ledger", "show", *HOME, "--from", "-4"),
            "--from must be a whole number, at least 0",
            "--from 应为不小于 0 的整数",
            id="below the range",
        ),
        pytest.param(
            ("demo", "--epsilon", "913501"),
            "--epsilon must be a number from 0.01 to 100",
            "--epsilon 应为介于 0.01 与 100 之间的数字",
            id="out of the range",
        ),
        pytest.param(
            ("regulator", "init", "--period-from", SECRET),
            "--period-from must be a day, YYYY-MM-DD",
            "--period-from 应为日期 YYYY-MM-DD",
            id="day",
        ),
        pytest.param(
            ("regulator", "init", "--rho-cap", SECRET + "?"),
            "--rho-cap: write a number such as 0.05, 1e-6 or 1/20",
            "--rho-cap：请写成数字，例如 0.05、1e-6 或 1/20",
            id="a type of our own",
        ),
        pytest.param(
            ("regulator", "init", "--home", "absent", "--consortium", "x"),
            "give either --epsilon-cap or --rho-cap",
            "请在 --epsilon-cap 与 --rho-cap 中择一给出",
            id="neither of two",
        ),
        pytest.param(
            ("ledger", "check", "absent.proof"),
            "FILE absent.proof must be a file that is there and may be read",
            "FILE absent.proof 应为已存在且可读的文件",
            id="no such file",
        ),
        pytest.param(
            ("node", "status", "--home", __file__),
            f"--home {__file__} must be a folder",
            f"--home {__file__} 应为目录",
            id="a file for a folder",
        ),
        pytest.param(
            ("demo", "--keep", "absent", "--no-keep"),
            "--keep DIR and --no-keep contradict each other",
            "--keep 与 --no-keep 相互矛盾",
            id="what a command finds itself",
        ),
    ],
)
def test_what_is_wrong_with_a_command_line_is_one_line_in_the_language(
    words: tuple[str, ...], en: str, zh: str
) -> None:
    assert en in typed("en", *words)
    assert zh in typed("zh", *words)


def test_a_usage_error_that_is_not_known_here_is_told_in_both_languages_too() -> None:
    odd = usage.spoken(click.UsageError(f"odd {SECRET}"))
    assert isinstance(odd, usage.WrongUsageError)
    assert odd.text == Text("the command line makes no sense", "命令行有误")
    assert odd.exit_code == 2


@pytest.mark.parametrize(("language", "word"), [("en", "Usage: "), ("zh", "用法：")])
def test_a_group_alone_prints_its_help(language: str, word: str) -> None:
    done = CliRunner(env={"HEJIN_LANG": language}).invoke(hejin, ["node", "plan"])
    assert done.exit_code == 2
    assert word in done.output
    assert "approve" in done.output
