"""Grade A: an enterprise's registered key, its signature over a grant, and the record it signed."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Column, Connection, Integer, LargeBinary, String, Table, insert, select

from hejin_node.errors import ConsentError
from hejin_node.record import Record, parse_record
from hejin_node.tables import authorisation, metadata
from hejin_node.terms import Terms
from hejin_trust.authorisation import SIGNATURE_BYTES, check_signature
from hejin_trust.entries import Body, Entry
from hejin_trust.keys import KeyFileError, SignatureError, check_public
from hejin_trust.log import Log

enterprise_key = Table(
    "enterprise_key",
    metadata,
    # Index of the `authorisation.key` entry in the internal log; the newest of a code counts.
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("code", String(64), nullable=False, index=True),
    Column("key", String(64), nullable=False),
    Column("evidence", String(64), nullable=False),
)

signature_table = Table(
    "authorisation_signature",
    metadata,
    Column("grant", Integer, primary_key=True, autoincrement=False),
    Column("key", String(64), nullable=False),
    Column("signature", String(128), nullable=False),
)

record_table = Table(
    "authorisation_record",
    metadata,
    Column("document", String(64), primary_key=True),  # its SHA-256
    Column("code", String(64), nullable=False, index=True),
    Column("record", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Signed:
    """What makes a grant one of grade A.

    key        Ed25519 key that the enterprise signed with, 32 bytes
    signature  64 bytes over `hejin_trust.authorisation.statement_to_sign`
    evidence   SHA-256, hex, of the document that shows whose key it is: the key is registered with
               the grant; "" where it was registered before
    """

    record: Record
    key: bytes
    signature: bytes
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """An enterprise's key; seq is its entry in the internal log."""

    seq: int
    key: str
    evidence: str


def read_public_key(path: Path) -> bytes:
    """Return the Ed25519 key in a PEM file (`openssl pkey -pubout`); raises ConsentError."""
    try:
        found = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as reason:
        raise _no_key(path) from reason
    if not isinstance(found, Ed25519PublicKey):
        raise _no_key(path)
    key = found.public_bytes_raw()
    try:
        check_public(key)
    except KeyFileError as reason:
        raise _no_key(path) from reason
    return key


def read_signature(path: Path) -> bytes:
    """Return the 64 bytes that a file holds as they are, or in base64; raises ConsentError."""
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise _no_signature() from reason
    return data if len(data) == SIGNATURE_BYTES else signature_from(data.decode("ascii", "replace"))


def signature_from(text: str) -> bytes:
    """Return the signature that base64 spells; raises ConsentError."""
    try:
        found = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as reason:
        raise _no_signature() from reason
    if len(found) != SIGNATURE_BYTES:
        raise _no_signature()
    return found


def check_signed(origin: str, grant: Body, code: str, terms: Terms, signed: Signed) -> None:
    """Raise ConsentError unless the enterprise signed exactly this grant.

    origin  of the internal log that will hold it
    grant   body of its entry
    terms   as granted: the record's own
    """
    record = signed.record
    if (record.code, record.pseudonym, record.terms) != (
        code,
        grant["enterprise"],
        terms.ordered,
    ):
        raise ConsentError(
            "What is to be granted is not what the signed record says: nothing may be added to it "
            "or left out.",
            "拟登记的授权与所签记录不一致：不得增减。",
        )
    try:
        check_signature(origin, grant, signed.key, signed.signature)
    except SignatureError as reason:
        raise ConsentError(
            "The signature does not fit this record and key: the enterprise must sign the file "
            "to-sign.bin of this very form.",
            "签名与该记录及公钥不符：企业须签署本表单中的 to-sign.bin。",
        ) from reason


def register_key(
    connection: Connection, log: Log, *, code: str, pseudonym: str, key: bytes, evidence: str
) -> int:
    """Register an enterprise's key, from now on the one that counts; return its entry's seq.

    evidence  SHA-256, hex, of the document that shows whose key it is
    """
    body = {"enterprise": pseudonym, "key": key.hex(), "evidence": evidence}
    entry = log.append(connection, "authorisation.key", body)
    restore_key(connection, code, entry)
    return entry.seq


def restore_key(connection: Connection, code: str, entry: Entry) -> None:
    """Record the key of a logged entry."""
    body = entry.body
    connection.execute(
        insert(enterprise_key).values(
            seq=entry.seq, code=code, key=body["key"], evidence=body["evidence"]
        )
    )


def restore_signature(connection: Connection, entry: Entry) -> None:
    """Record the signature of a logged entry."""
    connection.execute(insert(signature_table).values({**entry.body}))


def keys(connection: Connection, code: str) -> list[RegisteredKey]:
    """Return an enterprise's keys, oldest first."""
    rows = connection.execute(
        select(enterprise_key).where(enterprise_key.c.code == code).order_by(enterprise_key.c.seq)
    )
    return [RegisteredKey(row.seq, row.key, row.evidence) for row in rows]


def spent(connection: Connection) -> frozenset[bytes]:
    """Return the signatures of grants that were revoked: none of them grants a second time."""
    found = connection.scalars(
        select(signature_table.c.signature)
        .join(authorisation, authorisation.c.seq == signature_table.c.grant)
        .where(authorisation.c.revoked_seq.is_not(None))
    )
    return frozenset(map(bytes.fromhex, found))


def newest_keys(connection: Connection) -> dict[str, bytes]:
    """Return the key that counts of every enterprise that has one."""
    query = select(enterprise_key.c.code, enterprise_key.c.key).order_by(enterprise_key.c.seq)
    return {code: bytes.fromhex(key) for code, key in connection.execute(query)}


def find_signed(connection: Connection, grant: int, code: str, document: str) -> Signed | None:
    """Return the signature of a grant of grade A; None for B, or where its record is lost.

    Its evidence is that of the key, so that it can be granted anew elsewhere.
    """
    row = connection.execute(
        select(signature_table).where(signature_table.c.grant == grant)
    ).first()
    record = find_record(connection, document)
    if row is None or record is None:
        return None
    shown = [one.evidence for one in keys(connection, code) if one.key == row.key]
    return Signed(record, bytes.fromhex(row.key), bytes.fromhex(row.signature), shown[-1])


def keep_record(connection: Connection, record: Record) -> None:
    """Keep a record, under its hash."""
    if find_record(connection, record.terms.document) is None:
        connection.execute(
            insert(record_table).values(
                document=record.terms.document, code=record.code, record=record.raw
            )
        )


def find_record(connection: Connection, document: str) -> Record | None:
    """Return the record of that hash, if it was made or granted here."""
    raw = connection.scalar(
        select(record_table.c.record).where(record_table.c.document == document)
    )
    return None if raw is None else parse_record(raw)


def _no_key(path: Path) -> ConsentError:
    return ConsentError(
        f"{path.name} holds no usable Ed25519 public key in PEM: ask the enterprise for the file "
        "that `openssl pkey -pubout` writes.",
        f"{path.name} 不含可用的 Ed25519 公钥（PEM）：请企业提供 `openssl pkey -pubout` "
        "生成的文件。",
    )


def _no_signature() -> ConsentError:
    return ConsentError(
        f"This is no signature of {SIGNATURE_BYTES} bytes, as they are or in base64: give the file "
        "that `openssl pkeyutl -sign -rawin` wrote.",
        f"这不是 {SIGNATURE_BYTES} 字节的签名（原样或 base64）：请提供 "
        "`openssl pkeyutl -sign -rawin` 生成的文件。",
    )
