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


class UnknownViewError(RefusedError):
    """No plan that invites the asking node names such a view."""

    code = "view-unknown"


class AnswerRefusedError(RefusedError):
    """A node's answer is not what was asked, or proves nothing."""

    code = "answer-refused"


class CosignatureMissingError(AnswerRefusedError):
    """A node's proof rests on a checkpoint that the regulator has not cosigned."""

    code = "cosignature-missing"


class CosignatureStaleError(AnswerRefusedError):
    """The regulator's cosignature on a node's proof is too old: the node can get a fresh one."""

    code = "cosignature-stale"


class RoundFailedError(CoordinatorError):
    """Too few nodes answered a round."""

    code = "round-failed"


class RunPausedError(RoundFailedError):
    """Too few nodes are there; what was done so far is stored and goes on when they are back."""

    code = "run-paused"


class RoundBurnedError(CoordinatorError):
    """A round can never be opened: it stays charged, and its sum needs another round.

    giver, taker   nodes whose share does not fit its commitment; "" where that is not why
    final          False where the nodes that are silent could still open it
    """

    code = "round-burned"

    def __init__(
        self, en: str, zh: str, *, giver: str = "", taker: str = "", final: bool = True
    ) -> None:
        super().__init__(en, zh)
        self.giver, self.taker, self.final = giver, taker, final


class PlanLostError(RoundFailedError):
    """A round was lost that the plan's budget cannot pay again: the plan is over."""

    code = "plan-lost"


class RoundOpenError(RefusedError):
    """The round is still being answered: there is no receipt yet."""

    code = "round-open"


class RoundUnknownError(RefusedError):
    """The bank has no record of the round, and no reason for that."""

    code = "round-unknown"


class OutcomesError(CoordinatorError):
    """Outcomes cannot be imported or opened; what was there stays."""

    code = "outcomes-refused"


class LabelsRefusedError(RefusedError):
    """A node's question for outcomes is not one that this bank answers."""

    code = "labels-refused"


class LabelsUnprovenError(LabelsRefusedError):
    """A node's ledger does not prove that it has logged this question."""

    code = "labels-unproven"


class LabelsUnknownError(LabelsRefusedError):
    """The bank has no outcomes by that definition, or of that period."""

    code = "labels-unknown"


class SessionUsedError(LabelsRefusedError):
    """The session was answered before: a question is answered once."""

    code = "labels-session-used"


class LabelsTooOftenError(LabelsRefusedError):
    """A node has asked as often as the bank declares to answer in a day."""

    code = "labels-too-often"
