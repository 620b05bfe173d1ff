"""A node's data side without a consortium: database, internal log, warehouse."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from sqlalchemy import Engine

from hejin_node.home import MIGRATIONS
from hejin_node.warehouse import Warehouse
from hejin_trust.database import open_database
from hejin_trust.keys import SigningKey
from hejin_trust.log import Log

if TYPE_CHECKING:
    from hostile_bank import HostileBank

KEY = bytes(range(32))


@dataclass
class Data:
    """What `ingest`, `consent`, `labels` and `snapshot` work on."""

    folder: Path
    database: Engine
    log: Log
    warehouse: Warehouse

    def file(self, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    def rows(self, dataset: str, kind: str = "data") -> list[dict[str, object]]:
        """Return all rows; data by enterprise, and those of one enterprise in their order."""
        batches = list(self.warehouse.read(kind, dataset))  # type: ignore[arg-type]
        rows = pa.Table.from_batches(batches).to_pylist() if batches else []
        return sorted(rows, key=lambda row: row["enterprise"]) if kind == "data" else rows


@pytest.fixture(autouse=True)
def every_refusal_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that an earlier test asked for less than a minute ago."""
    monkeypatch.setattr("hejin_trust.worth_logging.WINDOW_SECONDS", 0.0)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "node.db"
    open_database(path, MIGRATIONS).dispose()
    return path


@pytest.fixture
def data(tmp_path: Path, empty_database: Path) -> Iterator[Data]:
    shutil.copy(empty_database, tmp_path / "node.db")
    database = open_database(tmp_path / "node.db", MIGRATIONS)
    warehouse = Warehouse(tmp_path / "warehouse", KEY, database, KEY)
    log = Log("hejin/test/node/n1/internal", "n1", SigningKey.generate())
    yield Data(tmp_path, database, log, warehouse)
    database.dispose()


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileBank]:
    """A hostile bank before five real nodes: founding them costs seconds."""
    from hostile_checks import found

    with ExitStack() as stack:
        yield found(tmp_path_factory.mktemp("hostile"), stack)
