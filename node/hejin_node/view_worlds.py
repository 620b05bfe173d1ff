"""Random rows to try a feature view on: plausible by its schemas, around an as-of date.

Every value is generated; nothing of the node's own data is looked at.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hejin_models.features import ColumnType, Dataset, FeatureView
from hejin_models.schemas import Schema, SchemaColumn
from hejin_models.uscc import make_code
from hejin_node.segments import arrow_schema

ENTERPRISES: Final = 10
_MOST_ROWS: Final = 24  # of one enterprise in one data set
_DAYS_BACK, _DAYS_AHEAD = 900, 400
_NEAR: Final = 40
_MISSING: Final = 0.1
_LETTERS: Final = ("a", "b", "c", "d")
_DIGITS: Final = ("0", "1", "2", "3", "10")
_LITERAL: Final = re.compile(r"'((?:[^']|'')*)'")

Tables = Mapping[str, pa.Table]


@dataclass(frozen=True, slots=True)
class Kind:
    """What cannot be known of a data set without schema, tried in turn.

    single  it has one row an enterprise
    digits  its texts are numbers
    """

    single: bool
    digits: bool


KINDS: Final = (Kind(False, False), Kind(True, False), Kind(False, True), Kind(True, True))


class World:
    """Rows of all data sets that a view reads, at random, as they might be known long after.

    tables(...) gives them with the columns that the view declares: all of them, as they were known
    on the as-of date, of some enterprises only, or in another order.
    """

    def __init__(
        self,
        view: FeatureView,
        schemas: Mapping[str, Schema],
        as_of: dt.date,
        seed: int,
        kind: Kind,
    ) -> None:
        self._view, self._schemas, self._as_of, self._kind = view, schemas, as_of, kind
        self._rng = np.random.default_rng([seed])
        self.codes = tuple(make_code(i) for i in range(ENTERPRISES))
        literals = [text.replace("''", "'") for text in _LITERAL.findall(view.source)]
        self._words = tuple(dict.fromkeys((*(_DIGITS if kind.digits else _LETTERS), *literals)))
        self._whole = {dataset.name: self._rows(dataset) for dataset in view.datasets}

    def tables(
        self,
        *,
        known: bool = False,
        codes: Sequence[str] | None = None,
        shuffled: bool = False,
    ) -> Tables:
        """Return the data sets.

        known     only what was known on the as-of date
        codes     only rows of these enterprises
        shuffled  in another order
        """
        return {
            dataset.name: self._shown(dataset, known=known, codes=codes, shuffled=shuffled)
            for dataset in self._view.datasets
        }

    def _shown(
        self, dataset: Dataset, *, known: bool, codes: Sequence[str] | None, shuffled: bool
    ) -> pa.Table:
        table = self._whole[dataset.name]
        if known:
            table = self._known(dataset, table)
        if codes is not None:
            table = table.filter(pc.is_in(table.column("enterprise"), pa.array(codes, pa.string())))
        if shuffled:
            order = np.random.default_rng(table.num_rows).permutation(table.num_rows)
            table = table.take(pa.array(order))
        return table.select(["enterprise", *dataset.columns])

    def _known(self, dataset: Dataset, table: pa.Table) -> pa.Table:
        """Return what of a data set was known on the as-of date.

        By its schema: rows from their time on, values from their `known_on` on. Without one, a row
        is known from the last of its dates on, if the view uses $as_of at all.
        """
        schema = self._schemas.get(dataset.name)
        if schema is None:
            if self._view.uses_as_of:
                for name, kind in dataset.columns.items():
                    if kind == "date":
                        table = table.filter(self._past(table.column(name), null=True))
            return table
        if schema.time:
            times = table.column(schema.time)
            if schema.period == "month":
                months = times.to_numpy().astype("datetime64[M]")
                times = pa.array((months + 1).astype("datetime64[D]") - 1, pa.date32())
            table = table.filter(self._past(times, null=False))
        whole = table
        for name in table.column_names[1:]:
            column = schema.columns.get(name)
            if column is not None and column.known_on:
                past = self._past(whole.column(column.known_on), null=False)
                place = table.column_names.index(name)
                kept = pc.if_else(past, whole.column(name), pa.scalar(None, whole[name].type))
                table = table.set_column(place, name, kept)
        return table

    def _past(self, days: pa.ChunkedArray | pa.Array, *, null: bool) -> pa.ChunkedArray:
        return pc.fill_null(pc.less_equal(days, pa.scalar(self._as_of, pa.date32())), null)

    def _rows(self, dataset: Dataset) -> pa.Table:
        schema = self._schemas.get(dataset.name)
        of_schema = {} if schema is None else schema.columns
        types: dict[str, ColumnType] = {
            **{name: column.type for name, column in of_schema.items()},
            **dataset.columns,
        }
        if self._kind.single and schema is None:
            counts = np.ones(ENTERPRISES, dtype=np.int64)
        else:
            counts = self._rng.integers(0, _MOST_ROWS + 1, ENTERPRISES)
        who = self._rng.permutation(np.repeat(np.arange(ENTERPRISES), counts))
        columns = {"enterprise": pa.array([self.codes[i] for i in who], pa.string())}
        for name, kind in types.items():
            columns[name] = self._column(kind, of_schema.get(name), who)
        return pa.table(columns, schema=arrow_schema({"enterprise": "text", **types}))

    def _column(
        self, kind: ColumnType, column: SchemaColumn | None, who: npt.NDArray[np.int64]
    ) -> pa.Array:
        size = len(who)
        missing = np.zeros(size, dtype=np.bool_)
        if column is None or not column.required:
            missing = self._rng.random(size) < _MISSING
        if kind == "text":
            words = column.allowed if column is not None and column.allowed else self._words
            return pa.array(self._rng.choice(words, size), pa.string(), mask=missing)
        if kind == "date":
            offset = self._offsets(size)
            # All that the first enterprise ever did is yet to come: that it exists is not known.
            offset = np.where(who == 0, np.abs(offset) + 1, offset)
            days = np.datetime64(self._as_of, "D") + offset.astype("timedelta64[D]")
            return pa.array(days, pa.date32(), mask=missing)
        numbers = self._numbers(column, size)
        if kind == "integer":
            return pa.array(np.rint(numbers).astype(np.int64), pa.int64(), mask=missing)
        return pa.array(numbers, pa.float64(), mask=missing)

    def _offsets(self, size: int) -> npt.NDArray[np.int64]:
        """Return days from the as-of date on: a third within weeks of it, a sixth right at it."""
        far = self._rng.integers(-_DAYS_BACK, _DAYS_AHEAD + 1, size)
        near = self._rng.integers(-_NEAR, _NEAR + 1, size)
        edge = self._rng.integers(-1, 2, size)
        share = self._rng.random(size)
        return np.where(share < 1 / 6, edge, np.where(share < 1 / 2, near, far))

    def _numbers(self, column: SchemaColumn | None, size: int) -> npt.NDArray[np.float64]:
        """Return numbers of a schema's range: evenly in a narrow one, else of all sizes."""
        low = -1e6 if column is None or column.minimum is None else float(column.minimum)  # type: ignore[arg-type]
        high = 1e7 if column is None or column.maximum is None else float(column.maximum)  # type: ignore[arg-type]
        if high - low <= 1000:
            return self._rng.uniform(low, high, size)
        sizes = 10 ** self._rng.uniform(0, 6, size)
        negative = (low < 0) & (self._rng.random(size) < 0.15)
        return np.clip(np.where(negative, -sizes, sizes), low, high)
