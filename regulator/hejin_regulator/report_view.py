"""What the printed report shows of a verification: bounded, rounded, made visible; no markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

from hejin_console.values import Rows, beijing, cost, exact, first, loss, percent, visible
from hejin_regulator.findings import CHECKS, Check, Finding, Spending, Verification
from hejin_regulator.report_chart import Chart, spending_charts
from hejin_regulator.report_values import fair_share, held
from hejin_regulator.report_words import LOGS
from hejin_trust.canonical import time_from
from hejin_trust.entry_words import TYPES
from hejin_trust.text import Text

_MOST_FINDINGS = 60
"""Shown of one check: about two pages; `--json` has all of them."""
_MOST_EVIDENCE = 6
_MOST_MEMBERS = 40
_MOST_ROWS = 500
"""Of any table whose length the logs decide: twenty nodes with a dozen banks and two periods."""
_MOST_CHARTS = 128
"""As many nodes as a plan can have."""
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check and its number of findings; 0 where it holds."""

    name: Check
    holds: Text
    findings: int


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding; `seq` is empty where it concerns no entry."""

    member: str
    seq: str
    reason: Text
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of one check; `members` tells how many there are of each member."""

    check: Check
    holds: Text
    total: int
    members: str
    rows: Rows[FindingRow]


@dataclass(frozen=True, slots=True)
class Account:
    """What was spent of a cap, as it is written."""

    spent: str
    exact: Fraction
    cap: str
    cap_exact: Fraction
    left: str
    left_exact: Fraction
    used: str
    above: bool
    epsilon: str
    epsilon_cap: str


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """One row of the budgets; `whole` is the one over all banks, which alone has `alone`."""

    node: str
    bank: str
    whole: bool
    releases: int
    account: Account
    alone: Account | None


@dataclass(frozen=True, slots=True)
class Period:
    """One budget period of all nodes; times in UTC."""

    start: str
    end: str
    delta: str
    rows: tuple[BudgetRow, ...]

    @property
    def alone(self) -> tuple[BudgetRow, ...]:
        """The rows that tell what colluding nodes could learn."""
        return tuple(row for row in self.rows if row.alone is not None)


@dataclass(frozen=True, slots=True)
class ChartView:
    """A node's drawing and its heading."""

    name: str
    used: str
    epsilon: str
    epsilon_cap: str
    above: bool
    drawing: Chart


@dataclass(frozen=True, slots=True)
class Count:
    """How often something happened at a node; `peer` is empty for voids."""

    node: str
    peer: str
    why: str
    count: int


@dataclass(frozen=True, slots=True)
class Head:
    """A log as it was read."""

    member: str
    log: Text
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A type of entry and how many there are."""

    name: str
    meaning: Text
    number: int


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the template writes that is not a fixed text."""

    consortium: str
    serial: int
    digest: str
    folder: str
    checked_utc: str
    checked_beijing: str
    members: str
    version: str
    key: str
    pinned: bool
    ok: bool
    failed: int
    findings: int
    warnings: Rows[Text]
    checks: tuple[CheckRow, ...]
    groups: tuple[Group, ...]
    periods: tuple[Period, ...]
    rows_left: int
    charts: Rows[ChartView]
    refusals_total: int
    refusals: Rows[Count]
    voids_total: int
    voids: Rows[Count]
    heads: Rows[Head]
    types: tuple[TypeRow, ...]


def page_of(verification: Verification, folder: str, version: str) -> Page:
    """Return what the report of a verification of `folder` shows, made by Hejin `version`."""
    found = held(verification)
    checked = time_from(verification.checked_at)
    budgets = first(verification.spending, _MOST_ROWS)
    return Page(
        consortium=visible(verification.consortium),
        serial=verification.charter_serial,
        digest=verification.charter,
        folder=visible(folder),
        checked_utc=f"{checked:%Y-%m-%d %H:%M:%S}",
        checked_beijing=beijing(checked),
        members=_listed(verification.members),
        version=version,
        key=verification.regulator_key,
        pinned=verification.pinned,
        ok=verification.ok,
        failed=sum(number > 0 for number in found.values()),
        findings=len(verification.findings),
        warnings=first(map(_seen, verification.warnings), _MOST_ROWS),
        checks=tuple(CheckRow(check, CHECKS[check], found[check]) for check in found),
        groups=_groups(verification.findings),
        periods=_periods(budgets.rows),
        rows_left=budgets.left,
        charts=first(map(_chart, spending_charts(verification)), _MOST_CHARTS),
        refusals_total=sum(row.count for row in verification.refusals),
        refusals=first(
            (
                Count(_name(row.node), _name(row.peer), _name(row.code), row.count)
                for row in sorted(verification.refusals, key=lambda row: -row.count)
            ),
            _MOST_ROWS,
        ),
        voids_total=sum(row.count for row in verification.voids),
        voids=first(
            (
                Count(_name(row.node), "", visible(row.reason), row.count)
                for row in sorted(verification.voids, key=lambda row: -row.count)
            ),
            _MOST_ROWS,
        ),
        heads=first(
            (
                Head(_name(head.member), LOGS[head.log], head.size, head.root)
                for head in sorted(verification.heads, key=lambda head: (head.member, head.log))
            ),
            _MOST_ROWS,
        ),
        types=tuple(
            TypeRow(visible(name), TYPES.get(name, Text("", "")), number)
            for name, number in verification.counts.items()
        ),
    )


def _name(told: str) -> str:
    return visible(told, _LONGEST_NAME)


def _seen(text: Text) -> Text:
    return Text(visible(text.en), visible(text.zh))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(_name(name) for name in names[:_MOST_MEMBERS])
    left = len(names) - _MOST_MEMBERS
    return f"{shown} … +{left}" if left > 0 else shown


def _groups(findings: Sequence[Finding]) -> tuple[Group, ...]:
    of_check: dict[Check, list[Finding]] = {}
    for finding in findings:
        of_check.setdefault(finding.check, []).append(finding)
    return tuple(_group(check, of_check[check]) for check in CHECKS if check in of_check)


def _group(check: Check, findings: Sequence[Finding]) -> Group:
    counts = Counter(finding.member for finding in findings).most_common()
    rows = tuple(_finding(finding) for finding in fair_share(findings, _MOST_FINDINGS))
    return Group(
        check=check,
        holds=CHECKS[check],
        total=len(findings),
        members=_listed([f"{visible(name, 60)} {number}" for name, number in counts]),
        rows=Rows(rows, len(findings) - len(rows)),
    )


def _finding(finding: Finding) -> FindingRow:
    evidence = first(finding.evidence, _MOST_EVIDENCE)
    files = tuple(visible(file, 200) for file in evidence.rows)
    return FindingRow(
        member=_name(finding.member),
        seq="" if finding.seq is None else str(finding.seq),
        reason=_seen(finding.reason),
        evidence=(*files, f"… +{evidence.left}") if evidence.left else files,
    )


def _periods(rows: Sequence[Spending]) -> tuple[Period, ...]:
    """Return the budgets by period; within one in the order of the verification."""

    def period(row: Spending) -> tuple[str, str, Fraction]:
        return row.period, row.period_to, row.delta

    return tuple(
        Period(
            start=_minute(start),
            end=_minute(end),
            delta=f"{float(delta):.3g}",
            rows=tuple(_budget(row) for row in of_period),
        )
        for (start, end, delta), of_period in groupby(sorted(rows, key=period), key=period)
    )


def _minute(moment: str) -> str:
    return f"{time_from(moment):%Y-%m-%d %H:%M}"


def _budget(row: Spending) -> BudgetRow:
    alone = None
    if row.rho_alone is not None and row.epsilon_alone is not None:
        alone = _account(row.rho_alone, row.rho_alone_cap, row.epsilon_alone, row.epsilon_alone_cap)
    return BudgetRow(
        node=_name(row.node),
        bank=_name(row.bank or ""),
        whole=row.bank is None,
        releases=row.releases,
        account=_account(row.rho, row.rho_cap, row.epsilon, row.epsilon_cap),
        alone=alone,
    )


def _account(rho: Fraction, cap: Fraction, epsilon: float, epsilon_cap: float) -> Account:
    return Account(
        spent=cost(rho, up=True),
        exact=exact(rho),
        cap=cost(cap, up=True),
        cap_exact=exact(cap),
        left=cost(cap - rho, up=False),
        left_exact=exact(cap - rho),
        used=percent(rho, cap),
        above=rho > cap,
        epsilon=loss(epsilon),
        epsilon_cap=loss(epsilon_cap),
    )


def _chart(chart: Chart) -> ChartView:
    newest = chart.newest
    return ChartView(
        name=_name(chart.node),
        used=percent(newest.rho, newest.rho_cap),
        epsilon=loss(newest.epsilon),
        epsilon_cap=loss(newest.epsilon_cap),
        above=chart.above,
        drawing=chart,
    )
