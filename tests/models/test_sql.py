"""SQL literals are read by DuckDB as the values that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hejin_models.sql import literal


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.one_of(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        st.dates(min_value=date(1900, 1, 1)),
        st.integers(-(2**62), 2**62),
        st.floats(-1e100, 1e100, allow_subnormal=False),
    )
)
def test_a_literal_is_the_value(
    connection: duckdb.DuckDBPyConnection, value: str | float | date
) -> None:
    (found,) = connection.execute(f"SELECT {literal(value)}").fetchone() or ()
    assert (float(found) if isinstance(value, float) else found) == value


def test_a_quote_ends_no_text(connection: duckdb.DuckDBPyConnection) -> None:
    assert literal("it's") == "'it''s'"
    told = "'; DROP TABLE source; --"
    assert connection.execute(f"SELECT {literal(told)}").fetchone() == (told,)
