"""The one way a signed document is written as bytes, and the strict way it is read back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache
from typing import NoReturn

import rfc8785

from hejin_trust.errors import HejinError

LARGEST_INTEGER = 2**53 - 1
"""Beyond it JSON readers in other languages lose digits (RFC 8785 section 3.2.2.3)."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""Documents name times from the one to before the other.

Years on either side leave room for what is added to and taken from a time.
"""

MOST_DIGITS = 400
"""Longest numerator or denominator that is read: keeps hostile rationals cheap."""

# Hours end at 23: newer Pythons would take 24:00:00 for the next day's midnight.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}Z")
_NUMERATOR = re.compile(r"0|-?[1-9][0-9]*")
_DENOMINATOR = re.compile(r"[1-9][0-9]*")
_DEEPEST_WRITTEN = 64
_WRITER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class DocumentError(HejinError):
    """A document is not in the one accepted form, or a field is missing or out of range."""

    code = "bad-document"


def refuse(en: str, zh: str) -> NoReturn:
    """Raise DocumentError for a reason given in both languages, without its data."""
    raise DocumentError(
        f"the document is refused: {en}; ask its sender for a correct one",
        f"文件被拒绝：{zh}；请发送方重新提供",
    )


def _check_value(value: object, levels: int) -> bool:
    """Raise unless `value` is strings, safe integers, booleans, and <= `levels` of containers.

    Return whether its field names sort alike by code points and, as RFC 8785 section 3.2.3
    asks, by UTF-16 units: so it is with ASCII names.
    """
    if isinstance(value, (str, bool)):
        return True
    if isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            refuse("an integer is 2^53 or larger", "整数达到或超过 2^53")
        return True
    plain = True
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                refuse("a field name is not a string", "字段名不是字符串")
            plain = plain and key.isascii()
        inner: Iterable[object] = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    else:
        kind = type(value).__name__
        refuse(f"a value of type {kind} is not allowed", f"不允许 {kind} 类型的值")
    if levels == 0:
        refuse("it is nested too deeply", "嵌套层数过多")
    for item in inner:
        plain = _check_value(item, levels - 1) and plain
    return plain


def encode(value: object) -> bytes:
    """Return `value` as RFC 8785 (JCS) bytes.

    value    strings, booleans, integers with |i| < 2^53, lists, tuples, and dicts
             with string keys; no floats and no null, at most 64 levels
    raises   DocumentError for anything else
    """
    try:
        if _check_value(value, _DEEPEST_WRITTEN):
            # Eight times as fast; a property test holds it to the library's bytes.
            return _WRITER.encode(value).encode()
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except ValueError as reason:  # a lone surrogate
        raise DocumentError(
            "the document is refused: a text is not valid Unicode; correct the text",
            "文件被拒绝：文本不是有效的 Unicode；请更正文本",
        ) from reason


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        refuse("a field occurs twice", "字段重复")
    return found


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 17 else LARGEST_INTEGER + 1
    if abs(value) > LARGEST_INTEGER:
        refuse("an integer is 2^53 or larger", "整数达到或超过 2^53")
    return value


def _no_float(_: str) -> NoReturn:
    refuse("it holds a number that is not an integer", "含有非整数的数字")


_READER = json.JSONDecoder(parse_float=_no_float, parse_int=_integer, parse_constant=_no_float)


def _decode_plain(data: bytes, max_depth: int) -> dict[str, object] | None:
    """Return the object in an ordinary document, or None: then all of `decode` has to look at it.

    Four times as fast, because the canonical form is compared by a C encoder and no value is
    visited: a document of few brackets is not nested deeply, one without the letters "null" holds
    none, and in ASCII the order of field names is no question. A duplicate field is lost in
    decoding, so that the document comes out shorter than it was.
    """
    if not data.isascii() or data.count(b"{") + data.count(b"[") > max_depth or b"null" in data:
        return None
    text = data.decode("ascii")
    try:
        value: object = _READER.decode(text)
    except ValueError:
        return None
    if isinstance(value, dict) and _WRITER.encode(value) == text:
        return value
    return None


def decode(data: bytes, *, max_bytes: int = 1 << 20, max_depth: int = 16) -> dict[str, object]:
    """Return the object that `data` encodes, if `data` is its one accepted encoding.

    data       RFC 8785 bytes with an object at the top
    max_bytes  longest accepted document, in bytes
    max_depth  most nested containers, the outer object included
    raises     DocumentError: too long, too deep, not UTF-8, not JSON, a duplicate field,
               a float, null, an integer of 2^53 or more, or any other spelling of the document
    """
    if len(data) > max_bytes:
        refuse(f"it has {len(data)} bytes, at most {max_bytes} are read", f"超过 {max_bytes} 字节")
    plain = _decode_plain(data, max_depth)
    if plain is not None:
        return plain
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_no_float,
            parse_int=_integer,
            parse_constant=_no_float,
        )
    except RecursionError as reason:
        raise DocumentError(
            "the document is refused: it is nested too deeply; ask its sender for a correct one",
            "文件被拒绝：嵌套层数过多；请发送方重新提供",
        ) from reason
    except ValueError as reason:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DocumentError(
            "the document is refused: it is not JSON in UTF-8; ask its sender for a correct one",
            "文件被拒绝：不是 UTF-8 编码的 JSON；请发送方重新提供",
        ) from reason
    if not isinstance(value, dict):
        refuse("it is not a JSON object", "不是 JSON 对象")
    _check_value(value, max_depth)
    if encode(value) != data:
        refuse("it is not in canonical form (RFC 8785)", "不是规范形式（RFC 8785）")
    return value


def closed(body: Mapping[str, object], *keys: str) -> None:
    """Raise DocumentError unless the fields of `body` are exactly `keys`."""
    if len(body) == len(keys) and all(map(body.__contains__, keys)):
        return
    unknown = [key for key in body if key not in keys]
    if unknown:
        refuse(f"it has {len(unknown)} unknown field(s)", f"含有 {len(unknown)} 个未知字段")
    missing = [key for key in keys if key not in body]
    if missing:
        refuse(f"field {', '.join(missing)} is missing", f"缺少字段 {'、'.join(missing)}")


def _wrong(key: str, en: str, zh: str) -> NoReturn:
    refuse(f"field {key} {en}", f"字段 {key} {zh}")


def text(body: Mapping[str, object], key: str, *, longest: int = 4096) -> str:
    """Return the string `body[key]`, at most `longest` characters; raises DocumentError."""
    value = body.get(key)
    if not isinstance(value, str):
        _wrong(key, "is not a text", "不是文本")
    if len(value) > longest:
        _wrong(key, f"is longer than {longest} characters", f"超过 {longest} 个字符")
    return value


def integer(
    body: Mapping[str, object], key: str, low: int = -LARGEST_INTEGER, high: int = LARGEST_INTEGER
) -> int:
    """Return the integer `body[key]` with low <= value <= high; raises DocumentError."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        _wrong(key, "is not an integer", "不是整数")
    if not low <= value <= high:
        _wrong(key, f"is outside {low}..{high}", f"不在 {low}..{high} 之内")
    return value


def flag(body: Mapping[str, object], key: str) -> bool:
    """Return the boolean `body[key]`; raises DocumentError."""
    value = body.get(key)
    if not isinstance(value, bool):
        _wrong(key, "is not true or false", "不是布尔值")
    return value


def hexbytes(body: Mapping[str, object], key: str, length: int) -> bytes:
    """Return the `length` bytes that lower-case hex `body[key]` spells; raises DocumentError."""
    value = body.get(key)
    if isinstance(value, str) and len(value) == 2 * length:
        with suppress(ValueError):
            found = bytes.fromhex(value)
            # It reads capitals and spaces too, but writes neither.
            if found.hex() == value:
                return found
    _wrong(key, f"is not {length} bytes in lower-case hex", f"不是 {length} 字节的小写十六进制")


def child(body: Mapping[str, object], key: str) -> dict[str, object]:
    """Return the object `body[key]`; raises DocumentError."""
    value = body.get(key)
    if not isinstance(value, dict):
        _wrong(key, "is not an object", "不是对象")
    return value


def items(body: Mapping[str, object], key: str) -> list[object]:
    """Return the list `body[key]`; raises DocumentError."""
    value = body.get(key)
    if not isinstance(value, list):
        _wrong(key, "is not a list", "不是列表")
    return value


def texts(body: Mapping[str, object], key: str, *, longest: int = 4096) -> tuple[str, ...]:
    """Return the list of strings `body[key]`; raises DocumentError."""
    found = items(body, key)
    return tuple(text({key: item}, key, longest=longest) for item in found)


def objects(body: Mapping[str, object], key: str) -> tuple[dict[str, object], ...]:
    """Return the list of objects `body[key]`; raises DocumentError."""
    return tuple(child({key: item}, key) for item in items(body, key))


def fraction_body(value: Fraction) -> dict[str, str]:
    """Return an exact rational as {"num", "den"} in decimal digits, in lowest terms."""
    return {"num": str(value.numerator), "den": str(value.denominator)}


def fraction_from(body: object) -> Fraction:
    """Return the rational that `fraction_body` wrote.

    raises   DocumentError unless it is in lowest terms with den > 0 and at most 400 digits each
    """
    if not isinstance(body, Mapping):
        refuse("a rational number is not {num, den}", "有理数不是 {num, den} 形式")
    closed(body, "num", "den")
    return _rational(text(body, "num", longest=MOST_DIGITS), text(body, "den", longest=MOST_DIGITS))


@lru_cache(maxsize=4096)
def _rational(num: str, den: str) -> Fraction:
    """Return num/den; ledgers repeat what one sum costs at every node."""
    if not _NUMERATOR.fullmatch(num) or not _DENOMINATOR.fullmatch(den):
        refuse("a rational number is not written in digits", "有理数不是十进制数字")
    value = Fraction(int(num), int(den))
    if value.denominator != int(den):
        refuse("a rational number is not in lowest terms", "有理数不是最简分数")
    return value


def fraction(body: Mapping[str, object], key: str) -> Fraction:
    """Return the rational `body[key]`; raises DocumentError."""
    return fraction_from(child(body, key))


def time_text(moment: datetime) -> str:
    """Return an aware `moment` as RFC 3339 UTC seconds, such as 2026-11-22T20:00:00Z."""
    # strftime writes years before 1000 with fewer digits, which would sort after all others.
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def time_from(value: str) -> datetime:
    """Return the UTC moment that `time_text` wrote.

    raises   DocumentError: another form, before `EARLIEST`, or not before `LATEST`
    """
    if _TIME.fullmatch(value):
        try:
            # Ten times as fast as strptime, which whoever reads a ledger would feel.
            moment = datetime.fromisoformat(value[:-1]).replace(tzinfo=UTC)
        except ValueError:
            pass
        else:
            if EARLIEST <= moment < LATEST:
                return moment
            refuse("a time is outside the years 2000 to 9998", "时间不在 2000 至 9998 年之内")
    refuse("a time is not RFC 3339 UTC seconds", "时间不是 RFC 3339 UTC 秒格式")


def time_field(body: Mapping[str, object], key: str) -> str:
    """Return the time `body[key]`, checked to be RFC 3339 UTC seconds; raises DocumentError.

    These strings have one length and sort as the moments they name.
    """
    value = text(body, key, longest=20)
    time_from(value)
    return value
