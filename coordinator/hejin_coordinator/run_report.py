"""The run report: what happened to each node in each round, for people and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hejin_coordinator import parts, store
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.parts import ANSWERED, NOT_NEEDED, SILENT
from hejin_trust.database import reading
from hejin_trust.text import Text

_STATES = {
    "keys": Text("keys agreed", "已约定密钥"),
    "open": Text("not opened yet", "尚未打开"),
    "opened": Text("opened", "已打开"),
    "burned": Text("burned", "作废"),
}
_PHASES = {
    "keys": Text("gave no key", "未提供密钥"),
    "masked": Text("gave no answer", "未应答"),
    "survivors": Text("gave no vote", "未投票"),
    "shares": Text("gave no shares", "未提供份额"),
}


@dataclass(frozen=True, slots=True)
class RoundReport:
    """One round; number 0 is the set-up.

    state      keys, open, opened or burned; reason: why it was burned, else ""
    counted    nodes whose vectors are in the total
    outcomes   node -> phase -> answered, silent, not-needed or a refusal's code
    """

    number: int
    sum: int
    state: str
    reason: str
    counted: int
    outcomes: Mapping[str, Mapping[str, str]]

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """Return round, sum, state, nodes counted and what went wrong, for a table."""
        return (
            str(self.number) if self.number else str(Text("set-up", "准备")),
            str(self.sum + 1) if self.number else "",
            str(_STATES[self.state]),
            str(self.counted) if self.number else "",
            "; ".join(self._troubles()),
        )

    def _troubles(self) -> list[str]:
        found = [self.reason] if self.reason else []
        for node, fared in sorted(self.outcomes.items()):
            for phase in parts.PHASES:
                outcome = fared.get(phase, ANSWERED)
                if outcome not in (ANSWERED, NOT_NEEDED):
                    why = "" if outcome == SILENT else f" ({outcome})"
                    found.append(f"{node} {_PHASES[phase]}{why}")
        return found

    def body(self) -> dict[str, object]:
        """Return the round for --json."""
        return {
            "round": self.number,
            "sum": self.sum,
            "state": self.state,
            "reason": self.reason,
            "counted": self.counted,
            "nodes": {node: dict(fared) for node, fared in sorted(self.outcomes.items())},
        }


@dataclass(frozen=True, slots=True)
class RunReport:
    """A plan's run so far; no rounds before it begins."""

    plan: str
    run: str
    state: str
    error: str
    rounds: tuple[RoundReport, ...]

    @property
    def summary(self) -> Text:
        """Return where the plan stands, in one line."""
        why = f": {self.error}" if self.error else ""
        return Text(f"the plan is {self.state}{why}", f"计划状态：{self.state}{why}")

    def body(self) -> dict[str, object]:
        """Return the report for --json."""
        return {
            "plan": self.plan,
            "run": self.run,
            "state": self.state,
            "error": self.error,
            "rounds": [found.body() for found in self.rounds],
        }


def report(home: CoordinatorHome, plan: str) -> RunReport:
    """Return the report of the plan whose hash starts with `plan`; UnknownPlanError."""
    with reading(home.database) as connection:
        stored = store.find_plan(connection, plan)
        run = stored.run or ""
        rounds = store.rounds(connection, run)
        noted = parts.parts(connection, run)
    outcomes: dict[int, dict[str, dict[str, str]]] = {}
    for part in noted:
        outcomes.setdefault(part.round, {}).setdefault(part.node, {})[part.phase] = part.outcome
    reports = [] if 0 not in outcomes else [RoundReport(0, 0, "keys", "", 0, outcomes[0])]
    for found in rounds:
        state = "burned" if found.burned else "open" if found.result is None else "opened"
        counted = 0 if found.result is None else found.survivors or 0
        fared = outcomes.get(found.round, {})
        reports.append(RoundReport(found.round, found.sum, state, found.burned, counted, fared))
    return RunReport(stored.digest, run, stored.state, stored.error, tuple(reports))
