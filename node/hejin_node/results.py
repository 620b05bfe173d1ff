"""A bank's results and this node's voids: checked against what the node itself knows, logged."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection

from hejin_node import account, inbox
from hejin_node.home import NodeHome
from hejin_node.masking import Masking
from hejin_node.query import QueryRefusedError
from hejin_privacy.messages import Result
from hejin_privacy.secure_sum.documents import SurvivorSet
from hejin_privacy.secure_sum.thresholds import MOST_NODES
from hejin_trust.canonical import encode
from hejin_trust.charter import Member
from hejin_trust.database import reading, writing
from hejin_trust.envelope import SUM_RESULT, SUM_SURVIVORS, Opened, open_envelope
from hejin_trust.fleet import Payload, unpack


def open_result(payload: Payload, bank: Member) -> tuple[Opened, Result]:
    """Return the bank's signed result in a message; EnvelopeError, MessageError."""
    envelope = payload.get("result", b"")
    opened = open_envelope(envelope, SUM_RESULT, bank.identity_key, bank.id)
    return opened, Result.parse(opened.body)


def check_result(
    home: NodeHome, masking: Masking, payload: Payload, result: Result, bank: Member
) -> None:
    """Raise unless the result fits what this node itself knows of its round.

    It may be of a round that this node missed; then it may not count this node in. A masked
    round's survivors must be those that a quorum has voted for.
    """
    with reading(home.database) as connection:
        own = account.find(connection, result.run, result.round)
    if own is None or own.state != "released":
        fits = home.member_id not in result.survivors
    else:
        fits = own.round_ctx == result.round_ctx
    if not fits or (result.votes == "") != (not masking.joined(result.run)):
        raise QueryRefusedError(
            "the result is not of the round that this node answered",
            "该结果与本节点所应答的轮次不符",
        )
    if result.votes:
        survivors = payload.get("survivors", b"")
        opened = open_envelope(survivors, SUM_SURVIVORS, bank.identity_key, bank.id)
        votes = unpack(payload.get("votes", b""), MOST_NODES)
        masking.check_result(result, SurvivorSet.parse(opened.body), votes)


def log_result(home: NodeHome, connection: Connection, result: Result) -> None:
    """Append the `result` entry and remember which it was."""
    body = result.body()
    del body["v"]
    home.release_log.append(connection, "result", body)
    inbox.note_result(connection, result.run, hashlib.sha256(encode(result.body())).hexdigest())


def void_interrupted(home: NodeHome) -> int:
    """At start: void the reservations whose computing a crash interrupted; return how many."""
    with writing(home.database) as connection:
        interrupted = account.unfinished(connection)
        for reservation in interrupted:
            void(home, connection, reservation.seq, "interrupted")
        if interrupted:
            home.release_log.checkpoint(connection)
    return len(interrupted)


def void_waiting(home: NodeHome, connection: Connection, run: str, reason: str) -> None:
    """End the reservation of a run, if there is one, that waits for the regulator."""
    for reservation in account.unfinished(connection):
        if reservation.run == run:
            void(home, connection, reservation.seq, reason)


def void_expired(home: NodeHome, bank: str) -> None:
    """End a bank's reservations that wait for the regulator when their plan has expired."""
    with reading(home.database) as connection:
        expired = [
            reservation.seq
            for reservation in account.unfinished(connection)
            if reservation.bank == bank
            and inbox.find_offer(connection, reservation.plan).plan.expires <= home.now()
        ]
    if expired:
        with writing(home.database) as connection:
            for seq in expired:
                void(home, connection, seq, "expired")


def void(home: NodeHome, connection: Connection, seq: int, reason: str) -> None:
    """End a reservation of which nothing left; its cost stays."""
    home.release_log.append(connection, "void", {"reservation": seq, "reason": reason})
    account.mark_void(connection, seq)
