"""The install steps of every image, run in clean environments: what is there, and what is not.

Each takes up to a minute and a package registry: HEJIN_FULL=1 runs them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROLES = ("regulator", "coordinator", "node")
#: What must not be importable in a role's image.
ABSENT = {
    "regulator": {"torch", "flwr", "duckdb", "pyarrow", "opendp", "opacus", "pandas"},
    "coordinator": {"torch", "duckdb", "pyarrow", "opendp", "opacus", "pandas"},
    "node": {"torch", "opacus", "pandas"},
}

needs_registry = pytest.mark.skipif(
    os.environ.get("HEJIN_FULL") != "1", reason="installs for minutes; run it with HEJIN_FULL=1"
)


@dataclass(frozen=True)
class Installed:
    role: str
    environment: Path

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": f"{self.environment / 'bin'}:/usr/bin:/bin", "HEJIN_LANG": "en"}
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.environment,  # not the repository: only what was installed can be found
            env={**clean, **variables},
        )


def steps(role: str) -> tuple[list[str], list[str]]:
    """Return the paths that a Dockerfile's build stage copies, and its pip command's words."""
    text = (ROOT / "docker" / f"{role}.Dockerfile").read_text()
    build = text.split("\nFROM ")[1].replace("\\\n", " ")
    copied = [
        source for line in re.findall(r"^COPY (.+)$", build, re.M) for source in line.split()[:-1]
    ]
    (pip,) = re.findall(r"^RUN (/opt/hejin/bin/pip .+)$", build, re.M)
    return copied, shlex.split(pip)


@pytest.fixture(scope="module", params=ROLES)
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """A role as its image has it: the copied files alone, installed into an empty environment."""
    role = request.param
    folder = tmp_path_factory.mktemp(role)
    source, environment = folder / "src", folder / "hejin"
    source.mkdir()
    copied, pip = steps(role)
    for name in copied:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy2(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    words = [word.replace("/opt/hejin", str(environment)) for word in pip]
    subprocess.run([*words, "--quiet"], check=True, cwd=source)
    return Installed(role, environment)


@needs_registry
@pytest.mark.timeout(900)
def test_the_entry_point_starts_and_nothing_superfluous_is_installed(installed: Installed) -> None:
    shown = installed.run("hejin", installed.role, "--help")
    assert shown.returncode == 0, shown.stderr
    assert installed.run("hejin", "--version").stdout.startswith("hejin ")
    probe = "import importlib.util as u, sys; print([m for m in sys.argv[1:] if u.find_spec(m)])"
    found = installed.run("python", "-c", probe, *sorted(ABSENT[installed.role]))
    assert found.stdout.strip() == "[]", found.stderr
    assert installed.run("python", "-m", "pip", "check").returncode == 0


@needs_registry
@pytest.mark.timeout(900)
def test_the_role_works_from_its_installed_files(installed: Installed) -> None:
    """Packaged data are there: migrations, views, and whatever `init` needs."""
    home = installed.environment / "home"
    key = "ab" * 32
    named = (
        "--member",
        "anping",
        "--name-en",
        "Anping",
        "--name-zh",
        "安平",
        "--regulator-key",
        key,
    )
    words = {
        "regulator": ("--consortium", "hebei", "--epsilon-cap", "4"),
        "coordinator": named,
        "node": (*named, "--size-band", "100:500"),
    }[installed.role]
    made = installed.run("hejin", installed.role, "init", *words, HEJIN_HOME=str(home))
    assert made.returncode == 0, made.stderr
    files = """
import importlib.util, pathlib, sys
room = pathlib.Path(importlib.util.find_spec(sys.argv[1]).origin).parent
print(len(list(room.rglob(sys.argv[2]))))
"""
    wanted = {
        "regulator": [("hejin_trust", "py.typed"), ("hejin_console", "templates/*.jinja")],
        "coordinator": [("hejin_coordinator", "migrations/versions/0*.py")],
        "node": [
            ("hejin_node", "migrations/versions/0*.py"),
            ("hejin_models", "views/*.toml"),
            ("hejin_models", "schemas/*.toml"),
            ("hejin_node", "mappings/*.toml"),
            ("hejin_node", "templates/*.jinja"),
        ],
    }[installed.role]
    for room, pattern in wanted:
        assert int(installed.run("python", "-c", files, room, pattern).stdout) >= 1, pattern


@needs_registry
@pytest.mark.timeout(900)
def test_a_role_that_is_not_installed_says_what_to_install(installed: Installed) -> None:
    if installed.role == "node":
        pytest.skip("a node's install has the coordinator's libraries too")
    home = installed.environment / "bank"
    commands = [("node", "--help")]
    if installed.role == "regulator":  # a bank's commands load Flower only when they need it
        commands.append(("coordinator", "serve", "--home", str(home), "--listen", "127.0.0.1:0"))
    for words in commands:
        refused = installed.run("hejin", *words)
        assert refused.returncode == 1
        assert refused.stdout == ""
        assert re.fullmatch(
            rf"hejin: `hejin {words[0]}` needs the library \w+, which is not installed here; "
            rf"run: pip install 'hejin\[{words[0]}\]'\.\n",
            refused.stderr,
        )
    audit = installed.run("hejin", "regulator", "audit-noise")
    assert audit.returncode == 1
    assert audit.stderr.startswith("hejin: `hejin regulator audit-noise` draws noise with")


def test_every_dockerfile_installs_from_the_pinned_set() -> None:
    for role in ROLES:
        copied, pip = steps(role)
        assert all((ROOT / name).exists() for name in copied)
        assert pip[1] == "install"
        assert pip[pip.index("-c") + 1] == "constraints.txt"
        assert (
            pip[-1] == {"regulator": ".", "coordinator": ".[coordinator]", "node": ".[node]"}[role]
        )
