"""Refuse a bank's message: signed, logged, and without a byte derived from data."""

from __future__ import annotations

import hashlib

import structlog

from hejin_node.home import NodeHome
from hejin_privacy.errors import AccountExhaustedError
from hejin_privacy.secure_sum.errors import ShareWrongError
from hejin_trust.canonical import time_text
from hejin_trust.database import writing
from hejin_trust.envelope import REFUSAL, seal
from hejin_trust.errors import HejinError
from hejin_trust.fleet import Payload
from hejin_trust.one_history import FrozenError
from hejin_trust.text import Text
from hejin_trust.witness import ClockOffError

# What is left over all banks is for the node, the enterprise and the regulator to know.
_FOR_THE_BANK = Text(
    "the node's budget for this period does not cover the sum: ask for fewer sums or more noise",
    "该节点本期预算不足以支付该求和：请减少求和次数或增大噪声",
)

_log = structlog.get_logger(__name__)


def refuse(home: NodeHome, bank: str, payload: Payload, refusal: HejinError) -> Payload:
    """Return the signed refusal, after logging it; where it cannot be logged, all the same.

    Nothing is logged by a clock that is off, nor in a log that the mirror holds another history of.
    """
    asked = (payload.get(key) for key in ("query", "survivors", "result", "run"))
    request = hashlib.sha256(next(filter(None, asked), b"")).hexdigest()
    _log.warning("refused", code=refusal.code, bank=bank, reason=refusal.text.en)
    told = _FOR_THE_BANK if isinstance(refusal, AccountExhaustedError) else refusal.text
    body: dict[str, object] = {
        "v": 1,
        "request": request,
        "code": refusal.code,
        "reason": {"en": told.en, "zh": told.zh},
        "time": time_text(home.now()),
    }
    if isinstance(refusal, ShareWrongError):
        body["giver"] = refusal.giver
    if not isinstance(refusal, (ClockOffError, FrozenError)):
        try:
            with writing(home.database) as connection:
                home.internal_log.append(
                    connection,
                    "refusal",
                    {"request": request, "code": refusal.code, "peer": bank},
                )
        except HejinError as reason:  # a full disk, a clock that went back
            _log.error("refusal-not-logged", reason=reason.text.en)
    return {
        "kind": b"refusal",
        "refusal": seal(REFUSAL, body, home.identity, home.member_id),
    }
