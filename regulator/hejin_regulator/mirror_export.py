"""The regulator's part of an export: charters, certificate status, cosigned heads, and logs.

DIR/charter.json, DIR/charters/SERIAL.json     as signed
DIR/certificates.json                          the signed certificate status list
DIR/witness/MEMBER.release.jsonl, .internal.jsonl   every cosigned head, oldest first, a JSON
                                               string a line: the note with both signatures
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from hejin_regulator.authority import Office
from hejin_regulator.mirror import LogMirror
from hejin_trust import canonical
from hejin_trust.database import reading
from hejin_trust.export import CHARTER_FILE, LOG_NAMES
from hejin_trust.files import FileError, replace_file, replace_stream
from hejin_trust.members import Member
from hejin_trust.stored_log import StoredLog

Progress = Callable[[str, int], None]
"""Told (file, lines written), now and then."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    heads   cosigned heads of each log, by origin
    logs    origins of the logs written from the mirror in their member's place
    """

    charters: int
    certificates: int
    heads: dict[str, int]
    logs: tuple[str, ...]

    def body(self) -> dict[str, object]:
        """Return this for `--json`."""
        return {
            "charters": self.charters,
            "certificates": self.certificates,
            "heads": self.heads,
            "logs": list(self.logs),
        }


def export(
    office: Office,
    mirror: LogMirror,
    folder: Path,
    at: datetime,
    *,
    with_logs: bool,
    progress: Progress,
) -> Exported:
    """Write the regulator's part to `folder`; files are replaced whole, never half.

    with_logs   also write, from the mirror, the logs that members have not exported to it: for a
                member that does not answer. What a member wrote is left as it is.
    raises      FileError, CharterError
    """
    status, signed = office.certificate_status(at)
    _make(folder / "charters")
    _make(folder / "witness")
    sealed = b""
    for charter in status.charters:
        name = f"{charter.serial}.json"
        sealed = (office.home / "charters" / name).read_bytes()
        replace_file(folder / "charters" / name, sealed)
    # The newest one of the list, whatever is admitted meanwhile.
    replace_file(folder / CHARTER_FILE, sealed)
    replace_file(folder / "certificates.json", signed)
    heads: dict[str, int] = {}
    logs: list[str] = []
    with reading(mirror.engine) as connection:
        for member in mirror.charters.current().members:
            for name, log in zip(LOG_NAMES, mirror.logs_of(member), strict=True):
                path = folder / "witness" / f"{member.id}.{name}.jsonl"
                heads[log.origin] = _write(path, _heads(connection, log), progress)
                if with_logs and _write_log(connection, folder, member, name, log, progress):
                    logs.append(log.origin)
    return Exported(len(status.charters), len(status.certificates), heads, tuple(logs))


def _heads(connection: Connection, log: StoredLog) -> Iterator[bytes]:
    for head in log.cosigned(connection):
        yield canonical.encode(head.note)


def _write_log(
    connection: Connection,
    folder: Path,
    member: Member,
    name: str,
    log: StoredLog,
    progress: Progress,
) -> bool:
    leaves = folder / member.id / f"{name}.jsonl"
    checkpoint = folder / member.id / f"{name}.checkpoint"
    newest = log.newest_cosigned(connection)
    if newest is None or leaves.exists() or checkpoint.exists():
        return False
    _make(leaves.parent)
    _write(leaves, log.entries(connection, 0, newest.size), progress)
    replace_file(checkpoint, newest.note.encode())
    return True


def _write(path: Path, lines: Iterable[bytes], progress: Progress) -> int:
    """Write one line each, counted; return how many."""
    count = 0

    def counted() -> Iterator[bytes]:
        nonlocal count
        for line in lines:
            yield line + b"\n"
            count += 1
            if count % 1000 == 0:
                progress(path.name, count)

    replace_stream(path, counted())
    return count


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise FileError(
            f"{folder} cannot be made ({reason.strerror}); check the path",
            f"无法创建 {folder}（{reason.strerror}）；请检查路径",
        ) from reason
