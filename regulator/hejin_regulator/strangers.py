"""V1: files of an export that belong to nobody hide something, or are of another export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hejin_regulator.evidence import Evidence
from hejin_regulator.history import charter_serials
from hejin_trust.export import CHARTERS_FOLDER, LOG_NAMES, WITNESS_FOLDER

_LOGS: Final = frozenset(
    f"{log}.{end}" for log in LOG_NAMES for end in ("jsonl", "checkpoint", "cosigned.jsonl")
)
_BANK: Final = frozenset({"rosters.jsonl", "rounds.jsonl"})


def check_strangers(evidence: Evidence) -> None:
    """Note every folder, and every file in a known folder, that no member accounts for.

    Single files beside the folders, such as a report, are left alone; so are the hidden parts of
    files whose writing was interrupted.
    """
    folder = evidence.folder
    members = {member.id: member.role for member in evidence.charter.members}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in (*members, CHARTERS_FOLDER, WITNESS_FOLDER):
            evidence.notes.add(
                "V1",
                _written(path.name)[:63],
                None,
                "the export holds logs of somebody who is not in the charter",
                "导出中含有章程之外成员的日志",
                evidence=(_written(path.name),),
            )
    owner = evidence.charter.regulator.id
    serials = charter_serials(folder)
    charters = {f"{serial}.json" for serial in serials if serial <= evidence.charter.serial}
    witness = {f"{member}.{log}.jsonl" for member in members for log in LOG_NAMES}
    _check(evidence, owner, folder / CHARTERS_FOLDER, charters)
    _check(evidence, owner, folder / WITNESS_FOLDER, witness)
    for member, role in members.items():
        known = _LOGS | _BANK if role == "bank" else _LOGS
        _check(evidence, member, folder / member, {*known, "documents"})


def check_documents(evidence: Evidence) -> None:
    """Note every document that no entry names; all logs must have been read."""
    evidence.workbook.change("CREATE INDEX named_file ON named (member, file)")
    for member in evidence.charter.members:
        for path in _files(evidence.folder / member.id / "documents"):
            named = evidence.workbook.row(
                "SELECT 1 FROM named WHERE member = ? AND file = ?", member.id, _written(path.name)
            )
            if named is None:
                _note(evidence, member.id, path)


def _check(evidence: Evidence, member: str, folder: Path, known: set[str]) -> None:
    for path in _files(folder):
        if path.name not in known:
            _note(evidence, member, path)


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _note(evidence: Evidence, member: str, path: Path) -> None:
    evidence.notes.add(
        "V1",
        member,
        None,
        f"the export holds a file that nobody accounts for: {_written(path.name)[:80]}",
        f"导出中有不属于任何成员的文件：{_written(path.name)[:80]}",
        evidence=(_written(str(path.relative_to(evidence.folder))),),
    )


def _written(name: str) -> str:
    """Return a name as text that can be written: to a disk, names are bytes."""
    return name.encode(errors="replace").decode()
