"""V3 and V4: every release rests on one earlier reservation that the regulator cosigned in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

from hejin_privacy.round_context import round_context
from hejin_regulator.evidence import Evidence
from hejin_regulator.notebook import place
from hejin_regulator.plans import KnownPlan
from hejin_regulator.records import Release, Reservation, Snapshot, number, text
from hejin_regulator.runs import RunBook
from hejin_regulator.witnessed import Seen
from hejin_regulator.workbook import Shelf
from hejin_trust.canonical import time_from
from hejin_trust.entries import Entry
from hejin_trust.text import Text

IN_TIME: Final = timedelta(seconds=120)
"""Between a reservation, or its newest renewal, and its first cosignature (LEDGER section 5)."""

_MOST_OPEN: Final = 10_000
"""Reservations that wait for their end at once; a node has one for each bank."""


@dataclass(slots=True)
class Standing:
    """A reservation that has not ended.

    since      seq and time of the entry from which on it stands: its own, or its newest renewal
    covered    when the regulator first cosigned that entry; "" as long as it did not
    accounted  whether the internal log has its account
    """

    reservation: Reservation
    period: str
    known: KnownPlan | None
    since: tuple[int, str]
    covered: str = ""
    accounted: bool = True


@dataclass(frozen=True, slots=True)
class _RunState:
    snapshot: Snapshot | None
    last_round: int
    last_seq: int


class ReservationCheck:
    """One node's reservations from their making to their end, in the order of its log."""

    def __init__(self, evidence: Evidence, runs: RunBook, node: str) -> None:
        self._evidence, self._runs_of, self._node = evidence, runs, node
        self._runs: Shelf[_RunState] = Shelf(
            evidence.workbook, "node_runs", _dump_run, _load_run, 512
        )
        self._open: dict[int, Standing] = {}
        self._uncovered: set[int] = set()
        # The newest `recover` entry; -1 as long as there is none.
        self._recovered = -1

    def _note(self, seq: int, en: str, zh: str, *evidence: str) -> None:
        self._evidence.notes.add("V4", self._node, seq, en, zh, evidence=evidence)

    def snapshot(self, entry: Entry) -> None:
        """Take a `snapshot` entry; a run has one."""
        body = entry.body
        run = text(body, "run")
        state = self._runs.get(run) or _RunState(None, 0, 0)
        if state.snapshot is not None:
            self._note(
                entry.seq,
                f"the run has a snapshot already, entry {state.snapshot.seq}",
                f"该运行已有快照（条目 {state.snapshot.seq}）",
            )
            return
        taken = Snapshot(entry.seq, run, text(body, "plan"), text(body, "root"))
        self._runs.put(run, _RunState(taken, state.last_round, state.last_seq))

    def reserve(
        self, reservation: Reservation, period: str, known: KnownPlan | None, accounted: bool
    ) -> None:
        """Take a `reserve` entry."""
        seq = reservation.seq
        self._check_run(reservation)
        if known is not None:
            self._check_context(reservation, known)
            self._check_asked(reservation)
        if len(self._open) >= _MOST_OPEN:
            self._note(
                seq,
                f"more than {_MOST_OPEN} reservations wait for their end: this one is not followed",
                f"等待结束的预留超过 {_MOST_OPEN} 个：此条未被跟踪",
            )
            return
        standing = Standing(reservation, period, known, (seq, reservation.time))
        standing.accounted = accounted
        self._open[seq] = standing
        self._uncovered.add(seq)

    def renew(self, entry: Entry) -> Standing | None:
        """Take a `renew` entry; return the reservation that stands again."""
        standing = self._open.get(number(entry.body, "reservation"))
        if standing is None:
            self._note(
                entry.seq,
                "what is renewed was never reserved, or has ended",
                "续期的预留不存在或已结束",
            )
            return None
        standing.since, standing.covered = (entry.seq, entry.time), ""
        self._uncovered.add(standing.reservation.seq)
        return standing

    def recover(self, seq: int) -> None:
        """Take a `recover` entry: the runs before it are over."""
        self._recovered = seq

    def was_lost(self, standing: Standing) -> bool:
        """Return whether the node has lost its database since a reservation.

        What its bank tells it then of what had left is logged long after it left.
        """
        return standing.since[0] < self._recovered

    def cover(self, seen: Seen) -> None:
        """The regulator cosigned everything up to the entry that was taken last."""
        for seq in self._uncovered:
            self._open[seq].covered = seen.time
        self._uncovered.clear()

    def release(self, release: Release) -> Standing | None:
        """Take a `release` entry; return the reservation that it ends."""
        standing = self._open.pop(release.reservation, None)
        if standing is None:
            self._note(
                release.seq,
                "the release has no earlier reservation that still stands: "
                f"{release.reservation} does not exist, or was used before",
                f"该输出没有在先且有效的预留：{release.reservation} 不存在或此前已被使用",
            )
            return None
        self._uncovered.discard(release.reservation)
        reservation = standing.reservation
        if (release.run, release.round, release.round_ctx) != (
            reservation.run,
            reservation.round,
            reservation.round_ctx,
        ):
            self._note(
                release.seq,
                f"the release is of another round than its reservation {reservation.seq}",
                f"该输出的轮次与其预留 {reservation.seq} 不同",
                place(self._node, "release", reservation.seq),
            )
        self._check_covered(release.seq, standing)
        return standing

    def void(self, seq: int, reserved: int) -> Standing | None:
        """Take a `void` entry; return the reservation that it ends."""
        standing = self._open.pop(reserved, None)
        self._uncovered.discard(reserved)
        if standing is None:
            self._note(
                seq,
                "what is void was never reserved, or has ended: "
                f"{reserved} does not exist, or was used before",
                f"作废的预留不存在或已结束：{reserved} 不存在或此前已被使用",
            )
        return standing

    def finish(self) -> None:
        """Note the reservations that have not ended; one that is revoked can end none."""
        lapsed = 0
        for seq, standing in self._open.items():
            if self._evidence.history.acted_before_its_end(
                self._node, "node", standing.reservation.time
            ):
                lapsed += 1
                continue
            self._note(
                seq,
                "the reservation has neither a release nor a void",
                "该预留既无输出也未作废",
            )
        if lapsed:
            self._evidence.notes.warnings.append(
                Text(
                    f"{self._node} was revoked before {lapsed} of its reservations ended: "
                    "they stay charged.",
                    f"{self._node} 在其 {lapsed} 个预留结束之前已被撤销：费用照计。",
                )
            )

    # -- single rules --------------------------------------------------------------------

    def _check_covered(self, seq: int, standing: Standing) -> None:
        since, time = standing.since
        where = place(self._node, "release", since)
        if not standing.covered:
            self._note(
                seq,
                f"the regulator had not cosigned the reservation (entry {since}) "
                "when something left on it",
                f"输出之时监管方尚未会签该预留（条目 {since}）",
                where,
            )
        elif not _in_time(time, standing.covered):
            self._evidence.notes.add(
                "V3",
                self._node,
                seq,
                f"entry {since}, on which it rests, is of {time}; the regulator cosigned it first "
                f"at {standing.covered}, more than {IN_TIME.seconds} seconds apart",
                f"所依据的条目 {since} 时间为 {time}，监管方首次会签于 {standing.covered}，"
                f"相差超过 {IN_TIME.seconds} 秒",
                evidence=(where, f"witness/{self._node}.release.jsonl"),
            )

    def _check_run(self, reservation: Reservation) -> None:
        """Rounds rise within a run, and rest on its one snapshot."""
        run, seq = reservation.run, reservation.seq
        state = self._runs.get(run) or _RunState(None, 0, 0)
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
        elif state.last_round == 0 and snapshot.seq != seq - 1:
            # A node writes both at once: the rows of a run are taken when it begins.
            self._note(
                seq,
                "the run's first reservation does not follow its snapshot directly",
                "该运行的首个预留并非紧接其快照",
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
        self._runs.put(run, _RunState(snapshot, last, seq))

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

    def _check_asked(self, reservation: Reservation) -> None:
        """Compare a reservation with the query that the bank signed for its round."""
        workbook = self._evidence.workbook
        key = (reservation.bank, reservation.run, reservation.round)
        row = workbook.at_once(
            "SELECT digest, plan, part, mechanism FROM asked "
            "WHERE bank = ? AND run = ? AND round = ?",
            *key,
        ).fetchone()
        if row is None:
            # Nothing may have been accepted of such a round: that is looked at with the bank.
            workbook.put("unasked", *key, self._node, reservation.seq, reservation.query)
            return
        if row != (reservation.query, reservation.plan, reservation.part, reservation.mechanism):
            self._note(
                reservation.seq,
                "the reservation is for another query, part or mechanism than the bank signed "
                "for its round",
                "该预留的查询、数据部分或机制与银行为该轮签署的不同",
                f"{reservation.bank}/rounds.jsonl",
            )


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


@lru_cache(maxsize=4096)
def _in_time(one: str, other: str) -> bool:
    return abs(time_from(one) - time_from(other)) <= IN_TIME


def _dump_run(state: _RunState) -> str:
    snapshot = state.snapshot
    told = (state.last_round, state.last_seq)
    if snapshot is None:
        return " ".join(map(str, told))
    return " ".join(map(str, (*told, snapshot.seq, snapshot.run, snapshot.plan, snapshot.root)))


def _load_run(value: str) -> _RunState:
    last_round, last_seq, *rest = value.split(" ")
    snapshot = Snapshot(int(rest[0]), *rest[1:]) if rest else None
    return _RunState(snapshot, int(last_round), int(last_seq))
