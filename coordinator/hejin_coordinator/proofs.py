"""What a node proves by its ledger counts if the regulator has cosigned that just now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from hejin_coordinator.errors import CosignatureMissingError, CosignatureStaleError
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from hejin_trust.cosignature import open_cosigned, witness_name
from hejin_trust.members import Member
from hejin_trust.origins import release_origin
from hejin_trust.witness import MOST_OFF, ClockOffError

OLDEST: Final = timedelta(minutes=10)
"""A cosignature proves an entry this long (LEDGER section 3, step 6)."""


def check_cosigned(
    note: str, member: Member, charter: Charter, reference: Callable[[], datetime]
) -> Checkpoint:
    """Return a node's tree head that the regulator has cosigned just now; LEDGER section 3.

    reference  returns the time by the regulator's clock, which cosignatures are dated by
    raises     CosignatureMissingError, CosignatureStaleError, ClockOffError, CheckpointError
    """
    origin = release_origin(charter.consortium, "node", member.id)
    checkpoint = open_checkpoint(note, origin, member.log_key)
    regulator = charter.regulator
    witness = witness_name(charter.consortium, regulator.id)
    try:
        cosigned = open_cosigned(note, origin, member.log_key, witness, regulator.log_key)
    except CheckpointError as reason:
        raise CosignatureMissingError(
            f"the regulator has not cosigned the log in which {member.id} proves its entry:"
            " nothing counts without; see that the node runs this version and reaches the"
            " regulator",
            f"{member.id} 证明其条目所用的日志未经监管方会签：不予计入；"
            "请确认该节点运行本版本并能连接监管方",
        ) from reason
    age = reference() - cosigned.time
    if age > OLDEST:
        raise CosignatureStaleError(
            f"the regulator's cosignature under the proof of {member.id} is"
            f" {_seconds(age)} s old, at most {_seconds(OLDEST)} s are allowed: the node is asked"
            " for a fresh one; see that it reaches the regulator",
            f"{member.id} 证明所附的监管方会签已有 {_seconds(age)} 秒，最多允许"
            f" {_seconds(OLDEST)} 秒：将再次索取；请确认该节点能连接监管方",
        )
    if -age > MOST_OFF:
        raise ClockOffError(
            f"the regulator's cosignature under the proof of {member.id} is {_seconds(-age)} s"
            f" ahead of this bank's clock, at most {_seconds(MOST_OFF)} s are allowed: set this"
            " bank's clock",
            f"{member.id} 证明所附的监管方会签比本银行时钟超前 {_seconds(-age)} 秒，"
            f"最多允许 {_seconds(MOST_OFF)} 秒：请校准本银行的时钟",
        )
    return checkpoint


def _seconds(span: timedelta) -> int:
    return round(span.total_seconds())
