"""V6: every round that ended, beside its query, its survivor set and the votes on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from hejin_privacy.messages import Query, Result
from hejin_privacy.round_context import round_context
from hejin_privacy.secure_sum.documents import SurvivorSet, documents_hash
from hejin_privacy.secure_sum.keys import Roster
from hejin_privacy.secure_sum.node import check_votes
from hejin_regulator.check_plans import sum_faults
from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import digest_of
from hejin_regulator.plans import KnownPlan, PlanBook
from hejin_regulator.records import Priced, priced
from hejin_regulator.runs import RunBook
from hejin_regulator.workbook import Shelf
from hejin_trust import canonical
from hejin_trust.charter import Member
from hejin_trust.envelope import SUM_QUERY, SUM_SURVIVORS, Opened, open_envelope
from hejin_trust.errors import HejinError
from hejin_trust.export import RoundLine
from hejin_trust.text import Text


@dataclass(frozen=True, slots=True)
class _Ended:
    """A row of `ended`: a bank's `result` or `burn`; body is that of a result, as JSON.

    plan, round_ctx  of what was accepted; "" if nothing was
    """

    seq: int
    kind: str
    run: str
    round: int
    body: str
    plan: str
    round_ctx: str


class ResultCheck:
    """The rounds of one bank, in the order in which they ended."""

    def __init__(self, evidence: Evidence, plans: PlanBook, runs: RunBook, bank: Member) -> None:
        self._evidence, self._plans, self._runs, self._bank = evidence, plans, runs, bank
        # Digest of the last result of each run, which the next query names.
        self._results: Shelf[str] = Shelf(evidence.workbook, "results", str, str, 512)

    def check(self) -> None:
        """Go through `rounds.jsonl` and the bank's entries side by side."""
        lines = self._lines()
        number, line = next(lines, (0, None))
        rows = self._evidence.workbook.rows(
            "SELECT seq, kind, run, round, body, plan, round_ctx FROM ended WHERE bank = ? "
            "ORDER BY seq",
            self._bank.id,
        )
        for row in rows:
            ended = _Ended(*row)
            while line is not None and line.run == ended.run and line.round < ended.round:
                self._unknown(number, line)
                number, line = next(lines, (0, None))
            if line is None or (line.run, line.round) != (ended.run, ended.round):
                self._note(
                    ended,
                    Text(
                        f"the query of round {ended.round}, and the votes on its result, are "
                        "missing in rounds.jsonl",
                        f"rounds.jsonl 中缺少第 {ended.round} 轮的查询及其结果的投票",
                    ),
                )
            else:
                self._check(ended, line, f"{self._bank.id}/rounds.jsonl:{number}")
                number, line = next(lines, (0, None))
            self._remember(ended)
        if line is not None:
            self._unknown(number, line)

    def _unknown(self, number: int, line: RoundLine) -> None:
        self._evidence.notes.add(
            "V6",
            self._bank.id,
            None,
            f"rounds.jsonl goes on with round {line.round}, which did not end there",
            f"rounds.jsonl 中第 {line.round} 轮在日志中并未于此结束",
            evidence=(f"{self._bank.id}/rounds.jsonl:{number}",),
        )

    def _lines(self) -> Iterator[tuple[int, RoundLine]]:
        number = 0
        try:
            for number, line in enumerate(self._evidence.export(self._bank.id).rounds()):
                yield number, line
        except HejinError as reason:
            self._evidence.notes.add_text(
                "V6",
                self._bank.id,
                None,
                reason.text,
                evidence=(f"{self._bank.id}/rounds.jsonl:{number}",),
            )

    def _note(self, ended: _Ended, reason: Text, file: str = "") -> None:
        evidence = (file,) if file else ()
        self._evidence.notes.add_text("V6", self._bank.id, ended.seq, reason, evidence=evidence)

    def _remember(self, ended: _Ended) -> None:
        """Keep the digest of a result as the bank signed it for the nodes."""
        if ended.kind == "result":
            body = {"v": 1, **canonical.decode(ended.body.encode())}
            self._results.put(ended.run, digest_of(body))

    def _check(self, ended: _Ended, line: RoundLine, file: str) -> None:
        try:
            opened = open_envelope(line.query, SUM_QUERY, self._bank.identity_key, self._bank.id)
            query = Query.parse(opened.body)
        except HejinError as reason:
            self._note(ended, reason.text, file)
            return
        if (query.run, query.round) != (ended.run, ended.round):
            self._note(ended, Text("the query is of another round", "查询属于另一轮"), file)
            return
        mechanism = priced(canonical.encode(opened.body["mechanism"]))
        self._evidence.workbook.put(
            "asked",
            self._bank.id,
            query.run,
            query.round,
            opened.digest,
            query.plan,
            query.part,
            canonical.encode(opened.body["mechanism"]),
            query.previous,
        )
        if query.previous != (self._results.get(query.run) or ""):
            self._note(
                ended,
                Text(
                    "the query does not name the result before it: a result was left out or "
                    "replaced",
                    "查询未引用其前一个结果：结果被遗漏或替换",
                ),
                file,
            )
        known = self._plans.find(self._bank.id, query.plan)
        if known is None or isinstance(mechanism, HejinError):
            self._note(ended, Text("the query is of no valid plan", "查询没有有效的计划"), file)
            return
        for fault in _query_faults(query, mechanism, known):
            self._note(ended, fault, file)
        self._check_end(ended, line, opened, known, file)

    def _check_end(
        self, ended: _Ended, line: RoundLine, query: Opened, known: KnownPlan, file: str
    ) -> None:
        """Compare what was accepted and the result with the plan, the run and the votes."""
        if ended.plan and ended.plan != known.digest:
            self._note(ended, Text("what was accepted is of another plan", "所接收的属于另一计划"))
        run = self._runs.find(self._bank.id, ended.run, known)
        if run is None:
            self._note(
                ended,
                Text(
                    "the roster of the run is missing in rosters.jsonl, or is not proven there",
                    "rosters.jsonl 中缺少该运行的名册，或未得到证明",
                ),
                f"{self._bank.id}/rosters.jsonl",
            )
            return
        context = round_context(run.context, ended.round, bytes.fromhex(query.digest)).hex()
        if ended.round_ctx and ended.round_ctx != context:
            self._note(
                ended,
                Text(
                    "the context of what was accepted does not follow from run, round and query",
                    "所接收内容的上下文与运行、轮次及查询不符",
                ),
                file,
            )
        if ended.kind != "result":
            self._check_opened(ended, line, run.roster, file)
            return
        try:
            result = Result.parse({"v": 1, **canonical.decode(ended.body.encode())})
            if len(result.survivors) < known.plan.minimum_nodes:
                _refuse(
                    f"the result is over {len(result.survivors)} nodes, the plan asks for "
                    f"{known.plan.minimum_nodes}",
                    f"结果仅含 {len(result.survivors)} 个节点，计划要求 "
                    f"{known.plan.minimum_nodes} 个",
                )
            self._check_votes(result, line, run.roster)
        except HejinError as reason:
            self._note(ended, reason.text, file)

    def _check_opened(
        self, ended: _Ended, line: RoundLine, roster: Roster | None, file: str
    ) -> None:
        """Warn of a burn that a quorum had voted to open: the bank may hold its total."""
        if roster is None or not line.survivors:
            return
        bank = self._bank
        try:
            opened = open_envelope(line.survivors, SUM_SURVIVORS, bank.identity_key, bank.id)
            voted = SurvivorSet.parse(opened.body)
            if (voted.run, voted.round) != (ended.run, ended.round):
                _refuse("the survivor set is of another round", "存活集合属于另一轮")
        except HejinError as reason:
            self._note(ended, reason.text, file)
            return
        with suppress(HejinError):
            check_votes(roster, voted, line.votes)
            self._evidence.notes.counts["burn with votes"] += 1
            self._evidence.notes.warn(
                f"{bank.id} burned round {ended.round} of run {ended.run} although a quorum "
                "had voted to open it: ask the bank why (the round is charged either way).",
                f"{bank.id} 作废了运行 {ended.run} 的第 {ended.round} 轮，而法定数节点已投票同意"
                "打开：请询问该银行原因（该轮照常计费）。",
            )

    def _check_votes(self, result: Result, line: RoundLine, roster: Roster | None) -> None:
        """Raise unless a quorum of the survivors voted for them, and the log says so."""
        if roster is None:
            if result.votes or line.votes or line.survivors:
                _refuse("there are votes on a result that needs none", "无需投票的结果却附有投票")
            return
        bank = self._bank
        opened = open_envelope(line.survivors, SUM_SURVIVORS, bank.identity_key, bank.id)
        voted = SurvivorSet.parse(opened.body)
        told = (result.run, result.round, result.round_ctx, result.survivors)
        if (voted.run, voted.round, voted.round_ctx, voted.survivors) != told:
            _refuse(
                "the survivor set that the bank signed is not that of its result",
                "银行签署的存活集合与其结果不符",
            )
        if not set(voted.survivors) <= set(roster.nodes):
            _refuse("a survivor is not in the roster", "有存活节点不在名册之内")
        check_votes(roster, voted, line.votes)
        if documents_hash(line.votes) != result.votes:
            _refuse("the votes are not those that the result names", "投票与结果所列的不同")


def _query_faults(query: Query, mechanism: Priced, known: KnownPlan) -> Iterator[Text]:
    """Yield what is wrong with a query under its plan."""
    plan = known.plan
    if query.sum >= len(plan.sums):
        yield Text(
            f"the query asks for sum {query.sum + 1}, the plan has {len(plan.sums)}",
            f"查询要求第 {query.sum + 1} 个求和，计划共有 {len(plan.sums)} 个",
        )
        return
    planned = plan.sums[query.sum]
    told = (query.mechanism.statistic, query.mechanism.version, query.part)
    if told != (planned.statistic, planned.version, planned.part) or mechanism.cost > planned.rho:
        yield Text(
            "the query asks for another sum than the plan has at its place, or at another cost",
            "查询所求与计划在该处的求和或其费用不同",
        )
    yield from sum_faults(mechanism, query.part, known)


def check_models(evidence: Evidence) -> None:
    """V6: a model that a bank logs was trained by a run with results, and on its plan."""
    rows = evidence.workbook.rows(
        "SELECT m.bank, m.seq, m.run FROM model m WHERE NOT EXISTS (SELECT 1 FROM ended e "
        "JOIN asked a ON (a.bank, a.run, a.round) = (e.bank, e.run, e.round) "
        "WHERE (e.bank, e.run, e.kind, a.plan) = (m.bank, m.run, 'result', m.plan))"
    )
    for bank, seq, run in rows:
        evidence.notes.add(
            "V6",
            bank,
            seq,
            f"the model is of run {run}, which has no result under the model's plan",
            f"该模型所属运行 {run} 在其计划下没有结果",
        )


class ResultRefusedError(HejinError):
    """A result does not rest on what it must rest on."""

    code = "result-unproven"


def _refuse(en: str, zh: str) -> NoReturn:
    raise ResultRefusedError(f"{en}; ask the bank", f"{zh}；请询问该银行")
