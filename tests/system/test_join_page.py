"""docs/join-as-a-cluster.md to the letter: from an empty directory to an approved plan."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hejin_sandbox.supervisor import LISTENING, Supervisor

PAGE = Path(__file__).parents[2] / "docs" / "join-as-a-cluster.md"
PLACEHOLDERS = {"REGULATOR_KEY", "REGULATOR_ADDRESS", "BANK_ADDRESS", "PLAN"}
STAYS = "hejin node serve"
"""The page's one command that goes on until it is stopped."""
SECONDS = 120.0
READY = re.compile(r"^node serves", re.MULTILINE)
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

    def asked(self, who: str, line: str) -> dict[str, object]:
        """Run a command with --json and return its object."""
        found: dict[str, object] = json.loads(self.run(who, f"{line} --json"))
        return found

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
    """Let regulator, bank and two other clusters, of some size, be there already."""
    said = sites.asked(
        "regulator", "hejin regulator init --consortium hebei --epsilon-cap 4 --minimum-nodes 3"
    )
    key = str(said["regulator_key"])
    sites.run(
        "bank",
        "hejin coordinator init --member bank-1 --name-en Bank --name-zh 银行"
        f" --regulator-key {key} && cp home/request.json ../exchange/bank-1.json",
    )
    for node in ("gaoyang", "ningjin"):
        sites.run(
            "regulator",
            f"hejin node init --home {node} --member {node} --name-en {node} --name-zh {node}"
            f" --regulator-key {key} --size-band 5000:10000 && cp {node}/request.json"
            f" ../exchange/{node}.json",
        )
    sites.run(
        "regulator",
        "hejin regulator admit ../exchange/{bank-1,gaoyang,ningjin}.json --out ../exchange",
    )
    regulator = sites.serve("regulator", "regulator")
    sites.run(
        "bank",
        f"hejin coordinator join ../exchange/bank-1.admission.json --regulator {regulator}",
    )
    (plan,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    (sites.site("bank") / "plan.toml").write_text(plan, "utf-8")
    sites.known |= {"REGULATOR_KEY": key, "REGULATOR_ADDRESS": regulator}
    sites.known["BANK_ADDRESS"] = sites.serve("bank", "coordinator")


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    for name in ("cluster", "regulator", "bank", "exchange", "bin"):
        (tmp_path / name).mkdir()
    program = tmp_path / "bin" / "hejin"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m hejin_sandbox.main "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with Supervisor(tmp_path / "logs") as supervisor:
        yield Sites(tmp_path, supervisor, program.parent)


@pytest.mark.system
@pytest.mark.timeout(900)
def test_the_page_leads_from_an_empty_directory_to_an_approved_plan(sites: Sites) -> None:
    other_side(sites)
    # As somebody would look again until it is there.
    awaited = {
        "hejin coordinator propose plan.toml": lambda: knows(sites, "bank", "anping"),
        "hejin node plan list": lambda: offered(sites),
        "hejin coordinator plans": lambda: approved(sites) == ["anping"],
    }
    for step in steps(PAGE.read_text("utf-8")):
        if step.typed in awaited:
            until(awaited[step.typed])
        if step.typed == "hejin node plan list":
            sites.known["PLAN"] = str(offered(sites)[0]["plan"])[:8]
        sites.type(step)
    assert approved(sites) == ["anping"]


def knows(sites: Sites, who: str, member: str) -> bool:
    """Whether the charter of one side names a member; a serving one asks every 30 seconds."""
    envelope = json.loads((sites.site(who) / "home" / "charter.json").read_bytes())
    return f'"{member}"'.encode() in base64.b64decode(envelope["payload"])


def offered(sites: Sites) -> list[dict[str, object]]:
    plans: Any = sites.asked("cluster", "hejin node plan list")["plans"]
    return list(plans)


def approved(sites: Sites) -> list[str]:
    plans: Any = sites.asked("bank", "hejin coordinator plans")["plans"]
    return list(plans[0]["approved"])


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
