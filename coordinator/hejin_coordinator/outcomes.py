"""The bank's outcomes of its borrowers: imported from CSV, sealed at rest, one book a period.

A book is what one label definition says of one period. It is replaced as a whole: the bank's
newest word counts. Who reads the database without `keys/outcomes.key` learns how many there are.
"""

from __future__ import annotations

import csv
import hashlib
import io
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Column, Connection, Integer, LargeBinary, String, Table, select
from sqlalchemy.dialects.sqlite import insert

from hejin_coordinator.errors import OutcomesError
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.store import metadata
from hejin_models.errors import CodeError, DefinitionError
from hejin_models.label_definitions import LabelDefinition, definition_file
from hejin_models.uscc import LENGTH, check_code
from hejin_privacy.label_messages import LONGEST_NAME
from hejin_trust.at_rest import NotOpenedError, decrypted, encrypted
from hejin_trust.canonical import time_text
from hejin_trust.database import reading, writing
from hejin_trust.keys import SECRET_BYTES, read_secret, write_private

Encoding = Literal["utf-8", "gb18030"]
KEY_FILE: Final = "outcomes.key"
LONGEST_FILE: Final = 64 << 20
"""Bytes of a CSV file: half a million borrowers take 15 MB."""

_ROW: Final = LENGTH + 1  # a code and its label, 0 or 1

book_table = Table(
    "outcome_book",
    metadata,
    Column("definition", String(64), primary_key=True),
    Column("period", String(64), primary_key=True),
    Column("definition_hash", String(64), nullable=False),
    Column("source", String(64), nullable=False),  # SHA-256 of the file
    Column("outcomes", Integer, nullable=False),
    Column("imported", String(20), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Book:
    """What is known of a book without opening it; source: hex SHA-256 of its file."""

    definition: str
    period: str
    definition_hash: str
    source: str
    outcomes: int
    imported: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A book that was imported; bad: how many of its outcomes are, already: it stood as it is."""

    book: Book
    bad: int
    already: bool


def definition_of(home: CoordinatorHome, named: str) -> tuple[LabelDefinition, bytes]:
    """Return a label definition and its file; raises DefinitionError.

    A definition by which a book was made may not change: its version does.
    """
    data = definition_file(named, home.definitions_folder)
    found = LabelDefinition.parse(data)
    with reading(home.database) as connection:
        if any(book.definition_hash != found.digest for book in books(connection, found.id)):
            raise DefinitionError(
                f"{found.id}.toml has changed since outcomes were imported by it: put it back as"
                " it was, and define what is new under a higher version",
                f"{found.id}.toml 在按其导入标签之后被改动：请恢复原文件，并以更高版本定义新口径",
            )
    return found, data


def import_outcomes(
    home: CoordinatorHome,
    path: Path,
    definition: LabelDefinition,
    period: str,
    encoding: Encoding = "utf-8",
) -> Imported:
    """Make the book of a period from a CSV file, of all its rows or of none.

    path    columns `enterprise` and either `label` (1 bad, 0 good) or `days_overdue`, the most
            that a loan was overdue in the definition's window; others are ignored
    raises  OutcomesError: no such file, or rows that cannot be used, counted by rule; or more
            outcomes than the bank declares. What was there stays
    """
    _check_period(period)
    data = _read(path)
    outcomes = _parse(path, data, encoding, definition)
    most = home.settings.outcomes_declared
    if len(outcomes) > most:
        raise OutcomesError(
            f"{path.name} has {len(outcomes)} outcomes, {most} are declared: raise"
            " `outcomes_declared` in coordinator.toml and import again. Nothing was imported.",
            f"{path.name} 含 {len(outcomes)} 条标签，申报 {most} 条：请提高 coordinator.toml 中的"
            " `outcomes_declared` 后重新导入。未导入任何数据。",
        )
    book = Book(
        definition.id,
        period,
        definition.digest,
        hashlib.sha256(data).hexdigest(),
        len(outcomes),
        time_text(home.now()),
    )
    bad = sum(outcomes.values())
    with writing(home.database) as connection:
        known = find_book(connection, definition.id, period)
        if known is not None and known.source == book.source:
            return Imported(known, bad, already=True)
        row = {name: getattr(book, name) for name in Book.__slots__}
        row["sealed"] = _seal(home, book, outcomes)
        new = insert(book_table).values(row)
        connection.execute(new.on_conflict_do_update(set_=row))
    return Imported(book, bad, already=False)


def books(connection: Connection, definition: str | None = None) -> list[Book]:
    """Return the books, or those by one definition, in order."""
    columns = (book_table.c[name] for name in Book.__slots__)
    query = select(*columns).order_by(book_table.c.definition, book_table.c.period)
    if definition is not None:
        query = query.where(book_table.c.definition == definition)
    return [Book(*row) for row in connection.execute(query)]


def find_book(connection: Connection, definition: str, period: str) -> Book | None:
    """Return the book of a period, if there is one."""
    found = (book for book in books(connection, definition) if book.period == period)
    return next(found, None)


def open_book(home: CoordinatorHome, connection: Connection, book: Book) -> dict[str, int]:
    """Return code -> label; OutcomesError if the book does not open with the bank's key."""
    sealed = connection.scalar(
        select(book_table.c.sealed).where(
            book_table.c.definition == book.definition, book_table.c.period == book.period
        )
    )
    assert sealed is not None, "the caller has found the book in this transaction"
    key = read_secret(_key_file(home))
    try:
        rows = decrypted(key, sealed, _purpose(book))
    except NotOpenedError as reason:
        raise OutcomesError(
            f"the outcomes of {book.definition}, {book.period or 'no period'}, do not open with"
            f" keys/{KEY_FILE}: restore that file from the backup, or import them again",
            f"{book.definition}（{book.period or '无期间'}）的标签无法以 keys/{KEY_FILE} 打开："
            "请从备份恢复该文件，或重新导入",
        ) from reason
    cut = (rows[start : start + _ROW] for start in range(0, len(rows), _ROW))
    return {row[:LENGTH].decode("ascii"): row[LENGTH] for row in cut}


def _seal(home: CoordinatorHome, book: Book, outcomes: Mapping[str, int]) -> bytes:
    path = _key_file(home)
    if not path.exists():
        write_private(path, secrets.token_bytes(SECRET_BYTES))
    rows = b"".join(code.encode("ascii") + bytes([label]) for code, label in outcomes.items())
    return encrypted(read_secret(path), rows, _purpose(book))


def _key_file(home: CoordinatorHome) -> Path:
    return home.path / "keys" / KEY_FILE


def _purpose(book: Book) -> bytes:
    return b"\x00".join(
        part.encode() for part in ("outcomes", book.definition, book.period, book.definition_hash)
    )


def _check_period(period: str) -> None:
    if len(period) > LONGEST_NAME or not (period.isprintable() and period == period.strip()):
        raise OutcomesError(
            f"A period is up to {LONGEST_NAME} characters in one line, such as 2025.",
            f"期间为单行文本，至多 {LONGEST_NAME} 个字符，如 2025。",
        )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LONGEST_FILE:
            raise OutcomesError(
                f"{path.name} has {size} bytes, at most {LONGEST_FILE} are read: leave out columns"
                " that are not needed.",
                f"{path.name} 为 {size} 字节，至多读取 {LONGEST_FILE} 字节：请去掉不需要的列。",
            )
        return path.read_bytes()
    except OSError as reason:
        raise OutcomesError(
            f"{path} cannot be read ({reason.strerror}): check the path.",
            f"无法读取 {path}（{reason.strerror}）：请检查路径。",
        ) from reason


def _parse(
    path: Path, data: bytes, encoding: Encoding, definition: LabelDefinition
) -> dict[str, int]:
    outcomes: dict[str, int] = {}
    faults: list[tuple[int, str]] = []
    number = 0
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, restval="")
        column = _column(path, reader.fieldnames or ())
        for number, row in enumerate(reader, start=1):
            code, label, fault = _outcome(row, column, definition)
            if not fault and outcomes.setdefault(code, label) != label:
                fault = "label.conflict"
            if fault:
                faults.append((number, fault))
    except (UnicodeDecodeError, csv.Error) as reason:
        raise OutcomesError(
            f"{path.name} is not a CSV file in {encoding}: save it again in that encoding.",
            f"{path.name} 不是 {encoding} 编码的 CSV 文件：请以该编码重新保存。",
        ) from reason
    if faults:
        raise _unusable(path, number, faults)
    return outcomes


def _column(path: Path, names: Sequence[str]) -> str:
    """Return which of the two columns says the outcome."""
    told = {"label", "days_overdue"}.intersection(names)
    if "enterprise" not in names or len(told) != 1 or len(set(names)) != len(names):
        raise OutcomesError(
            f"{path.name} must have a header with `enterprise` and either `label` or"
            " `days_overdue`, each name once. Nothing was imported.",
            f"{path.name} 须有表头，含 `enterprise` 以及 `label` 或 `days_overdue` 之一，"
            "列名不得重复。未导入任何数据。",
        )
    return told.pop()


def _outcome(
    row: Mapping[str, str], column: str, definition: LabelDefinition
) -> tuple[str, int, str]:
    """Return (code, label, "") of a row, or the rule that it breaks as the third."""
    code, told = (row[name].strip() for name in ("enterprise", column))
    try:
        check_code(code)
    except CodeError:
        return "", 0, "enterprise.code"
    if not (told.isascii() and told.isdecimal() and len(told) <= 6):
        return code, 0, f"{column}.type"
    if column == "days_overdue":
        return code, definition.label(int(told)), ""
    return (code, int(told), "") if told in ("0", "1") else (code, 0, "label.range")


def _unusable(path: Path, rows: int, faults: list[tuple[int, str]]) -> OutcomesError:
    number, _ = faults[0]
    counted = ", ".join(_counted(rule for _, rule in faults))
    return OutcomesError(
        f"{path.name}: {len(faults)} of {rows} rows cannot be used ({counted}), the first is row"
        f" {number}; correct the file. Nothing was imported.",
        f"{path.name}：{rows} 行中有 {len(faults)} 行不可用（{counted}），首个为第 {number} 行；"
        "请更正文件。未导入任何数据。",
    )


def _counted(rules: Iterable[str]) -> Iterator[str]:
    for rule, count in Counter(rules).most_common():
        yield f"{rule} {count}"
