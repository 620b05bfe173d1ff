"""V3 and V4: every release rests on one earlier reservation that the regulator cosigned in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import number
from hejin_regulator.notebook import place
from hejin_regulator.plans import KnownPlan
from hejin_regulator.records import Release, Reservation
from hejin_regulator.witnessed import Seen
from hejin_trust.canonical import time_from
from hejin_trust.entries import Entry

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
    asked      whether the bank shows anything of its round
    """

    reservation: Reservation
    period: str
    known: KnownPlan | None
    since: tuple[int, str]
    accounted: bool
    asked: bool
    covered: str = ""


class ReservationCheck:
    """One node's reservations from their making to their end, in the order of its log."""

    def __init__(self, evidence: Evidence, node: str) -> None:
        self._evidence, self._node = evidence, node
        self._open: dict[int, Standing] = {}
        self._uncovered: set[int] = set()
        self._newest = ""
        # The newest `recover` entry; -1 as long as there is none.
        self._recovered = -1

    def _note(self, seq: int, en: str, zh: str, *evidence: str) -> None:
        self._evidence.notes.add("V4", self._node, seq, en, zh, evidence=evidence)

    def reserve(self, standing: Standing) -> None:
        """Take a reservation that was made just now."""
        seq = standing.reservation.seq
        if len(self._open) >= _MOST_OPEN:
            self._note(
                seq,
                f"more than {_MOST_OPEN} reservations wait for their end: this one is not followed",
                f"等待结束的预留超过 {_MOST_OPEN} 个：此条未被跟踪",
            )
            return
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
        """Take a `recover` entry."""
        self._recovered = seq

    def was_lost(self, standing: Standing) -> bool:
        """Return whether the node has lost its database since a reservation.

        What its bank tells it then of what had left is logged long after it left.
        """
        return standing.since[0] < self._recovered

    def cover(self, seen: Seen) -> None:
        """The regulator cosigned everything up to the entry that was taken last."""
        again = seen.time < self._newest  # a mirror that was restored has cosigned anew
        self._newest = max(self._newest, seen.time)
        for seq in self._open if again else self._uncovered:
            standing = self._open[seq]
            standing.covered = min(standing.covered or seen.time, seen.time)
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
        if not standing.asked:
            self._note(
                release.seq,
                f"{reservation.bank} shows neither query nor end of the round that something left "
                "for: export the bank again when no run is under way",
                f"{reservation.bank} 未出示该输出所属轮次的查询与结束："
                "请在没有运行时重新导出该银行",
                place(self._node, "release", reservation.seq),
            )
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
            self._evidence.notes.warn(
                f"{self._node} was revoked before {lapsed} of its reservations ended: "
                "they stay charged.",
                f"{self._node} 在其 {lapsed} 个预留结束之前已被撤销：费用照计。",
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


@lru_cache(maxsize=4096)
def _in_time(one: str, other: str) -> bool:
    return abs(time_from(one) - time_from(other)) <= IN_TIME
