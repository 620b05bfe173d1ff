"""Refuse a bank's messages: signed, logged as far as it is worth, without a byte from data."""

from __future__ import annotations

import hashlib
from typing import Final

import structlog

from hejin_node.errors import WarehouseError
from hejin_node.home import NodeHome
from hejin_privacy.errors import AccountExhaustedError
from hejin_privacy.secure_sum.errors import ShareWrongError
from hejin_trust.archived import ArchiveError, ArchiveMissingError
from hejin_trust.at_rest import NotOpenedError
from hejin_trust.canonical import time_text
from hejin_trust.database import StorageError, writing
from hejin_trust.envelope import REFUSAL, seal
from hejin_trust.errors import HejinError
from hejin_trust.files import FileError
from hejin_trust.fleet import Payload
from hejin_trust.log import ClockError
from hejin_trust.one_history import FrozenError
from hejin_trust.stored_log import LogError
from hejin_trust.text import Text
from hejin_trust.witness import ClockOffError, WitnessRefusedError
from hejin_trust.worth_logging import WorthLogging

# What is left over all banks is for the node, the enterprise and the regulator to know.
_BUDGET = Text(
    "the node's budget for this period does not cover the sum: ask for fewer sums or more noise",
    "该节点本期预算不足以支付该求和：请减少求和次数或增大噪声",
)

# Their texts name the node's files, or how long its internal log is: nearly its authorisations.
_INTERNAL: Final = (
    ArchiveError,
    ArchiveMissingError,
    ClockError,
    FileError,
    FrozenError,
    LogError,
    NotOpenedError,
    StorageError,
    WarehouseError,
    WitnessRefusedError,
)

_log = structlog.get_logger(__name__)


class Refusals:
    """What one bank is refused, and how much of it is logged. Not to be used by two threads."""

    def __init__(self, home: NodeHome, bank: str) -> None:
        """Refuse messages of `bank`."""
        self._home, self._bank = home, bank
        self._worth = WorthLogging(bank)

    def refuse(self, payload: Payload, refusal: HejinError) -> Payload:
        """Return the signed refusal, after logging it; where it cannot be logged, all the same."""
        asked = (payload.get(key) for key in ("query", "survivors", "result", "run"))
        request = hashlib.sha256(next(filter(None, asked), b"")).hexdigest()
        if self._worth.is_worth(request, refusal.code):
            _log.warning("refused", code=refusal.code, bank=self._bank, reason=refusal.text.en)
            self._log(request, refusal)
        told = _told(refusal)
        body: dict[str, object] = {
            "v": 1,
            "request": request,
            "code": refusal.code,
            "reason": told.body(),
            "time": time_text(self._home.now()),
        }
        if isinstance(refusal, ShareWrongError):
            body["giver"] = refusal.giver
        return {
            "kind": b"refusal",
            "refusal": seal(REFUSAL, body, self._home.identity, self._home.member_id),
        }

    def _log(self, request: str, refusal: HejinError) -> None:
        """Nothing is logged by a clock that is off, nor beside a mirror with another history."""
        if isinstance(refusal, (ClockOffError, FrozenError)):
            return
        try:
            with writing(self._home.database) as connection:
                self._home.internal_log.append(
                    connection,
                    "refusal",
                    {"request": request, "code": refusal.code, "peer": self._bank},
                )
        except HejinError as reason:  # a full disk, a clock that went back
            _log.error("refusal-not-logged", reason=reason.text.en)


def _told(refusal: HejinError) -> Text:
    if isinstance(refusal, AccountExhaustedError):
        return _BUDGET
    if isinstance(refusal, _INTERNAL):
        return Text(
            f"the node cannot answer now ({refusal.code}): its operator has to look at its console",
            f"节点目前无法应答（{refusal.code}）：请其运维人员查看控制台",
        )
    return refusal.text
