"""Commands as people type them, in this process: what goes wrong in one is raised as it is."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from hejin_sandbox.main import hejin


def typed(*words: object) -> Result:
    """Carry out `hejin WORDS`."""
    result = CliRunner().invoke(hejin, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def said(*words: object) -> dict[str, object]:
    """Return what a command that succeeds prints with --json."""
    result = typed(*words, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def run(home: Path, *words: object) -> Result:
    """Carry out a command of the node in `home`."""
    return typed("node", *words, "--home", home)


def answer(home: Path, *words: object) -> dict[str, object]:
    """Return what such a command prints with --json."""
    return said("node", *words, "--home", home)
