"""What the mirror cosigns: the consistency rules of C2SP tlog-witness, over entries it can read.

Pure: what is held of a log and what a member sends, in; the entries to store, or a refusal, out.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hejin_trust.canonical import time_text
from hejin_trust.checkpoint import (
    Checkpoint,
    CheckpointError,
    key_id,
    open_checkpoint,
    signature_lines,
    split_note,
)
from hejin_trust.entries import Entry, EntryError, parse
from hejin_trust.errors import RefusedError
from hejin_trust.merkle import Frontier, ProofError, check_consistency, leaf_hash
from hejin_trust.mirroring import LogUpdate

MOST_ENTRIES: Final = 10_000
MOST_BYTES: Final = 4 << 20
"""What one message may bring, both logs together: about a second's work. Members send half."""

AHEAD: Final = timedelta(seconds=120)
"""A clock may be so far ahead of the regulator's (LEDGER section 5, V3)."""

MOST_PROOF: Final = 63
"""Longest consistency proof that is read (C2SP tlog-witness, add-checkpoint)."""


class WitnessRefusedError(RefusedError):
    """The mirror stores nothing of a message and cosigns nothing.

    evidence   the member's signed note where its signature held: what it cannot deny; else ""
    """

    code = "witness-refused"

    def __init__(self, en: str, zh: str, evidence: str = "") -> None:
        super().__init__(en, zh)
        self.evidence = evidence


class UnknownLogError(WitnessRefusedError):
    """A log is not one of the calling member's two."""

    code = "witness-unknown-log"


class CheckpointRefusedError(WitnessRefusedError):
    """A checkpoint is malformed, or not signed by the log's key."""

    code = "witness-checkpoint-invalid"


class SizeDiffersError(WitnessRefusedError):
    """The member believes that the mirror holds another number of entries than it does."""

    code = "witness-size-differs"


class ForkError(WitnessRefusedError):
    """The member signed another tree of a size that the mirror has stored: its log was forked."""

    code = "witness-fork"


class ConsistencyError(WitnessRefusedError):
    """The consistency proof does not lead from what the mirror holds to the checkpoint."""

    code = "witness-proof-invalid"


class EntriesDifferError(WitnessRefusedError):
    """The entries are not those that the checkpoint is over."""

    code = "witness-entries-differ"


class EntryRefusedError(WitnessRefusedError):
    """An entry does not parse, or stands at a wrong place."""

    code = "witness-entry-malformed"


class EntryAheadError(WitnessRefusedError):
    """An entry bears a time that has not come: stored, it would bar the log until then."""

    code = "witness-entry-ahead"


class TooLargeError(WitnessRefusedError):
    """One message brings more than the mirror takes at once."""

    code = "witness-too-large"


@dataclass(frozen=True, slots=True)
class Held:
    """What the mirror holds of one log.

    root      of all entries, 32 bytes
    time      of the last entry, RFC 3339; "" if there is none
    tree      the stored tree's right edge; the check goes on from it
    root_at   the stored tree's root at an earlier size
    """

    origin: str
    size: int
    root: bytes
    time: str
    tree: Frontier
    root_at: Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What may be stored and cosigned.

    note     the checkpoint with the log's own signature and no other
    """

    checkpoint: Checkpoint
    note: str
    entries: tuple[Entry, ...]


def check_message(updates: Sequence[LogUpdate], origins: Sequence[str]) -> None:
    """Raise unless a message is of the caller's logs, each once at most, and within bounds.

    origins   the calling member's logs
    raises    UnknownLogError, TooLargeError
    """
    named = [update.origin for update in updates]
    if len(set(named)) != len(named) or not set(named) <= set(origins):
        raise UnknownLogError(
            "the message names a log that is not the caller's, or one log twice: a member sends"
            " its own release log and its own internal log, each at most once",
            "消息所列日志不属于调用方，或同一日志出现两次：成员只能提交自己的发布日志和内部日志，"
            "每种至多一次",
        )
    entries = sum(len(update.entries) for update in updates)
    if entries > MOST_ENTRIES:
        raise _too_large(f"{entries} entries", f"{entries} 条")
    size = sum(len(raw) for update in updates for raw in update.entries)
    if size > MOST_BYTES:
        raise _too_large(f"{size} bytes", f"{size} 字节")
    longest = max((len(update.proof) for update in updates), default=0)
    if longest > MOST_PROOF:
        raise TooLargeError(
            f"a consistency proof has {longest} hashes, at most {MOST_PROOF} are read:"
            " send the proof between the two sizes alone",
            f"一致性证明含 {longest} 个哈希，至多读取 {MOST_PROOF} 个：请只发送两个大小之间的证明",
        )


def _too_large(en: str, zh: str) -> TooLargeError:
    return TooLargeError(
        f"the message brings {en}, at most {MOST_ENTRIES} entries and {MOST_BYTES} bytes are taken:"
        " send them in portions",
        f"消息含 {zh}，至多接受 {MOST_ENTRIES} 条与 {MOST_BYTES} 字节：请分批发送",
    )


def check_update(
    held: Held, update: LogUpdate, member: str, log_key: bytes, at: datetime
) -> Accepted:
    """Return what to store of one log's update; C2SP tlog-witness, add-checkpoint.

    member    id that every entry must be by; log_key: the log's Ed25519 key in the charter
    at        the regulator's time; entries may be up to `AHEAD` later
    raises    WitnessRefusedError of every code but witness-unknown-log and witness-too-large
    """
    try:
        checkpoint = open_checkpoint(update.checkpoint, held.origin, log_key)
        note = _own_note(update.checkpoint, held.origin, log_key)
    except (CheckpointError, UnicodeError) as reason:
        raise CheckpointRefusedError(
            f"the checkpoint of {held.origin} is malformed, or not signed by the log key in the"
            " charter: sign it with the key that the member enrolled with",
            f"{held.origin} 的检查点格式有误，或未由章程中的日志密钥签名：请用成员注册时的密钥签名",
        ) from reason
    _check_against_held(held, update.old_size, checkpoint, note)
    if len(update.entries) != checkpoint.size - held.size:
        raise EntriesDifferError(
            f"the message brings {len(update.entries)} entries of {held.origin}, but its checkpoint"
            f" of {checkpoint.size} needs {checkpoint.size - held.size} after the"
            f" {held.size} held: send exactly these",
            f"消息含 {held.origin} 的 {len(update.entries)} 条，而大小为 {checkpoint.size} 的检查点"
            f"在已持有的 {held.size} 条之后需要 {checkpoint.size - held.size} 条：请准确发送",
            note,
        )
    try:
        check_consistency(held.size, held.root, checkpoint.size, checkpoint.root, update.proof)
    except ProofError as reason:
        raise ConsistencyError(
            f"the proof does not show that {held.origin} with {checkpoint.size} entries extends"
            f" the {held.size} held here: the log was changed, or the proof is of other sizes",
            f"证明未能表明 {held.origin} 的 {checkpoint.size} 条是此处 {held.size} 条的延伸："
            "日志被改动，或证明的大小不符",
            note,
        ) from reason
    for raw in update.entries:
        held.tree.append(leaf_hash(raw))
    if held.tree.root() != checkpoint.root:
        raise EntriesDifferError(
            f"the entries of {held.origin} do not lead to the root of its checkpoint of"
            f" {checkpoint.size}: send the entries exactly as they are logged",
            f"{held.origin} 的条目与其大小为 {checkpoint.size} 的检查点的根不符：请按日志原样发送",
            note,
        )
    # Last, as it takes ten times as long as all the rest.
    return Accepted(checkpoint, note, _parsed(held, update.entries, member, note, at))


def _check_against_held(held: Held, old_size: int, checkpoint: Checkpoint, note: str) -> None:
    """Raise unless the signed tree is one that may grow from what is held.

    A signed tree that is not larger is compared with the stored one of its size first: two signed
    trees of one size prove a fork, whatever the member believes to be held. The same tree is a
    message that came late, or of a member that was put back: it will see which when it compares.
    """
    size = checkpoint.size
    stored = held.root if size == held.size else held.root_at(size) if size < held.size else None
    if stored is not None and checkpoint.root != stored:
        raise ForkError(
            f"{held.origin} was signed with another root at {size} entries than the regulator"
            " holds: the log was forked; stop this member and ask the regulator",
            f"{held.origin} 在 {size} 条处签署的根与监管方所持不同：日志已分叉；"
            "请停用该成员并联系监管方",
            note,
        )
    if old_size != held.size or size < held.size:
        raise SizeDiffersError(
            f"the regulator holds {held.size} entries of {held.origin}, the message goes from"
            f" {old_size} to {size}: send what follows entry number {held.size}",
            f"监管方持有 {held.origin} 的 {held.size} 条，而消息为第 {old_size} 至 {size} 条："
            f"请发送第 {held.size} 条之后的内容",
        )


def _parsed(
    held: Held, leaves: Sequence[bytes], member: str, note: str, at: datetime
) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    before, latest = held.time, time_text(at + AHEAD)
    for seq, raw in enumerate(leaves, held.size):
        try:
            entry = parse(raw)
        except EntryError as reason:
            raise _entry_refused(held, seq, "does not parse", "无法解析", note) from reason
        if (entry.seq, entry.by) != (seq, member):
            raise _entry_refused(held, seq, "has another number or member", "序号或成员不符", note)
        if entry.time < before:
            raise _entry_refused(held, seq, "is dated before the one before it", "时间倒退", note)
        if entry.time > latest:
            raise EntryAheadError(
                f"entry {seq} of {held.origin} is dated {entry.time}, but the regulator's clock"
                f" says {time_text(at)}: if the member's clock was wrong, set it, move its database"
                " away and recover what the regulator holds; if the regulator's is, set that",
                f"{held.origin} 的第 {seq} 条标注时间为 {entry.time}，而监管方时钟为"
                f" {time_text(at)}：若成员时钟有误，请校准后移走其数据库，并恢复监管方所持内容；"
                "若监管方时钟有误，请校准监管方时钟",
            )
        before = entry.time
        entries.append(entry)
    return tuple(entries)


def _entry_refused(held: Held, seq: int, en: str, zh: str, note: str) -> EntryRefusedError:
    return EntryRefusedError(
        f"entry {seq} of {held.origin} {en}: the log is damaged, or written by other software;"
        " ask the member's operator to run its check",
        f"{held.origin} 的第 {seq} 条{zh}：日志已损坏或由其他软件写入；请成员运维人员检查",
        note,
    )


def _own_note(note: str, origin: str, log_key: bytes) -> str:
    """Return a note that was opened, with the log's own signature line alone."""
    text, tail = split_note(note)
    wanted = (origin, key_id(origin, log_key))
    (own,) = (line for line in signature_lines(tail) if line[:2] == wanted)
    return f"{text}\n— {origin} {base64.b64encode(own[1] + own[2]).decode()}\n"
