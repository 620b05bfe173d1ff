"""What the docs tell people to type and to write is what the program takes; tables are computed."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from node_world import found_world

from hejin_coordinator.proposal import PlanFile, thresholds
from hejin_privacy.errors import ThresholdError
from hejin_privacy.secure_sum.thresholds import check_thresholds
from hejin_sandbox.main import hejin
from hejin_trust.charter import Charter

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
THREATS = ROOT / "docs" / "threat-model.md"
ROLES = ("node", "coordinator", "regulator", "ledger", "sandbox", "demo")


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield (page, words) of each `hejin` command that a console block or `code` names."""
    role = f"(?:{'|'.join(ROLES)})"
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                # `hejin ROLE ...`, or a service whose container's entry point is hejin.
                typed = re.search(rf"(?:hejin|run --rm [a-z-]+) ({role} .*)$", line)
                if typed:
                    yield page.name, shlex.split(typed[1], comments=True)
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        for named in re.findall(rf"`hejin ({role}(?: [^`]*)?)`", text):
            yield page.name, shlex.split(named)


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that `words` name, and the rest of them."""
    command: click.Command = hejin
    while isinstance(command, click.Group) and words and words[0] != "--help":
        inner = command.get_command(click.Context(command), words[0])
        assert inner is not None, f"there is no command {words[0]}"
        command, words = inner, words[1:]
    return command, words


@pytest.mark.parametrize(
    ("page", "words"), [pytest.param(p, w, id=f"{p}: {' '.join(w)[:60]}") for p, w in commands()]
)
def test_every_command_in_the_docs_exists_with_its_options(page: str, words: list[str]) -> None:
    command, rest = found(words)
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert given <= known | {"--help"}, f"{page}: {' '.join(words)}"


def test_the_search_for_commands_finds_those_of_every_role() -> None:
    seen = {(page, words[0]) for page, words in commands()}
    assert {("node.md", "node"), ("bank.md", "coordinator"), ("regulator.md", "regulator")} <= seen
    assert {("deploy.md", role) for role in ("node", "coordinator", "regulator")} <= seen


def test_the_plan_files_of_the_docs_are_plan_files_and_show_every_key_of_masked_plans() -> None:
    shown: set[str] = set()
    for block in blocks(ROOT / "docs" / "bank.md", "toml"):
        PlanFile.model_validate(tomllib.loads(block))
        # Keys that are shown with their defaults, commented out.
        written = tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", block, flags=re.M))
        PlanFile.model_validate(written)
        shown |= written.keys()
    assert {
        "mode", "minimum_nodes", "quorum", "colluders", "spare_rounds", "deadlines", "family",
    } <= shown  # fmt: skip


@pytest.fixture(scope="module")
def charter(tmp_path_factory: pytest.TempPathFactory) -> Charter:
    return found_world(tmp_path_factory.mktemp("world"), nodes=1).office.charter


def holds(n: int, tau: int, m: int, t: int) -> bool:
    try:
        check_thresholds(n, tau, m, t)
    except ThresholdError:
        return False
    return True


def test_the_table_of_rule_p1_is_what_the_program_plans_and_checks(charter: Charter) -> None:
    for part in re.split(r"^## English$", THREATS.read_text(), flags=re.M):
        rows = [
            tuple(map(int, re.findall(r"\d+", row)))
            for row in re.findall(r"^\|(?: \d+ \|){7}$", part, re.M)
        ]
        assert [row[0] for row in rows] == [5, 8, 10, 20, 30]
        for n, tau, m, t, drop_outs, honest, at_most in rows:
            least = {"product": "p", "view": "v", "definition": "d", "epsilon": 1.0}
            planned = thresholds(PlanFile.model_validate(least), n, charter)
            assert planned == ("shared", m, tau, t)
            assert (drop_outs, honest) == (n - m, m - t)
            assert [holds(n, tau, m, more) for more in (t, at_most, at_most + 1)] == [
                True, True, False,
            ]  # fmt: skip


def test_the_masked_plan_of_the_bank_s_page_keeps_to_rule_p1(charter: Charter) -> None:
    example = PlanFile.model_validate(tomllib.loads(blocks(ROOT / "docs" / "bank.md", "toml")[1]))
    planned = thresholds(example, 10, charter)
    assert planned.mode == "shared"
    assert holds(10, planned.quorum, planned.minimum_nodes, planned.colluders)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|toml|Dockerfile|yaml))`", text))
    missing = [name for name in named if not (ROOT / name).exists()]
    linked = set(re.findall(r"\]\(([^)#:]+)\)", text))
    missing += [link for link in linked if not (page.parent / link).exists()]
    assert missing == []


def test_the_threat_model_names_what_holds_its_claims_in_both_languages() -> None:
    chinese, english = re.split(r"^## English$", THREATS.read_text(), flags=re.M)
    files = [set(re.findall(r"`([a-z_]+/[a-z_0-9/]+\.py)`", part)) for part in (chinese, english)]
    assert files[0] == files[1]
    assert len(files[0]) >= 10


def attacks() -> Iterator[tuple[list[str], list[str]]]:
    """Yield (codes, tests) of each attack in the threat model's table."""
    _, table = re.split(r"^## .*Attacks and their tests$", THREATS.read_text(), flags=re.M)
    for line in re.findall(r"^\| (?!攻击)(.*) \|$", table, re.M):
        _, codes, tests = line.split(" | ")
        yield re.findall(r"`([^`]+)`", codes), re.findall(r"`([^`]+)`", tests)


def test_every_attack_of_the_threat_model_names_codes_and_the_tests_that_ask_for_them() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    homes = {name: text for text in texts for name in re.findall(r"^def (test_\w+)\(", text, re.M)}
    rooms = "".join(path.read_text("utf-8") for path in ROOT.glob("*/hejin_*/**/*.py"))
    codes = set(re.findall(r'^    code(?:: ClassVar\[str\])? = "([a-z-]+)"$', rooms, re.M))
    codes |= {f"V{number}" for number in range(1, 11)}
    listed = list(attacks())
    assert len(listed) >= 50
    assert [name for _, tests in listed for name in tests if name not in homes] == []
    assert [code for told, _ in listed for code in told if code not in codes] == []
    for told, tests in listed:
        asked = "".join(homes[name] for name in tests)
        assert tests
        assert [code for code in told if f'"{code}"' not in asked] == [], tests
