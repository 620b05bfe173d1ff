"""Questions for outcomes that this node asked: what it committed to, kept to be looked at on site.

Slot i of a session is committed to as leaf i of an RFC 6962 tree: salt | 0x01 | pseudonym, or
salt | 0x00 | 16 zero bytes where it holds nobody. Salts, dummies and points follow from a seed, a
scalar and the codes; with them both the root that was logged and the points that were sent can be
redone (`label_audit`). Scalar, seed and pseudonyms are kept under the warehouse's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    String,
    Table,
    insert,
    select,
    update,
)

from hejin_node.consent import pseudonym
from hejin_node.errors import MatchingError
from hejin_node.tables import metadata
from hejin_privacy.set_intersection import Asking
from hejin_trust.at_rest import NotOpenedError, decrypted, encrypted
from hejin_trust.merkle import leaf_hash, root_of

_SLOT_BYTES: Final = 17
_NOBODY: Final = bytes(_SLOT_BYTES)

session_table = Table(
    "label_session",
    metadata,
    Column("session", String(32), primary_key=True),
    Column("bank", String(63), nullable=False),
    Column("definition", String(64), nullable=False),
    Column("definition_hash", String(64), nullable=False),
    Column("period", String(64), nullable=False),
    Column("time", String(20), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    # Indexes of the `labels.request` and `labels.ask` entries.
    Column("request", Integer, nullable=False),
    Column("ask", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    # SHA-256 of the bank's signed answer; NULL where none came.
    Column("transcript", String(64)),
)


@dataclass(frozen=True, slots=True)
class LabelSession:
    """One question: for how many enterprises (`size`), in how many slots, and what came of it.

    request, ask   its entries in the internal and in the release log
    transcript     hex SHA-256 of the bank's signed answer; None if none was taken in
    """

    session: str
    bank: str
    definition: str
    definition_hash: str
    period: str
    time: str
    slots: int
    size: int
    request: int
    ask: int
    transcript: str | None

    @property
    def state(self) -> Literal["asked", "answered"]:
        """Whether an answer was taken in."""
        return "asked" if self.transcript is None else "answered"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is kept of a session: scalar, seed, and what stands in each slot (`slots_of`)."""

    scalar: bytes
    seed: bytes
    slots: bytes

    def holds(self, pseudonym: str) -> bool:
        """Return whether an enterprise stands in a slot."""
        slot, at = b"\x01" + bytes.fromhex(pseudonym), -1
        while (at := self.slots.find(slot, at + 1)) >= 0:
            if at % _SLOT_BYTES == 0:
                return True
        return False

    def enterprises(self) -> list[str | None]:
        """Return the pseudonym in each slot; None where it holds nobody."""
        cut = (self.slots[at : at + _SLOT_BYTES] for at in range(0, len(self.slots), _SLOT_BYTES))
        return [None if slot == _NOBODY else slot[1:].hex() for slot in cut]


def slots_of(asking: Asking, key: bytes) -> bytes:
    """Return what stands in each slot, 17 bytes each; key: the node's pseudonym key."""
    return b"".join(
        _NOBODY if code is None else b"\x01" + bytes.fromhex(pseudonym(key, code))
        for code in asking.slots
    )


def root_over(asking: Asking, slots: bytes) -> bytes:
    """Return the root that commits to the slots, 32 bytes."""
    return root_of(
        [
            leaf_hash(asking.salt(place) + slots[start : start + _SLOT_BYTES])
            for place, start in enumerate(range(0, len(slots), _SLOT_BYTES))
        ]
    )


def keep(
    connection: Connection, session: LabelSession, asking: Asking, slots: bytes, key: bytes
) -> None:
    """Store a session with its secrets under `key`, 32 bytes."""
    told = asking.scalar + asking.seed + slots
    sealed = encrypted(key, told, _purpose(session.session))
    row = {name: getattr(session, name) for name in LabelSession.__slots__}
    connection.execute(insert(session_table).values(**row, sealed=sealed))


def answered(connection: Connection, session: str, transcript: str) -> None:
    """Note the answer that was taken in."""
    connection.execute(
        update(session_table)
        .where(session_table.c.session == session)
        .values(transcript=transcript)
    )


def sessions(connection: Connection) -> list[LabelSession]:
    """Return every session, oldest first."""
    columns = (session_table.c[name] for name in LabelSession.__slots__)
    query = select(*columns).order_by(session_table.c.request)
    return [LabelSession(*row) for row in connection.execute(query)]


def find_session(connection: Connection, named: str) -> LabelSession:
    """Return the session whose id begins so (at least 8 digits); MatchingError if not just one."""
    found = [one for one in sessions(connection) if one.session.startswith(named)]
    if len(found) != 1 or len(named) < 8:
        raise MatchingError(
            "no single session here has that id: `hejin node labels sessions` shows them",
            "本节点没有唯一对应该编号的会话：可用 `hejin node labels sessions` 查看",
        )
    return found[0]


def asked_about(connection: Connection, pseudonym: str, key: bytes) -> list[LabelSession]:
    """Return the sessions in which a bank was asked for one enterprise; raises MatchingError."""
    return [
        one for one in sessions(connection) if secrets_of(connection, one, key).holds(pseudonym)
    ]


def secrets_of(connection: Connection, session: LabelSession, key: bytes) -> Secrets:
    """Return what was kept of a session under `key`; raises MatchingError if it does not open."""
    sealed = connection.scalar(
        select(session_table.c.sealed).where(session_table.c.session == session.session)
    )
    assert sealed is not None, "the session was found"
    try:
        told = decrypted(key, sealed, _purpose(session.session))
    except NotOpenedError as reason:
        raise MatchingError(
            "the session's secrets do not open with this node's warehouse key: restore"
            " keys/warehouse.key, or node.db, from its backup",
            "会话的秘密无法以本节点的仓库密钥打开：请从备份恢复 keys/warehouse.key 或 node.db",
        ) from reason
    return Secrets(told[:32], told[32:64], told[64:])


def _purpose(session: str) -> bytes:
    return b"label session\x00" + session.encode()
