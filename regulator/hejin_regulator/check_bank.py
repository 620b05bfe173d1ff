"""V6: read a bank's log: what it accepted in each round, and how the round ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hejin_regulator.check_labels import take_answer
from hejin_regulator.check_recovery import RecoveryCheck
from hejin_regulator.evidence import Evidence, LogReader
from hejin_regulator.fields import digest_of, number, text
from hejin_regulator.notebook import place
from hejin_regulator.workbook import Shelf
from hejin_trust import canonical
from hejin_trust.charter import Member
from hejin_trust.entries import Entry

_MOST_OPEN: Final = 1_000
"""Rounds of which something was accepted and that have not ended; a bank carries out one run at a
time, and those that are paused have one each."""


@dataclass(slots=True)
class _OpenRound:
    """What a bank accepted in one round so far; `first` is the first entry of it."""

    first: int
    plan: str
    round_ctx: str
    nodes: list[str] = field(default_factory=list)


class BankCheck:
    """One bank's release log."""

    def __init__(self, evidence: Evidence, bank: Member) -> None:
        self._evidence, self._bank = evidence, bank
        self._open: dict[tuple[str, int], _OpenRound] = {}
        # The last round of each run that has ended.
        self._last: Shelf[int] = Shelf(evidence.workbook, "ended_rounds", str, int, 512)

    def _note(self, seq: int | None, en: str, zh: str, *evidence: str) -> None:
        self._evidence.notes.add("V6", self._bank.id, seq, en, zh, evidence=evidence)

    def read(self) -> None:
        """Read both logs of the bank; rounds that have ended are written down for `ResultCheck`."""
        steps: dict[str, Callable[[Entry], None]] = {
            "plan": self._plan,
            "accept": self._accept,
            "result": self._end,
            "burn": self._end,
            "model": self._model,
            "labels.answer": lambda entry: take_answer(self._evidence, self._bank.id, entry),
        }
        recoveries = RecoveryCheck(self._evidence, self._bank, "release")
        for entry, _ in LogReader(self._evidence, self._bank, "release").entries():
            if entry.type in steps:
                steps[entry.type](entry)
            recoveries.see(entry)
        recoveries = RecoveryCheck(self._evidence, self._bank, "internal")
        for entry, _ in LogReader(self._evidence, self._bank, "internal").entries():
            recoveries.see(entry)
        for (_, number_), opened in self._open.items():
            self._note(
                opened.first,
                f"round {number_} was accepted and has neither a result nor a burn",
                f"第 {number_} 轮已接收，却既无结果也未作废",
            )

    def _plan(self, entry: Entry) -> None:
        digest, *names = (text(entry.body, name) for name in ("plan", "purpose", "family"))
        self._evidence.workbook.put("plan", self._bank.id, digest, *names, entry.seq)
        self._evidence.workbook.put("named", self._bank.id, f"{digest}.json")

    def _model(self, entry: Entry) -> None:
        run, plan = text(entry.body, "run"), text(entry.body, "plan")
        self._evidence.workbook.put("model", self._bank.id, entry.seq, run, plan)

    def _accept(self, entry: Entry) -> None:
        body, evidence = entry.body, self._evidence
        node, run, round_number = text(body, "node"), text(body, "run"), number(body, "round")
        size, root = number(body, "proof_size"), text(body, "proof_root")
        evidence.workbook.put(
            "accept",
            node,
            run,
            round_number,
            self._bank.id,
            entry.seq,
            text(body, "plan"),
            text(body, "round_ctx"),
            number(body, "reservation"),
            text(body, "header"),
            text(body, "vector"),
            size,
            entry.time,
        )
        if evidence.history.member(node, "node") is not None:
            checkpoint = (size, bytes.fromhex(root))
            evidence.claim((node, "release"), checkpoint, "accept", self._bank.id, entry.seq)
        self._join(entry, node, (run, round_number))

    def _join(self, entry: Entry, node: str, key: tuple[str, int]) -> None:
        """Add a node to what was accepted of its round."""
        run, round_number = key
        told = (text(entry.body, "plan"), text(entry.body, "round_ctx"))
        if round_number <= (self._last.get(run) or 0):
            self._note(
                entry.seq,
                f"round {round_number} was accepted after it or a later one had ended",
                f"第 {round_number} 轮在该轮或其后轮次结束之后仍被接收",
            )
            return
        opened = self._open.get(key)
        if opened is None:
            if len(self._open) >= _MOST_OPEN:
                self._note(
                    entry.seq,
                    f"more than {_MOST_OPEN} rounds were accepted and have not ended",
                    f"已接收而未结束的轮次超过 {_MOST_OPEN} 个",
                )
                return
            opened = self._open[key] = _OpenRound(entry.seq, *told)
        elif told != (opened.plan, opened.round_ctx):
            self._note(
                entry.seq,
                f"round {round_number} was accepted under two plans or contexts",
                f"第 {round_number} 轮在两份计划或两个上下文下被接收",
                place(self._bank.id, "release", opened.first),
            )
        opened.nodes.append(node)

    def _end(self, entry: Entry) -> None:
        """Take a `result` or `burn` entry."""
        body, seq = entry.body, entry.seq
        run, round_number = text(body, "run"), number(body, "round")
        last = self._last.get(run) or 0
        if round_number <= last:
            self._note(
                seq,
                f"round {round_number} ends after it or a later one had ended",
                f"第 {round_number} 轮在该轮或其后轮次结束之后再次结束",
            )
        self._last.put(run, max(round_number, last))
        opened = self._open.pop((run, round_number), None)
        encoded = canonical.encode(body).decode() if entry.type == "result" else ""
        if entry.type == "result":
            self._check_survivors(entry, opened)
        self._evidence.workbook.put(
            "ended",
            self._bank.id,
            seq,
            entry.type,
            run,
            round_number,
            digest_of(body),
            encoded,
            "" if opened is None else opened.plan,
            "" if opened is None else opened.round_ctx,
        )

    def _check_survivors(self, entry: Entry, opened: _OpenRound | None) -> None:
        """A result is over the nodes whose releases were accepted: all of them, each once."""
        accepted = [] if opened is None else sorted(opened.nodes)
        if entry.body["survivors"] != accepted:
            self._note(
                entry.seq,
                "the survivors of the result are not the nodes whose releases were accepted, "
                "sorted and each once",
                "结果的存活节点并非所接收输出的节点（须排序且不重复）",
                *(() if opened is None else (place(self._bank.id, "release", opened.first),)),
            )
        if opened is not None and text(entry.body, "round_ctx") != opened.round_ctx:
            self._note(
                entry.seq,
                "the result is of another context than what was accepted",
                "结果的上下文与所接收的不同",
                place(self._bank.id, "release", opened.first),
            )
