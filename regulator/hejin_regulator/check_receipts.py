"""V5: what nodes released, what banks accepted and what receipts confirm is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from hejin_privacy.messages import NotReceived, Receipt
from hejin_regulator.check_reservations import Standing
from hejin_regulator.evidence import Evidence, origin_of
from hejin_regulator.notebook import place
from hejin_regulator.records import Release, envelope_of, number, text
from hejin_regulator.workbook import Shelf, Workbook
from hejin_trust.charter import Member
from hejin_trust.checkpoint import open_checkpoint
from hejin_trust.entries import Entry
from hejin_trust.envelope import NOT_RECEIVED, RECEIPT, EnvelopeError, open_envelope
from hejin_trust.errors import HejinError
from hejin_trust.text import Text

_MOST_WAITING: Final = 10_000
"""Releases without a receipt at once; a node that misses two refuses the bank's next round."""

_RECEIVED, _NOT_RECEIVED, _NONE = "received", "not-received", ""


OpenedNote = tuple[int, bytes]
"""Size and root in a checkpoint whose signature was checked."""


def opened_notes(workbook: Workbook) -> Shelf[OpenedNote]:
    """Return an empty shelf of banks' checkpoints: the receipts of one round all show the same."""
    return Shelf(workbook, "bank_notes", _dump_note, _load_note)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A release on its way to the bank of its reservation."""

    release: Release
    bank: str
    plan: str


class ReceiptCheck:
    """The bank's words on one node's releases, in the order of the node's log.

    opened  the banks' checkpoints, see `opened_notes`
    """

    def __init__(self, evidence: Evidence, opened: Shelf[OpenedNote], node: str) -> None:
        self._evidence, self._opened, self._node = evidence, opened, node
        self._waiting: dict[int, _Sent] = {}

    def _note(self, seq: int | None, en: str, zh: str, *evidence: str) -> None:
        self._evidence.notes.add("V5", self._node, seq, en, zh, evidence=evidence)

    def sent(self, release: Release, standing: Standing | None) -> None:
        """Take a release, which awaits its receipt from now on."""
        if standing is None or not self._is_bank(standing.reservation.bank):
            self._note(
                release.seq,
                "the release went to a bank that cannot be told",
                "无法确定该输出的接收银行",
            )
            return
        sent = _Sent(release, standing.reservation.bank, standing.reservation.plan)
        if len(self._waiting) >= _MOST_WAITING:
            self._missing(sent)
            return
        self._waiting[release.reservation] = sent

    def receive(self, entry: Entry) -> None:
        """Take a `receipt` entry."""
        sent = self._waiting.pop(number(entry.body, "reservation"), None)
        if sent is None:
            self._note(
                entry.seq,
                "the receipt belongs to no release, or to one that has a receipt",
                "该回执不对应任何输出，或对应的输出已有回执",
            )
            return
        try:
            word = self._word(entry, sent)
            covered = self._covered(entry.seq, sent, word)
        except HejinError as reason:
            self._evidence.notes.add_text("V5", self._node, entry.seq, reason.text)
            word, covered = None, 0
        kind = {Receipt: _RECEIVED, NotReceived: _NOT_RECEIVED}.get(type(word), _NONE)
        self._keep(sent, entry.seq, kind, covered)

    def finish(self) -> None:
        """Note the releases of which the bank has said nothing."""
        for sent in self._waiting.values():
            self._missing(sent)

    def _is_bank(self, name: str) -> bool:
        return self._evidence.history.member(name, "bank") is not None

    def _missing(self, sent: _Sent) -> None:
        """A node that was revoked gets no word of a bank any more: then the bank's log tells."""
        history = self._evidence.history
        lapsed = history.acted_before_its_end(self._node, "node", sent.release.time)
        if not lapsed:
            self._note(
                sent.release.seq,
                f"there is no receipt of {sent.bank} for the release",
                f"该输出没有 {sent.bank} 的回执",
            )
        self._keep(sent, None, _NONE, 0, lapsed=lapsed)

    def _keep(
        self, sent: _Sent, receipt: int | None, word: str, covered: int, *, lapsed: bool = False
    ) -> None:
        release = sent.release
        self._evidence.workbook.put(
            "sent",
            self._node,
            release.run,
            release.round,
            release.seq,
            sent.bank,
            sent.plan,
            release.round_ctx,
            release.reservation,
            release.header,
            release.vector,
            receipt,
            word,
            covered,
            lapsed,
        )

    def _word(self, entry: Entry, sent: _Sent) -> Receipt | NotReceived | None:
        """Return what the bank signed on a release; None, and noted, if it is of another one."""
        release = sent.release
        bank = self._evidence.charter.member(sent.bank, "bank")
        word = _open_word(envelope_of(text(entry.body, "receipt")), bank)
        told = (word.run, word.round, word.node)
        fits = told == (release.run, release.round, self._node)
        fits &= (text(entry.body, "run"), number(entry.body, "round")) == told[:2]
        if isinstance(word, Receipt):
            fits &= (word.header, word.vector) == (release.header, release.vector)
        if fits:
            return word
        self._note(
            entry.seq,
            f"the bank's receipt is for something else than entry {release.seq} released",
            f"银行回执与条目 {release.seq} 的输出不符",
            place(self._node, "release", release.seq),
        )
        return None

    def _covered(self, seq: int, sent: _Sent, word: Receipt | NotReceived | None) -> int:
        """Return the size of the bank's log that a receipt shows; 0 where there is none."""
        if not isinstance(word, Receipt):
            return 0
        key = hashlib.sha256(f"{sent.bank}\n{word.checkpoint}".encode()).hexdigest()
        opened = self._opened.get(key)
        if opened is None:
            bank = self._evidence.charter.member(sent.bank, "bank")
            origin = origin_of(self._evidence.charter, bank, "release")
            told = open_checkpoint(word.checkpoint, origin, bank.log_key)
            opened = (told.size, told.root)
            self._opened.put(key, opened)
        self._evidence.claim((sent.bank, "release"), opened, "receipt", self._node, seq)
        return opened[0]


def _open_word(envelope: bytes, bank: Member) -> Receipt | NotReceived:
    """Return a bank's receipt or its signed `not-received`; raises for anything else."""
    key, name = bank.identity_key, bank.id
    try:
        return Receipt.parse(open_envelope(envelope, RECEIPT, key, name).body)
    except EnvelopeError:
        with suppress(EnvelopeError):
            return NotReceived.parse(open_envelope(envelope, NOT_RECEIVED, key, name).body)
        raise


def _dump_note(note: OpenedNote) -> str:
    return f"{note[0]} {note[1].hex()}"


def _load_note(value: str) -> OpenedNote:
    size, root = value.split(" ")
    return int(size), bytes.fromhex(root)


# -- both sides, at the end --------------------------------------------------------------


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
SELECT a.bank, a.seq, a.node, a.proof_size FROM accept a
LEFT JOIN cosigned c ON c.member = a.node AND c.size = a.proof_size WHERE c.size IS NULL
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
        evidence.notes.warnings.append(
            Text(
                f"{node} was revoked before it could fetch the bank's word on {count} of its "
                "releases: they are compared with the bank's log alone.",
                f"{node} 在取得银行对其 {count} 次输出的答复之前已被撤销：仅与银行日志核对。",
            )
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
    if release.word == _NOT_RECEIVED:
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

    if release.word == _NOT_RECEIVED:
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
    if release.word == _RECEIVED and accept.bank == release.bank and accept.seq >= release.covered:
        note(
            node,
            release.receipt,
            f"the receipt's checkpoint of {accept.bank} does not cover its acceptance",
            f"回执中 {accept.bank} 的检查点未覆盖其接收条目",
            accept.place,
        )


def _check_witnessed(evidence: Evidence) -> None:
    """A bank accepts on a reservation that the regulator has cosigned."""
    for bank, seq, node, size in evidence.workbook.rows(_UNWITNESSED):
        evidence.notes.add(
            "V5",
            bank,
            seq,
            f"the accepted proof is of {size} entries of {node}: the regulator cosigned no "
            "checkpoint of that size",
            f"所接收的证明针对 {node} 的 {size} 条，监管方没有会签过该大小的检查点",
            evidence=(f"witness/{node}.release.jsonl",),
        )
