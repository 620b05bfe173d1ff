"""What a run reads: one row of cells and one label per authorised enterprise, under one root."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hejin_models.features import FeatureView
from hejin_node.errors import ViewFailedError
from hejin_node.warehouse import Warehouse
from hejin_trust.canonical import encode
from hejin_trust.merkle import leaf_hash, root_of
from hejin_trust.text import Text

_SALT_BYTES: Final = 16
_USABLE: Final = (
    pa.types.is_string,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_boolean,
    pa.types.is_null,
)

LEAST_SECONDS = 30.0
"""For a view's SQL, however short the bank's deadline: 10M invoices take 2 s on two cores."""
MOST_SECONDS = 600.0
"""However long the deadline: nobody has so many rows, and the bank's session waits meanwhile."""


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """Whose outcomes, by which versioned definition of a bad one."""

    bank: str
    definition: str

    @property
    def dataset(self) -> str:
        """The name under which the warehouse keeps these labels."""
        return f"{self.bank}/{self.definition}"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The rows of a run. They never leave the node; the root and the schema hash do.

    codes     enterprise codes, ascending, each once
    cells     int32[n, F]: the cell of each feature of the view
    labels    int8[n]: 1 bad, 0 good
    root      32 bytes, see `snapshot_root`
    schema    hex SHA-256 of what the columns mean
    replaced  how many values were missing or not finite and fell into the missing cell
    rowless   codes that have a label and no row of the view; only known when it was taken
    """

    codes: tuple[str, ...]
    cells: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int8]
    root: bytes
    schema: str
    replaced: int
    rowless: frozenset[str] = frozenset()


def view_seconds(deadline: int) -> float:
    """Return how long a view's SQL may take where the bank waits `deadline` seconds for an answer.

    Half of it, so that the answer still comes in time, within the bounds above.
    """
    return min(max(deadline / 2, LEAST_SECONDS), MOST_SECONDS)


def take_snapshot(
    warehouse: Warehouse,
    view: FeatureView,
    label: LabelSpec,
    entitled: Collection[str],
    salt_key: bytes,
    as_of: date | None = None,
    seconds: float = LEAST_SECONDS,
) -> Snapshot:
    """Read what a plan may use, once.

    entitled  codes that are authorised; no other enterprise's row is even shown to the SQL
    salt_key  32 random bytes of this snapshot
    as_of     value of the view's parameter $as_of
    seconds   how long the view's SQL may take
    raises    ViewFailedError: the rows break the SQL, it does not end over them, or gives what
              cannot be used; QueryError, SegmentError: about the SQL or the files, whatever the
              rows are

    An enterprise without a label, or without a row of the view, stays out. One to which the SQL
    gives several rows has every feature missing: a rule that looks at that enterprise alone.
    """
    outcomes = _outcomes(warehouse, label, entitled)
    table = warehouse.query(
        view.source, view.datasets, as_of, enterprises=outcomes.keys(), seconds=seconds
    )
    fault = result_fault(view, table.schema)
    if fault is not None:  # it came after the rows were read: by now only noise tells nothing
        raise ViewFailedError(fault.en, fault.zh)
    found = table.column("enterprise").to_pylist()
    place: dict[str, int] = {}
    repeated: set[str] = set()
    for row, code in enumerate(found):
        if code in place:
            repeated.add(code)
        elif code in outcomes:
            place[code] = row
    codes = tuple(sorted(place))
    chosen = table.take(pa.array([place[code] for code in codes], pa.int64()))
    cells, replaced = _cells(view, chosen)
    if repeated:
        again = np.fromiter((code in repeated for code in codes), np.bool_, len(codes))
        cells[again] = [feature.grid.cells - 1 for feature in view.features]
        replaced += len(repeated) * len(view.features)
    labels = np.fromiter((outcomes[code] for code in codes), np.int8, len(codes))
    return Snapshot(
        codes,
        cells,
        labels,
        snapshot_root(codes, cells, labels, salt_key),
        schema_hash(view, label),
        replaced,
        frozenset(outcomes.keys() - place.keys()),
    )


def result_fault(view: FeatureView, schema: pa.Schema) -> Text | None:
    """Return what is wrong with the columns that a view's SQL gives; None if nothing is.

    Only texts, numbers and booleans: of other types some values cannot be read (a UNION that
    holds a list, a date after the year 9999), and whether one is there would show.
    """
    for name in ("enterprise", *(feature.name for feature in view.features)):
        places = schema.get_all_field_indices(name)
        if not places:
            return Text(
                f"The SQL of view {view.id} gives no column {name}: add it to `source`.",
                f"特征视图 {view.id} 的 SQL 未给出列 {name}：请在 `source` 中补上。",
            )
        if len(places) > 1:
            return Text(
                f"The SQL of view {view.id} gives column {name} {len(places)} times: correct its"
                " `source`.",
                f"特征视图 {view.id} 的 SQL 给出 {len(places)} 个名为 {name} 的列："
                "请更正其 `source`。",
            )
        kind = schema.field(places[0]).type
        if name == "enterprise" and not pa.types.is_string(kind):
            return Text(
                f"The SQL of view {view.id} gives an `enterprise` that is no text: give the code"
                " as it stands in the data.",
                f"特征视图 {view.id} 的 SQL 给出的 `enterprise` 不是文本：请原样给出企业代码。",
            )
        if not any(is_one(kind) for is_one in _USABLE):
            return Text(
                f"The SQL of view {view.id} gives a column {name} that is neither text, number nor"
                " boolean: cast it in `source`.",
                f"特征视图 {view.id} 的 SQL 给出的列 {name} 不是文本、数字或布尔值："
                "请在 `source` 中转换类型。",
            )
    return None


def no_rows(view: FeatureView, label: LabelSpec, salt_key: bytes) -> Snapshot:
    """Return the snapshot of a node without rows; the view's SQL is not run.

    It could break on no rows as well, and the bank would learn whether there are any.
    """
    cells, labels = np.zeros((0, len(view.features)), np.int32), np.zeros(0, np.int8)
    root = snapshot_root((), cells, labels, salt_key)
    return Snapshot((), cells, labels, root, schema_hash(view, label), 0)


def snapshot_root(
    codes: Collection[str],
    cells: npt.NDArray[np.int32],
    labels: npt.NDArray[np.int8],
    salt_key: bytes,
) -> bytes:
    """Return the RFC 6962 root over a salt and one salted leaf per enterprise, in the order given.

    The bank sees it in the proof of its charge. The first leaf, the salt of nobody, makes it look
    the same where there is no enterprise: the root of nothing would be known to everybody.

    leaf = salt (16 bytes) | code (UTF-8) | 0x00 | cells (int32, little-endian) | label (int8),
    salt = first 16 bytes of HMAC-SHA-256(salt_key, code). The salt key is
    not kept: once the rows are gone, nobody can try codes and values against the root.
    """
    rows = np.ascontiguousarray(cells, dtype="<i4")
    outcomes = np.ascontiguousarray(labels, dtype=np.int8)
    leaves = [leaf_hash(_salt(salt_key, b""))]
    for code, row, outcome in zip(codes, rows, outcomes, strict=True):
        name = code.encode("utf-8")
        parts = (_salt(salt_key, name), name, b"\0", row.tobytes(), outcome.tobytes())
        leaves.append(leaf_hash(b"".join(parts)))
    return root_of(leaves)


def _salt(key: bytes, name: bytes) -> bytes:
    return hmac.digest(key, name, "sha256")[:_SALT_BYTES]


def schema_hash(view: FeatureView, label: LabelSpec) -> str:
    """Return the hex SHA-256 of what a snapshot's columns mean: view, features, cells, label."""
    meaning = {
        "v": 1,
        "view": view.digest,
        "features": [[feature.name, feature.grid.cells] for feature in view.features],
        "label": {"bank": label.bank, "definition": label.definition},
    }
    return hashlib.sha256(encode(meaning)).hexdigest()


def _outcomes(warehouse: Warehouse, label: LabelSpec, entitled: Collection[str]) -> dict[str, int]:
    """Return the labels of the entitled enterprises."""
    wanted = entitled if isinstance(entitled, (set, frozenset, dict)) else frozenset(entitled)
    found: dict[str, int] = {}
    for batch in warehouse.read("labels", label.dataset):
        pairs = zip(
            batch.column("enterprise").to_pylist(), batch.column("label").to_pylist(), strict=True
        )
        found.update((code, bad) for code, bad in pairs if code in wanted)
    return found


def _cells(view: FeatureView, table: pa.Table) -> tuple[npt.NDArray[np.int32], int]:
    columns: dict[str, npt.NDArray[np.generic]] = {}
    replaced = 0
    for feature in view.features:
        columns[feature.name], missing = _values(table.column(feature.name))
        replaced += missing
    return view.cells(columns), replaced


def _values(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.generic], int]:
    """Return a result column as numpy (null -> NaN or None) and how many entries are no value."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers: npt.NDArray[np.float64] = pc.cast(column, pa.float64(), safe=False).to_numpy()
        return numbers, int(np.count_nonzero(~np.isfinite(numbers)))
    if not pa.types.is_string(kind):
        return column.to_numpy(zero_copy_only=False), column.null_count
    # Each distinct text once: a copy of "CA" for every enterprise would fill the node's memory.
    coded = column.combine_chunks().dictionary_encode()
    texts = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
    places = coded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
    return texts[places], column.null_count
