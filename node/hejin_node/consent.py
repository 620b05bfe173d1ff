"""Authorisations 数据授权: who allowed which use of an enterprise's data, and since when not."""

from __future__ import annotations

import csv
import hmac
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, cast

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, insert, select, update

from hejin_models.errors import CodeError
from hejin_models.uscc import check_code
from hejin_node.errors import ConsentError
from hejin_node.mapping import Encoding
from hejin_node.tables import authorisation as table
from hejin_node.terms import ANY, OUTCOME, Terms, read_terms
from hejin_trust.canonical import time_from, time_text
from hejin_trust.database import writing
from hejin_trust.entries import Entry
from hejin_trust.log import Log

CSV_COLUMNS: Final = (
    "enterprise",
    "document",
    "grade",
    "purposes",
    "banks",
    "categories",
    "features",
    "valid_from",
    "valid_to",
)
"""Header of a bulk file; lists are separated by semicolons, dates are UTC days or times."""

PART: Final = 5_000
"""Authorisations in one transaction: it takes about a second."""

_PAUSE_SECONDS: Final = 0.2  # other processes look every 0.1 s whether they may write

_SCOPES: Final = ("purposes", "banks", "categories", "features")
_NEVER_WILD: Final = {**dict.fromkeys(_SCOPES, frozenset[str]()), "categories": {OUTCOME}}


@dataclass(frozen=True, slots=True)
class Authorisation:
    """One grant as it stands; seq is its entry in the internal log. Times are RFC 3339 UTC."""

    seq: int
    code: str
    pseudonym: str
    terms: Terms
    revoked_seq: int | None
    revoked_at: str | None


@dataclass(frozen=True, slots=True)
class Granted:
    """What a bulk grant did: each grant's seq, and how many stood already in the same words."""

    seqs: tuple[int, ...]
    already: int


def pseudonym(key: bytes, code: str) -> str:
    """Return how the logs name an enterprise: 32 hex digits, the same for ever under one key.

    The first 16 bytes of HMAC-SHA-256(node's pseudonym key, code), LEDGER section 2.
    """
    return hmac.digest(key, code.encode("utf-8"), "sha256")[:16].hex()


def grant(connection: Connection, log: Log, key: bytes, code: str, terms: Terms) -> int:
    """Record one authorisation and return its seq; see `grant_many`."""
    return grant_many(connection, log, key, [(code, terms)]).seqs[0]


def grant_many(
    connection: Connection, log: Log, key: bytes, grants: Iterable[tuple[str, Terms]]
) -> Granted:
    """Record authorisations and their `authorisation.grant` entries in the caller's transaction.

    log      the node's internal log
    key      the node's pseudonym key
    grants   (code, terms); one that stands already in the same words is not recorded again
    raises   CodeError; then nothing may be committed
    """
    standing = _standing(connection)
    seqs: list[int] = []
    new: list[dict[str, object]] = []
    for code, terms in grants:
        check_code(code)
        values = _values(code, terms)
        words = tuple(values.values())
        if words in standing:
            seqs.append(standing[words])
            continue
        standing[words] = -1 - len(new)
        seqs.append(-1 - len(new))
        new.append({"pseudonym": pseudonym(key, code), **values})
    entries = log.append_many(connection, [("authorisation.grant", _body(row)) for row in new])
    for row, entry in zip(new, entries, strict=True):
        row["seq"] = entry.seq
    if new:
        connection.execute(insert(table), new)
    placed = tuple(seq if seq >= 0 else entries[-1 - seq].seq for seq in seqs)
    return Granted(placed, len(seqs) - len(new))


def grant_in_parts(
    database: Engine, log: Log, key: bytes, grants: Sequence[tuple[str, Terms]]
) -> tuple[int, int]:
    """Record any number of authorisations, and let rounds be reserved meanwhile.

    Whoever writes waits for the transaction under way: it records a part of them at a time. After
    an interruption the same call records the rest.
    returns   how many were recorded, and how many stood already
    raises    CodeError, StorageError
    """
    already = 0
    for start in range(0, len(grants), PART):
        if start:
            time.sleep(_PAUSE_SECONDS)
        with writing(database) as connection:
            already += grant_many(connection, log, key, grants[start : start + PART]).already
    return len(grants) - already, already


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
    raises  ConsentError where nothing stands that could be revoked
    """
    if (code is None) == (seq is None):
        raise ValueError("name a code or a seq")
    which = table.c.code == code if seq is None else table.c.seq == seq
    found = tuple(
        connection.scalars(
            select(table.c.seq).where(which, table.c.revoked_seq.is_(None)).order_by(table.c.seq)
        )
    )
    if not found:
        raise ConsentError(
            "There is no such authorisation in force: see `hejin node authorisation list`.",
            "没有可撤销的有效授权：请查看 `hejin node authorisation list`。",
        )
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
            **{name: json.dumps(body[name]) for name in _SCOPES},
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
        select(table.c.seq, table.c.code, *(table.c[name] for name in _SCOPES))
        .where(_in_force(at))
        .order_by(table.c.seq)
    )
    needed = {
        "purposes": {purpose},
        "banks": {bank},
        "categories": set(categories),
        "features": set(features),
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


def read_grants(path: Path, encoding: Encoding = "utf-8") -> list[tuple[str, Terms]]:
    """Return the grants of a bulk CSV file with the header CSV_COLUMNS, or none of them.

    encoding  "utf-8" (a BOM is allowed) or "gb18030"
    raises    ConsentError naming the first row that cannot be used and how many there are
    """
    try:
        with path.open(
            encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline=""
        ) as file:
            rows = list(csv.DictReader(file, strict=True, restkey="", restval=""))
    except OSError as reason:
        raise ConsentError(
            f"{path} cannot be read ({reason.strerror}): check the path.",
            f"无法读取 {path}（{reason.strerror}）：请检查路径。",
        ) from reason
    except (UnicodeDecodeError, csv.Error) as reason:
        raise ConsentError(
            f"{path} is not a CSV file in {encoding}: save it again in that encoding.",
            f"{path} 不是 {encoding} 编码的 CSV 文件：请以该编码重新保存。",
        ) from reason
    if not rows or set(rows[0]) != set(CSV_COLUMNS):
        raise ConsentError(
            f"{path} must have rows and exactly the columns {', '.join(CSV_COLUMNS)}.",
            f"{path} 须有数据行，且列恰为 {'、'.join(CSV_COLUMNS)}。",
        )
    return _parse_rows(rows)


def _parse_rows(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, Terms]]:
    grants: list[tuple[str, Terms]] = []
    known: dict[tuple[str, ...], Terms] = {}
    failures: list[tuple[int, ConsentError | CodeError]] = []
    for number, row in enumerate(rows, start=1):
        words = tuple(row[name].strip() for name in CSV_COLUMNS)
        try:
            _check_width(row)
            check_code(words[0])
            if words[1:] not in known:
                known[words[1:]] = _terms(words)
            grants.append((words[0], known[words[1:]]))
        except (ConsentError, CodeError) as reason:
            failures.append((number, reason))
    if failures:
        number, first = failures[0]
        raise ConsentError(
            f"{len(failures)} of {len(rows)} rows cannot be used, none was recorded. "
            f"Row {number}: {first.text.en}",
            f"{len(rows)} 行中有 {len(failures)} 行不可用，未记录任何授权。"
            f"第 {number} 行：{first.text.zh}",
        )
    return grants


def _terms(words: Sequence[str]) -> Terms:
    given = dict(zip(CSV_COLUMNS, words, strict=True))
    return read_terms(
        document=given["document"],
        grade=given["grade"],
        purposes=_listed(given["purposes"]),
        banks=_listed(given["banks"]),
        categories=_listed(given["categories"]),
        features=_listed(given["features"]),
        valid_from=given["valid_from"],
        valid_to=given["valid_to"],
    )


def _listed(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(";"))


def _check_width(row: Mapping[str, str]) -> None:
    if len(row) != len(CSV_COLUMNS):
        raise ConsentError("It has more values than the header.", "值的个数多于表头。")


def _in_force(at: datetime) -> ColumnElement[bool]:
    moment = time_text(at)
    return and_(
        table.c.valid_from <= moment, table.c.valid_to > moment, table.c.revoked_seq.is_(None)
    )


def _covers(scope: Sequence[str], needed: Mapping[str, set[str]]) -> bool:
    given = (set(json.loads(words)) for words in scope)
    return all(
        have >= (needed[name] & _NEVER_WILD[name] if ANY in have else needed[name])
        for name, have in zip(_SCOPES, given, strict=True)
    )


def _values(code: str, terms: Terms) -> dict[str, object]:
    return {
        "code": code,
        "document": terms.document,
        "grade": terms.grade,
        **{name: json.dumps(sorted(getattr(terms, name))) for name in _SCOPES},
        "valid_from": time_text(terms.valid_from),
        "valid_to": time_text(terms.valid_to),
    }


def _body(row: Mapping[str, object]) -> dict[str, object]:
    """The entry of a row: the pseudonym stands for the code."""
    return {
        "enterprise": row["pseudonym"],
        **{name: json.loads(cast("str", row[name])) for name in _SCOPES},
        **{name: row[name] for name in ("document", "grade", "valid_from", "valid_to")},
    }


def _standing(connection: Connection) -> dict[tuple[object, ...], int]:
    columns = (
        table.c.code,
        table.c.document,
        table.c.grade,
        *(table.c[name] for name in _SCOPES),
        table.c.valid_from,
        table.c.valid_to,
    )
    query = select(table.c.seq, *columns).where(table.c.revoked_seq.is_(None))
    return {tuple(words): seq for seq, *words in connection.execute(query)}


def _read(row: Row[tuple[object, ...]]) -> Authorisation:
    scopes = {name: tuple(json.loads(getattr(row, name))) for name in _SCOPES}
    terms = Terms(
        document=row.document,
        grade=row.grade,
        valid_from=time_from(row.valid_from),
        valid_to=time_from(row.valid_to),
        **scopes,
    )
    return Authorisation(row.seq, row.code, row.pseudonym, terms, row.revoked_seq, row.revoked_at)
