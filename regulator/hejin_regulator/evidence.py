"""V1, V2 and V3: read a log of an export once, each entry checked, beside its cosigned notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hejin_regulator.findings import Check, LogHead
from hejin_regulator.history import History
from hejin_regulator.notebook import Notebook
from hejin_regulator.witnessed import Seen, WitnessedNotes, origin_of
from hejin_regulator.workbook import Workbook
from hejin_trust import canonical
from hejin_trust.charter import Charter, Member
from hejin_trust.checkpoint import Checkpoint, open_checkpoint
from hejin_trust.entries import INTERNAL_TYPES, Body, Entry, parse
from hejin_trust.errors import HejinError
from hejin_trust.export import LOG_NAMES, WITNESS_FOLDER, LogName, MemberExport
from hejin_trust.merkle import HASH_SIZE, Frontier, leaf_hash
from hejin_trust.text import Text

_NODE_TYPES: Final = frozenset(
    {
        "genesis",
        "snapshot",
        "plan.approve",
        "plan.refuse",
        "reserve",
        "renew",
        "release",
        "void",
        "receipt",
        "result",
        "labels.ask",
        "recover",
    }
)
_BANK_TYPES: Final = frozenset(
    {"genesis", "plan", "accept", "result", "burn", "model", "labels.answer", "recover"}
)
_INTERNAL: Final = INTERNAL_TYPES | {"genesis", "recover"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What all checks look at: the export, its charters, what was remembered, what was found."""

    folder: Path
    history: History
    workbook: Workbook
    notes: Notebook

    @property
    def charter(self) -> Charter:
        """The charter in force."""
        return self.history.charter

    def export(self, member_id: str) -> MemberExport:
        """Return a member's part of the export."""
        return MemberExport(self.folder / member_id)

    def has_begun(self, member: Member) -> bool:
        """Return whether a member may have logged anything.

        Of one that was admitted and never started there is no folder, and the regulator's part
        has empty files. Had it logged anything that concerns others, their logs would name it.
        """
        notes = [self.folder / WITNESS_FOLDER / f"{member.id}.{log}.jsonl" for log in LOG_NAMES]
        return (self.folder / member.id).exists() or any(
            not path.is_file() or path.stat().st_size for path in notes
        )

    def hashes(self, member_id: str, log: LogName) -> Path:
        """Return the file that keeps the leaf hashes of a log that was read."""
        return self.workbook.folder / f"{member_id}.{log}.hashes"

    def claim(
        self,
        log: tuple[str, LogName],
        checkpoint: tuple[int, bytes],
        kind: str,
        by: str,
        seq: int | None,
        file: str = "",
    ) -> None:
        """Remember that somebody holds a checkpoint of a log, to be compared with it at the end.

        log         whose, and which
        checkpoint  size and root
        kind        what holds it, one of `_CLAIMS`; by, seq, file: where that is
        """
        self.workbook.put("claim", *log, *checkpoint, kind, by, seq, file)


class LogReader:
    """One log of one member, read once from its first entry to its last."""

    def __init__(self, evidence: Evidence, member: Member, log: LogName) -> None:
        self._evidence, self._member, self._log = evidence, member, log
        self._export = evidence.export(member.id)
        self._frontier = Frontier()

    def entries(self) -> Iterator[tuple[Entry, Seen | None]]:
        """Yield each entry, with the regulator's note over exactly all entries up to it, if any.

        An entry that does not hold is noted and ends the log.
        """
        notes, frontier = self._evidence.notes, self._frontier
        if not self._evidence.has_begun(self._member):
            self._evidence.hashes(self._member.id, self._log).touch()
            return
        witnessed = WitnessedNotes(
            self._evidence.folder, self._evidence.charter, self._member, self._log, notes
        )
        last_time = ""
        with self._evidence.hashes(self._member.id, self._log).open("wb") as hashes:
            try:
                for raw in self._export.leaves(self._log):
                    entry = parse(raw)
                    reason = self._misplaced(entry, frontier.size, last_time)
                    if reason:
                        self._note(frontier.size, Text(*reason))
                        break
                    last_time = entry.time
                    hashed = leaf_hash(raw)
                    frontier.append(hashed)
                    hashes.write(hashed)
                    notes.counts[entry.type] += 1
                    notes.progress(len(raw))
                    yield entry, self._seen(witnessed)
                else:
                    self._check_root(witnessed)
            except HejinError as reason:
                self._note(frontier.size, reason.text)
        self._check_witnessed(witnessed)

    def _seen(self, witnessed: WitnessedNotes) -> Seen | None:
        """Return the regulator's note of the present size, compared with what was read."""
        if witnessed.next_size != self._frontier.size:
            return None
        seen = witnessed.take()
        if seen.root != self._frontier.root():
            self._evidence.notes.add(
                "V2",
                self._member.id,
                None,
                f"{self._log} log: its first {seen.size} entries are not those that the regulator "
                "cosigned: the log was rewritten or forked",
                f"{self._log} 日志：前 {seen.size} 条与监管方会签的不同：日志被改写或分叉",
                evidence=(seen.file, f"{self._member.id}/{self._log}.jsonl"),
            )
            return None
        if self._log == "release":
            self._evidence.workbook.put("cosigned", self._member.id, seen.size, seen.time)
        return seen

    def _check_root(self, witnessed: WitnessedNotes) -> None:
        """Compare what was read with the signed checkpoint. A root tells that something changed."""
        member, log, frontier = self._member, self._log, self._frontier
        origin = origin_of(self._evidence.charter, member, log)
        try:
            note = self._export.checkpoint(log)
            told = open_checkpoint(note, origin, member.log_key)
        except HejinError as reason:
            self._note(None, reason.text)
            return
        root = frontier.root()
        if told != Checkpoint(told.origin, frontier.size, root):
            self._note(
                None,
                Text(
                    f"it has {frontier.size} entries whose root is not the one that the checkpoint "
                    f"of {told.size} entries signs: entries were altered, added or dropped",
                    f"共 {frontier.size} 条，其根与 {told.size} 条的检查点不符："
                    "条目被改动、增加或删除",
                ),
            )
            return
        if frontier.size == 0:
            self._note(None, Text("it is empty", "为空"))
            return
        self._evidence.notes.heads.append(LogHead(member.id, log, frontier.size, root.hex()))
        witnessed.take_final(note, frontier.size)

    def _check_witnessed(self, witnessed: WitnessedNotes) -> None:
        """The regulator has seen all of the log, and nothing beyond it."""
        size, newest = self._frontier.size, witnessed.newest()
        if newest > size:
            self._evidence.notes.add(
                "V2",
                self._member.id,
                None,
                f"{self._log} log: the regulator cosigned {newest} entries, the export has {size}: "
                "the log was rolled back, or entries are left out",
                f"{self._log} 日志：监管方已会签 {newest} 条，导出仅有 {size} 条："
                "日志被回退或条目缺失",
                evidence=(witnessed.file,),
            )
        elif newest < size:
            what = (
                Text(
                    "ask the member to mirror its logs and to export again, then export the "
                    "regulator's part again",
                    "请成员先镜像日志再重新导出，并重新导出监管方部分",
                )
                if self._member.admitted
                else Text(
                    "the member was revoked: take its logs from the mirror "
                    "(hejin regulator export --with-logs)",
                    "该成员已被撤销：请从镜像导出其日志（hejin regulator export --with-logs）",
                )
            )
            self._evidence.notes.add(
                "V2",
                self._member.id,
                None,
                f"{self._log} log: entries from {newest} on are not witnessed: {what.en}",
                f"{self._log} 日志：自第 {newest} 条起未经会签：{what.zh}",
                evidence=(witnessed.file,),
            )

    def _note(self, seq: int | None, reason: Text) -> None:
        """Note a finding of V1; a member has two logs, so the reason says which."""
        name, log = self._member.id, self._log
        self._evidence.notes.add(
            "V1",
            name,
            seq,
            f"{log} log: {reason.en}",
            f"{log} 日志：{reason.zh}",
            log=log,
            evidence=(f"{name}/{log}.checkpoint",) if seq is None else (),
        )

    def _misplaced(self, entry: Entry, seq: int, last_time: str) -> tuple[str, str] | None:
        """Return why an entry cannot stand where it stands, or None."""
        if entry.seq != seq:
            return (
                f"entry {entry.seq} stands at place {seq}",
                f"第 {seq} 位的条目序号为 {entry.seq}",
            )
        if entry.by != self._member.id:
            return "the entry is by another member", "条目属于其他成员"
        if entry.time < last_time:
            self._evidence.notes.add(
                "V3",
                self._member.id,
                seq,
                f"{self._log} log: the entry is of {entry.time}, the one before it of {last_time}",
                f"{self._log} 日志：条目时间为 {entry.time}，前一条为 {last_time}",
                log=self._log,
            )
            return "the time goes back", "时间倒退"
        if (entry.type == "genesis") != (seq == 0):
            return (
                "a log begins with its genesis, and only there",
                "日志须以 genesis 开头且仅此一条",
            )
        if entry.type == "genesis":
            return self._foreign_genesis(entry.body)
        released = _NODE_TYPES if self._member.role == "node" else _BANK_TYPES
        if entry.type not in (_INTERNAL if self._log == "internal" else released):
            return (
                f"an entry of type {entry.type} does not belong here",
                f"{entry.type} 条目不应出现在此",
            )
        return None

    def _foreign_genesis(self, body: Body) -> tuple[str, str] | None:
        """Return why a genesis does not fit the charter it names, or None."""
        charter = self._evidence.history.by_digest.get(str(body["charter"]))
        if charter is None:
            return (
                "the log was founded under a charter that is not in the export: "
                "add it to charters/",
                "日志依据的章程不在导出中：请放入 charters/",
            )
        terms = (
            charter.rho_cap,
            charter.rho_alone_cap,
            charter.delta,
            charter.period_from,
            charter.period_to,
        )
        told = (
            canonical.fraction(body, "rho_cap"),
            canonical.fraction(body, "rho_alone_cap"),
            canonical.fraction(body, "delta"),
            body["period_from"],
            body["period_to"],
        )
        then = charter.member(self._member.id, self._member.role)
        keys = (then.log_key.hex(), then.certificate_fingerprint)
        if told != terms or (body["log_key"], body["certificate"]) != keys:
            return (
                "the genesis names other limits or keys than its charter",
                "genesis 中的上限或密钥与其章程不符",
            )
        return None


#: What holds a checkpoint, the check it belongs to, and what is found where it does not fit.
_CLAIMS: Final[dict[str, tuple[Check, str, str]]] = {
    "accept": ("V2", "the accepted proof", "所接收的证明"),
    "receipt": ("V2", "the bank's receipt", "银行回执"),
    "keyad": ("V2", "a node's signed key for a run", "节点为某次运行签署的密钥"),
    "recover": ("V2", "the regulator's approval of a recovery", "监管方的恢复批准"),
    "snapshot": ("V7", "the snapshot", "快照"),
    "labels.answer": ("V2", "the proof of a question for outcomes", "标签询问的证明"),
}


def check_claims(evidence: Evidence) -> None:
    """Compare the checkpoints that others hold of every log with what was read of it.

    One more pass, over the leaf hashes alone; V2, and V7 for what snapshots rest on.
    """
    logs = evidence.workbook.rows("SELECT DISTINCT member, log FROM claim ORDER BY 1, 2")
    for member, log in list(logs):
        _check_claims_of(evidence, member, log)


def _check_claims_of(evidence: Evidence, member: str, log: LogName) -> None:
    frontier = Frontier()
    root = frontier.root()
    claims = evidence.workbook.rows(
        "SELECT size, root, kind, by, seq, file FROM claim WHERE member = ? AND log = ? "
        "ORDER BY size",
        member,
        log,
    )
    with evidence.hashes(member, log).open("rb") as hashes:
        for size, claimed, kind, by, seq, file in claims:
            if frontier.size < size:
                while frontier.size < size and (hashed := hashes.read(HASH_SIZE)):
                    frontier.append(hashed)
                root = frontier.root()
            if (frontier.size, root) == (size, claimed):
                continue
            check, en, zh = _CLAIMS[kind]
            why = _why(frontier.size, size)
            evidence.notes.add(
                check,
                by,
                seq,
                f"{en} names {size} entries of the {log} log of {member}{why.en}",
                f"{zh}所指 {member} 的 {log} 日志的 {size} 条{why.zh}",
                evidence=(*((file,) if file else ()), f"{member}/{log}.jsonl"),
            )


def _why(has: int, claimed: int) -> Text:
    if has < claimed:
        return Text(f", the export has {has}", f"，而导出仅有 {has} 条")
    return Text(
        " that the exported log does not lead to: one of the two was rewritten",
        "，与导出的日志不符：其一被改写",
    )
