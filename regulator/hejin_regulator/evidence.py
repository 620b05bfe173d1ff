"""V1: read every log of an export as a stream, checked, and keep what the other checks compare."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from hejin_regulator.findings import Notebook
from hejin_regulator.records import BankLog, NodeLog, note_bank_entry, note_node_entry
from hejin_trust import canonical
from hejin_trust.charter import Charter, Member
from hejin_trust.checkpoint import Checkpoint, open_checkpoint
from hejin_trust.entries import INTERNAL_TYPES, Body, Entry, parse
from hejin_trust.errors import HejinError
from hejin_trust.export import LogName, MemberExport
from hejin_trust.log import internal_origin, release_origin
from hejin_trust.merkle import Frontier, leaf_hash
from hejin_trust.text import Text

_NODE_TYPES = frozenset(
    {
        "genesis",
        "snapshot",
        "plan.approve",
        "plan.refuse",
        "reserve",
        "release",
        "void",
        "receipt",
        "result",
    }
)
_BANK_TYPES = frozenset({"genesis", "plan", "accept", "result", "burn", "model"})
_INTERNAL = INTERNAL_TYPES | {"genesis"}


@dataclass(slots=True)
class Evidence:
    """Everything that was read from an export.

    charters  every charter in the export by digest; `charter` is the one in force
    """

    charter: Charter
    charters: dict[str, Charter]
    notes: Notebook
    nodes: dict[str, NodeLog] = field(default_factory=dict)
    banks: dict[str, BankLog] = field(default_factory=dict)

    def read(self, member: Member, export: MemberExport) -> None:
        """Read a member's release log."""
        if member.role == "node":
            node = self.nodes[member.id] = NodeLog(member, export)
            for entry in self.entries(member, export, "release"):
                note_node_entry(node, entry, self.notes)
        else:
            bank = self.banks[member.id] = BankLog(member, export)
            for entry in self.entries(member, export, "release"):
                note_bank_entry(bank, entry)

    def entries(self, member: Member, export: MemberExport, log: LogName) -> Iterator[Entry]:
        """Yield a log's entries, each checked; what does not hold is noted, and ends the log."""
        frontier, last_time = Frontier(), ""
        try:
            for raw in export.leaves(log):
                entry = parse(raw)
                reason = self._misplaced(entry, frontier.size, last_time, member, log)
                if reason:
                    self._note(member, log, frontier.size, Text(*reason))
                    return
                last_time = entry.time
                frontier.append(leaf_hash(raw))
                self.notes.counts[entry.type] += 1
                yield entry
        except HejinError as reason:
            self._note(member, log, frontier.size, reason.text)
            return
        self._check_root(member, export, log, frontier)

    def _check_root(
        self, member: Member, export: MemberExport, log: LogName, frontier: Frontier
    ) -> None:
        """Compare what was read with the signed checkpoint. A root tells that something changed."""
        origin = origin_of(self.charter, member, log)
        try:
            told = open_checkpoint(export.checkpoint(log), origin, member.log_key)
        except HejinError as reason:
            self._note(member, log, None, reason.text)
            return
        if told != Checkpoint(told.origin, frontier.size, frontier.root()):
            self._note(
                member,
                log,
                None,
                Text(
                    f"it has {frontier.size} entries whose root is not the one that the checkpoint "
                    f"of {told.size} entries signs: entries were altered, added or dropped",
                    f"共 {frontier.size} 条，其根与 {told.size} 条的检查点不符："
                    "条目被改动、增加或删除",
                ),
            )
        elif frontier.size == 0:
            self._note(member, log, None, Text("it is empty", "为空"))

    def _note(self, member: Member, log: LogName, seq: int | None, reason: Text) -> None:
        """Note a finding of V1; a member has two logs, so the reason says which."""
        self.notes.add("V1", member.id, seq, f"{log} log: {reason.en}", f"{log} 日志：{reason.zh}")

    def _misplaced(
        self, entry: Entry, seq: int, last_time: str, member: Member, log: LogName
    ) -> tuple[str, str] | None:
        """Return why an entry cannot stand where it stands, or None."""
        if entry.seq != seq:
            return (
                f"entry {entry.seq} stands at place {seq}",
                f"第 {seq} 位的条目序号为 {entry.seq}",
            )
        if entry.by != member.id:
            return "the entry is by another member", "条目属于其他成员"
        if entry.time < last_time:
            return "the time goes back", "时间倒退"
        if (entry.type == "genesis") != (seq == 0):
            return (
                "a log begins with its genesis, and only there",
                "日志须以 genesis 开头且仅此一条",
            )
        if entry.type == "genesis":
            return self._foreign_genesis(entry.body, member)
        released = _NODE_TYPES if member.role == "node" else _BANK_TYPES
        if entry.type not in (_INTERNAL if log == "internal" else released):
            return (
                f"an entry of type {entry.type} does not belong here",
                f"{entry.type} 条目不应出现在此",
            )
        return None

    def _foreign_genesis(self, body: Body, member: Member) -> tuple[str, str] | None:
        """Return why a genesis does not fit the charter it names, or None."""
        charter = self.charters.get(str(body["charter"]))
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
        then = charter.member(member.id, member.role)
        keys = (then.log_key.hex(), then.certificate_fingerprint)
        if told != terms or (body["log_key"], body["certificate"]) != keys:
            return (
                "the genesis names other limits or keys than its charter",
                "genesis 中的上限或密钥与其章程不符",
            )
        return None


def origin_of(charter: Charter, member: Member, log: LogName) -> str:
    """Return the origin that a member's checkpoints must name."""
    name = release_origin if log == "release" else internal_origin
    return name(charter.consortium, member.role, member.id)


def roots_at(export: MemberExport, log: LogName, sizes: Collection[int]) -> dict[int, bytes]:
    """Return the roots of a log's first n leaves for each wanted n that it reaches.

    Reads the file again instead of keeping every root; a damaged file is a finding of V1 already.
    """
    wanted, frontier = set(sizes), Frontier()
    roots = {0: frontier.root()} if 0 in wanted else {}
    try:
        for raw in export.leaves(log):
            if len(roots) == len(wanted):
                break
            frontier.append(leaf_hash(raw))
            if frontier.size in wanted:
                roots[frontier.size] = frontier.root()
    except HejinError:
        pass
    return roots
