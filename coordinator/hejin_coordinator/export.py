"""The bank's part of an export: its ledgers, plans and views, and what proves each round.

DIR/<bank>/release.jsonl ...          both logs and their checkpoints, see hejin_trust.export
DIR/<bank>/documents/<digest>.json    each plan, and the regulator's approvals of recoveries
DIR/<bank>/documents/<sha256>.view    the feature view of each plan
DIR/<bank>/rosters.jsonl              of each masked run: the keys and certificates of its nodes
DIR/<bank>/rounds.jsonl               in the order of the `result` and `burn` entries: the query,
                                      the survivor set that was asked for, and the votes on it
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import Connection

from hejin_coordinator import recovery, roster, store
from hejin_coordinator.home import CoordinatorHome
from hejin_privacy.mechanism import MAX_NODES
from hejin_trust import canonical
from hejin_trust.database import reading
from hejin_trust.export import ExportError, write_export
from hejin_trust.files import replace_file
from hejin_trust.fleet import unpack

ROSTERS, ROUNDS = "rosters.jsonl", "rounds.jsonl"


def export(home: CoordinatorHome, folder: Path) -> Path:
    """Write the bank's part of an export below `folder`; return the bank's own folder there.

    raises   ExportError, FileError, StorageError; every file is replaced whole, never half
    """
    own = folder / home.member_id
    with reading(home.database) as connection:
        write_export(
            folder,
            home.member_id,
            connection,
            home.release_log,
            home.internal_log,
            _documents(home, connection),
        )
        for _, _, view in store.documents(connection):
            name = f"{hashlib.sha256(view).hexdigest()}.view"
            replace_file(own / "documents" / name, view)
        _write_lines(own / ROSTERS, _rosters(connection))
        _write_lines(own / ROUNDS, _rounds(home, connection))
    return own


def _documents(home: CoordinatorHome, connection: Connection) -> Iterator[tuple[str, bytes]]:
    for digest, envelope, _ in store.documents(connection):
        yield digest, envelope
    for path in sorted((home.path / recovery.FOLDER).glob("*.json")):
        yield path.stem, path.read_bytes()


def _rosters(connection: Connection) -> Iterator[dict[str, object]]:
    for run, plan, made in roster.rosters(connection):
        yield {
            "run": run,
            "plan": plan,
            "keyads": _texts(unpack(made.keyads, MAX_NODES)),
            "certificates": _texts(unpack(made.certificates, MAX_NODES)),
        }


def _rounds(home: CoordinatorHome, connection: Connection) -> Iterator[dict[str, object]]:
    for entry in home.release_log.of_type(connection, "result", "burn"):
        run, number = str(entry.body["run"]), entry.body["round"]
        assert isinstance(number, int)
        found = store.find_round(connection, run, number)
        if found is None:
            continue  # lost with the database before a recovery: the regulator finds it missing
        yield {
            "run": run,
            "round": number,
            "query": _text(found.query),
            "survivors": _text(found.asked or b""),
            "votes": _texts(unpack(found.votes or b"", MAX_NODES)),
        }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _texts(parts: Sequence[bytes]) -> list[str]:
    return [_text(part) for part in parts]


def _write_lines(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write one canonical object a line as the rows come; the file is replaced at the end."""
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("wb") as file:
            for row in rows:
                file.write(canonical.encode(row) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as reason:
        raise ExportError(
            f"{path} cannot be written ({reason.strerror}): check folder and space.",
            f"无法写入 {path}（{reason.strerror}）：请检查目录和磁盘空间。",
        ) from reason
