"""V5: what a node sent is what its bank signs that it received, or did not receive."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from hejin_privacy.messages import NotReceived, Receipt
from hejin_regulator.check_reservations import Standing
from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import envelope_of, number, text
from hejin_regulator.notebook import place
from hejin_regulator.records import Release
from hejin_regulator.witnessed import origin_of
from hejin_regulator.workbook import Shelf, Workbook
from hejin_trust.charter import Member
from hejin_trust.checkpoint import open_checkpoint
from hejin_trust.entries import Entry
from hejin_trust.envelope import NOT_RECEIVED, RECEIPT, EnvelopeError, open_envelope
from hejin_trust.errors import HejinError

_MOST_WAITING: Final = 10_000
"""Releases without a receipt at once; a node that misses two refuses the bank's next round."""

RECEIVED, NOT_RECEIVED_WORD, NONE = "received", "not-received", ""
"""What is known of the bank's word on a release."""


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
        kind = {Receipt: RECEIVED, NotReceived: NOT_RECEIVED_WORD}.get(type(word), NONE)
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
        self._keep(sent, None, NONE, 0, lapsed=lapsed)

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
