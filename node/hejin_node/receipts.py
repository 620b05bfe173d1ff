"""The bank's signed word on what it received: fetched, checked, logged."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from hejin_node import account
from hejin_node.home import NodeHome
from hejin_privacy.messages import NotReceived, Receipt
from hejin_trust.charter import Member
from hejin_trust.checkpoint import open_checkpoint
from hejin_trust.database import reading
from hejin_trust.envelope import (
    NOT_RECEIVED,
    RECEIPT,
    EnvelopeError,
    Opened,
    open_envelope,
)
from hejin_trust.errors import HejinError, NotNowError, RefusedError
from hejin_trust.origins import release_origin

Fetch = Callable[[str, int], bytes]
"""Asks a bank for its receipt of (run, round); HejinError if it cannot."""

_log = structlog.get_logger(__name__)


class ReceiptMissingError(NotNowError):
    """The bank owes receipts for what it was sent."""

    code = "receipt-missing"


class ReceiptWrongError(RefusedError):
    """The bank's receipt is for other bytes than were sent."""

    code = "receipt-wrong"


@dataclass(frozen=True, slots=True)
class Collected:
    """The bank's checked word on one reservation, and the envelope that it came in."""

    reservation: account.Reservation
    envelope: bytes
    word: Receipt | NotReceived


def collect(home: NodeHome, reservation: account.Reservation, fetch: Fetch) -> Collected:
    """Return the bank's word on one release, checked; HejinError if it is missing or wrong."""
    bank = home.charter.member(reservation.bank, "bank")
    envelope = fetch(reservation.run, reservation.round)
    try:
        opened = open_envelope(envelope, RECEIPT, bank.identity_key, bank.id)
    except EnvelopeError:
        return Collected(reservation, envelope, _not_received(home, reservation, bank, envelope))
    return Collected(reservation, envelope, _receipt(home, reservation, bank, opened))


def collect_all(
    home: NodeHome, bank: str, fetch: Fetch
) -> tuple[list[Collected], list[tuple[int, str]]]:
    """Return the receipts that a bank gives now, and (round, code) of those that it does not."""
    with reading(home.database) as connection:
        waiting = account.without_receipt(connection, bank)
    collected: list[Collected] = []
    missing: list[tuple[int, str]] = []
    for reservation in waiting:
        try:
            collected.append(collect(home, reservation, fetch))
        except HejinError as reason:
            missing.append((reservation.round, reason.code))
    return collected, missing


def collect_enough(home: NodeHome, bank: str, fetch: Fetch) -> list[Collected]:
    """Return the receipts that a bank gives now; ReceiptMissingError if it owes more than one."""
    collected, without = collect_all(home, bank, fetch)
    for number, code in without:
        _log.warning("receipt-missing", round=number, code=code)
    missing = len(without)
    if missing > 1:
        raise ReceiptMissingError(
            f"{missing} receipts of this bank are missing; serve them, then ask again",
            f"该银行尚欠 {missing} 份回执；请先提供回执再提问",
        )
    return collected


def log_receipt(home: NodeHome, connection: Connection, collected: Collected) -> None:
    """Append the `receipt` entry and keep the bank's document.

    Where a restored database has lost how the reservation ended, the bank's word ends it.
    """
    reservation, word = collected.reservation, collected.word
    if reservation.state == "lost":
        _end_lost(home, connection, collected)
        if isinstance(word, NotReceived):
            return
    else:
        account.store_receipt(connection, reservation.seq, collected.envelope)
    home.release_log.append(
        connection,
        "receipt",
        {
            "reservation": reservation.seq,
            "run": reservation.run,
            "round": reservation.round,
            "receipt": base64.b64encode(collected.envelope).decode(),
        },
    )


def _end_lost(home: NodeHome, connection: Connection, collected: Collected) -> None:
    reservation, word = collected.reservation, collected.word
    if isinstance(word, NotReceived):
        home.release_log.append(
            connection, "void", {"reservation": reservation.seq, "reason": "recovered"}
        )
        account.end_lost(connection, reservation.seq, collected.envelope)
        return
    home.release_log.append(
        connection,
        "release",
        {
            "reservation": reservation.seq,
            "run": reservation.run,
            "round": reservation.round,
            "round_ctx": reservation.round_ctx,
            "vector": word.vector,
            "header": word.header,
        },
    )
    account.end_lost(
        connection,
        reservation.seq,
        collected.envelope,
        header_digest=word.header,
        vector_digest=word.vector,
    )


def _receipt(
    home: NodeHome, reservation: account.Reservation, bank: Member, opened: Opened
) -> Receipt:
    receipt = Receipt.parse(opened.body)
    known = (receipt.header, receipt.vector) == (
        reservation.header_digest,
        reservation.vector_digest,
    )
    if (
        (receipt.run, receipt.round) != (reservation.run, reservation.round)
        or receipt.node != home.member_id
        or not (known or reservation.state == "lost")
    ):
        raise ReceiptWrongError(
            f"the receipt for round {reservation.round} names other bytes than were sent",
            f"第 {reservation.round} 轮的回执与所发送的内容不符",
        )
    # Without a checkpoint that the bank's log key signed, nothing ties the bank to its acceptance.
    origin = release_origin(home.charter.consortium, "bank", bank.id)
    open_checkpoint(receipt.checkpoint, origin, bank.log_key)
    return receipt


def _not_received(
    home: NodeHome, reservation: account.Reservation, bank: Member, envelope: bytes
) -> NotReceived:
    opened = open_envelope(envelope, NOT_RECEIVED, bank.identity_key, bank.id)
    word = NotReceived.parse(opened.body)
    if (word.run, word.round, word.node) != (reservation.run, reservation.round, home.member_id):
        raise ReceiptWrongError(
            f"the bank's word on round {reservation.round} names another round or node",
            f"银行对第 {reservation.round} 轮的答复指向其他轮次或节点",
        )
    return word
