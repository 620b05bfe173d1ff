"""Values as DuckDB SQL writes them."""

from __future__ import annotations

from datetime import date


def literal(value: str | float | date) -> str:
    """Return a value so that SQL reads it as that value, whatever it holds."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"DATE '{value.isoformat()}'" if isinstance(value, date) else f"({value!r})"
