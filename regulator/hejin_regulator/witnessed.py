"""V2 and V3: the notes of one log that the regulator cosigned, as a stream by size.

They are in the regulator's part of an export and, as far as the member kept them, in the member's:
each bears the regulator's signature, so that a mirror that was restored from a backup accuses
nobody.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hejin_regulator.notebook import Notebook
from hejin_trust.canonical import time_text
from hejin_trust.charter import Charter, Member
from hejin_trust.checkpoint import CheckpointError, signature_lines, split_note
from hejin_trust.cosignature import Cosigned, open_cosigned, witness_name
from hejin_trust.errors import HejinError
from hejin_trust.export import WITNESS_FOLDER, LogName, read_notes
from hejin_trust.origins import internal_origin, release_origin


def origin_of(charter: Charter, member: Member, log: LogName) -> str:
    """Return the origin that a member's checkpoints must name."""
    name = release_origin if log == "release" else internal_origin
    return name(charter.consortium, member.role, member.id)


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


@dataclass(frozen=True, slots=True)
class _Kept:
    """A note that the member kept, with what it claims; not verified yet."""

    size: int
    root: bytes
    time: str
    note: str
    file: str


class WitnessedNotes:
    """The cosigned notes of a log in the order of their sizes; a fork among them is named."""

    def __init__(
        self, folder: Path, charter: Charter, member: Member, log: LogName, notes: Notebook
    ) -> None:
        self.file = f"{WITNESS_FOLDER}/{member.id}.{log}.jsonl"
        self._kept_file = f"{member.id}/{log}.cosigned.jsonl"
        self._folder, self._charter, self._member, self._log = folder, charter, member, log
        self._notes = notes
        self._origin = origin_of(charter, member, log)
        self._newest = 0
        self._stream = self._merged()
        self._next = next(self._stream, None)

    @property
    def next_size(self) -> int | None:
        """The size of the next note; None behind the last one."""
        return None if self._next is None else self._next.size

    def take(self) -> Seen:
        """Return the next note and go on."""
        assert self._next is not None, "next_size tells"
        seen, self._next = self._next, next(self._stream, None)
        self._newest = seen.size
        return seen

    def take_final(self, note: str, size: int) -> None:
        """Take the member's own last note for a cosigned one, if it is newer and is cosigned."""
        if self._next is not None or self._newest >= size:
            return
        try:
            self._told(self._open(note), f"{self._member.id}/{self._log}.checkpoint")
        except HejinError:
            return  # what is not witnessed is told at the end
        self._newest = size

    def newest(self) -> int:
        """Return the largest size that was cosigned; reads the notes to their end."""
        while self._next is not None:
            self.take()
        return self._newest

    def _merged(self) -> Iterator[Seen]:
        """Yield the notes of both parts, one of each size: the one that was cosigned first.

        What the member kept is verified only where it says more than the regulator's part.
        """
        kept = self._kept()
        own = next(kept, None)
        for seen in self._regulators():
            while own is not None and own.size < seen.size:
                yield from self._verified(own)
                own = next(kept, None)
            first = seen
            if own is not None and own.size == seen.size:
                first = self._first(seen, own)
                own = next(kept, None)
            yield first
        while own is not None:
            yield from self._verified(own)
            own = next(kept, None)

    def _first(self, seen: Seen, own: _Kept) -> Seen:
        """Return the earlier one of two notes of one size; two different trees are a fork."""
        if own.root == seen.root and own.time >= seen.time:
            return seen
        for told in self._verified(own):
            if told.root != seen.root:
                self._fork(seen, told)
            elif told.time < seen.time:
                return told
        return seen

    def _regulators(self) -> Iterator[Seen]:
        """Yield the notes of the regulator's part, in order."""
        last: Seen | None = None
        number = 0
        try:
            for number, note in enumerate(read_notes(self._folder / self.file)):
                seen = self._told(self._open(note), f"{self.file}:{number}")
                if last is not None and seen.size <= last.size:
                    self._check_repeated(last, seen)
                    continue
                if last is not None and seen.time < last.time:
                    self._went_back(last, seen)
                last = seen
                if seen.size:
                    yield seen
        except HejinError as reason:
            self._notes.add_text(
                "V2", self._member.id, None, reason.text, evidence=(f"{self.file}:{number}",)
            )

    def _kept(self) -> Iterator[_Kept]:
        """Yield the notes that the member kept, in order."""
        path, last, number = self._folder / self._kept_file, 0, 0
        if not path.exists():
            return
        try:
            for number, note in enumerate(read_notes(path)):
                kept = _claimed(note, f"{self._kept_file}:{number}")
                if kept.size <= last:
                    self._out_of_order(last, kept.file)
                    continue
                last = kept.size
                yield kept
        except HejinError as reason:
            self._notes.add_text(
                "V2", self._member.id, None, reason.text, evidence=(f"{self._kept_file}:{number}",)
            )

    def _verified(self, own: _Kept) -> Iterator[Seen]:
        """Yield a note that the member kept, if it bears both signatures."""
        try:
            yield self._told(self._open(own.note), own.file)
        except HejinError as reason:
            self._notes.add_text("V2", self._member.id, None, reason.text, evidence=(own.file,))

    def _open(self, note: str) -> Cosigned:
        regulator = self._charter.regulator
        name = witness_name(self._charter.consortium, regulator.id)
        return open_cosigned(note, self._origin, self._member.log_key, name, regulator.log_key)

    def _told(self, cosigned: Cosigned, file: str) -> Seen:
        told = cosigned.checkpoint
        seen = Seen(told.size, told.root, time_text(cosigned.time), file)
        self._notes.newest_cosigned = max(self._notes.newest_cosigned, seen.time)
        return seen

    # -- what is wrong -------------------------------------------------------------------

    def _check_repeated(self, before: Seen, seen: Seen) -> None:
        if seen.size == before.size and seen.root != before.root:
            self._fork(before, seen)
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

    def _fork(self, before: Seen, seen: Seen) -> None:
        self._notes.add(
            "V2",
            self._member.id,
            None,
            f"{self._log} log: two different logs of {seen.size} entries were signed: a fork",
            f"{self._log} 日志：签署过两份不同的 {seen.size} 条日志：日志分叉",
            evidence=(before.file, seen.file),
        )

    def _went_back(self, before: Seen, seen: Seen) -> None:
        self._notes.add(
            "V3",
            self._charter.regulator.id,
            None,
            f"{seen.size} entries of {self._origin} were cosigned at {seen.time}, "
            f"{before.size} of them at {before.time}",
            f"{self._origin} 的 {seen.size} 条于 {seen.time} 会签，其中 {before.size} 条却于 "
            f"{before.time} 会签",
            evidence=(before.file, seen.file),
        )

    def _out_of_order(self, last: int, file: str) -> None:
        self._notes.add(
            "V2",
            self._member.id,
            None,
            f"{self._log} log: a cosigned note that the member kept stands behind one of {last} "
            "entries: export the member again",
            f"{self._log} 日志：成员保存的一份会签检查点排在 {last} 条的检查点之后："
            "请重新导出该成员",
            evidence=(file,),
        )


def _claimed(note: str, file: str) -> _Kept:
    """Return what a note says of itself; of one that is malformed, what will not be believed."""
    with suppress(CheckpointError, ValueError, IndexError, OverflowError):
        text, tail = split_note(note)
        _, size, root, *_ = text.split("\n")
        # The log's own signature comes first, the cosignature last: C2SP tlog-cosignature.
        _, _, data = signature_lines(tail)[-1]
        stamp = datetime.fromtimestamp(int.from_bytes(data[:8], "big"), UTC)
        return _Kept(int(size), base64.b64decode(root), time_text(stamp), note, file)
    return _Kept(0, b"", "", note, file)
