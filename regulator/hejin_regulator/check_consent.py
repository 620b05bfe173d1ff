"""V7, authorisations: every grant behind a snapshot was in force, for that bank and purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from typing import cast

from hejin_regulator.check_plans import PlanBook
from hejin_regulator.evidence import Evidence, roots_at
from hejin_regulator.records import NodeLog, Snapshot
from hejin_trust.canonical import encode, time_from, time_text
from hejin_trust.entries import Body, Entry

#: A snapshot is taken a little before its entry is written; an authorisation that began or ended
#: in between counts as it stood at either moment.
_TAKING = timedelta(minutes=10)

#: Most combinations of grant scopes that are tried; each is one pass over the grants.
_MOST_SCOPES = 10

_Scope = tuple[tuple[str, ...], tuple[str, ...]]  # data categories, features


@dataclass(frozen=True, slots=True)
class _Grant:
    seq: int
    enterprise: str
    purposes: tuple[str, ...]
    banks: tuple[str, ...]
    scope: _Scope
    valid_from: str
    valid_to: str


class ConsentCheck:
    """Follows a node's internal log and checks each snapshot against the grants standing then.

    A snapshot names the hash of the sorted grants it rests on: the newest one of each enterprise
    that covers purpose, bank, data categories and features. The feature view is no part of an
    export, so which categories and features were needed is not known; but grants share few
    scopes, and some set of them must lead to the logged hash.
    """

    def __init__(self, evidence: Evidence, plans: PlanBook, node: NodeLog) -> None:
        self._evidence, self._plans, self._node = evidence, plans, node
        self._standing: dict[int, _Grant] = {}
        self._waiting = sorted(node.snapshots.values(), key=lambda s: s.internal_size)
        self._size = 0

    def see(self, entry: Entry) -> None:
        """Take the next entry of the internal log."""
        self._check_due()
        self._size = entry.seq + 1
        if entry.type == "authorisation.grant":
            self._standing[entry.seq] = _grant(entry.seq, entry.body)
        elif entry.type == "authorisation.revoke":
            revoked = cast("int", entry.body["grant"])
            if self._standing.pop(revoked, None) is None:
                self._evidence.notes.add(
                    "V7",
                    self._node.member.id,
                    entry.seq,
                    f"grant {revoked}, which is revoked here, does not stand",
                    f"此处撤销的授权 {revoked} 并不存在或已失效",
                )

    def finish(self) -> None:
        """Check what is left at the end of the log, and the roots that snapshots name."""
        self._check_due()
        for snapshot in self._waiting:
            self._note(
                snapshot,
                f"the snapshot rests on {snapshot.internal_size} entries of the internal log, "
                f"the export has {self._size}",
                f"该快照依据内部日志的 {snapshot.internal_size} 条，导出仅有 {self._size} 条",
            )
        snapshots = self._node.snapshots.values()
        roots = roots_at(self._node.export, "internal", {s.internal_size for s in snapshots})
        for snapshot in snapshots:
            root = roots.get(snapshot.internal_size)
            if root is not None and root.hex() != snapshot.internal_root:
                self._note(
                    snapshot,
                    "the snapshot names another internal log than the exported one: "
                    "one of the two was rewritten",
                    "该快照所指的内部日志与导出的不同：其一被改写",
                )

    def _check_due(self) -> None:
        while self._waiting and self._waiting[0].internal_size == self._size:
            self._check(self._waiting.pop(0))

    def _check(self, snapshot: Snapshot) -> None:
        bank = next(
            (
                approval.bank
                for approval in self._node.approvals.values()
                if approval.plan == snapshot.plan
            ),
            None,
        )
        known = None if bank is None else self._plans.find(bank, snapshot.plan)
        if bank is None or known is None:
            self._note(
                snapshot,
                "the snapshot was taken for a plan that was not approved or is missing",
                "该快照所依据的计划未获批准或缺失",
            )
            return
        fitting = [
            grant
            for grant in self._standing.values()
            if known.plan.purpose in grant.purposes and not {bank, "*"}.isdisjoint(grant.banks)
        ]
        if not any(
            snapshot.authorisations == digest for digest in _possible(fitting, snapshot.time)
        ):
            self._note(
                snapshot,
                "the snapshot rests on authorisations that were not in force for this bank and "
                "purpose, or leaves out some that were",
                "该快照所依据的授权当时对该银行和用途无效，或遗漏了有效授权",
            )

    def _note(self, snapshot: Snapshot, en: str, zh: str) -> None:
        self._evidence.notes.add("V7", self._node.member.id, snapshot.seq, en, zh)


def _possible(grants: list[_Grant], time: str) -> Iterator[str]:
    """Yield the hash of every set of grants that a snapshot at `time` could rest on."""
    for moment in _moments(grants, time):
        valid = [grant for grant in grants if grant.valid_from <= moment < grant.valid_to]
        yield _hash_of(valid)  # what is most likely, however many scopes there are
        scopes = list(dict.fromkeys(grant.scope for grant in valid))[:_MOST_SCOPES]
        for size in range(len(scopes), -1, -1):
            for chosen in combinations(scopes, size):
                yield _hash_of(grant for grant in valid if grant.scope in chosen)


def _hash_of(grants: Iterable[_Grant]) -> str:
    newest = {grant.enterprise: grant.seq for grant in grants}
    return hashlib.sha256(encode(sorted(newest.values()))).hexdigest()


def _moments(grants: list[_Grant], time: str) -> list[str]:
    """Return `time` and, if grants began or ended shortly before it, the moments before that."""
    earliest = time_text(time_from(time) - _TAKING)
    changes = {
        moment
        for grant in grants
        for moment in (grant.valid_from, grant.valid_to)
        if earliest < moment <= time
    }
    return [time, *(time_text(time_from(c) - timedelta(seconds=1)) for c in sorted(changes))]


def _grant(seq: int, body: Body) -> _Grant:
    def words(key: str) -> tuple[str, ...]:
        return tuple(cast("list[str]", body[key]))

    return _Grant(
        seq=seq,
        enterprise=cast("str", body["enterprise"]),
        purposes=words("purposes"),
        banks=words("banks"),
        scope=(words("categories"), words("features")),
        valid_from=cast("str", body["valid_from"]),
        valid_to=cast("str", body["valid_to"]),
    )
