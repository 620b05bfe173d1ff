"""docs/join-as-a-cluster.md to the letter: from an empty directory to a verified run."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from commands import answer, said
from other_clusters import READY, OtherCluster

from hejin_sandbox.supervisor import LISTENING, Supervisor

PAGE = Path(__file__).parents[2] / "docs" / "join-as-a-cluster.md"
PLACEHOLDERS = {"REGULATOR_KEY", "REGULATOR_ADDRESS", "BANK_ADDRESS", "PLAN"}
STAYS = "hejin node serve"
"""The page's one command that goes on until it is stopped."""
TRACE, STATEMENT = (f"hejin node authorisation {word}" for word in ("trace", "statement"))
LIST = "hejin node plan list"
ENTERPRISE = "91999999000000000G"
BANK = "bank-1"
SECONDS = 120.0
_PROMPT = re.compile(r"^(cluster|regulator|bank)\$ ")


@dataclass(frozen=True)
class Step:
    """One command of the page, as it stands there."""

    who: str
    typed: str


def steps(page: str) -> Iterator[Step]:
    """Yield the commands of all console blocks, in order; lines that end with a backslash go on."""
    for block in re.findall(r"^```console\n(.*?)^```", page, re.M | re.S):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            found = _PROMPT.match(line)
            assert found, f"a line of the page that nobody types: {line}"
            yield Step(found[1], line[found.end() :])


@dataclass
class Sites:
    """A directory for each of the three, and what each has exported so far."""

    folder: Path
    supervisor: Supervisor
    program: Path
    others: tuple[OtherCluster, ...]
    known: dict[str, str] = field(default_factory=dict)
    exported: dict[str, list[str]] = field(default_factory=dict)

    def site(self, who: str) -> Path:
        return self.folder / who

    def environment(self, who: str) -> dict[str, str]:
        # The cluster sets HEJIN_HOME itself, as the page says.
        own = {} if who == "cluster" else {"HEJIN_HOME": str(self.site(who) / "home")}
        path = f"{self.program}{os.pathsep}{os.environ['PATH']}"
        kept = {key: value for key, value in os.environ.items() if key != "HEJIN_HOME"}
        return {**kept, **own, "PATH": path, "HEJIN_LANG": "en", "COLUMNS": "120"}

    def type(self, step: Step) -> str:
        """Run one command of the page; return what it prints."""
        line = re.sub(r"\b[A-Z_]+\b", lambda m: self.known.get(m[0], m[0]), step.typed)
        if line.startswith("export "):
            self.exported.setdefault(step.who, []).append(line)
            return ""
        if line == STAYS:
            home = self.site("cluster") / "home"
            self.supervisor.serve("cluster", line.split()[1:], home).wait_for(READY, SECONDS)
            return ""
        return self.run(step.who, line)

    def run(self, who: str, line: str) -> str:
        """Run a line in bash, where and as one of the three would."""
        script = "\n".join([*self.exported.get(who, []), line])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.site(who),
            env=self.environment(who),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{who}$ {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, who: str, role: str) -> str:
        home = self.site(who) / "home"
        service = self.supervisor.serve(who, [role, "serve", "--listen", "127.0.0.1:0"], home)
        return service.wait_for(LISTENING, SECONDS).group(1)


def until(found: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not found():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.5)


def other_side(sites: Sites) -> None:
    """Let regulator, bank and two other clusters, all serving, be there already."""
    office, bank, exchange = (sites.site(name) for name in ("regulator", "bank", "exchange"))
    key = str(
        said("regulator", "init", "--home", office / "home", "--consortium", "hebei",
             "--epsilon-cap", 4, "--minimum-nodes", 3)["regulator_key"]
    )  # fmt: skip
    said("coordinator", "init", "--home", bank / "home", "--member", BANK, "--name-en", "Bank",
         "--name-zh", "银行", "--regulator-key", key)  # fmt: skip
    requests = [other.found(key, epsilon=2.5) for other in sites.others]
    said("regulator", "admit", "--home", office / "home", bank / "home" / "request.json",
         *requests, "--out", exchange)  # fmt: skip
    regulator = sites.serve("regulator", "regulator")
    said("coordinator", "join", "--home", bank / "home", exchange / f"{BANK}.admission.json",
         "--regulator", regulator)  # fmt: skip
    address = sites.serve("bank", "coordinator")
    (plan,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    (bank / "plan.toml").write_text(plan, "utf-8")
    for other in sites.others:
        other.join(exchange / f"{other.name}.admission.json", regulator, BANK, address)
        other.load(tomllib.loads(plan), BANK)
    served = [other.serve(sites.supervisor) for other in sites.others]
    for service in served:
        service.wait_for(READY, SECONDS)
    sites.known |= {
        "REGULATOR_KEY": key, "REGULATOR_ADDRESS": regulator, "BANK_ADDRESS": address
    }  # fmt: skip


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    for name in ("cluster", "regulator", "bank", "exchange", "bin"):
        (tmp_path / name).mkdir()
    program = tmp_path / "bin" / "hejin"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m hejin_sandbox.main "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    others = tuple(
        OtherCluster(name, tmp_path / name, enterprises=3000, first=first)
        for name, first in (("gaoyang", 100_000), ("ningjin", 200_000))
    )
    with Supervisor(tmp_path / "logs") as supervisor:
        yield Sites(tmp_path, supervisor, program.parent, others)


@pytest.mark.system
@pytest.mark.timeout(900)
def test_the_page_leads_from_an_empty_directory_through_a_run_to_what_was_used(
    sites: Sites,
) -> None:
    other_side(sites)
    home, ledgers = sites.site("cluster") / "home", sites.site("exchange") / "ledgers"
    # What is waited for, or done by the others, before the page's command is typed.
    before: list[tuple[str, Callable[[], object]]] = [
        ("hejin coordinator propose plan.toml", lambda: knows(sites, "bank", "anping")),
        (LIST, lambda: plans(home)),
        ("hejin coordinator plans", lambda: bank_plan(sites)["waiting"] == []),
        (LIST, lambda: bank_plan(sites)["state"] == "done"
         and all(over(one) for one in (home, *(other.home for other in sites.others)))),
        ("hejin regulator export ../exchange/ledgers",
         lambda: all(other.export(ledgers) for other in sites.others)),
    ]  # fmt: skip
    printed = {}
    for step in steps(PAGE.read_text("utf-8")):
        if before and step.typed == before[0][0]:
            until(before.pop(0)[1])
        if "PLAN" in step.typed:
            sites.known["PLAN"] = str(plans(home)[0]["plan"])[:8]
        printed[step.typed] = sites.type(step)
    assert before == []
    assert bank_plan(sites)["approved"] == ["anping", "gaoyang", "ningjin"]
    told_of_the_run(sites, printed)
    told_as_the_page_shows(sites, printed)


def told_of_the_run(sites: Sites, printed: Mapping[str, str]) -> None:
    """Trace, statement, status and the regulator's report tell of the run, and agree."""
    home, plan = sites.site("cluster") / "home", bank_plan(sites)["digest"]
    traced: Any = answer(home, "authorisation", "trace", ENTERPRISE)
    (run,) = traced["runs"]
    assert (run["bank"], run["plan"], run["open"]) == (BANK, plan, False)
    assert (run["grant"], run["why"]) == (traced["grants"][0]["seq"], [])
    assert len(run["sums"]) == 7
    assert all(one["released"] >= one["charged"] >= run["began"] for one in run["sums"])
    own = [one for one in run["sums"] if one["part"] == run["part"]]
    assert [one for one in run["sums"] if one["counted"]] == own
    (cost,) = traced["costs"]
    # The plan's epsilon is rounded down to what the sums of a part cost.
    assert (cost["sums"], cost["epsilon"]) == (len(own), pytest.approx(2.0, abs=1e-4))
    status: Any = answer(home, "status")
    assert status["epsilon_spent"] == pytest.approx(cost["epsilon"], abs=1e-6)

    statement = (sites.site("cluster") / "statement.html").read_text("utf-8")
    for shown in (ENTERPRISE, str(plan), "安平丝网贷", "epsilon 2.0000", f"({BANK})"):
        assert shown in statement
    assert f"{len(own)} sums" in printed[f"{STATEMENT} {ENTERPRISE} --out statement.html"]

    verified = printed["hejin regulator verify ../exchange/ledgers"]
    assert verified.splitlines()[-1] == "VERIFIED: every check holds"
    assert re.search(r"\brelease 21\b", verified), "seven sums of three nodes"


def told_as_the_page_shows(sites: Sites, printed: Mapping[str, str]) -> None:
    """What the page says that a reader sees after the run is what is printed, in both languages."""
    page = PAGE.read_text("utf-8")
    shown = re.findall(r"^```text\n(.*?)^```", page, re.M | re.S)
    in_chinese = {
        typed: sites.run("cluster", typed.replace("hejin", "hejin --lang zh", 1))
        for typed in (f"{TRACE} {ENTERPRISE}", LIST)
    }
    traces = [words[f"{TRACE} {ENTERPRISE}"] for words in (in_chinese, printed)]
    assert [shape(one) for one in shown] == [shape(one) for one in traces]
    for words in (in_chinese, printed):
        assert re.split(": |：", words[LIST].splitlines()[-1])[1] in page


def shape(text: str) -> list[str]:
    """Return what is the same in every run: no figures, and not the part that was drawn."""
    text = re.sub(r"[━─┏┓┡┩└┘┳╇┴╋]+", "", text)
    text = re.sub(r"训练部分|留出部分|training part|hold-out part", "PART", text)
    text = re.sub(r"[│┃][^│┃\n]*[│┃]\n", "\n", text)  # yes or no, by the part
    text = re.sub(r"\b[0-9a-f]{8,}\b|[0-9]+", "0", text)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if re.search(r"\w", line)]


def knows(sites: Sites, who: str, member: str) -> bool:
    """Whether the charter of one side names a member; one that serves asks all the time."""
    envelope = json.loads((sites.site(who) / "home" / "charter.json").read_bytes())
    return f'"{member}"'.encode() in base64.b64decode(envelope["payload"])


def plans(home: Path) -> list[dict[str, object]]:
    """Return the plans that a node was offered."""
    found: Any = answer(home, "plan", "list")["plans"]
    return list(found)


def over(home: Path) -> bool:
    return plans(home)[0]["run"] == {"open": False, "sums": 7}


def bank_plan(sites: Sites) -> dict[str, object]:
    """Return the bank's view of its one plan."""
    found: Any = said("coordinator", "plans", "--home", sites.site("bank") / "home")["plans"]
    (plan,) = found
    return dict(plan)


def test_the_page_lists_its_placeholders_and_its_commands_use_no_others() -> None:
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| ((?:`[A-Z_]+` ?)+)\|", page, re.M)
    listed = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    assert listed == PLACEHOLDERS
    typed = " ".join(re.sub(r"\$?(HEJIN_HOME|PWD)", "", step.typed) for step in steps(page))
    assert set(re.findall(r"\b[A-Z][A-Z_]+\b", typed)) == PLACEHOLDERS


def test_the_page_says_everything_in_both_languages() -> None:
    prose = re.sub(r"^```.*?^```", "", PAGE.read_text("utf-8"), flags=re.M | re.S)
    for heading in re.findall(r"^#+ (.*)$", prose, re.M):
        assert re.search(r"[一-鿿]", heading), heading
        assert re.search(r"[A-Za-z]", heading), heading
