"""The errors of the bank's room."""

from __future__ import annotations

from hejin_trust.errors import HejinError, RefusedError


class CoordinatorError(HejinError):
    """Something in the coordinator that the bank is told about."""

    code = "coordinator"


class PlanFileError(CoordinatorError):
    """A plan file asks for something that cannot be planned."""

    code = "plan-file"
    exit_code = 2


class UnknownPlanError(CoordinatorError):
    """There is no such plan here."""

    code = "plan-unknown"


class AnswerRefusedError(RefusedError):
    """A node's answer is not what was asked, or proves nothing."""

    code = "answer-refused"


class RoundFailedError(CoordinatorError):
    """Too few nodes answered a round."""

    code = "round-failed"


class PlanLostError(RoundFailedError):
    """Too few nodes can still answer a round: the plan cannot be carried out any more."""

    code = "plan-lost"


class RoundOpenError(RefusedError):
    """The round is still being answered: there is no receipt yet."""

    code = "round-open"
