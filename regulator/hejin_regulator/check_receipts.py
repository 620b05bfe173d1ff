"""V5: what nodes released, what banks accepted and what receipts confirm is the same."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

from hejin_privacy.messages import NotReceived, Receipt
from hejin_regulator.evidence import Evidence, origin_of, roots_at
from hejin_regulator.findings import Notebook
from hejin_regulator.records import Accept, BankLog, NodeLog, ReceiptEntry, Release, Reservation
from hejin_trust.checkpoint import open_checkpoint
from hejin_trust.envelope import NOT_RECEIVED, RECEIPT, EnvelopeError, open_envelope
from hejin_trust.errors import HejinError

_Sent = tuple[str, str, int]  # node, run, round


def check_both_ways(evidence: Evidence) -> None:
    """Compare both sides; what is unmatched is named with its side."""
    accepted = _accepts_by_round(evidence)
    released: set[_Sent] = set()
    roots = _RootBook(evidence)
    for node in evidence.nodes.values():
        side = _NodeSide(evidence, node, accepted, roots)
        for release in node.releases:
            released.add((node.member.id, release.run, release.round))
            side.check(release)
    for key in accepted.keys() - released:
        accept = accepted[key]
        evidence.notes.add(
            "V5",
            accept.bank,
            accept.seq,
            f"the bank accepted round {accept.round} of {accept.node}, "
            "which that node did not release",
            f"银行接收了 {accept.node} 的第 {accept.round} 轮，但该节点没有输出",
        )
    roots.check(evidence.notes)


def _accepts_by_round(evidence: Evidence) -> dict[_Sent, Accept]:
    found: dict[_Sent, Accept] = {}
    for bank in evidence.banks.values():
        for accept in bank.accepts:
            first = found.setdefault((accept.node, accept.run, accept.round), accept)
            if first is not accept:
                evidence.notes.add(
                    "V5",
                    accept.bank,
                    accept.seq,
                    f"round {accept.round} of {accept.node} was accepted before, "
                    f"in entry {first.seq} of {first.bank}",
                    f"{accept.node} 的第 {accept.round} 轮此前已由 {first.bank} 在条目 "
                    f"{first.seq} 中接收",
                )
    return found


class _RootBook:
    """Roots that one side claims of the other's log, compared after one more pass over each."""

    def __init__(self, evidence: Evidence) -> None:
        self._logs: dict[str, NodeLog | BankLog] = {**evidence.nodes, **evidence.banks}
        self._claims: dict[str, list[tuple[str, int, int, bytes]]] = defaultdict(list)

    def claim(self, of: str, by: str, seq: int, size: int, root: bytes) -> None:
        """Note that entry `seq` of `by` names the root of the first `size` entries of `of`."""
        self._claims[of].append((by, seq, size, root))

    def check(self, notes: Notebook) -> None:
        """Compare every claim with the exported logs."""
        for owner, claims in self._claims.items():
            sizes = {size for _, _, size, _ in claims}
            roots = roots_at(self._logs[owner].export, "release", sizes)
            for by, seq, size, root in claims:
                if roots.get(size) != root:
                    notes.add(
                        "V5",
                        by,
                        seq,
                        f"the entry holds a checkpoint of {owner} at {size} entries that its "
                        "exported log does not lead to: one of the two was rewritten",
                        f"该条目中 {owner} 在 {size} 条处的检查点与其导出日志不符：其一被改写",
                    )


class _NodeSide:
    """The releases of one node, against the receipts in its log and the banks' acceptances."""

    def __init__(
        self, evidence: Evidence, node: NodeLog, accepted: dict[_Sent, Accept], roots: _RootBook
    ) -> None:
        self._evidence, self._node = evidence, node
        self._name = node.member.id
        self._accepted, self._roots = accepted, roots
        self._receipts = self._receipts_by_reservation()

    def _note(self, seq: int | None, en: str, zh: str, member: str | None = None) -> None:
        self._evidence.notes.add("V5", member or self._name, seq, en, zh)

    def _receipts_by_reservation(self) -> dict[int, ReceiptEntry]:
        released = {release.reservation for release in self._node.releases}
        found: dict[int, ReceiptEntry] = {}
        for receipt in self._node.receipts:
            first = found.setdefault(receipt.reservation, receipt)
            if first is not receipt or receipt.reservation not in released:
                self._note(
                    receipt.seq,
                    "the receipt belongs to no release, or to one that has a receipt",
                    "该回执不对应任何输出，或对应的输出已有回执",
                )
        return found

    def check(self, release: Release) -> None:
        """Find the bank's receipt and acceptance of one release, and compare all three."""
        reservation = self._node.reservations.get(release.reservation)
        bank = None if reservation is None else self._evidence.banks.get(reservation.bank)
        if reservation is None or bank is None:
            self._note(
                release.seq,
                "the release went to a bank that cannot be told",
                "无法确定该输出的接收银行",
            )
            return
        accept = self._accepted.get((self._name, release.run, release.round))
        word = self._word(release, bank)
        if isinstance(word, NotReceived):
            if accept is not None:
                self._note(
                    accept.seq,
                    f"the bank accepted round {release.round} of {self._name} "
                    "and signed that it did not receive it",
                    f"银行接收了 {self._name} 的第 {release.round} 轮，却签署了未收到声明",
                    accept.bank,
                )
            return
        if accept is None:
            self._note(
                None,
                f"{self._name} released round {release.round} (entry {release.seq}), "
                "which the bank's log does not accept",
                f"{self._name} 输出了第 {release.round} 轮（条目 {release.seq}），"
                "银行日志中没有接收记录",
                bank.member.id,
            )
            return
        self._check_accept(release, reservation, accept)
        if word is not None:
            self._check_order(release, bank, word, accept)

    def _word(self, release: Release, bank: BankLog) -> Receipt | NotReceived | None:
        """Return what the bank signed on a release; None, and noted, if that is not valid."""
        entry = self._receipts.get(release.reservation)
        if entry is None:
            self._note(
                release.seq,
                f"there is no receipt of {bank.member.id} for the release",
                f"该输出没有 {bank.member.id} 的回执",
            )
            return None
        try:
            word = _open_word(entry.envelope, bank)
        except HejinError as reason:
            self._evidence.notes.add_text("V5", self._name, entry.seq, reason.text)
            return None
        told = (word.run, word.round, word.node)
        fits = told == (release.run, release.round, self._name)
        if isinstance(word, Receipt):
            fits &= (word.header, word.vector) == (release.header, release.vector)
        if not fits:
            self._note(
                entry.seq,
                f"the bank's receipt is for something else than entry {release.seq} released",
                f"银行回执与条目 {release.seq} 的输出不符",
            )
            return None
        return word

    def _check_accept(self, release: Release, reservation: Reservation, accept: Accept) -> None:
        told = (
            accept.bank,
            accept.plan,
            accept.round_ctx,
            accept.reservation,
            accept.header,
            accept.vector,
        )
        sent = (
            reservation.bank,
            reservation.plan,
            release.round_ctx,
            release.reservation,
            release.header,
            release.vector,
        )
        if told != sent:
            self._note(
                accept.seq,
                f"the bank accepted something else than {self._name} released "
                f"in entry {release.seq}",
                f"银行接收的内容与 {self._name} 在条目 {release.seq} 中的输出不同",
                accept.bank,
            )
        if accept.proof_size <= release.reservation:
            self._note(
                accept.seq,
                "the accepted proof does not cover the reservation",
                "所接收的证明未覆盖该预留",
                accept.bank,
            )
        root = bytes.fromhex(accept.proof_root)
        self._roots.claim(self._name, accept.bank, accept.seq, accept.proof_size, root)

    def _check_order(
        self, release: Release, bank: BankLog, receipt: Receipt, accept: Accept
    ) -> None:
        """The bank accepts before it signs the receipt, so the receipt's checkpoint covers it."""
        seq = self._receipts[release.reservation].seq
        origin = origin_of(self._evidence.charter, bank.member, "release")
        try:
            checkpoint = open_checkpoint(receipt.checkpoint, origin, bank.member.log_key)
        except HejinError as reason:
            self._evidence.notes.add_text("V5", self._name, seq, reason.text)
            return
        self._roots.claim(bank.member.id, self._name, seq, checkpoint.size, checkpoint.root)
        if accept.bank == bank.member.id and accept.seq >= checkpoint.size:
            self._note(
                seq,
                f"the receipt's checkpoint of {bank.member.id} does not cover its acceptance",
                f"回执中 {bank.member.id} 的检查点未覆盖其接收条目",
            )


def _open_word(envelope: bytes, bank: BankLog) -> Receipt | NotReceived:
    """Return a bank's receipt or its signed `not-received`; raises for anything else."""
    key, name = bank.member.identity_key, bank.member.id
    with suppress(EnvelopeError):
        return NotReceived.parse(open_envelope(envelope, NOT_RECEIVED, key, name).body)
    return Receipt.parse(open_envelope(envelope, RECEIPT, key, name).body)
