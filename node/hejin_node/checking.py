"""Step 1 of a query: everything that is looked at before anything is charged."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from hejin_models.features import FeatureView
from hejin_models.plan import Plan
from hejin_node import account, inbox
from hejin_node.home import NodeHome
from hejin_node.masking import Masking
from hejin_node.query import (
    CharterReplacedError,
    CheckedQuery,
    PeriodNotBegunError,
    QueryOutOfOrderError,
    QueryRefusedError,
    RoundVoidError,
    check_query,
)
from hejin_node.results import check_result, open_result
from hejin_privacy.holdout import split_key
from hejin_privacy.mechanism import check_overflow
from hejin_privacy.messages import Query, Result
from hejin_privacy.round_context import round_context, run_context
from hejin_trust.canonical import time_from
from hejin_trust.charter import Charter, Member
from hejin_trust.database import reading
from hejin_trust.envelope import SUM_QUERY, open_envelope
from hejin_trust.fleet import Payload


@dataclass(frozen=True, slots=True)
class Context:
    """Everything the steps of one query share."""

    bank: Member
    charter: Charter
    plan: Plan
    view: FeatureView
    checked: CheckedQuery
    round_ctx: bytes
    split_key: bytes

    @property
    def query(self) -> Query:
        """Return the bank's query."""
        return self.checked.query


class Checker:
    """Checks what one bank asks of one node."""

    def __init__(self, home: NodeHome, bank: str, masking: Masking) -> None:
        self._home, self._bank, self._masking = home, bank, masking

    def approved(self, digest: str, bank: Member) -> Plan:
        """Return a plan of the bank's own that this node approved; QueryRefusedError."""
        with reading(self._home.database) as connection:
            offered = inbox.find_offer(connection, digest)
        if offered.answer != "approved" or offered.signer != bank.id or offered.digest != digest:
            raise QueryRefusedError("the plan is not approved at this node", "该计划未获本节点批准")
        return offered.plan

    @staticmethod
    def check_one_run(connection: Connection, run: str, digest: str) -> None:
        """Raise unless `run` and plan `digest` belong together, or neither has begun."""
        running = inbox.find_run(connection, run)
        plan_run = inbox.run_of_plan(connection, digest)
        if (plan_run is not None and plan_run.run != run) or (
            running is not None and running.plan != digest
        ):
            raise QueryOutOfOrderError("a plan is carried out by one run", "一个计划只能执行一次")

    def check(self, payload: Payload) -> tuple[Context, Result | None]:
        """Return what the steps of a query share, and the result that it brings, if it is new.

        A masked run's roster is taken in here, as it travels with a node's first query.
        raises   HejinError; nothing was charged then
        """
        home, charter = self._home, self._home.charter
        bank = charter.admitted(self._bank, "bank")
        opened = open_envelope(payload.get("query", b""), SUM_QUERY, bank.identity_key, bank.id)
        query = Query.parse(opened.body)
        plan = self.approved(query.plan, bank)
        with reading(home.database) as connection:
            self.check_one_run(connection, query.run, query.plan)
            running = inbox.find_run(connection, query.run)
            last = account.last_round(connection, query.run)
            known = account.find(connection, query.run, query.round)
        view = home.view(plan.view.sha256)
        checked = check_query(query, opened.digest, payload.get("state", b""), plan, view, charter)
        context = Context(
            bank=bank,
            charter=charter,
            plan=plan,
            view=view,
            checked=checked,
            round_ctx=round_context(
                self._run_context(query, plan, charter, payload),
                query.round,
                bytes.fromhex(opened.digest),
            ),
            split_key=split_key(query.plan, charter.nonce),
        )
        if known is not None:
            return context, None
        self._check_new(context, running, last)
        return context, self._previous_result(payload, query, running, bank)

    def _run_context(self, query: Query, plan: Plan, charter: Charter, payload: Payload) -> bytes:
        """Return run_ctx; a masked run's follows from its roster, which is joined first."""
        if plan.mode != "shared":
            return run_context(query.run, query.plan)
        return self._masking.join(query.run, query.plan, plan, charter, payload).context

    def _check_new(self, context: Context, running: inbox.Run | None, last: int) -> None:
        query, plan = context.query, context.plan
        if running is not None and running.closed:
            raise QueryOutOfOrderError("the run is over", "该次运行已结束")
        if query.round <= last:
            raise QueryOutOfOrderError(
                f"round {query.round} is not after round {last}",
                f"第 {query.round} 轮不在第 {last} 轮之后",
            )
        self.check_time(context)
        bands = [context.charter.member(node, "node").size_band for node in plan.nodes]
        check_overflow(
            sum(band[1] for band in bands if band is not None),
            query.mechanism.delta_squared,
            query.mechanism.sigma,
            len(plan.nodes),
        )
        with reading(self._home.database) as connection:
            self.price(connection, context)

    def check_time(self, context: Context) -> None:
        """Raise unless charter, plan and budget period hold now; no charge is written otherwise.

        raises   QueryRefusedError: the plan has expired; PeriodNotBegunError, CharterReplacedError
        """
        charter, now = context.charter, self._home.now()
        if now >= context.plan.expires:
            raise QueryRefusedError("the plan has expired", "计划已过期")
        if self._home.charter.serial != charter.serial:
            raise CharterReplacedError(
                "a newer charter came while the query was looked at: ask again",
                "查询处理期间章程已更新：请再次提问",
            )
        if now < time_from(charter.period_from):
            raise PeriodNotBegunError(
                f"the charter's budget period begins at {charter.period_from}: ask again then",
                f"章程的预算期自 {charter.period_from} 起：请届时再提问",
            )

    def check_release(self, context: Context) -> None:
        """Raise unless what was charged may leave now: what is raised voids the reservation.

        raises   QueryRefusedError: the plan has expired, or the budget period that the sum was
                 charged to is over; NotAMemberError: bank or node are no longer admitted
        """
        home, charter, now = self._home, self._home.charter, self._home.now()
        charter.admitted(self._bank, "bank")
        charter.admitted(home.member_id, "node")
        if now >= context.plan.expires:
            raise QueryRefusedError("the plan has expired", "计划已过期")
        # No later charter's period begins before.
        if now >= time_from(context.charter.period_to):
            raise QueryOutOfOrderError(
                "the budget period that the sum was charged to is over",
                "该求和的费用所计入的预算期已结束",
            )

    def _previous_result(
        self, payload: Payload, query: Query, running: inbox.Run | None, bank: Member
    ) -> Result | None:
        """Return the previous round's result if this node has not logged it yet."""
        envelope = payload.get("result", b"")
        if query.previous == "" and not envelope:
            return None
        opened, result = open_result(payload, bank)
        if opened.digest != query.previous or result.run != query.run:
            raise QueryRefusedError(
                "the query does not name the previous result that came with it",
                "查询所引用的上一轮结果与所附结果不一致",
            )
        if running is None or running.result == opened.digest:
            return None
        check_result(self._home, self._masking, payload, result, bank)
        return result

    def price(self, connection: Connection, context: Context) -> account.Spending:
        """Return what the sum does to the account; raises where a cap is exceeded."""
        plan, part = context.plan, context.query.part
        return account.price(
            connection,
            context.charter,
            plan=context.query.plan,
            bank=context.bank.id,
            part=part,
            cost=context.checked.cost,
            cost_alone=context.checked.cost_alone,
            part_cap=plan.rho_train if part == "train" else plan.rho_holdout,
        )


def check_repeat(known: account.Reservation, context: Context) -> None:
    """Raise unless a round that was asked before can be answered, or taken up, again.

    raises   QueryOutOfOrderError for another query, RoundVoidError where nothing leaves any more
    """
    if known.query != context.checked.digest:
        raise QueryOutOfOrderError(
            f"round {known.round} was asked before with another query",
            f"第 {known.round} 轮此前已以另一查询提问",
        )
    if known.receipt is not None:
        raise RoundVoidError(
            f"round {known.round} is over: the bank has signed what it received of it, and"
            " the bytes were let go; go on with the next round",
            f"第 {known.round} 轮已结束：银行已签署回执，内容不再保存；请进入下一轮",
        )
    if known.state in ("void", "lost") or (known.state == "released" and known.vector is None):
        raise RoundVoidError(
            f"round {known.round} was interrupted at this node; it stays charged: go on with"
            " the next round",
            f"第 {known.round} 轮在本节点中断，费用照计：请进入下一轮",
        )
