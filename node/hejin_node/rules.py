"""A mapping's rules as DuckDB SQL: typed rows, and for each bad row the first rule it broke."""

from __future__ import annotations

from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hejin_models.sql import literal
from hejin_models.uscc import LENGTH, valid_codes
from hejin_node.duck import interruptible
from hejin_node.errors import IngestError
from hejin_node.mapping import ColumnRule, SourceMapping

LONGEST_CODE: Final = 64
_SQL: Final = {"text": "VARCHAR", "number": "DOUBLE", "integer": "BIGINT", "date": "DATE"}


class Checker:
    """Checks a source's tables one after the other, in order.

    rows  that were checked before, for the number of the next one

    The first rule that a row breaks names it: `enterprise.code`, `<column>.type`, `.required`,
    `.range`, `.allowed`, and `enterprise.duplicate` where an enterprise may have one row.
    """

    def __init__(
        self, mapping: SourceMapping, connection: duckdb.DuckDBPyConnection, rows: int = 0
    ) -> None:
        self._mapping = mapping
        self._connection = connection
        self._sql: str | None = None
        self._row = rows + 1
        if mapping.unique:
            connection.execute("CREATE TABLE seen (code VARCHAR)")

    def know(self, codes: pa.Array) -> None:
        """Take note of enterprises that the data set has already."""
        self._connection.register("known", pa.table({"code": codes}))
        self._connection.execute("INSERT INTO seen SELECT code FROM known")

    def check(self, table: pa.Table) -> pa.Table:
        """Return the rows typed, in order, with `_row` (from 1), `_rule` (or null) and `_odd`.

        table  the mapping's `sources` columns as they come from the file
        _odd   how many values of the row were NaN or infinite, and are missing now
        raises IngestError, which quotes no value
        """
        if self._sql is None:
            _refuse_nested(table.schema)
            self._sql = _query(self._mapping, table.schema)
        codes = _codes(table.column(self._mapping.enterprise))
        right = _code_ok(codes.dictionary, self._mapping)[codes.indices.to_numpy()]
        columns = {
            "_row": pa.array(np.arange(self._row, self._row + table.num_rows)),
            "_code": codes.dictionary_decode(),
            "_code_ok": pa.array(right),
        }
        for i, name in _numbered(self._mapping):
            raw = _plain(table.column(name))
            columns[f"r{i}"] = raw
            # All Unicode spaces: spreadsheets leave no-break and ideographic ones behind.
            columns[f"s{i}"] = pc.utf8_trim_whitespace(raw) if _is_text(raw.type) else raw
        self._row += table.num_rows
        try:
            with interruptible():
                self._connection.register("source", pa.table(columns))
                checked = self._connection.sql(self._sql).to_arrow_table()
            if self._mapping.unique:
                self.know(checked.filter(pc.is_null(checked["_rule"])).column("enterprise"))
        except duckdb.Error as reason:
            kind = type(reason).__name__
            raise IngestError(
                f"The rows could not be checked ({kind}); nothing was loaded. Split the file, or "
                "correct the mapping.",
                f"数据检查失败（{kind}），未载入任何数据。请拆分文件或更正映射文件。",
            ) from None
        return checked


def _numbered(mapping: SourceMapping) -> list[tuple[int, str]]:
    return list(enumerate(mapping.sources))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    return pc.cast(column, kind.value_type) if pa.types.is_dictionary(kind) else column


def _refuse_nested(schema: pa.Schema) -> None:
    for field in schema:
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            raise IngestError(
                f"Column {field.name} is of type {field.type}; a column must hold single texts, "
                "numbers or dates. Nothing was loaded.",
                f"列 {field.name} 的类型为 {field.type}；列应为单个文本、数值或日期。"
                "未载入任何数据。",
            )


def _codes(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Return the codes without spaces around, "" where missing: each is then judged once."""
    coded = (
        pc.cast(_plain(column), pa.string())
        .combine_chunks()
        .dictionary_encode(null_encoding="encode")
    )
    texts = pc.fill_null(pc.utf8_trim_whitespace(coded.dictionary), "")
    return pa.DictionaryArray.from_arrays(coded.indices, texts)


def _code_ok(codes: pa.Array, mapping: SourceMapping) -> npt.NDArray[np.bool_]:
    lengths = pc.binary_length(codes).to_numpy(zero_copy_only=False)
    found = np.zeros(len(codes), dtype=np.bool_)
    if mapping.check == "text":
        missing = pc.is_in(codes, pa.array(mapping.missing, pa.string()))
        found[:] = (lengths > 0) & (lengths <= LONGEST_CODE)
        found[missing.to_numpy(zero_copy_only=False)] = False
        return found
    right = lengths == LENGTH
    octets = "".join(codes.filter(pa.array(right)).to_pylist()).encode("utf-8")
    found[right] = valid_codes(np.frombuffer(octets, dtype=np.uint8).reshape(-1, LENGTH))
    return found


def _query(mapping: SourceMapping, schema: pa.Schema) -> str:
    place = {name: i for i, name in _numbered(mapping)}
    text_sources = {name for name in mapping.sources if _is_text(schema.field(name).type)}
    texts, values, rules, odd, final = [], [], [], [], []
    for i, column in enumerate(mapping.columns):
        if column.source is None:
            fixed = literal(column.constant) if column.constant else f"NULL::{_SQL[column.type]}"
            final.append(f"{fixed} AS {_quoted(column.name)}")
            continue
        kept = "s" if column.strip or column.type != "text" else "r"
        source, is_text = f"{kept}{place[column.source]}", column.source in text_sources
        texts.append(f"{_text(source, mapping, is_text)} AS t{i}")
        values.append(f"{_value(source, f't{i}', column, is_text)} AS v{i}")
        final.append(f"{_final(f'v{i}', column)} AS {_quoted(column.name)}")
        rules += _rules(f"t{i}", f"v{i}", column)
        if column.type in ("number", "integer"):
            value = f"v{i}" if column.type == "number" else f"TRY_CAST(t{i} AS DOUBLE)"
            odd.append(f"coalesce(NOT isfinite({value}), false)::INTEGER")
    cases = " ".join(["WHEN NOT _code_ok THEN 'enterprise.code'", *rules])
    rule = f"CASE {cases} END"
    outer, order = "_rule", ""
    if mapping.unique:
        outer = (
            "CASE WHEN _rule IS NOT NULL THEN _rule WHEN enterprise IN (SELECT code FROM seen) OR "
            "row_number() OVER (PARTITION BY enterprise, _rule IS NULL ORDER BY _row) > 1 "
            "THEN 'enterprise.duplicate' END AS _rule"
        )
        order = " ORDER BY _row"
    # Names match [a-z0-9_] and texts are quoted: nothing of the mapping is read as SQL.
    return (
        f"WITH texts AS (SELECT *, {', '.join([*texts, 'NULL AS t_'])} FROM source), "  # noqa: S608
        f"typed AS (SELECT *, {', '.join([*values, 'NULL AS v_'])} FROM texts), "
        f"checked AS (SELECT _row, _code AS enterprise, {', '.join(final)}, "
        f"{' + '.join(odd) or '0'} AS _odd, {rule} AS _rule FROM typed) "
        f"SELECT * EXCLUDE (_rule), {outer} FROM checked{order}"
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _text(source: str, mapping: SourceMapping, is_text: bool) -> str:
    """SQL of the value as text, NULL where it is missing."""
    if not is_text:
        return f"CAST({source} AS VARCHAR)"
    missing = ", ".join(map(literal, mapping.missing))
    return f"CASE WHEN {source} IN ({missing}) THEN NULL ELSE {source} END"


def _value(source: str, text: str, column: ColumnRule, is_text: bool) -> str:
    """SQL of the typed value, NULL where it is missing or no such value."""
    if column.type == "text":
        cases = "".join(
            f" WHEN {literal(old)} THEN {literal(new)}"
            for old, new in (column.translate or {}).items()
        )
        return f"CASE {text}{cases} ELSE {text} END" if cases else text
    if column.type == "date":
        formats = ", ".join(map(literal, column.formats))
        parsed = f"CAST(try_strptime({text}, [{formats}]) AS DATE)"
        return parsed if is_text else f"coalesce(TRY_CAST({text} AS DATE), {parsed})"
    # DuckDB reads "1_000" and "0x1F" as numbers and rounds "1.5" to a whole one: none is meant.
    number = f"CASE WHEN contains({text}, '_') THEN NULL ELSE TRY_CAST({text} AS DOUBLE) END"
    if column.type == "number":
        return number if is_text else f"TRY_CAST({source} AS DOUBLE)"
    whole = f"TRY_CAST({text if is_text else source} AS BIGINT)"
    return f"CASE WHEN CAST({whole} AS DOUBLE) = ({number}) THEN {whole} END"


def _final(value: str, column: ColumnRule) -> str:
    return f"CASE WHEN isfinite({value}) THEN {value} END" if column.type == "number" else value


def _rules(text: str, value: str, column: ColumnRule) -> list[str]:
    found: list[tuple[str, str]] = []
    if column.type == "integer":
        # NaN is a missing whole number, not a malformed one.
        found.append(
            (
                "type",
                f"{value} IS NULL AND {text} IS NOT NULL "
                f"AND coalesce(isfinite(TRY_CAST({text} AS DOUBLE)), true)",
            )
        )
    elif column.type != "text":
        found.append(("type", f"{value} IS NULL AND {text} IS NOT NULL"))
    kept = _final(value, column)
    if column.required:
        found.append(("required", f"{kept} IS NULL"))
    limits = [
        f"{kept} {sign} {literal(bound)}"
        for sign, bound in (("<", column.minimum), (">", column.maximum))
        if bound is not None
    ]
    if limits:
        found.append(("range", " OR ".join(limits)))
    if column.allowed:
        found.append(("allowed", f"{kept} NOT IN ({', '.join(map(literal, column.allowed))})"))
    return [f"WHEN {condition} THEN '{column.name}.{rule}'" for rule, condition in found]


def _quoted(name: str) -> str:
    return f'"{name}"'
