"""Authorisations in bulk: a CSV file in, and the same out."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from hejin_models.errors import CodeError
from hejin_models.uscc import check_code
from hejin_node.consent import Authorisation, Grant
from hejin_node.errors import ConsentError
from hejin_node.mapping import Encoding
from hejin_node.record import Record, parse_record
from hejin_node.signed import Signed, signature_from
from hejin_node.terms import Terms, read_terms
from hejin_trust.authorisation import SCOPES
from hejin_trust.canonical import DocumentError, hexbytes, time_text

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

SIGNED_COLUMNS: Final = ("key", "key_evidence", "signature", "record")
"""Further columns, all or none of them, which only rows of grade A fill.

key (hex) and key_evidence (SHA-256, hex) register the key; signature is base64; record is the text
of record.json, or empty where the form was made at this node.
"""

Find = Callable[[str], Record | None]
"""Gives the record of a hash, where it is known here."""


def read_grants(path: Path, encoding: Encoding = "utf-8", find: Find | None = None) -> list[Grant]:
    """Return the grants of a bulk CSV file, or none of them.

    The header is CSV_COLUMNS, or those and SIGNED_COLUMNS.
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
    known = (set(CSV_COLUMNS), {*CSV_COLUMNS, *SIGNED_COLUMNS})
    if not rows or set(rows[0]) not in known:
        raise ConsentError(
            f"{path} must have rows and exactly the columns {', '.join(CSV_COLUMNS)}, for grade A "
            f"also {', '.join(SIGNED_COLUMNS)}.",
            f"{path} 须有数据行，且列恰为 {'、'.join(CSV_COLUMNS)}，"
            f"A 级另加 {'、'.join(SIGNED_COLUMNS)}。",
        )
    return _parse_rows(rows, find)


def grants_csv(grants: Iterable[tuple[Authorisation, Signed | None]]) -> str:
    """Return authorisations as a bulk file that `read_grants` reads, header included."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*CSV_COLUMNS, *SIGNED_COLUMNS))
    for one, signed in grants:
        terms = one.terms
        scopes = (";".join(getattr(terms, name)) for name in SCOPES)
        times = (time_text(terms.valid_from), time_text(terms.valid_to))
        writer.writerow(
            (one.code, terms.document, terms.grade, *scopes, *times, *_signed_cells(signed))
        )
    return out.getvalue()


def _signed_cells(signed: Signed | None) -> tuple[str, ...]:
    if signed is None:
        return ("",) * len(SIGNED_COLUMNS)
    signature = base64.b64encode(signed.signature).decode()
    return signed.key.hex(), signed.evidence, signature, signed.record.raw.decode()


def _parse_rows(rows: Sequence[Mapping[str, str]], find: Find | None) -> list[Grant]:
    grants: list[Grant] = []
    known: dict[tuple[str, ...], Terms] = {}
    failures: list[tuple[int, ConsentError | CodeError]] = []
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        words = tuple(row[name].strip() for name in CSV_COLUMNS)
        try:
            _check_width(row, width)
            check_code(words[0])
            if words[1:] not in known:
                known[words[1:]] = _terms(words)
            terms = known[words[1:]]
            grants.append(Grant(words[0], terms, _signed(row, terms, find)))
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


def _check_width(row: Mapping[str, str], width: int) -> None:
    if len(row) != width:
        raise ConsentError("It has more values than the header.", "值的个数多于表头。")


def _signed(row: Mapping[str, str], terms: Terms, find: Find | None) -> Signed | None:
    """Return what makes a row one of grade A; nothing for B, whose cells must be empty."""
    cells = {name: row.get(name, "").strip() for name in SIGNED_COLUMNS}
    if terms.grade == "B":
        if any(cells.values()):
            raise ConsentError(
                "A row of grade B fills none of the columns of a signature.",
                "B 级授权不填写签名各列。",
            )
        return None
    record = parse_record(cells["record"].encode()) if cells["record"] else None
    if record is None and find is not None:
        record = find(terms.document)
    if record is None or record.terms.document != terms.document:
        raise ConsentError(
            "`document` must be the hash of the form's record.json: give its text in column "
            "`record`, or import where the form was made.",
            "`document` 应为表单 record.json 的哈希：请在 `record` 列给出其内容，"
            "或在制作该表单的节点导入。",
        )
    return Signed(
        record,
        _hex(cells["key"], "key"),
        signature_from(cells["signature"]),
        _hex(cells["key_evidence"], "key_evidence").hex() if cells["key_evidence"] else "",
    )


def _hex(text: str, name: str) -> bytes:
    try:
        return hexbytes({name: text}, name, 32)
    except DocumentError as reason:
        raise ConsentError(
            f"`{name}` must be 64 lower-case hex digits.", f"`{name}` 应为 64 位小写十六进制。"
        ) from reason


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
