"""An enterprise's side of an authorisation, and the node's commands as its operator types them."""

from __future__ import annotations

from dataclasses import replace

from node_world import World, terms

from hejin_node.consent import grant_body, pseudonym
from hejin_node.home import NodeHome
from hejin_node.notice import read_notice
from hejin_node.record import Record, new_record
from hejin_node.signed import Signed
from hejin_trust.authorisation import statement_to_sign
from hejin_trust.keys import SigningKey


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
