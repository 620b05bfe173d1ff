"""V4 and V6: the runs of one node: one snapshot and plan each, rising rounds, asked by the bank."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from typing import Final

from hejin_privacy.round_context import round_context
from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import digest_of, number, text
from hejin_regulator.notebook import place
from hejin_regulator.plans import KnownPlan
from hejin_regulator.records import Reservation, Snapshot
from hejin_regulator.runs import RunBook
from hejin_regulator.workbook import Shelf
from hejin_trust.canonical import time_from
from hejin_trust.entries import Entry

AT_ONCE: Final = timedelta(seconds=120)
"""A node logs a run's snapshot and its first reservation in one transaction."""


@dataclass(frozen=True, slots=True)
class _RunState:
    """Where a run stands at a node: its last reservation and the last result it was told."""

    snapshot: Snapshot | None = None
    last_round: int = 0
    last_seq: int = 0
    result_round: int = 0
    result: str = ""


class RunCheck:
    """The snapshots, rounds and results of one node's runs, in the order of its log."""

    def __init__(self, evidence: Evidence, runs: RunBook, node: str) -> None:
        self._evidence, self._runs_of, self._node = evidence, runs, node
        self._runs: Shelf[_RunState] = Shelf(
            evidence.workbook, "node_runs", _dump_run, _load_run, 512
        )
        # The one run of each plan.
        self._carried: Shelf[str] = Shelf(evidence.workbook, "plan_runs", str, str, 512)
        # The newest `recover` entry; -1 as long as there is none.
        self._recovered = -1

    def _note(self, seq: int, en: str, zh: str, *evidence: str) -> None:
        self._evidence.notes.add("V4", self._node, seq, en, zh, evidence=evidence)

    def recover(self, seq: int) -> None:
        """Take a `recover` entry: the runs before it are over."""
        self._recovered = seq

    def reserve(self, reservation: Reservation, known: KnownPlan | None) -> bool:
        """Take a `reserve` entry; return whether the bank shows anything of its round."""
        asked = True
        if known is not None:
            self._check_context(reservation, known)
            asked = self._check_asked(reservation)
        self._check_run(reservation)
        return asked

    def snapshot(self, entry: Entry) -> None:
        """Take a `snapshot` entry; a run has one."""
        body = entry.body
        run = text(body, "run")
        state = self._runs.get(run) or _RunState()
        if state.snapshot is not None:
            self._note(
                entry.seq,
                f"the run has a snapshot already, entry {state.snapshot.seq}",
                f"该运行已有快照（条目 {state.snapshot.seq}）",
            )
            return
        taken = Snapshot(entry.seq, entry.time, text(body, "plan"), text(body, "root"))
        other = self._carried.get(taken.plan)
        if other is not None:
            self._note(
                entry.seq,
                f"the plan is carried out by run {other} already, and by one run only",
                f"该计划已由运行 {other} 执行，且只能执行一次",
            )
        self._carried.put(taken.plan, run)
        self._runs.put(run, replace(state, snapshot=taken))

    def note_result(self, entry: Entry) -> None:
        """V6: take a `result` entry: one that a bank has logged, body for body, once."""
        body = entry.body
        run, told = text(body, "run"), number(body, "round")
        row = self._evidence.workbook.at_once(
            "SELECT 1 FROM ended WHERE digest = ? AND kind = 'result'", digest_of(body)
        ).fetchone()
        if row is None:
            self._evidence.notes.add(
                "V6",
                self._node,
                entry.seq,
                f"no bank has logged the result of round {told} that this node logged",
                f"没有银行记录过本节点所记的第 {told} 轮结果",
            )
        state = self._runs.get(run) or _RunState()
        if told <= state.result_round:
            self._evidence.notes.add(
                "V6",
                self._node,
                entry.seq,
                f"the result of round {told} comes after that of round {state.result_round}",
                f"第 {told} 轮的结果记于第 {state.result_round} 轮的结果之后",
            )
        signed = digest_of({"v": 1, **body})
        self._runs.put(run, replace(state, result_round=told, result=signed))

    def _check_run(self, reservation: Reservation) -> None:
        """Rounds rise within a run, and rest on its one snapshot."""
        run, seq = reservation.run, reservation.seq
        state = self._runs.get(run) or _RunState()
        if reservation.round <= state.last_round:
            self._note(
                seq,
                f"round {reservation.round} is not after round {state.last_round}, which was "
                f"reserved before, in entry {state.last_seq}",
                f"第 {reservation.round} 轮不在第 {state.last_round} 轮（此前已在条目 "
                f"{state.last_seq} 中预留）之后",
                place(self._node, "release", state.last_seq),
            )
        snapshot = state.snapshot
        if snapshot is None or (snapshot.seq, snapshot.plan, snapshot.root) != (
            reservation.snapshot_seq,
            reservation.plan,
            reservation.snapshot,
        ):
            self._note(
                seq,
                "the reservation names no earlier snapshot of its own run and plan",
                "该预留未引用同一运行与计划的在先快照",
            )
        elif state.last_round == 0 and (
            snapshot.seq != seq - 1
            or time_from(reservation.time) - time_from(snapshot.time) > AT_ONCE
        ):
            # A node writes both at once: the rows of a run are taken when it begins.
            self._note(
                seq,
                "the run's first reservation does not follow its snapshot directly and at once",
                "该运行的首个预留并非紧接其快照立即记录",
                place(self._node, "release", snapshot.seq),
            )
        elif snapshot.seq < self._recovered:
            self._note(
                seq,
                "the run goes on although the node had lost its database since: its rows and keys "
                "were gone",
                "节点此后曾丢失数据库，数据行与密钥已不存在，而该运行仍在继续",
                place(self._node, "release", self._recovered),
            )
        last = max(reservation.round, state.last_round)
        self._runs.put(run, replace(state, last_round=last, last_seq=seq))

    def _check_context(self, reservation: Reservation, known: KnownPlan) -> None:
        run = self._runs_of.find(reservation.bank, reservation.run, known)
        if run is None:
            self._note(
                reservation.seq,
                "the roster of the run is missing in the bank's part of the export, or is not "
                "proven there",
                "银行导出部分中缺少该运行的名册，或未得到证明",
                f"{reservation.bank}/rosters.jsonl",
            )
            return
        if run.roster is not None and self._node not in run.roster.nodes:
            self._note(
                reservation.seq,
                "the node is not in the roster of the run",
                "该节点不在运行名册之内",
                f"{reservation.bank}/rosters.jsonl",
            )
        query = bytes.fromhex(reservation.query)
        if not 0 <= reservation.round < 2**32 or (
            round_context(run.context, reservation.round, query).hex() != reservation.round_ctx
        ):
            self._note(
                reservation.seq,
                "the round's context does not follow from run, round and query",
                "轮次上下文与运行、轮次及查询不符",
            )

    def _check_asked(self, reservation: Reservation) -> bool:
        """Compare a reservation with the bank's query; False if it shows nothing of the round."""
        workbook = self._evidence.workbook
        key = (reservation.bank, reservation.run, reservation.round)
        row = workbook.at_once(
            "SELECT digest, plan, part, mechanism, previous FROM asked "
            "WHERE bank = ? AND run = ? AND round = ?",
            *key,
        ).fetchone()
        if row is None:
            # Nothing may leave for such a round, and nothing may have been accepted of it.
            workbook.put("unasked", *key, self._node, reservation.seq, reservation.query)
            ended = workbook.at_once(
                "SELECT 1 FROM ended WHERE bank = ? AND run = ? AND round = ?", *key
            )
            return ended.fetchone() is not None  # then the bank lost the query: a finding of V6
        *told, previous = row
        state = self._runs.get(reservation.run) or _RunState()
        # The result comes with the query; a node that joins a run late has missed the first ones.
        if state.last_round and previous not in ("", state.result):
            self._evidence.notes.add(
                "V6",
                self._node,
                reservation.seq,
                "the node did not log the result that the bank's query names as the one before",
                "节点未记录银行查询所引用的上一轮结果",
                evidence=(f"{reservation.bank}/rounds.jsonl",),
            )
        if told != [reservation.query, reservation.plan, reservation.part, reservation.mechanism]:
            self._note(
                reservation.seq,
                "the reservation is for another query, part or mechanism than the bank signed "
                "for its round",
                "该预留的查询、数据部分或机制与银行为该轮签署的不同",
                f"{reservation.bank}/rounds.jsonl",
            )
        return True


def check_same_question(evidence: Evidence) -> None:
    """V4: also of a round that came to nothing, all nodes log the same query."""
    rows = evidence.workbook.rows(
        "SELECT u.node, u.seq, f.node, f.seq FROM unasked u JOIN "
        "(SELECT bank, run, round, node, seq, query, MIN(rowid) FROM unasked "
        "GROUP BY bank, run, round) f USING (bank, run, round) WHERE u.query <> f.query"
    )
    for node, seq, first, first_seq in rows:
        evidence.notes.add(
            "V4",
            node,
            seq,
            f"{first} logged another query for the same round",
            f"{first} 对同一轮记录了不同的查询",
            evidence=(f"{first}/release.jsonl:{first_seq}",),
        )


def _dump_run(state: _RunState) -> str:
    return json.dumps(astuple(state))


def _load_run(value: str) -> _RunState:
    snapshot, *rest = json.loads(value)
    return _RunState(None if snapshot is None else Snapshot(*snapshot), *rest)
