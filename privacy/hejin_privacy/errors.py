"""What the private sum refuses, each with a stable code."""

from __future__ import annotations

from fractions import Fraction

from hejin_trust.errors import RefusedError


class PrivacyError(RefusedError):
    """The base of every refusal of this room; retrying the same request is useless."""

    code = "privacy-refused"


class ParameterError(PrivacyError):
    """An epsilon, delta or rho outside its range."""

    code = "privacy-parameter"


class MechanismError(PrivacyError):
    """A mechanism that contradicts itself, or whose noise cannot be made exactly."""

    code = "mechanism-refused"


class ModeUnavailableError(MechanismError):
    """A noise mode other than node and shared."""

    code = "noise-mode-unavailable"


class ThresholdError(PrivacyError):
    """Roster size, quorum, least survivors and colluders that break rule P1."""

    code = "thresholds-unsafe"


class OverflowBoundError(PrivacyError):
    """A sum that could leave the 64-bit range in which it is added up."""

    code = "sum-overflow"


class AccountExhaustedError(PrivacyError):
    """The base of what a node's account refuses; its figures are not for a bank's eyes."""


class BudgetExhaustedError(AccountExhaustedError):
    """Serving this would exceed the account's cap for the period."""

    code = "budget-exhausted"

    def __init__(self, asked: Fraction, left: Fraction) -> None:
        super().__init__(
            f"the sum costs rho={float(asked):.6g}, only {float(left):.6g} is left in the budget"
            " period; ask for fewer sums or more noise, or wait for the next period",
            f"本次求和需 rho={float(asked):.6g}，本预算期仅剩 {float(left):.6g}；"
            "请减少求和次数、增大噪声，或等待下一预算期",
        )
        self.asked, self.left = asked, left


class AloneBudgetExhaustedError(AccountExhaustedError):
    """Serving this would exceed the cap on what collusion of all other nodes would cost."""

    code = "alone-budget-exhausted"

    def __init__(self, asked: Fraction, left: Fraction) -> None:
        super().__init__(
            f"if all other nodes colluded the sum would cost rho={float(asked):.6g}, only"
            f" {float(left):.6g} is left of the charter's cap on that; ask for fewer sums or more"
            " noise, or wait for the next period",
            f"若其他节点全部合谋，本次求和需 rho={float(asked):.6g}，"
            f"章程为此设定的上限仅剩 {float(left):.6g}；"
            "请减少求和次数、增大噪声，或等待下一预算期",
        )
        self.asked, self.left = asked, left


class PlanBudgetExhaustedError(PrivacyError):
    """Serving this would exceed the plan's own cap, burned rounds included."""

    code = "plan-budget-exhausted"

    def __init__(self, asked: Fraction, left: Fraction) -> None:
        super().__init__(
            f"the sum costs rho={float(asked):.6g}, only {float(left):.6g} is left of the plan's"
            " own cap; propose a new plan for the remaining sums",
            f"本次求和需 rho={float(asked):.6g}，计划自身上限仅剩 {float(left):.6g}；"
            "请为其余求和另提计划",
        )
        self.asked, self.left = asked, left
