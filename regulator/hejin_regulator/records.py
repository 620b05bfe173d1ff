"""What the checks compare: the entries of release logs as values, one class a type."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

from hejin_privacy.budget import Part
from hejin_privacy.mechanism import Mechanism
from hejin_regulator.findings import Notebook
from hejin_trust import canonical
from hejin_trust.charter import Member
from hejin_trust.entries import Body, Entry
from hejin_trust.errors import HejinError
from hejin_trust.export import MemberExport


@dataclass(frozen=True, slots=True)
class Reservation:
    """A `reserve` entry; mechanism is None where it contradicts itself (a finding of V8)."""

    seq: int
    time: str
    run: str
    round: int
    bank: str
    plan: str
    query: str
    part: Part
    split_key_hash: str
    round_ctx: str
    snapshot: str
    snapshot_seq: int
    mechanism: Mechanism | None
    rho: Fraction
    charge: Fraction
    rho_alone: Fraction
    charge_alone: Fraction


@dataclass(frozen=True, slots=True)
class Release:
    """A `release` entry."""

    seq: int
    reservation: int
    run: str
    round: int
    round_ctx: str
    vector: str
    header: str


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """A `receipt` entry; envelope is the bank's signed word, not opened yet."""

    seq: int
    reservation: int
    run: str
    round: int
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A `snapshot` entry."""

    seq: int
    time: str
    run: str
    plan: str
    root: str
    authorisations: str
    internal_size: int
    internal_root: str


@dataclass(frozen=True, slots=True)
class Approval:
    """A `plan.approve` entry."""

    seq: int
    plan: str
    bank: str
    rho: Fraction
    rho_train: Fraction
    rho_holdout: Fraction


@dataclass(frozen=True, slots=True)
class Accept:
    """A bank's `accept` entry."""

    bank: str
    seq: int
    run: str
    round: int
    node: str
    plan: str
    round_ctx: str
    reservation: int
    header: str
    vector: str
    proof_size: int
    proof_root: str


@dataclass(slots=True)
class NodeLog:
    """What a node's release log says, in order."""

    member: Member
    export: MemberExport
    reservations: dict[int, Reservation] = field(default_factory=dict)
    releases: list[Release] = field(default_factory=list)
    voids: list[tuple[int, int]] = field(default_factory=list)  # (seq, reservation)
    receipts: list[ReceiptEntry] = field(default_factory=list)
    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    approvals: dict[tuple[str, str], Approval] = field(default_factory=dict)  # (plan, bank)


@dataclass(slots=True)
class BankLog:
    """What a bank's release log says, in order."""

    member: Member
    export: MemberExport
    accepts: list[Accept] = field(default_factory=list)
    plans: dict[str, tuple[str, str]] = field(default_factory=dict)  # hash: (purpose, family)


def note_node_entry(node: NodeLog, entry: Entry, notes: Notebook) -> None:
    """Keep what an entry of a node's release log says."""
    body, seq = entry.body, entry.seq
    match entry.type:
        case "reserve":
            node.reservations[seq] = _reservation(node.member.id, entry, notes)
        case "release":
            node.releases.append(
                Release(
                    seq,
                    _number(body, "reservation"),
                    _text(body, "run"),
                    _number(body, "round"),
                    _text(body, "round_ctx"),
                    _text(body, "vector"),
                    _text(body, "header"),
                )
            )
        case "void":
            node.voids.append((seq, _number(body, "reservation")))
        case "receipt":
            node.receipts.append(
                ReceiptEntry(
                    seq,
                    _number(body, "reservation"),
                    _text(body, "run"),
                    _number(body, "round"),
                    _from_base64(_text(body, "receipt")),
                )
            )
        case "snapshot":
            node.snapshots[seq] = Snapshot(
                seq,
                entry.time,
                _text(body, "run"),
                _text(body, "plan"),
                _text(body, "root"),
                _text(body, "authorisations"),
                _number(body, "internal_size"),
                _text(body, "internal_root"),
            )
        case "plan.approve":
            approval = Approval(
                seq,
                _text(body, "plan"),
                _text(body, "bank"),
                canonical.fraction(body, "rho"),
                canonical.fraction(body, "rho_train"),
                canonical.fraction(body, "rho_holdout"),
            )
            node.approvals.setdefault((approval.plan, approval.bank), approval)


def _reservation(member: str, entry: Entry, notes: Notebook) -> Reservation:
    body = entry.body
    try:
        mechanism = Mechanism.from_body(canonical.child(body, "mechanism"))
    except HejinError as reason:
        notes.add_text("V8", member, entry.seq, reason.text)
        mechanism = None
    return Reservation(
        seq=entry.seq,
        time=entry.time,
        run=_text(body, "run"),
        round=_number(body, "round"),
        bank=_text(body, "bank"),
        plan=_text(body, "plan"),
        query=_text(body, "query"),
        part=cast("Part", _text(body, "part")),
        split_key_hash=_text(body, "split_key_hash"),
        round_ctx=_text(body, "round_ctx"),
        snapshot=_text(body, "snapshot"),
        snapshot_seq=_number(body, "snapshot_seq"),
        mechanism=mechanism,
        rho=canonical.fraction(body, "rho"),
        charge=canonical.fraction(body, "charge"),
        rho_alone=canonical.fraction(body, "rho_alone"),
        charge_alone=canonical.fraction(body, "charge_alone"),
    )


def note_bank_entry(bank: BankLog, entry: Entry) -> None:
    """Keep what an entry of a bank's release log says."""
    body = entry.body
    match entry.type:
        case "accept":
            bank.accepts.append(
                Accept(
                    bank.member.id,
                    entry.seq,
                    _text(body, "run"),
                    _number(body, "round"),
                    _text(body, "node"),
                    _text(body, "plan"),
                    _text(body, "round_ctx"),
                    _number(body, "reservation"),
                    _text(body, "header"),
                    _text(body, "vector"),
                    _number(body, "proof_size"),
                    _text(body, "proof_root"),
                )
            )
        case "plan":
            bank.plans.setdefault(
                _text(body, "plan"), (_text(body, "purpose"), _text(body, "family"))
            )


# `entries.parse` has checked kind and range of every field already.
def _text(body: Body, key: str) -> str:
    return cast("str", body[key])


def _number(body: Body, key: str) -> int:
    return cast("int", body[key])


def _from_base64(value: str) -> bytes:
    """Return the bytes, or none where it is not base64: then no signature fits either."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""
