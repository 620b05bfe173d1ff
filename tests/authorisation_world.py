"""An enterprise's side of an authorisation, and the node's commands as its operator types them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from node_world import World, terms
from typer.testing import CliRunner, Result

from hejin_node.cli import app
from hejin_node.consent import grant_body, pseudonym
from hejin_node.home import NodeHome
from hejin_node.notice import read_notice
from hejin_node.record import Record, new_record
from hejin_node.signed import Signed
from hejin_trust.authorisation import statement_to_sign
from hejin_trust.errors import HejinError
from hejin_trust.keys import SigningKey


def run(home: Path, *words: str) -> Result:
    """Carry out a node's command; its refusal is raised."""
    result = CliRunner().invoke(app, [*words, "--home", str(home)])
    if isinstance(result.exception, HejinError):
        raise result.exception
    return result


def answer(home: Path, *words: str) -> dict[str, object]:
    """Return what a command prints with --json."""
    result = run(home, *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def record_of(home: NodeHome, world: World, code: str, **changes: object) -> Record:
    wanted = replace(terms(world), **changes)  # type: ignore[arg-type]
    return new_record(
        home.charter,
        home.charter.member("node-1"),
        read_notice(home.path),
        code=code,
        pseudonym=pseudonym(home.pseudonym_key, code),
        terms=wanted,
        made=world.clock(),
    )


def sign(home: NodeHome, record: Record, key: SigningKey, evidence: str = "e" * 64) -> Signed:
    body = grant_body(record.pseudonym, record.code, record.terms)
    signature = key.sign(statement_to_sign(home.internal_log.origin, body))
    return Signed(record, key.public, signature, evidence)
