"""The bank's signed word on a node's release: a receipt, or that it received nothing.

| of the round                                       | the bank's word            |
|----------------------------------------------------|----------------------------|
| the node's answer was accepted                     | its receipt, in any state  |
| still open: its plan runs, waits or has failed     | none yet: `round-open`     |
| fixed without the node, opened, burned, or dropped | not received               |
| not on record, of a plan that is over              | not received               |
| not on record, lost before a recovery              | not received               |
| not on record otherwise                            | none: `round-unknown`      |

A recovery brings every `accept` back from the mirror, so what is not among them was not accepted.
"""

from __future__ import annotations

from sqlalchemy import Connection

from hejin_coordinator import store
from hejin_coordinator.errors import RoundOpenError, RoundUnknownError
from hejin_coordinator.home import CoordinatorHome
from hejin_privacy.messages import MAX_ROUND, NotReceived, Receipt
from hejin_trust.canonical import hexbytes, integer, time_text
from hejin_trust.checkpoint import open_checkpoint
from hejin_trust.database import reading
from hejin_trust.envelope import NOT_RECEIVED, RECEIPT, open_envelope, seal
from hejin_trust.witness import Witness


def receipt_for(home: CoordinatorHome, run: str, number: int, node: str) -> bytes:
    """Return the bank's signed word on one release of `node`.

    raises   RoundOpenError while the node may still be accepted, RoundUnknownError,
             DocumentError for what is no run or round: such words would be signed in vain
    """
    hexbytes({"run": run}, "run", 16)
    integer({"round": number}, "round", 1, MAX_ROUND)
    with reading(home.database) as connection:
        receipt = store.find_receipt(connection, run, number, node)
        if receipt is not None:
            return receipt
        found = store.find_round(connection, run, number)
        if found is None and not _is_over(home, connection, run):
            raise RoundUnknownError(
                f"this bank has no record of round {number} of that run: its operator has to look"
                " whether the ledger is whole (`hejin coordinator preflight`)",
                f"本银行没有该次运行第 {number} 轮的记录：请其运维人员检查账本是否完整"
                "（`hejin coordinator preflight`）",
            )
    # Once the survivors are fixed, or the round is lost, nothing more is accepted.
    if found is not None and found.asked is None and not found.burned:
        raise RoundOpenError(
            f"round {number} is not closed: ask again later", f"第 {number} 轮尚未结束：请稍后再试"
        )
    word = NotReceived(run=run, round=number, node=node, time=time_text(home.now()))
    return seal(NOT_RECEIVED, word.body(), home.identity, home.member_id)


def witnessed_word(
    home: CoordinatorHome, witness: Witness, run: str, number: int, node: str
) -> bytes:
    """Return `receipt_for`; a receipt only once the regulator holds the `accept` that it rests on.

    Else a bank whose disk is lost could not know after its recovery what it had signed.
    raises   FrozenError, WitnessUnreachableError; what `receipt_for` raises
    """
    word = receipt_for(home, run, number, node)
    with reading(home.database) as connection:
        receipt = store.find_receipt(connection, run, number, node)
        held = home.release_log.newest_cosigned(connection)
    if receipt is not None:
        opened = open_envelope(receipt, RECEIPT, home.identity.public, home.member_id)
        log = home.release_log
        note = Receipt.parse(opened.body).checkpoint
        size = open_checkpoint(note, log.origin, log.public_key).size
        if held is None or held.size < size:
            witness.cover(size - 1)
    return word


def _is_over(home: CoordinatorHome, connection: Connection, run: str) -> bool:
    """Return whether no round of a run will ever be asked."""
    state = store.state_of(connection, run)
    if state is not None:
        return state in ("done", "dropped")
    return next(home.release_log.of_type(connection, "recover"), None) is not None
