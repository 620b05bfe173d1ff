"""Questions for outcomes that this node asked: what it committed to, kept to be looked at on site.

Slot i of a session is committed to as leaf i of an RFC 6962 tree: salt | 0x01 | pseudonym, or
salt | 0x00 | 16 zero bytes where it holds nobody. Salts, dummies and points follow from a seed, a
scalar and the codes; with them anyone can redo both the root that was logged and the points that
were sent (`audit`). Scalar, seed and pseudonyms are kept under the warehouse's key.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
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
from hejin_trust.merkle import leaf_hash, root_of

_NONCE_BYTES: Final = 12
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
    nonce = secrets.token_bytes(_NONCE_BYTES)
    told = asking.scalar + asking.seed + slots
    sealed = nonce + AESGCM(key).encrypt(nonce, told, _purpose(session.session))
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


@dataclass(frozen=True, slots=True)
class Audited:
    """What a session's secrets lead to: what must stand in the ledgers. Hashes in hex."""

    root: str
    query: str
    size: int


def audit(
    connection: Connection, session: LabelSession, codes: Mapping[str, str], key: bytes
) -> Audited:
    """Redo a session from its scalar, its seed and its slots.

    codes    pseudonym -> code of every enterprise that the node knows
    key      that the secrets are kept under
    raises   MatchingError: they do not open, or a pseudonym is of nobody that is known
    """
    sealed = connection.scalar(
        select(session_table.c.sealed).where(session_table.c.session == session.session)
    )
    assert sealed is not None, "the session was found"
    try:
        told = AESGCM(key).decrypt(
            sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _purpose(session.session)
        )
    except InvalidTag as reason:
        raise MatchingError(
            "the session's secrets do not open with this node's warehouse key: restore"
            " keys/warehouse.key, or node.db, from its backup",
            "会话的秘密无法以本节点的仓库密钥打开：请从备份恢复 keys/warehouse.key 或 node.db",
        ) from reason
    scalar, seed, slots = told[:32], told[32:64], told[64:]
    members: list[str | None] = []
    for start in range(0, len(slots), _SLOT_BYTES):
        slot = slots[start : start + _SLOT_BYTES]
        code = None if slot == _NOBODY else codes.get(slot[1:].hex())
        if slot != _NOBODY and code is None:
            raise MatchingError(
                f"slot {start // _SLOT_BYTES} holds an enterprise that this node no longer knows:"
                " its points cannot be redone",
                f"第 {start // _SLOT_BYTES} 个位置的企业已不为本节点所知：无法重算其点",
            )
        members.append(code)
    asking = Asking(scalar, seed, tuple(members))
    return Audited(
        root=root_over(asking, slots).hex(),
        query=hashlib.sha256(asking.question()).hexdigest(),
        size=sum(code is not None for code in members),
    )


def _purpose(session: str) -> bytes:
    return b"label session\x00" + session.encode()
