"""What an authorisation allows: parsed once, coherent from then on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, NoReturn, cast, get_args

from hejin_models.features import Category
from hejin_node.errors import ConsentError
from hejin_trust.authorisation import ANY, OUTCOME
from hejin_trust.canonical import DocumentError, time_from, time_text

Purpose = Literal["model-training", "credit-approval", "post-loan-monitoring"]
Grade = Literal["A", "B"]
_CATEGORIES: Final = frozenset({*get_args(Category), OUTCOME})
_BANK = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FEATURE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_HASH = re.compile(r"[0-9a-f]{64}")


def _refuse(field: str, en: str, zh: str) -> NoReturn:
    raise ConsentError(f"Authorisation: `{field}` {en}.", f"授权：`{field}` {zh}。")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a signed document allows; a value that exists is coherent (ISO/IEC TS 27560 fields).

    document    lower-case hex SHA-256 of what was signed: A the record, B the paper as scanned
    grade       A: signed by the enterprise's own key; B: attested by the operator
    banks       member ids, or ("*",) for every bank; likewise features and categories, beside
                which OUTCOME may stand
    valid_from  first moment, aware; valid_to is the first moment after it, both whole seconds
    """

    document: str
    grade: Grade
    purposes: tuple[Purpose, ...]
    banks: tuple[str, ...]
    categories: tuple[str, ...]
    features: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime

    def __post_init__(self) -> None:
        if not _HASH.fullmatch(self.document):
            _refuse(
                "document",
                "must be 64 lower-case hex digits (SHA-256)",
                "应为 64 位小写十六进制（SHA-256）",
            )
        if self.grade not in get_args(Grade):
            _refuse("grade", "must be A or B", "应为 A 或 B")
        _check_list("purposes", self.purposes, get_args(Purpose).__contains__, wild=False)
        _check_list("banks", self.banks, _BANK.fullmatch)
        _check_list("categories", self._data, _CATEGORIES.__contains__)
        _check_list("features", self.features, _FEATURE.fullmatch)
        if self.valid_from >= self.valid_to:
            _refuse("valid_to", "must be later than `valid_from`", "应晚于 `valid_from`")

    @property
    def _data(self) -> tuple[str, ...]:
        """The categories, without the outcome where it stands beside all of the data."""
        return (ANY,) if sorted(self.categories) == [ANY, OUTCOME] else self.categories

    @property
    def ordered(self) -> Terms:
        """The same terms, each list sorted: as they are recorded."""
        return replace(
            self,
            purposes=tuple(sorted(self.purposes)),
            banks=tuple(sorted(self.banks)),
            categories=tuple(sorted(self.categories)),
            features=tuple(sorted(self.features)),
        )


def read_terms(
    *,
    document: str,
    grade: str,
    purposes: Iterable[str],
    banks: Iterable[str],
    categories: Iterable[str],
    features: Iterable[str],
    valid_from: str,
    valid_to: str,
) -> Terms:
    """Return the terms that a person wrote as texts; raises ConsentError naming the field."""
    return Terms(
        document,
        cast("Grade", grade),
        cast("tuple[Purpose, ...]", tuple(purposes)),
        tuple(banks),
        tuple(categories),
        tuple(features),
        _moment("valid_from", valid_from),
        _moment("valid_to", valid_to),
    )


def _moment(field: str, value: str) -> datetime:
    try:
        return parse_day(value)
    except DocumentError:
        _refuse(
            field,
            "must be YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ of the years 2000 to 9998",
            "应为 2000 至 9998 年的 YYYY-MM-DD 或 YYYY-MM-DDTHH:MM:SSZ",
        )


def parse_day(value: str) -> datetime:
    """Return the UTC moment of `YYYY-MM-DD` (its start) or of an RFC 3339 UTC time.

    raises   DocumentError for another form, or a time that no document may name
    """
    with suppress(ValueError):
        value = time_text(datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC))
    return time_from(value)


def _check_list(
    field: str, values: Sequence[str], allowed: Callable[[str], object], *, wild: bool = True
) -> None:
    if wild and tuple(values) == (ANY,):
        return
    if not values or len(set(values)) != len(values) or not all(map(allowed, values)):
        also = ' or "*" alone' if wild else ""
        auch = '，或仅 "*"' if wild else ""
        _refuse(field, f"must list known names, each once{also}", f"应列出有效名称，且不重复{auch}")
