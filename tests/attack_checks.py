"""The check that a node refuses a message: by code, in its ledger, free, and telling nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

from node_world import BANK

from hejin_node import account
from hejin_node.home import NodeHome
from hejin_node.session import Session
from hejin_trust.database import reading
from hejin_trust.entries import Entry, parse
from hejin_trust.envelope import REFUSAL, open_envelope
from hejin_trust.fleet import Payload

FIELDS = {"v", "request", "code", "reason", "time"}
ASKED = ("query", "survivors", "result", "run")


def spent(home: NodeHome) -> Fraction:
    """Return what this period's reservations were charged."""
    with reading(home.database) as connection:
        return account.spent(connection, home.charter.period_from)


def logged(home: NodeHome) -> list[str]:
    """Return the types of the release log's entries."""
    with reading(home.database) as connection:
        return [parse(raw).type for raw in home.release_log.entries(connection)]


def last_refusal(home: NodeHome) -> Entry:
    """Return the newest `refusal` entry."""
    with reading(home.database) as connection:
        return list(home.internal_log.of_type(connection, "refusal"))[-1]


def check_refused(home: NodeHome, answer: Payload, code: str, bank: str = BANK) -> str:
    """Check that an answer is a refusal with `code` and nothing else; return its sentence."""
    assert answer.keys() == {"kind", "refusal"}, answer.keys()
    assert answer["kind"] == b"refusal"
    body = open_envelope(answer["refusal"], REFUSAL, home.identity.public, home.member_id).body
    assert body["code"] == code, body["reason"]
    assert body.keys() == FIELDS
    assert last_refusal(home).body == {"request": body["request"], "code": code, "peer": bank}
    for vector in _stored_vectors(home):
        assert vector[:8] not in answer["refusal"]
    return str(body["reason"])


@contextmanager
def untouched(home: NodeHome) -> Iterator[None]:
    """Check that meanwhile nothing is charged or released, and one refusal is logged."""
    before, released = spent(home), logged(home)
    with reading(home.database) as connection:
        internal = home.internal_log.size(connection)
    yield
    assert spent(home) == before
    assert logged(home) == released
    with reading(home.database) as connection:
        assert home.internal_log.size(connection) == internal + 1


def refused(home: NodeHome, session: Session, payload: Payload, code: str, bank: str = BANK) -> str:
    """Ask, and check that it is refused as LEDGER section 7 wants it; return the sentence."""
    with untouched(home):
        answer = session.answer(payload)
    asked = next(filter(None, (payload.get(key) for key in ASKED)), b"")
    assert last_refusal(home).body["request"] == hashlib.sha256(asked).hexdigest()
    return check_refused(home, answer, code, bank)


def _stored_vectors(home: NodeHome) -> list[bytes]:
    with reading(home.database) as connection:
        rows = connection.execute(account.reservation.select()).all()
    return [row.vector for row in rows if row.vector is not None]
