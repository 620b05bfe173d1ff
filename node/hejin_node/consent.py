"""Authorisations 数据授权: who allowed which use of an enterprise's data, and since when not."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    and_,
    distinct,
    func,
    insert,
    select,
    update,
)

from hejin_models.uscc import check_code
from hejin_node.errors import ConsentError
from hejin_node.signed import (
    Signed,
    check_signed,
    keep_record,
    newest_keys,
    register_key,
    restore_signature,
    spent,
)
from hejin_node.tables import authorisation as table
from hejin_node.terms import Terms
from hejin_trust.authorisation import SCOPES, Scope, covers
from hejin_trust.canonical import time_from, time_text
from hejin_trust.database import reading, writing
from hejin_trust.entries import Body, Entry
from hejin_trust.log import Log

PART: Final = 5_000
"""Authorisations in one transaction: it takes about a second."""

_PAUSE_SECONDS: Final = 0.2  # other processes look every 0.1 s whether they may write


@dataclass(frozen=True, slots=True)
class Authorisation:
    """One grant as it stands; seq is its entry in the internal log. Times are RFC 3339 UTC."""

    seq: int
    code: str
    pseudonym: str
    terms: Terms
    revoked_seq: int | None
    revoked_at: str | None


class Grant(NamedTuple):
    """What is to be granted; `signed` makes it one of grade A."""

    code: str
    terms: Terms
    signed: Signed | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """What a bulk grant did.

    seqs     of all that stand now
    already  how many of them stood before in the same words
    revoked  how many stood in the same words once and were revoked: they do not stand again
    """

    seqs: tuple[int, ...]
    already: int
    revoked: int


def pseudonym(key: bytes, code: str) -> str:
    """Return how the logs name an enterprise: 32 hex digits, the same for ever under one key.

    The first 16 bytes of HMAC-SHA-256(node's pseudonym key, code), LEDGER section 2.
    """
    return hmac.digest(key, code.encode("utf-8"), "sha256")[:16].hex()


def grant(
    connection: Connection,
    log: Log,
    key: bytes,
    code: str,
    terms: Terms,
    signed: Signed | None = None,
) -> int:
    """Record one authorisation and return its seq; see `grant_many`.

    raises   ConsentError also where it was revoked
    """
    done = grant_many(connection, log, key, [Grant(code, terms, signed)])
    if done.revoked:
        raise ConsentError(
            "This authorisation was revoked: what an enterprise withdrew, the same words do not "
            "bring back. Let it sign a new form.",
            "该授权已被撤销：企业撤回后，同一份授权不能恢复效力。请由企业重新签署表单。",
        )
    return done.seqs[0]


def grant_many(
    connection: Connection,
    log: Log,
    key: bytes,
    grants: Iterable[Grant | tuple[str, Terms]],
) -> Granted:
    """Record authorisations and their `authorisation.grant` entries in the caller's transaction.

    log      the node's internal log
    key      the node's pseudonym key
    grants   one that stands already in the same words, or was revoked, is not recorded again:
             a bulk file from before a revocation must not undo it
    raises   CodeError, ConsentError; then nothing may be committed

    Behind a grant of grade A its `authorisation.signature` is logged, before it the enterprise's
    key if that is new.
    """
    checked = check_grants(connection, log, key, grants)
    standing, ended = _in_words(connection)
    seqs: list[int] = []
    revoked = 0
    new: list[dict[str, object]] = []
    entries: list[tuple[str, Body]] = []
    signatures: list[tuple[int, Signed]] = []
    _register_keys(connection, log, key, checked)
    next_seq = log.size(connection)
    for code, terms, signed in checked:
        values = _values(code, terms)
        words = tuple(values.values())
        if words in standing:
            seqs.append(standing[words])
            continue
        if words in ended:
            revoked += 1
            continue
        seq = next_seq + len(entries)
        standing[words] = seq
        seqs.append(seq)
        new.append({"seq": seq, "pseudonym": pseudonym(key, code), **values})
        entries.append(("authorisation.grant", _body(new[-1])))
        if signed is not None:
            signatures.append((len(entries), signed))
            entries.append(("authorisation.signature", _signature(seq, signed)))
            keep_record(connection, signed.record)
    logged = log.append_many(connection, entries)
    assert all(row["seq"] == seq for row, seq in zip(new, _granted(logged), strict=True))
    if new:
        connection.execute(insert(table), new)
    for place, _ in signatures:
        restore_signature(connection, logged[place])
    return Granted(tuple(seqs), len(seqs) - len(new), revoked)


def check_grants(
    connection: Connection, log: Log, key: bytes, grants: Iterable[Grant | tuple[str, Terms]]
) -> list[Grant]:
    """Return the grants, each of which can be recorded as it is.

    raises   CodeError; ConsentError where grade and signature contradict each other, or a
             signature is not the enterprise's over exactly these terms, or what it signed was
             revoked
    """
    known: dict[str, bytes] = {}
    revoked = frozenset[bytes]()
    checked: list[Grant] = []
    for number, one in enumerate(grants, start=1):
        given = Grant(*one)
        check_code(given.code)
        if given.signed is not None and not known:
            known, revoked = newest_keys(connection), spent(connection)
        try:
            _check_grade(log, key, given, known)
            _check_unspent(given.signed, revoked)
        except ConsentError as reason:
            if number == 1:
                raise
            raise ConsentError(
                f"Row {number}: {reason.text.en}", f"第 {number} 行：{reason.text.zh}"
            ) from reason
        checked.append(given)
    return checked


def _check_grade(log: Log, key: bytes, given: Grant, known: dict[str, bytes]) -> None:
    """Raise unless the grade is what is shown for it; a key that is shown joins the known ones."""
    code, terms, signed = given
    if (terms.grade == "A") != (signed is not None):
        raise ConsentError(
            "Grade A is the enterprise's own signature, and B has none: give the signed form "
            "(`hejin node authorisation accept`), or grant it as B.",
            "A 级须有企业自己的签名，B 级则无：请提供已签表单"
            "（`hejin node authorisation accept`），或按 B 级登记。",
        )
    if signed is None:
        return
    if signed.evidence:
        known[code] = signed.key
    _check_key(known.get(code), signed)
    check_signed(log.origin, grant_body(pseudonym(key, code), code, terms), code, terms, signed)


def _check_unspent(signed: Signed | None, revoked: frozenset[bytes]) -> None:
    if signed is not None and signed.signature in revoked:
        raise ConsentError(
            "What this form grants was revoked: its signature counts no more. Let the enterprise "
            "sign a new form (`hejin node authorisation form`).",
            "该表单所作授权已被撤销，其签名不再有效：请企业签署新表单"
            "（`hejin node authorisation form`）。",
        )


def grant_in_parts(
    database: Engine, log: Log, key: bytes, grants: Sequence[Grant | tuple[str, Terms]]
) -> tuple[int, int, int]:
    """Record any number of authorisations, and let rounds be reserved meanwhile.

    All are checked before the first is recorded. Whoever writes waits for the transaction under
    way: it records a part of them at a time. After an interruption the same call records the rest.
    returns   how many were recorded, how many stood already, and how many were revoked
    raises    CodeError, ConsentError, StorageError
    """
    with reading(database) as connection:
        check_grants(connection, log, key, grants)
    already = revoked = 0
    for start in range(0, len(grants), PART):
        if start:
            time.sleep(_PAUSE_SECONDS)
        with writing(database) as connection:
            done = grant_many(connection, log, key, grants[start : start + PART])
        already, revoked = already + done.already, revoked + done.revoked
    return len(grants) - already - revoked, already, revoked


def revoke(
    connection: Connection,
    log: Log,
    reason: str,
    *,
    code: str | None = None,
    seq: int | None = None,
) -> tuple[int, ...]:
    """End one grant, or all of an enterprise, from the next reservation on; return their seqs.

    Models that were released stay. Entries `authorisation.revoke` join the caller's transaction.
    raises  ConsentError where nothing stands that could be revoked, or the reason says whose
    """
    if (code is None) == (seq is None):
        raise ValueError("name a code or a seq")
    which = table.c.code == code if seq is None else table.c.seq == seq
    rows = connection.execute(
        select(table.c.seq, table.c.code)
        .where(which, table.c.revoked_seq.is_(None))
        .order_by(table.c.seq)
    ).all()
    if not rows:
        raise ConsentError(
            "There is no such authorisation in force: see `hejin node authorisation list`.",
            "没有可撤销的有效授权：请查看 `hejin node authorisation list`。",
        )
    if any(row.code.casefold() in reason.casefold() for row in rows):
        raise ConsentError(
            "Give a reason that does not name the enterprise: the log keeps it.",
            "撤销原因不得包含企业代码：原因将记入日志。",
        )
    found = tuple(row.seq for row in rows)
    entries = log.append_many(
        connection,
        [("authorisation.revoke", {"grant": one, "reason": reason}) for one in found],
    )
    for one, entry in zip(found, entries, strict=True):
        restore_revocation(connection, one, entry)
    return found


def restore_grant(connection: Connection, code: str, entry: Entry) -> None:
    """Record the grant of a logged entry for the enterprise whose pseudonym it names."""
    body = entry.body
    connection.execute(
        insert(table).values(
            seq=entry.seq,
            code=code,
            pseudonym=body["enterprise"],
            **{name: json.dumps(body[name]) for name in SCOPES},
            **{name: body[name] for name in ("document", "grade", "valid_from", "valid_to")},
        )
    )


def restore_revocation(connection: Connection, seq: int, entry: Entry) -> None:
    """Let the grant `seq` end with the logged entry."""
    connection.execute(
        update(table).where(table.c.seq == seq).values(revoked_seq=entry.seq, revoked_at=entry.time)
    )


def authorisations(
    connection: Connection, *, code: str | None = None, at: datetime | None = None
) -> list[Authorisation]:
    """Return the authorisations by seq: of one enterprise, or those in force at a moment."""
    query = select(table).order_by(table.c.seq)
    if code is not None:
        query = query.where(table.c.code == code)
    if at is not None:
        query = query.where(_in_force(at))
    return [_read(row) for row in connection.execute(query)]


def find_grant(connection: Connection, seq: int) -> Authorisation:
    """Return one authorisation; raises ConsentError if there is none of that number."""
    row = connection.execute(select(table).where(table.c.seq == seq)).first()
    if row is None:
        raise ConsentError(
            "There is no authorisation of that number: see `hejin node authorisation list`.",
            "没有该序号的授权：请查看 `hejin node authorisation list`。",
        )
    return _read(row)


def count_in_force(connection: Connection, at: datetime) -> int:
    """Return how many enterprises have an authorisation in force at a moment."""
    query = select(func.count(distinct(table.c.code))).where(_in_force(at))
    return connection.scalar(query) or 0


def entitled(
    connection: Connection,
    *,
    purpose: str,
    bank: str,
    categories: Collection[str],
    features: Collection[str],
    at: datetime,
) -> dict[str, int]:
    """Return the enterprises whose data may serve a purpose, with the grant that says so.

    categories, features  all that will be used; one grant must cover them all
    at                    moment at which the grant must be in force, aware
    returns               code -> seq of the newest grant that fits
    """
    query = (
        select(table.c.seq, table.c.code, *(table.c[name] for name in SCOPES))
        .where(_in_force(at))
        .order_by(table.c.seq)
    )
    needed: dict[Scope, Collection[str]] = {
        "purposes": (purpose,),
        "banks": (bank,),
        "categories": categories,
        "features": features,
    }
    # Bulk grants share their words: each distinct scope is read once.
    fits: dict[tuple[str, ...], bool] = {}
    found: dict[str, int] = {}
    for seq, code, *words in connection.execute(query):
        scope = tuple(words)
        if scope not in fits:
            fits[scope] = _covers(scope, needed)
        if fits[scope]:
            found[code] = seq
    return found


def grant_body(pseudonym: str, code: str, terms: Terms) -> Body:
    """Return the body of the `authorisation.grant` entry that terms would have."""
    return _body({"pseudonym": pseudonym, **_values(code, terms)})


def _check_key(registered: bytes | None, signed: Signed) -> None:
    if registered != signed.key:
        raise ConsentError(
            "The key is not the one that is registered for this enterprise: register it first, "
            "with the document that shows whose it is (`hejin node authorisation key`).",
            "该公钥不是该企业登记的公钥：请先凭证明文件登记（`hejin node authorisation key`）。",
        )


def _register_keys(connection: Connection, log: Log, key: bytes, grants: Sequence[Grant]) -> None:
    wanted = [one for one in grants if one.signed is not None and one.signed.evidence]
    known = newest_keys(connection) if wanted else {}
    for code, _, signed in wanted:
        assert signed is not None, "they were chosen so"
        if known.get(code) != signed.key:
            register_key(
                connection,
                log,
                code=code,
                pseudonym=pseudonym(key, code),
                key=signed.key,
                evidence=signed.evidence,
            )
            known[code] = signed.key


def _signature(seq: int, signed: Signed) -> Body:
    return {"grant": seq, "key": signed.key.hex(), "signature": signed.signature.hex()}


def _granted(entries: Iterable[Entry]) -> list[int]:
    return [entry.seq for entry in entries if entry.type == "authorisation.grant"]


def _in_force(at: datetime) -> ColumnElement[bool]:
    moment = time_text(at)
    return and_(
        table.c.valid_from <= moment, table.c.valid_to > moment, table.c.revoked_seq.is_(None)
    )


def _covers(lists: Sequence[str], needed: Mapping[Scope, Collection[str]]) -> bool:
    return all(
        covers(scope, json.loads(words), needed[scope])
        for scope, words in zip(SCOPES, lists, strict=True)
    )


def _values(code: str, terms: Terms) -> dict[str, object]:
    return {
        "code": code,
        "document": terms.document,
        "grade": terms.grade,
        **{name: json.dumps(sorted(getattr(terms, name))) for name in SCOPES},
        "valid_from": time_text(terms.valid_from),
        "valid_to": time_text(terms.valid_to),
    }


def _body(row: Mapping[str, object]) -> dict[str, object]:
    """The entry of a row: the pseudonym stands for the code."""
    return {
        "enterprise": row["pseudonym"],
        **{name: json.loads(cast("str", row[name])) for name in SCOPES},
        **{name: row[name] for name in ("document", "grade", "valid_from", "valid_to")},
    }


def _in_words(
    connection: Connection,
) -> tuple[dict[tuple[object, ...], int], set[tuple[object, ...]]]:
    """Return the words of what stands, with its seq, and the words of what was revoked."""
    columns = (
        table.c.code,
        table.c.document,
        table.c.grade,
        *(table.c[name] for name in SCOPES),
        table.c.valid_from,
        table.c.valid_to,
    )
    standing: dict[tuple[object, ...], int] = {}
    ended: set[tuple[object, ...]] = set()
    for seq, revoked, *words in connection.execute(
        select(table.c.seq, table.c.revoked_seq, *columns)
    ):
        if revoked is None:
            standing[tuple(words)] = seq
        else:
            ended.add(tuple(words))
    return standing, ended


def _read(row: Row[tuple[object, ...]]) -> Authorisation:
    scopes = {name: tuple(json.loads(getattr(row, name))) for name in SCOPES}
    terms = Terms(
        document=row.document,
        grade=row.grade,
        valid_from=time_from(row.valid_from),
        valid_to=time_from(row.valid_to),
        **scopes,
    )
    return Authorisation(row.seq, row.code, row.pseudonym, terms, row.revoked_seq, row.revoked_at)
