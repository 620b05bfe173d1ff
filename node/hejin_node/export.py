"""A node's part of an export: both ledgers, and the regulator's approvals of its recoveries."""

from __future__ import annotations

from pathlib import Path

from hejin_node.home import NodeHome
from hejin_node.recovery import FOLDER
from hejin_trust.database import reading
from hejin_trust.export import write_export


def export(home: NodeHome, folder: Path) -> Path:
    """Write the node's part to `folder`/`member` and return that; ExportError, FileError."""
    approvals = [
        (path.stem, path.read_bytes()) for path in sorted((home.path / FOLDER).glob("*.json"))
    ]
    with reading(home.database) as connection:
        write_export(
            folder, home.member_id, connection, home.release_log, home.internal_log, approvals
        )
    return folder / home.member_id
