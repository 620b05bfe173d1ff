"""V7, authorisations: what a snapshot or sum rests on was in force, for that bank and purpose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hejin_regulator.check_reservations import Standing
from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import number, text
from hejin_regulator.plans import KnownPlan, PlanBook
from hejin_regulator.workbook import Shelf
from hejin_trust.authorisation import OUTCOME, OUTCOME_PURPOSE, SCOPES, covers
from hejin_trust.canonical import time_from, time_text
from hejin_trust.entries import Body, Entry

#: A snapshot is taken a little before its entry is written; an authorisation that began or ended
#: in between counts as it stood at either moment.
_TAKING: Final = timedelta(minutes=10)

#: A log's clock may be set back this far, so that the moment of a sum lies before its entries.
_SET_BACK: Final = timedelta(minutes=2)

_STANDING: Final = """
SELECT MAX(seq) FROM granted WHERE seq < ?1 AND (revoked IS NULL OR revoked >= ?1)
AND valid_from <= ?2 AND valid_to > ?2 AND scope IN (SELECT id FROM fitting)
GROUP BY enterprise ORDER BY 1
"""
_INDEXES: Final = (
    "CREATE INDEX granted_revoked ON granted (revoked) WHERE revoked IS NOT NULL",
    "CREATE INDEX granted_from ON granted (valid_from)",
    "CREATE INDEX granted_to ON granted (valid_to)",
)
_BY_ENTERPRISE: Final = "CREATE INDEX IF NOT EXISTS granted_enterprise ON granted (enterprise)"
_INDEX_NAMES: Final = ("granted_revoked", "granted_from", "granted_to", "granted_enterprise")

_COUNTED: Final = f"SELECT COUNT(*) FROM ({_STANDING})"  # noqa: S608 - of the text above
#: What distinguishes two moments of a log: the last grant and revocation before it, and the last
#: time at which a grant began or ended.
_STATE: Final = """
SELECT (SELECT MAX(seq) FROM granted WHERE seq < ?1),
(SELECT MAX(revoked) FROM granted WHERE revoked < ?1),
(SELECT MAX(valid_from) FROM granted WHERE valid_from <= ?2),
(SELECT MAX(valid_to) FROM granted WHERE valid_to <= ?2)
"""

#: When the first grant, and the first revocation, was logged behind a place.
_NEXT: Final = """
SELECT (SELECT time FROM granted WHERE seq >= ?1 ORDER BY seq LIMIT 1),
(SELECT revoked_time FROM granted WHERE revoked >= ?1 ORDER BY revoked LIMIT 1)
"""

_SUMS: Final = """
SELECT summed.bank, summed.seq, summed.time, summed.since, summed.plan, summed.reservation,
used.seq, used.authorisations, used.internal_size, accounted.seq
FROM summed LEFT JOIN used ON used.reservation = summed.reservation
LEFT JOIN accounted ON accounted.reservation = summed.reservation
WHERE NOT summed.lost ORDER BY summed.bank, summed.plan, summed.seq
"""
#: Said of no release, or of one twice.
_BESIDE: Final = """
SELECT used.seq, used.reservation FROM used LEFT JOIN summed
ON summed.reservation = used.reservation
WHERE summed.reservation IS NULL OR used.seq > (
    SELECT MIN(seq) FROM used AS first WHERE first.reservation = used.reservation)
ORDER BY used.seq
"""

_Need = tuple[tuple[str, ...], ...]  # by scope


@dataclass(frozen=True, slots=True)
class _Taken:
    """A `snapshot` entry, and how many entries of the internal log it rests on."""

    seq: int
    time: str
    plan: str
    authorisations: str
    internal_size: int


class ConsentCheck:
    """The authorisations of one node's internal log, and the snapshots that rest on them.

    A snapshot names the hash of the sorted grants it rests on: the newest one of each enterprise
    that covers purpose, bank, and the categories and features of the plan's view.
    Rows of enterprises that revoke later are left out of the sums that follow: each sum names in
    the same way the grants that stood for its plan when it was computed.
    """

    def __init__(self, evidence: Evidence, plans: PlanBook, node: str) -> None:
        self._evidence, self._plans, self._node = evidence, plans, node
        self._scopes: Shelf[int] = Shelf(evidence.workbook, "scopes", str, int)
        self._known_scopes = 0
        self._hashes: dict[tuple[object, ...], str] = {}
        for name in _INDEX_NAMES:
            evidence.workbook.change(f"DROP INDEX IF EXISTS {name}")
        for table in ("granted", "scope", "snapshot", "summed", "used", "accounted"):
            evidence.workbook.change(f"DELETE FROM {table}")  # noqa: S608 - of those above

    def take(self, entry: Entry, bank: str | None) -> None:
        """Take a `snapshot` entry of the release log; bank: who may ask under its plan."""
        body = entry.body
        size, root = number(body, "internal_size"), bytes.fromhex(text(body, "internal_root"))
        self._evidence.claim(
            (self._node, "internal"), (size, root), "snapshot", self._node, entry.seq
        )
        self._evidence.workbook.put(
            "snapshot",
            entry.seq,
            entry.time,
            bank,
            text(body, "plan"),
            text(body, "authorisations"),
            size,
        )

    def see(self, entry: Entry) -> None:
        """Take an entry of the internal log."""
        if entry.type == "authorisation.grant":
            body = entry.body
            self._evidence.workbook.put(
                "granted",
                entry.seq,
                entry.time,
                text(body, "enterprise"),
                self._scope(body),
                text(body, "valid_from"),
                text(body, "valid_to"),
            )
        elif entry.type == "authorisation.revoke":
            revoked = number(entry.body, "grant")
            changed = self._evidence.workbook.change(
                "UPDATE granted SET revoked = ?, revoked_time = ? "
                "WHERE seq = ? AND revoked IS NULL",
                entry.seq,
                entry.time,
                revoked,
            )
            if changed != 1:
                self._evidence.notes.add(
                    "V7",
                    self._node,
                    entry.seq,
                    f"grant {revoked}, which is revoked here, does not stand",
                    f"此处撤销的授权 {revoked} 并不存在或已失效",
                    log="internal",
                )

        elif entry.type == "erase":
            self._see_erasure(entry)

    def _see_erasure(self, entry: Entry) -> None:
        """No grant of an enterprise may outlive its data."""
        self._evidence.workbook.change(_BY_ENTERPRISE)
        standing = self._evidence.workbook.rows(
            "SELECT seq FROM granted WHERE enterprise = ? AND revoked IS NULL ORDER BY seq",
            text(entry.body, "enterprise"),
        )
        for (grant,) in list(standing):
            self._evidence.notes.add(
                "V7",
                self._node,
                entry.seq,
                f"the enterprise of grant {grant} is erased here, and the grant still stands",
                f"此处删除的企业其授权 {grant} 仍然有效",
                log="internal",
            )

    def account(self, entry: Entry) -> None:
        """Take an `account` entry of the internal log: what stands before it counts for its sum."""
        self._evidence.workbook.put("accounted", number(entry.body, "reservation"), entry.seq)

    def use(self, entry: Entry) -> None:
        """Take an `authorisation.use` entry of the internal log."""
        body = entry.body
        self._evidence.workbook.put(
            "used",
            number(body, "reservation"),
            entry.seq,
            text(body, "authorisations"),
            number(body, "internal_size"),
        )

    def released(self, entry: Entry, standing: Standing, *, lost: bool) -> None:
        """Take a `release` entry; lost: a bank's word on it, after a database was lost."""
        reservation = standing.reservation
        self._evidence.workbook.put(
            "summed",
            reservation.seq,
            entry.seq,
            entry.time,
            standing.since[1],
            reservation.bank,
            reservation.plan,
            lost,
        )

    def finish(self) -> None:
        """Check snapshots and sums against the grants that stood when they were taken."""
        workbook = self._evidence.workbook
        for statement in _INDEXES:
            workbook.change(statement)
        self._check_snapshots()
        self._check_sums()

    def _check_snapshots(self) -> None:
        workbook = self._evidence.workbook
        snapshots = workbook.rows(
            "SELECT bank, seq, time, plan, authorisations, internal_size FROM snapshot ORDER BY seq"
        )
        needed: _Need | None = None
        for bank, seq, time, plan, authorisations, size in snapshots:
            taken = _Taken(seq, time, plan, authorisations, size)
            self._check_newest(taken)
            known = None if bank is None else self._plans.find(bank, plan)
            if known is None:
                self._note(
                    taken,
                    "the snapshot was taken for a plan that was not approved or is missing",
                    "该快照所依据的计划未获批准或缺失",
                )
                continue
            if known.view is None:
                self._note(
                    taken,
                    "the feature view of the snapshot's plan is missing, so that its "
                    "authorisations cannot be told",
                    "该快照所属计划的特征视图缺失，无法核对授权",
                )
                continue
            if (need := _need(known)) != needed:
                needed = need
                self._fit(need)
            start = time_text(time_from(taken.time) - _TAKING)
            if not self._rests(need, taken.authorisations, taken.internal_size, start, taken.time):
                self._note(
                    taken,
                    "the snapshot rests on authorisations that were not in force for this bank and "
                    "purpose, or leaves out some that were",
                    "该快照所依据的授权当时对该银行和用途无效，或遗漏了有效授权",
                )

    def outcomes(self, bank: str, before: int, time: str) -> int:
        """Return how many enterprises' outcomes a bank could be asked for, by grants before a seq.

        After `finish`. Only a grant that names the outcome counts, whatever stars it has.
        """
        self._fit(((OUTCOME_PURPOSE,), (bank,), (OUTCOME,), ()))
        found = self._evidence.workbook.row(_COUNTED, before, time)
        return 0 if found is None else int(found[0])

    def _check_sums(self) -> None:
        needed: _Need | None = None
        for row in self._evidence.workbook.rows(_SUMS):
            bank, seq, time, since, plan, reservation, place, hashed, size, accounted = row
            known = self._plans.find(bank, plan)
            if place is None:
                self._note_sum(
                    seq,
                    f"the sum of reservation {reservation} does not say which authorisations it "
                    "rests on",
                    f"预留 {reservation} 的求和未说明所依据的授权",
                )
                continue
            if known is None or known.view is None:
                continue  # noted at the snapshot
            if (need := _need(known)) != needed:
                needed = need
                self._fit(need)
            start = time_text(time_from(since) - _SET_BACK)
            if (
                not (accounted or 0) < size <= place
                or self._came_before(size, start)
                or not self._rests(need, hashed, size, start, time)
            ):
                self._note_sum(
                    seq,
                    f"the sum of reservation {reservation} rests on authorisations that were not "
                    "in force for this bank and purpose, or leaves out some that were",
                    f"预留 {reservation} 的求和所依据的授权当时对该银行和用途无效，"
                    "或遗漏了有效授权",
                    place,
                )
        for place, reservation in self._evidence.workbook.rows(_BESIDE):
            self._evidence.notes.add(
                "V7",
                self._node,
                place,
                f"this names the authorisations of reservation {reservation}, for which nothing "
                "was released, or which has named them before",
                f"此条说明预留 {reservation} 所依据的授权，但该预留并无输出或此前已说明",
                log="internal",
            )

    def _came_before(self, size: int, start: str) -> bool:
        """Return whether a grant or revocation behind the first `size` entries is of before."""
        times = self._evidence.workbook.row(_NEXT, size) or ()
        return any(time is not None and time < start for time in times)

    def _note_sum(self, seq: int, en: str, zh: str, place: int | None = None) -> None:
        beside = () if place is None else (f"{self._node}/internal.jsonl:{place}",)
        self._evidence.notes.add("V7", self._node, seq, en, zh, evidence=beside)

    def _check_newest(self, taken: _Taken) -> None:
        """A snapshot rests on all authorisations that were logged when it was taken."""
        earliest = time_text(time_from(taken.time) - _TAKING)
        for time in self._evidence.workbook.row(_NEXT, taken.internal_size) or ():
            if time is not None and time < earliest:
                self._note(
                    taken,
                    f"the snapshot rests on the authorisations of before {time}, though others "
                    "had been logged since",
                    f"该快照依据 {time} 之前的授权，而此后已记录其他授权变更",
                )
                return

    def _note(self, taken: _Taken, en: str, zh: str) -> None:
        self._evidence.notes.add(
            "V7",
            self._node,
            taken.seq,
            en,
            zh,
            evidence=(f"{self._node}/internal.jsonl:{max(taken.internal_size - 1, 0)}",),
        )

    def _scope(self, body: Body) -> int:
        """Return the number of a grant's scope; bulk grants share theirs."""
        words = json.dumps([body[key] for key in SCOPES], ensure_ascii=False)
        known = self._scopes.get(words)
        if known is None:
            self._known_scopes += 1
            known = self._known_scopes
            self._scopes.put(words, known)
            self._evidence.workbook.at_once("INSERT INTO scope VALUES (?, ?)", known, words)
        return known

    def _fit(self, need: _Need) -> None:
        """Write down which scopes cover a need."""
        workbook = self._evidence.workbook
        workbook.change("DELETE FROM fitting")
        for scope, words in workbook.rows("SELECT id, words FROM scope"):
            if _covers(json.loads(words), need):
                workbook.at_once("INSERT INTO fitting VALUES (?)", scope)

    def _hash(self, need: _Need, size: int, time: str) -> str:
        """Return the hash of the grants that stood at a moment; most snapshots find it the same."""
        workbook = self._evidence.workbook
        state = (need, workbook.row(_STATE, size, time))
        found = self._hashes.get(state)
        if found is None:
            if len(self._hashes) > 256:
                self._hashes.clear()
            found = self._hashes[state] = _hash_of(
                str(seq) for (seq,) in workbook.rows(_STANDING, size, time)
            )
        return found

    def _rests(self, need: _Need, hashed: str, size: int, start: str, end: str) -> bool:
        """Return whether `hashed` are the grants that stood at some moment from start to end."""
        return any(self._hash(need, size, time) == hashed for time in self._moments(start, end))

    def _moments(self, start: str, end: str) -> Iterator[str]:
        """Yield `end` and, where grants began or ended since `start`, the moments before that."""
        yield end
        changes = self._evidence.workbook.rows(
            "SELECT valid_from FROM granted WHERE valid_from > ?1 AND valid_from <= ?2 "
            "UNION SELECT valid_to FROM granted WHERE valid_to > ?1 AND valid_to <= ?2 ORDER BY 1",
            start,
            end,
        )
        for (change,) in changes:
            yield time_text(time_from(change) - timedelta(seconds=1))


def _need(known: KnownPlan) -> _Need:
    assert known.view is not None, "the caller has looked"
    features = tuple(feature.name for feature in known.view.features)
    return (known.plan.purpose,), (known.plan.bank,), known.categories, features


def _covers(scope: list[list[str]], need: _Need) -> bool:
    return all(
        covers(name, given, wanted) for name, given, wanted in zip(SCOPES, scope, need, strict=True)
    )


def _hash_of(seqs: Iterator[str]) -> str:
    """Return the hash of a JSON list of numbers, which is written as it is read."""
    seen = hashlib.sha256(b"[")
    for place, seq in enumerate(seqs):
        seen.update((f",{seq}" if place else seq).encode())
    seen.update(b"]")
    return seen.hexdigest()
