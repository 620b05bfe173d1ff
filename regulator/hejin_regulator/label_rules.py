"""Questions for outcomes: whose authorisation allows one, and which entries belong together. Pure.

A node logs a `labels.request`, with the number of enterprises in its slots, in its internal log,
and a `labels.ask`, which the bank is shown, in its release log.
"""

from __future__ import annotations

import hashlib
from typing import Final

from hejin_regulator.witness_rules import WitnessRefusedError
from hejin_trust import canonical
from hejin_trust.authorisation import OUTCOME, OUTCOME_PURPOSE
from hejin_trust.entries import Body

_SHARED: Final = (
    "session",
    "bank",
    "definition",
    "definition_hash",
    "period",
    "root",
    "slots",
)


class LabelsExceedError(WitnessRefusedError):
    """A node asks for the outcomes of more enterprises than have authorised it to."""

    code = "witness-labels-exceed"

    def __init__(self, member: str, bank: str, size: int, standing: int, slots: int) -> None:
        super().__init__(
            f"{member} asks {bank} for the outcomes of {size} enterprises in {slots} slots, but"
            f" {standing} authorisations that name the outcome stand for that bank: nothing is"
            " cosigned; ask the regulator how to go on",
            f"{member} 向 {bank} 询问 {size} 家企业的违约结果（{slots} 个位置），而对该银行有效且"
            f"列明违约结果的授权为 {standing} 份：不予会签；请联系监管方",
        )


class LabelsUnmatchedError(WitnessRefusedError):
    """A question for outcomes is not the one that was logged before it, or is asked twice."""

    code = "witness-labels-unmatched"

    def __init__(self, member: str, session: str) -> None:
        super().__init__(
            f"session {session[:8]} of {member} is asked without, or otherwise than, its"
            " labels.request says, or twice: nothing is cosigned; ask the regulator how to go on",
            f"{member} 的会话 {session[:8]} 没有对应的 labels.request、与其不符或重复："
            "不予会签；请联系监管方",
        )


def covers_outcome(grant: Body) -> bool:
    """Return whether a grant lets the node learn its enterprise's outcome, to train models."""
    purposes, categories = grant["purposes"], grant["categories"]
    assert isinstance(purposes, list)
    assert isinstance(categories, list)
    return OUTCOME_PURPOSE in purposes and OUTCOME in categories


def question_of(body: Body) -> str:
    """Return the hash of what a `labels.request` and its `labels.ask` must both say, hex."""
    return hashlib.sha256(canonical.encode({key: body[key] for key in _SHARED})).hexdigest()
