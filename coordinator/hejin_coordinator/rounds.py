"""Carry out a plan: one round a private sum, each stored so that a restart goes on."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import structlog

from hejin_coordinator import store
from hejin_coordinator.answers import Accepted, Refused, read_answer
from hejin_coordinator.errors import PlanLostError, RoundFailedError
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.store import Round, StoredPlan
from hejin_models.families import FamilyResult, family
from hejin_models.features import FeatureView
from hejin_models.pricing import mechanism_for
from hejin_models.state import encode_state, state_digest
from hejin_models.sums import NoisySum, SumRequest
from hejin_privacy.mechanism import SCALE
from hejin_privacy.messages import Query, Receipt, Result
from hejin_privacy.round_context import round_context, run_context
from hejin_trust.canonical import time_text
from hejin_trust.database import reading, writing
from hejin_trust.envelope import RECEIPT, SUM_QUERY, SUM_RESULT, Opened, open_envelope, seal
from hejin_trust.errors import HejinError
from hejin_trust.fleet import Payload

ROUND_VOID = "round-void"
"""Code of a node's refusal that stays: it was charged for the round, and nothing will leave."""

Progress = Callable[[int, int, str], None]

_log = structlog.get_logger(__name__)


class Transport(Protocol):
    """What carries questions to nodes: the Flower engine, or memory in simulations."""

    def ask(
        self, requests: Mapping[str, Payload], *, timeout: float, reissue_after: float
    ) -> Iterator[tuple[str, Payload]]:
        """Yield (node, answer) as answers come, until all are in or `timeout` seconds passed."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query that is stored and may be sent."""

    round: Round
    opened: Opened
    query: Query
    round_ctx: str


class PlanRun:
    """One plan being carried out over the nodes that approved it."""

    def __init__(
        self,
        home: CoordinatorHome,
        stored: StoredPlan,
        nodes: tuple[str, ...],
        transport: Transport,
        progress: Progress,
    ) -> None:
        self._home, self._stored, self._nodes = home, stored, nodes
        self._plan = stored.plan
        self._view = FeatureView.parse(stored.view)
        self._transport, self._progress = transport, progress
        self._run = self._open_run()

    @property
    def run(self) -> str:
        """The run's id, 32 hex digits."""
        return self._run

    def carry_out(self) -> FamilyResult:
        """Ask for every sum in turn and return what training made of them.

        Totals that an earlier process stored are taken from there: training is a
        deterministic function of them, so a restart goes on where it stopped.
        raises   RoundFailedError if too few nodes answer, PlanLostError if too few ever can;
                 TrainingError
        """
        training = family(self._plan.family).train(self._view)
        request = next(training)
        while True:
            total = self._sum(request)
            try:
                request = training.send(total)
            except StopIteration as done:
                self._close()
                result: FamilyResult = done.value
                return result

    def _open_run(self) -> str:
        if self._stored.run is not None:
            return self._stored.run
        run = secrets.token_hex(16)
        with writing(self._home.database) as connection:
            store.set_run(connection, self._stored.digest, run)
        return run

    def _sum(self, request: SumRequest) -> NoisySum:
        with reading(self._home.database) as connection:
            earlier = store.rounds(connection, self._run)
        known = next((r for r in earlier if r.sum == request.index and r.total), None)
        if known is None:
            asked = self._prepare(request, earlier)
            self._progress(request.index, len(self._plan.sums), request.statistic)
            known = self._round(asked, earlier)
        assert known.total is not None
        assert known.survivors is not None
        mechanism = self._asked(known).query.mechanism
        values = np.frombuffer(known.total, dtype="<i8").astype(np.float64) / SCALE
        # Every survivor added noise of this sigma, independently; mode `shared` counts on less.
        noise_std = math.sqrt(known.survivors) * float(mechanism.sigma) / SCALE
        return NoisySum(values, noise_std)

    def _prepare(self, request: SumRequest, earlier: list[Round]) -> _Asked:
        """Return the round's query: the stored one if it was asked before, else a new one."""
        open_round = next((r for r in earlier if r.sum == request.index and not r.total), None)
        if open_round is not None:
            return self._asked(open_round)
        home, plan = self._home, self._plan
        state = encode_state(request.state)
        previous = [r for r in earlier if r.result is not None]
        query = Query(
            run=self._run,
            plan=self._stored.digest,
            round=max((r.round for r in earlier), default=0) + 1,
            sum=request.index,
            part=request.part,
            state=state_digest(state),
            previous=self._result_digest(previous[-1]) if previous else "",
            mechanism=mechanism_for(
                plan, plan.sums[request.index], self._view, request.state, home.charter.r
            ),
        )
        envelope = seal(SUM_QUERY, query.body(), home.identity, home.member_id)
        with writing(home.database) as connection:
            store.open_round(connection, self._run, query.round, query.sum, envelope, state)
        return self._asked(
            Round(self._run, query.round, query.sum, envelope, state, None, None, None)
        )

    def _asked(self, stored: Round) -> _Asked:
        home = self._home
        opened = open_envelope(stored.query, SUM_QUERY, home.identity.public, home.member_id)
        query = Query.parse(opened.body)
        context = round_context(
            run_context(query.run, query.plan), query.round, bytes.fromhex(opened.digest)
        )
        return _Asked(stored, opened, query, context.hex())

    def _result_digest(self, closed: Round) -> str:
        home = self._home
        assert closed.result is not None
        return open_envelope(closed.result, SUM_RESULT, home.identity.public, home.member_id).digest

    def _round(self, asked: _Asked, earlier: list[Round]) -> Round:
        """Ask the nodes, check and add up their answers, close the round durably."""
        settings = self._home.settings
        previous = [r.result for r in earlier if r.result is not None]
        payload = {
            "kind": b"query",
            "query": asked.round.query,
            "state": asked.round.state,
            "result": previous[-1] if previous else b"",
        }
        accepted: dict[str, Accepted] = {}
        refusals: list[str] = []
        voided = 0
        for node, answer in self._transport.ask(
            dict.fromkeys(self._nodes, payload),
            timeout=self._plan.deadlines.masked,
            reissue_after=settings.reissue_seconds,
        ):
            try:
                read = read_answer(
                    answer,
                    node,
                    asked.query,
                    asked.opened.digest,
                    asked.round_ctx,
                    self._home.charter,
                )
            except HejinError as reason:
                _log.warning("answer-refused", node=node, round=asked.query.round, code=reason.code)
                refusals.append(f"{node}: {reason.text.en}")
                continue
            if isinstance(read, Refused):
                _log.warning("node-refuses", node=node, code=read.code)
                refusals.append(f"{node}: {read.text.en}")
                voided += read.code == ROUND_VOID
            else:
                accepted[node] = read
        if len(self._nodes) - voided < self._plan.minimum_nodes:
            raise PlanLostError(
                f"round {asked.query.round}: {voided} of {len(self._nodes)} nodes were interrupted"
                f" after they were charged, so fewer than {self._plan.minimum_nodes} can answer it;"
                " propose a new plan",
                f"第 {asked.query.round} 轮：{len(self._nodes)} 个节点中 {voided} 个在计费后中断，"
                f"可应答的节点不足 {self._plan.minimum_nodes} 个；请提出新计划",
            )
        if len(accepted) < self._plan.minimum_nodes:
            silent = len(self._nodes) - len(accepted) - len(refusals)
            said = "".join(f"; {refusal}" for refusal in refusals)
            raise RoundFailedError(
                f"round {asked.query.round}: {len(accepted)} of {len(self._nodes)} nodes answered,"
                f" {self._plan.minimum_nodes} are needed, {silent} are silent{said};"
                " start the plan again when they are back",
                f"第 {asked.query.round} 轮：{len(self._nodes)} 个节点中 {len(accepted)} 个应答，"
                f"至少需要 {self._plan.minimum_nodes} 个，{silent} 个无应答{said}；"
                "待其恢复后请重新启动该计划",
            )
        return self._close_round(asked, [accepted[node] for node in sorted(accepted)])

    def _close_round(self, asked: _Asked, accepted: list[Accepted]) -> Round:
        """Log the accepts and the result, sign the receipts, store the total: one transaction."""
        home, query = self._home, asked.query
        total: npt.NDArray[np.int64] = np.zeros(query.mechanism.dimension, dtype=np.int64)
        for answer in accepted:
            total += answer.vector  # int64 wraps around mod 2^64, as the protocol says
        data = np.ascontiguousarray(total, dtype="<i8").tobytes()
        result = Result(
            run=query.run,
            round=query.round,
            round_ctx=asked.round_ctx,
            survivors=tuple(answer.node for answer in accepted),
            total=hashlib.sha256(data).hexdigest(),
        )
        envelope = seal(SUM_RESULT, result.body(), home.identity, home.member_id)
        logged = result.body()
        del logged["v"]
        with writing(home.database) as connection:
            home.release_log.append_many(
                connection,
                [*(("accept", _accept_body(query, answer)) for answer in accepted),
                 ("result", logged)],
            )  # fmt: skip
            checkpoint = home.release_log.checkpoint(connection)
            for answer in accepted:
                store.insert_accept(
                    connection,
                    query.run,
                    query.round,
                    answer.node,
                    answer.envelope,
                    self._receipt(answer, checkpoint),
                )
            store.close_round(connection, query.run, query.round, envelope, data, len(accepted))
        return Round(
            query.run,
            query.round,
            query.sum,
            asked.round.query,
            asked.round.state,
            envelope,
            data,
            len(accepted),
        )

    def _receipt(self, answer: Accepted, checkpoint: str) -> bytes:
        home, header = self._home, answer.header
        receipt = Receipt(
            run=header.run,
            round=header.round,
            node=answer.node,
            header=answer.header_digest,
            vector=header.vector,
            checkpoint=checkpoint,
            time=time_text(home.now()),
        )
        return seal(RECEIPT, receipt.body(), home.identity, home.member_id)

    def _close(self) -> None:
        """Give every node the last result, so that it fetches its receipt and closes the run."""
        with reading(self._home.database) as connection:
            last = store.rounds(connection, self._run)[-1]
        assert last.result is not None
        payload = {"kind": b"result", "result": last.result}
        noted = self._transport.ask(
            dict.fromkeys(self._nodes, payload),
            timeout=self._plan.deadlines.masked,
            reissue_after=self._home.settings.reissue_seconds,
        )
        silent = set(self._nodes) - {node for node, _ in noted}
        if silent:
            _log.warning("last-result-not-noted", nodes=len(silent))


def _accept_body(query: Query, answer: Accepted) -> dict[str, object]:
    return {
        "run": query.run,
        "round": query.round,
        "node": answer.node,
        "plan": query.plan,
        "round_ctx": answer.header.round_ctx,
        "reservation": answer.header.reservation,
        "header": answer.header_digest,
        "vector": answer.header.vector,
        "proof_size": answer.proven.size,
        "proof_root": answer.proven.root.hex(),
    }
