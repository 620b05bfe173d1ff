"""The statement that an enterprise is given: what was used, when, by whom, at what cost."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from markupsafe import Markup

from hejin_console import values
from hejin_console.page import both, render
from hejin_console.values import Rows, clock
from hejin_node import consent_words, statement_words
from hejin_node.consent import Authorisation
from hejin_node.home import NodeHome, ViewMissingError
from hejin_node.label_sessions import LabelSession
from hejin_node.notice import Notice, read_notice
from hejin_node.reasons import Reason
from hejin_node.trace import PeriodCost, RunLine, SumLine, Trace, loss, read_trace
from hejin_trust.authorisation import ANY
from hejin_trust.canonical import time_from, time_text
from hejin_trust.charter import Charter, NotAMemberError
from hejin_trust.files import replace_file
from hejin_trust.text import Language, Text

_MOST_SUMS: Final = 200
"""Rows of one computation: a page of thousands is read by nobody, and `trace --json` has all."""
_LARGE: Final = 1000
"""A factor above it says that there is no limit worth the name."""


@dataclass(frozen=True, slots=True)
class GrantRow:
    """One authorisation in words."""

    seq: int
    grade: str
    purposes: list[Text]
    banks: list[Text]
    data: list[Text]
    features: list[Text]
    start: str
    end: str
    state: Text
    document: str


@dataclass(frozen=True, slots=True)
class UseRow:
    """One released sum of the enterprise's part of a run."""

    when: str
    what: Text
    told: Text


@dataclass(frozen=True, slots=True)
class UseSection:
    """One run that holds the enterprise's data."""

    bank: Text
    purpose: Text
    product: str
    model: Text
    features: list[Text]
    grant: int
    began: str
    state: Text
    plan: str
    role: Text
    epsilon: str
    sums: Rows[UseRow]


@dataclass(frozen=True, slots=True)
class UnusedRow:
    """One run that does not hold them, and every reason."""

    bank: Text
    began: str
    purpose: Text
    why: list[Text]


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A bank that was asked how the enterprise's loans went."""

    bank: Text
    when: str
    definition: str
    period: str
    told: Text


@dataclass(frozen=True, slots=True)
class CostRow:
    """What the sums of one budget period, or of all, amount to."""

    period: Text
    sums: int
    epsilon: str
    factor: str
    alone: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What the page shows; times are UTC as the ledger has them."""

    code: str
    pseudonym: str
    operator: Text
    consortium: str
    utc: str
    beijing: str
    counted: int
    unknown: int
    runs: int
    banks: Text
    grants: list[GrantRow]
    erased: list[str]
    uses: list[UseSection]
    unused: list[UnusedRow]
    questions: list[QuestionRow]
    costs: list[CostRow]
    delta: str
    cap: str
    cap_alone: str
    period: tuple[str, str]
    charter: Charter
    notice: Notice
    version: str

    @property
    def rights(self) -> list[tuple[Text, Text]]:
        """What the notice says of the enterprise's rights, by heading."""
        w, notice = statement_words, self.notice
        return [
            (w.CONTACT, notice.contact.text),
            (w.WITHDRAWAL, notice.withdrawal.text),
            (w.AFTERWARDS, notice.afterwards.text),
            (w.RESPONSIBILITY, notice.responsibility.text),
            (w.FLOW, notice.flow.text),
            (w.STORAGE, notice.storage.text),
            (w.RETENTION, notice.retention.text),
        ]


def write_statement(home: NodeHome, code: str, file: Path, language: Language) -> Trace:
    """Write the statement of one enterprise for its and the operator's eyes (mode 0600).

    returns  what it rests on
    raises   SettingsError about notice.toml, StorageError, FileError
    """
    found = read_trace(home, code)
    page = render_statement(statement_of(home, found), language)
    replace_file(file, page.encode(), mode=0o600)
    return found


def render_statement(statement: Statement, language: Language) -> str:
    """Return the statement as HTML; `language` is the one that it opens in."""
    return render(
        "hejin_node",
        "statement.html.jinja",
        "statement.css",
        language,
        s=statement,
        w=statement_words,
        joined=_joined,
    )


def statement_of(home: NodeHome, found: Trace) -> Statement:
    """Return what the page shows of a trace; raises SettingsError about notice.toml."""
    charter, moment = home.charter, time_from(found.at)
    lines = [line for run in found.runs for line in run.sums]
    using = [run for run in found.runs if any(line.counted for line in run.sums)]
    banks = sorted({run.plan.bank for run in using})
    return Statement(
        code=found.code,
        pseudonym=found.pseudonym,
        operator=charter.member(home.member_id, "node").name,
        consortium=charter.consortium,
        utc=f"{moment:%Y-%m-%d %H:%M:%S}",
        beijing=values.beijing(moment),
        counted=sum(line.counted is True for line in lines),
        unknown=sum(line.counted is None for line in lines),
        runs=len(using),
        banks=_list([_bank(charter, bank) for bank in banks]),
        grants=[_grant(line.authorisation, charter, found.at) for line in found.grants],
        erased=[clock(time) for time in found.erased],
        uses=[_use(home, run) for run in found.runs if run.grant is not None],
        unused=[_unused(charter, run) for run in found.runs if run.grant is None],
        questions=[_question(charter, one) for one in found.questions],
        costs=_costs(found.costs, charter.delta),
        delta=f"{float(charter.delta):.15f}".rstrip("0"),
        cap=values.loss(loss(charter.rho_cap, charter.delta)),
        cap_alone=values.loss(loss(charter.rho_alone_cap, charter.delta)),
        period=(clock(charter.period_from), clock(charter.period_to)),
        charter=charter,
        notice=read_notice(home.path),
        version=importlib.metadata.version("hejin"),
    )


def _bank(charter: Charter, bank: str) -> Text:
    try:
        name = charter.member(bank, "bank").name
    except NotAMemberError:
        return Text(bank, bank)
    return Text(f"{name.en} ({bank})", f"{name.zh}（{bank}）")


def _named_bank(charter: Charter, bank: str) -> Text:
    return consent_words.ALL_BANKS if bank == ANY else _bank(charter, bank)


def _list(texts: Sequence[Text]) -> Text:
    return Text(", ".join(text.en for text in texts), "、".join(text.zh for text in texts))


def _grant(one: Authorisation, charter: Charter, at: str) -> GrantRow:
    terms = one.terms
    start, end = time_text(terms.valid_from), time_text(terms.valid_to)
    if one.revoked_at is not None:
        revoked, told = clock(one.revoked_at), statement_words.REVOKED
        state = Text(told.en.format(at=revoked), told.zh.format(at=revoked))
    elif start > at:
        state = statement_words.NOT_BEGUN
    else:
        state = statement_words.EXPIRED if end <= at else statement_words.STANDS
    return GrantRow(
        seq=one.seq,
        grade=terms.grade,
        purposes=consent_words.purposes(terms.purposes),
        banks=[_named_bank(charter, bank) for bank in terms.banks],
        data=consent_words.categories(terms.categories),
        features=consent_words.features(terms.features),
        start=start[:10],
        end=end[:10],
        state=state,
        document=terms.document,
    )


def _use(home: NodeHome, run: RunLine) -> UseSection:
    plan, w = run.plan, statement_words
    assert run.grant is not None, "only runs that hold its data are sections"
    try:
        features = [feature.text for feature in home.view(plan.view.sha256).features]
    except ViewMissingError:
        name = f"{plan.view.name}-v{plan.view.version}"
        features = [Text(name, name)]
    rho = sum((line.cost for line in run.sums if line.counted), Fraction(0))
    # What is over the other part is no use of this enterprise's data.
    own = [line for line in run.sums if line.part == run.part]
    return UseSection(
        bank=_bank(home.charter, plan.bank),
        purpose=consent_words.PURPOSES[plan.purpose],
        product=plan.product,
        model=w.FAMILIES.get(plan.family, Text(plan.family, plan.family)),
        features=features,
        grant=run.grant,
        began=clock(run.began),
        state=w.OPEN if run.open else w.OVER,
        plan=run.digest,
        role=w.HOLDOUT if run.part == "holdout" else w.TRAIN,
        epsilon=values.loss(loss(rho, home.charter.delta)),
        sums=values.first(map(_row, own), _MOST_SUMS),
    )


def _row(line: SumLine) -> UseRow:
    w = statement_words
    told = {True: w.YES, False: w.NO, None: w.LOST}[line.counted]
    if line.why is not None and not line.counted:
        told = _with(told, line.why)
    what = w.STATISTICS.get(line.statistic, Text(line.statistic, line.statistic))
    return UseRow("" if line.released is None else clock(line.released), what, told)


def _with(told: Text, why: Reason) -> Text:
    return Text(f"{told.en}: {why.text.en}", f"{told.zh}：{why.text.zh}")


def _question(charter: Charter, one: LabelSession) -> QuestionRow:
    told = statement_words.ANSWERED if one.state == "answered" else statement_words.UNANSWERED
    return QuestionRow(_bank(charter, one.bank), clock(one.time), one.definition, one.period, told)


def _unused(charter: Charter, run: RunLine) -> UnusedRow:
    return UnusedRow(
        bank=_bank(charter, run.plan.bank),
        began=clock(run.began),
        purpose=consent_words.PURPOSES[run.plan.purpose],
        why=[reason.text for reason in run.why],
    )


def _costs(costs: Sequence[PeriodCost], delta: Fraction) -> list[CostRow]:
    rows = [
        _cost(Text(clock(one.period), clock(one.period)), one.sums, one.rho, one.rho_alone, delta)
        for one in costs
    ]
    if len(costs) > 1:
        rows.append(
            _cost(
                statement_words.LIFETIME,
                sum(one.sums for one in costs),
                sum((one.rho for one in costs), Fraction(0)),
                sum((one.rho_alone for one in costs), Fraction(0)),
                delta,
            )
        )
    return rows


def _cost(period: Text, sums: int, rho: Fraction, alone: Fraction, delta: Fraction) -> CostRow:
    epsilon = loss(rho, delta)
    return CostRow(
        period=period,
        sums=sums,
        epsilon=values.loss(epsilon),
        factor=_factor(epsilon),
        alone=values.loss(loss(alone, delta)),
    )


def _factor(epsilon: float) -> str:
    """Return e^epsilon, rounded up; beyond _LARGE the figure would only pretend."""
    if epsilon > math.log(_LARGE):
        return f"> {_LARGE}"
    return f"{math.ceil(math.exp(epsilon) * 100) / 100:.2f}"


def _joined(texts: Sequence[Text]) -> Markup:
    return both(_list(texts))
