"""V5: what nodes released, what banks accepted and what receipts confirm is the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hejin_regulator.check_receipts import NOT_RECEIVED_WORD, RECEIVED
from hejin_regulator.check_reservations import IN_TIME
from hejin_regulator.evidence import Evidence
from hejin_regulator.notebook import place
from hejin_trust.canonical import time_from


@dataclass(frozen=True, slots=True)
class _Release:
    """A row of `sent`; lapsed: its node was revoked before the bank could answer."""

    key: tuple[str, str, int]
    seq: int
    bank: str
    content: tuple[object, ...]  # bank, plan, context, reservation, header, vector
    reservation: int
    receipt: int | None
    word: str
    covered: int
    lapsed: int


@dataclass(frozen=True, slots=True)
class _Accept:
    """A row of `accept`."""

    key: tuple[str, str, int]
    bank: str
    seq: int
    content: tuple[object, ...]
    proof_size: int

    @property
    def place(self) -> str:
        """Where the entry stands."""
        return place(self.bank, "release", self.seq)


_SENT: Final = """
SELECT node, run, round, seq, bank, plan, round_ctx, reservation, header, vector, receipt, word,
covered, lapsed FROM sent ORDER BY node, run, round, seq
"""
_ACCEPTED: Final = """
SELECT node, run, round, bank, seq, plan, round_ctx, reservation, header, vector, proof_size
FROM accept ORDER BY node, run, round, rowid
"""
_ENDED: Final = "SELECT 1 FROM ended WHERE bank = ? AND run = ? AND round = ?"
_LAPSED: Final = "SELECT node, COUNT(*) FROM sent WHERE lapsed GROUP BY node ORDER BY node"
_UNWITNESSED: Final = """
SELECT a.bank, a.seq, a.node, a.proof_size, a.time, c.time FROM accept a
LEFT JOIN cosigned c ON c.member = a.node AND c.size = a.proof_size
WHERE c.size IS NULL OR c.time > a.time
"""


def check_both_ways(evidence: Evidence) -> None:
    """Compare both sides; what is unmatched is named with its side."""
    released, accepted = _releases(evidence), _accepts(evidence)
    release, accept = next(released, None), next(accepted, None)
    before: _Accept | None = None
    while release is not None or accept is not None:
        if accept is not None and before is not None and accept.key == before.key:
            _repeated(evidence, before, accept)
            accept = next(accepted, None)
        elif accept is None or (release is not None and release.key < accept.key):
            assert release is not None
            _check_unaccepted(evidence, release)
            release = next(released, None)
        elif release is None or accept.key < release.key:
            _unreleased(evidence, accept)
            before, accept = accept, next(accepted, None)
        else:
            _check_pair(evidence, release, accept)
            before, accept, release = accept, next(accepted, None), next(released, None)
    _check_witnessed(evidence)
    for node, count in evidence.workbook.rows(_LAPSED):
        evidence.notes.warn(
            f"{node} was revoked before it could fetch the bank's word on {count} of its "
            "releases: they are compared with the bank's log alone.",
            f"{node} 在取得银行对其 {count} 次输出的答复之前已被撤销：仅与银行日志核对。",
        )


def _releases(evidence: Evidence) -> Iterator[_Release]:
    for row in evidence.workbook.rows(_SENT):
        node, run, number, seq, bank, plan, context, reserved, header, vector, *rest = row
        yield _Release(
            (node, run, number),
            seq,
            bank,
            (bank, plan, context, reserved, header, vector),
            reserved,
            *rest,
        )


def _accepts(evidence: Evidence) -> Iterator[_Accept]:
    for row in evidence.workbook.rows(_ACCEPTED):
        node, run, number, bank, seq, *content, size = row
        yield _Accept(
            (node, run, number),
            bank,
            seq,
            (bank, *content),
            size,
        )


def _repeated(evidence: Evidence, first: _Accept, accept: _Accept) -> None:
    node, _, number = accept.key
    evidence.notes.add(
        "V5",
        accept.bank,
        accept.seq,
        f"round {number} of {node} was accepted before, in entry {first.seq} of {first.bank}",
        f"{node} 的第 {number} 轮此前已由 {first.bank} 在条目 {first.seq} 中接收",
        evidence=(first.place,),
    )


def _unreleased(evidence: Evidence, accept: _Accept) -> None:
    node, _, number = accept.key
    evidence.notes.add(
        "V5",
        accept.bank,
        accept.seq,
        f"the bank accepted round {number} of {node}, which that node did not release",
        f"银行接收了 {node} 的第 {number} 轮，但该节点没有输出",
    )


def _check_unaccepted(evidence: Evidence, release: _Release) -> None:
    if release.word == NOT_RECEIVED_WORD:
        return
    node, run, number = release.key
    if release.lapsed and evidence.workbook.row(_ENDED, release.bank, run, number):
        return
    evidence.notes.add(
        "V5",
        release.bank,
        None,
        f"{node} released round {number} (entry {release.seq}), "
        "which the bank's log does not accept",
        f"{node} 输出了第 {number} 轮（条目 {release.seq}），银行日志中没有接收记录",
        evidence=(place(node, "release", release.seq),),
    )


def _check_pair(evidence: Evidence, release: _Release, accept: _Accept) -> None:
    """Compare a release and its receipt with the bank's acceptance."""
    node, _, number = release.key
    sent = place(node, "release", release.seq)

    def note(member: str, seq: int | None, en: str, zh: str, *beside: str) -> None:
        evidence.notes.add("V5", member, seq, en, zh, evidence=beside)

    if release.word == NOT_RECEIVED_WORD:
        note(
            accept.bank,
            accept.seq,
            f"the bank accepted round {number} of {node} and signed that it did not receive it",
            f"银行接收了 {node} 的第 {number} 轮，却签署了未收到声明",
            sent,
        )
        return
    if accept.content != release.content:
        note(
            accept.bank,
            accept.seq,
            f"the bank accepted something else than {node} released in entry {release.seq}",
            f"银行接收的内容与 {node} 在条目 {release.seq} 中的输出不同",
            sent,
        )
    if accept.proof_size <= release.reservation:
        note(
            accept.bank,
            accept.seq,
            "the accepted proof does not cover the reservation",
            "所接收的证明未覆盖该预留",
            sent,
        )
    # The bank accepts before it signs the receipt, so the receipt's checkpoint covers it.
    if release.word == RECEIVED and accept.bank == release.bank and accept.seq >= release.covered:
        note(
            node,
            release.receipt,
            f"the receipt's checkpoint of {accept.bank} does not cover its acceptance",
            f"回执中 {accept.bank} 的检查点未覆盖其接收条目",
            accept.place,
        )


def _check_witnessed(evidence: Evidence) -> None:
    """A bank accepts on a reservation that the regulator has cosigned before."""
    for bank, seq, node, size, accepted, cosigned in evidence.workbook.rows(_UNWITNESSED):
        if cosigned is None:
            en = "the regulator cosigned no checkpoint of that size"
            zh = "监管方没有会签过该大小的检查点"
        elif time_from(cosigned) - time_from(accepted) > IN_TIME:
            en = f"it was accepted at {accepted}, and cosigned only at {cosigned}"
            zh = f"于 {accepted} 接收，而会签于 {cosigned}"
        else:
            continue  # their clocks
        evidence.notes.add(
            "V5",
            bank,
            seq,
            f"the accepted proof is of {size} entries of {node}: {en}",
            f"所接收的证明针对 {node} 的 {size} 条：{zh}",
            evidence=(f"witness/{node}.release.jsonl",),
        )
