"""Invoices by the million: exactly as many as asked for, always the same, and all usable."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hejin_models.schemas import shipped_schemas
from hejin_models.uscc import check_code
from hejin_sandbox.bulk import invoice_batches


@pytest.mark.parametrize("rows", [0, 1, 123_456, 300_000])
def test_exactly_the_rows_asked_for_come_batch_by_batch(rows: int) -> None:
    sizes = [batch.num_rows for batch in invoice_batches(rows, 1)]
    assert sum(sizes) == rows
    assert all(0 < size < 200_000 for size in sizes)


def test_no_enterprise_is_in_two_batches_and_all_codes_are_right() -> None:
    first, second = (set(b.column("enterprise").to_pylist()) for b in invoice_batches(200_000, 1))
    assert not first & second
    for code in [*first][:50]:
        check_code(code)


def test_the_columns_are_the_data_sets() -> None:
    batch = next(invoice_batches(1000, 1))
    assert batch.schema.names == ["enterprise", *shipped_schemas()["invoices"].columns]


def test_a_seed_fixes_every_row() -> None:
    first, again, other = (pa.table(next(invoice_batches(1000, s)).to_pydict()) for s in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
