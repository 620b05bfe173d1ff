"""V2 and V3: the notes of one log that the regulator cosigned, as a stream by size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hejin_regulator.notebook import Notebook
from hejin_trust.canonical import time_text
from hejin_trust.charter import Charter, Member
from hejin_trust.cosignature import Cosigned, open_cosigned, witness_name
from hejin_trust.errors import HejinError
from hejin_trust.export import WITNESS_FOLDER, LogName, witnessed
from hejin_trust.origins import internal_origin, release_origin


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint that the regulator cosigned.

    time  when, RFC 3339, by the regulator's clock
    file  where it stands
    """

    size: int
    root: bytes
    time: str
    file: str


class WitnessedNotes:
    """The cosigned notes of a log in the order of their sizes; a fork among them is named."""

    def __init__(
        self, folder: Path, charter: Charter, member: Member, log: LogName, notes: Notebook
    ) -> None:
        self.file = f"{WITNESS_FOLDER}/{member.id}.{log}.jsonl"
        self._folder, self._charter, self._member, self._log = folder, charter, member, log
        self._notes = notes
        name = release_origin if log == "release" else internal_origin
        self._origin = name(charter.consortium, member.role, member.id)
        self._last: Seen | None = None
        self._stream = self._read()
        self._next = next(self._stream, None)

    @property
    def next_size(self) -> int | None:
        """The size of the next note; None behind the last one."""
        return None if self._next is None else self._next.size

    def take(self) -> Seen:
        """Return the next note and go on."""
        assert self._next is not None, "next_size tells"
        seen, self._next = self._next, next(self._stream, None)
        return seen

    def take_final(self, note: str, size: int) -> None:
        """Take the member's own last note for a cosigned one, if it is newer and is cosigned."""
        if self._next is not None or (self._last is not None and self._last.size >= size):
            return
        try:
            cosigned = self._open(note)
        except HejinError:
            return  # what is not witnessed is told at the end
        self._accept(cosigned, f"{self._member.id}/{self._log}.checkpoint")

    def newest(self) -> int:
        """Return the largest size that was cosigned; reads the notes to their end."""
        while self._next is not None:
            self.take()
        return 0 if self._last is None else self._last.size

    def _read(self) -> Iterator[Seen]:
        number = 0
        try:
            for number, note in enumerate(witnessed(self._folder, self._member.id, self._log)):
                seen = self._accept(self._open(note), f"{self.file}:{number}")
                if seen is not None:
                    yield seen
        except HejinError as reason:
            self._notes.add_text(
                "V2", self._member.id, None, reason.text, evidence=(f"{self.file}:{number}",)
            )

    def _open(self, note: str) -> Cosigned:
        regulator = self._charter.regulator
        name = witness_name(self._charter.consortium, regulator.id)
        return open_cosigned(note, self._origin, self._member.log_key, name, regulator.log_key)

    def _accept(self, cosigned: Cosigned, file: str) -> Seen | None:
        """Return the note if it goes on from the last one; else None, and why is noted."""
        told, before = cosigned.checkpoint, self._last
        seen = Seen(told.size, told.root, time_text(cosigned.time), file)
        if before is not None and seen.size <= before.size:
            self._check_repeated(before, seen)
            return None
        if before is not None and seen.time < before.time:
            self._notes.add(
                "V3",
                self._charter.regulator.id,
                None,
                f"{seen.size} entries of {self._origin} were cosigned at {seen.time}, "
                f"{before.size} of them at {before.time}",
                f"{self._origin} 的 {seen.size} 条于 {seen.time} 会签，其中 {before.size} 条却于 "
                f"{before.time} 会签",
                evidence=(before.file, file),
            )
        self._last = seen
        self._notes.newest_cosigned = max(self._notes.newest_cosigned, seen.time)
        return seen if seen.size else None

    def _check_repeated(self, before: Seen, seen: Seen) -> None:
        if seen.size == before.size and seen.root != before.root:
            self._notes.add(
                "V2",
                self._member.id,
                None,
                f"{self._log} log: two different logs of {seen.size} entries were signed: a fork",
                f"{self._log} 日志：签署过两份不同的 {seen.size} 条日志：日志分叉",
                evidence=(before.file, seen.file),
            )
            return
        self._notes.add(
            "V2",
            self._charter.regulator.id,
            None,
            f"a note of {seen.size} entries of {self._origin} stands behind one of "
            f"{before.size}: the regulator's part of the export is not in order",
            f"{self._origin} 的 {seen.size} 条检查点排在 {before.size} 条之后："
            "监管方的导出部分顺序有误",
            evidence=(before.file, seen.file),
        )
