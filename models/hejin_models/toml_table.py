"""Reading TOML that people write: typed getters whose errors name the field."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hejin_trust.errors import HejinError
from hejin_trust.faults import syntax_fault
from hejin_trust.text import Text

MAX_FILE_BYTES: Final = 1 << 18

MAX_DOTS: Final = 200
"""In one line of a file: the reader's memory grows with the square of a dotted key's parts."""

MAX_BOUND: Final = 1e100
MIN_BOUND: Final = 1e-100
"""Numbers are 0 or of a size between: nothing that is computed from them overflows."""

_NOT_SHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of characters that are not to be seen."""

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")

Refusal = Callable[[str, str], HejinError]
"""Makes the error of one kind of file from its text in English and in Chinese."""


class Table:
    """A TOML table being read: typed getters that name the field in their complaint.

    what     the kind of file, for the complaints: "view", "视图"
    refusal  makes the error that they raise
    """

    def __init__(self, value: object, where: str, what: Text, refusal: Refusal) -> None:
        self._where, self._what, self._refusal = where, what, refusal
        self._read: set[str] = set()
        if not isinstance(value, dict):
            raise self._wrong(where, "must be a table", "应为表")
        self._value: dict[str, object] = value

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def field(self, key: str) -> str:
        """Return the whole name of a field of this table."""
        return f"{self._where}.{key}" if self._where else key

    def wrong(self, key: str, en: str, zh: str) -> HejinError:
        """Return the complaint about one field, or about the table itself with key ""."""
        return self._wrong(self.field(key) if key else self._where, en, zh)

    def get(self, key: str) -> object:
        """Return a field as it stands."""
        self._read.add(key)
        if key not in self._value:
            raise self.wrong(key, "is missing", "缺失")
        return self._value[key]

    def text(self, key: str) -> str:
        """Return a text that is not empty."""
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "must be a text that is not empty", "应为非空文本")
        return value

    def name(self, key: str, pattern: re.Pattern[str] = NAME) -> str:
        """Return a text that matches the pattern as a whole."""
        value = self.text(key)
        if not pattern.fullmatch(value):
            raise self.wrong(key, f"must match {pattern.pattern}", f"应符合 {pattern.pattern}")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return one of `choices`."""
        value = self.text(key)
        if value not in choices:
            listed = ", ".join(choices)
            raise self.wrong(key, f"must be one of {listed}", f"应为 {listed} 之一")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false; `default` where the field is not there."""
        value = self.get(key) if key in self else default
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false", "应为 true 或 false")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Return a whole number from low to high."""
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(
                key,
                f"must be a whole number from {low} to {high}",
                f"应为 {low} 至 {high} 的整数",
            )
        return value

    def number(self, key: str) -> float:
        """Return a number of a size that can be computed with."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, "must be a number", "应为数值")
        # Not true of NaN either; a whole number of any size compares, but may be no float.
        if not (value == 0 or MIN_BOUND <= abs(value) <= MAX_BOUND):
            raise self.wrong(
                key,
                f"must be finite: 0, or of a size from {MIN_BOUND:g} to {MAX_BOUND:g}",
                f"应为有限数值：0，或绝对值在 {MIN_BOUND:g} 至 {MAX_BOUND:g} 之间",
            )
        return float(value)

    def date(self, key: str) -> dt.date:
        """Return a date: TOML's own, or a text such as "2020-01-31"."""
        value = self.get(key)
        if isinstance(value, str):
            try:
                return dt.date.fromisoformat(value)
            except ValueError:
                pass
        elif type(value) is dt.date:
            return value
        raise self.wrong(key, 'must be a date such as "2020-01-31"', '应为日期，例如 "2020-01-31"')

    def shown(self, key: str) -> str:
        """Return a text that people read before they agree to it: it is what a terminal shows.

        Control characters would move the cursor, format characters turn or hide what is written.
        """
        value = self.text(key)
        if any(unicodedata.category(c) in _NOT_SHOWN and c not in "\n\r\t" for c in value):
            raise self.wrong(
                key,
                "has control or format characters, which a terminal shows as something else",
                "含控制字符或格式字符，终端显示会与实际内容不符",
            )
        return value

    def both(self) -> Text:
        """Return the fields `en` and `zh`."""
        return Text(self.shown("en"), self.shown("zh"))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "must be a list of texts", "应为文本列表")
        return tuple(value)

    def table(self, key: str) -> Table:
        """Return a table within this one."""
        return self.within(self.get(key), self.field(key))

    def tables(self) -> list[tuple[str, Table]]:
        """Return all fields, each of which must be a table."""
        self._read.update(self._value)
        return [(key, self.within(value, self.field(key))) for key, value in self._value.items()]

    def listed(self, key: str) -> list[Table]:
        """Return a list of tables, written as [[key]]."""
        value = self.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, f"must be written as [[{key}]]", f"应写为 [[{key}]]")
        return [self.within(item, f"{self.field(key)}[{i}]") for i, item in enumerate(value)]

    def within(self, value: object, where: str) -> Table:
        """Return another table of the same file, which stands at `where`."""
        return Table(value, where, self._what, self._refusal)

    def whole(self) -> dict[str, object]:
        """Return all fields as they stand: for a part that another module reads."""
        self._read.update(self._value)
        return self._value

    def close(self) -> None:
        """Refuse fields that nothing has read."""
        unknown = sorted(set(self._value) - self._read)
        if unknown:
            raise self.wrong(
                unknown[0],
                f"is not a field of a {self._what.en}: remove it or correct its spelling",
                f"不是{self._what.zh}的字段：请删除或更正拼写",
            )

    def _wrong(self, field: str, en: str, zh: str) -> HejinError:
        shown = field if len(field) <= 200 else f"{field[:200]}..."
        return self._refusal(
            f"{self._what.en} field `{shown}` {en}", f"{self._what.zh}字段 `{shown}` {zh}"
        )


def read_toml(data: bytes, what: Text, refusal: Refusal) -> Table:
    """Return the whole document in a file's bytes; raises what `refusal` makes."""
    if len(data) > MAX_FILE_BYTES:
        raise refusal(
            f"a {what.en} file may have {MAX_FILE_BYTES} bytes, this one has {len(data)}",
            f"{what.zh}文件最多 {MAX_FILE_BYTES} 字节，此文件为 {len(data)} 字节",
        )
    if any(line.count(b".") > MAX_DOTS for line in data.split(b"\n")):
        raise refusal(
            f"a line of the {what.en} file has more than {MAX_DOTS} dots: break the line",
            f"{what.zh}文件有一行含 {MAX_DOTS} 个以上的点号：请换行书写",
        )
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as reason:
        said = syntax_fault(reason)
        raise refusal(
            f"the {what.en} file is not valid TOML: {said.en}",
            f"{what.zh}文件不是有效的 TOML：{said.zh}",
        ) from reason
    return Table(document, "", what, refusal)
