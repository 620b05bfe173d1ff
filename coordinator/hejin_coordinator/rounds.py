"""Carry out a plan: one round a private sum, each stored so that a restart goes on."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from datetime import datetime

import numpy as np
import numpy.typing as npt
import structlog

from hejin_coordinator import disputes, store
from hejin_coordinator.asking import Transport
from hejin_coordinator.collecting import AskedQuery, Collecting
from hejin_coordinator.ending import burn
from hejin_coordinator.errors import PlanLostError, RoundBurnedError, RunPausedError
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.roster import RunRoster, agree_roster
from hejin_coordinator.store import Accept, Round, StoredPlan
from hejin_coordinator.unmasking import Unmasked, Unmasking
from hejin_models.families import FamilyResult, family
from hejin_models.features import FeatureView
from hejin_models.pricing import mechanism_for
from hejin_models.state import encode_state, state_digest
from hejin_models.sums import NoisySum, SumRequest
from hejin_privacy.accounting import round_up
from hejin_privacy.mechanism import SCALE
from hejin_privacy.messages import MaskedHeader, Query, Result
from hejin_privacy.round_context import round_context, run_context
from hejin_privacy.secure_sum.bank import BankRound
from hejin_privacy.secure_sum.documents import SurvivorSet, documents_hash
from hejin_privacy.secure_sum.keys import Roster
from hejin_trust.canonical import time_text
from hejin_trust.database import reading, writing
from hejin_trust.envelope import (
    SUM_MASKED,
    SUM_QUERY,
    SUM_RESULT,
    SUM_SURVIVORS,
    Opened,
    open_envelope,
    seal,
)
from hejin_trust.fleet import Payload, pack
from hejin_trust.witness import Witness

Progress = Callable[[int, int, str], None]

_log = structlog.get_logger(__name__)


class PlanRun:
    """One plan being carried out over the nodes that approved it."""

    def __init__(
        self,
        home: CoordinatorHome,
        stored: StoredPlan,
        nodes: tuple[str, ...],
        transport: Transport,
        progress: Progress,
        witness: Witness,
        accepted: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the plan's run; `accepted` is called once a round's answers are taken and logged."""
        self._home, self._stored, self._nodes = home, stored, nodes
        self._witness, self._accepted = witness, accepted
        self._plan = stored.plan
        self._view = FeatureView.parse(stored.view)
        self._transport, self._progress = transport, progress
        self._run = self._open_run()
        self._roster: RunRoster | None = None
        self._joined: set[str] = set()

    @property
    def run(self) -> str:
        """The run's id, 32 hex digits."""
        return self._run

    def carry_out(self) -> FamilyResult:
        """Ask for every sum in turn and return what training made of them.

        Totals that an earlier process stored are taken from there: training is a
        deterministic function of them, so a restart goes on where it stopped.
        raises   RunPausedError while too few nodes are there, RoundFailedError if too few serve
                 the plan, PlanLostError if a round was lost that its budget cannot pay again;
                 TrainingError; FrozenError, WitnessUnreachableError, ClockOffError before a round
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
        while True:
            with reading(self._home.database) as connection:
                earlier = store.rounds(connection, self._run)
            known = next((r for r in earlier if r.sum == request.index and r.total), None)
            if known is not None:
                return self._noisy(known)
            if not any(r.asked and not r.burned for r in earlier if r.sum == request.index):
                # Nodes reserve nothing while the regulator is away: they are not asked.
                self._witness.ready()
            if self._plan.mode == "shared" and self._roster is None:
                self._roster = agree_roster(
                    self._home, self._stored, self._run, self._nodes, self._transport
                )
            opened = self._prepare(request, earlier)
            self._progress(request.index, len(self._plan.sums), request.statistic)
            try:
                self._round(opened, earlier)
            except RoundBurnedError as reason:
                self._burn(opened, earlier, reason)

    def _noisy(self, known: Round) -> NoisySum:
        assert known.total is not None
        assert known.survivors is not None
        values = np.frombuffer(known.total, dtype="<i8").astype(np.float64) / SCALE
        # Every survivor added noise of this sigma, independently; mode `shared` counts on less.
        sigma = self._query(known).mechanism.sigma
        return NoisySum(values, math.sqrt(known.survivors) * float(sigma) / SCALE)

    def _prepare(self, request: SumRequest, earlier: list[Round]) -> Round:
        """Return the sum's open round, or a new one whose query is stored before it is sent."""
        asked = [known for known in earlier if known.sum == request.index]
        for known in asked:
            if not known.burned:
                return known
        # Also where an earlier process burned the last one and died before it ended the plan.
        if asked and not self._can_ask_again(self._query(asked[-1]), earlier):
            raise _lost("", "")
        home = self._home
        state = encode_state(request.state)
        results = [r.result for r in earlier if r.result is not None]
        query = Query(
            run=self._run,
            plan=self._stored.digest,
            round=max((r.round for r in earlier), default=0) + 1,
            sum=request.index,
            part=request.part,
            state=state_digest(state),
            previous=self._own(results[-1], SUM_RESULT).digest if results else "",
            mechanism=mechanism_for(
                self._plan,
                self._plan.sums[request.index],
                self._view,
                request.state,
                home.charter.r,
            ),
        )
        envelope = seal(SUM_QUERY, query.body(), home.identity, home.member_id)
        with writing(home.database) as connection:
            store.open_round(connection, self._run, query.round, query.sum, envelope, state)
        return Round(self._run, query.round, query.sum, envelope, state)

    def _round(self, opened: Round, earlier: list[Round]) -> None:
        """Take one round to its result: collect and fix, unmask, close; each step durable."""
        asked = self._asked(opened)
        if opened.asked is None:
            collecting = Collecting(
                self._home, self._transport, self._plan, self._asked_nodes(), self._roster,
                self._joined, self._regulator_time,
            )  # fmt: skip
            accepted = collecting.collect(asked, self._last_result(earlier))
            collecting.fix(asked, accepted)
            self._accepted()
        with reading(self._home.database) as connection:
            fixed = store.find_round(connection, self._run, opened.round)
            accepts = store.accepts(connection, self._run, opened.round)
        assert fixed is not None
        assert fixed.masked is not None
        masked = np.frombuffer(fixed.masked, dtype="<i8")
        if self._roster is None:
            self._close_round(asked, accepts, Unmasked(masked, ()))
            return
        assert fixed.asked is not None
        state = self._bank_round(self._roster.roster, fixed.asked, accepts, masked)
        unmasking = Unmasking(
            self._home,
            self._transport,
            self._plan.deadlines,
            state,
            fixed.asked,
            {accept.node: accept for accept in accepts},
        )
        self._close_round(asked, accepts, unmasking.open())

    def _regulator_time(self) -> datetime:
        """Return the time by the regulator's clock: this bank's, corrected."""
        offset = self._witness.offset
        assert offset is not None, "the witness was ready before anybody was asked"
        return self._home.now() + offset

    def _asked_nodes(self) -> tuple[str, ...]:
        """Return whom a new round asks: those in dispute only if too few are left without them.

        Else one liar could burn every round that the plan pays for.
        """
        if self._roster is None:
            return self._nodes
        nodes = self._roster.roster.nodes
        with reading(self._home.database) as connection:
            out = disputes.left_out(connection)
        trusted = tuple(node for node in nodes if node not in out)
        return trusted if len(trusted) >= self._plan.minimum_nodes else nodes

    def _bank_round(
        self, roster: Roster, asked: bytes, accepts: list[Accept], masked: npt.NDArray[np.int64]
    ) -> BankRound:
        made = {}
        for accept in accepts:
            key = roster.seats[roster.index(accept.node) - 1].identity_key
            header = MaskedHeader.parse(open_envelope(accept.header, SUM_MASKED, key).body)
            assert header.masking is not None, "checked when it was accepted"
            made[accept.node] = header.masking
        opened = self._own(asked, SUM_SURVIVORS)
        return BankRound(roster, SurvivorSet.parse(opened.body), made, masked.view("<u8"))

    def _close_round(self, asked: AskedQuery, accepts: list[Accept], found: Unmasked) -> None:
        """Log and store the result and the total: one transaction."""
        home, query = self._home, asked.query
        data = np.ascontiguousarray(found.total, dtype="<i8").tobytes()
        result = Result(
            run=query.run,
            round=query.round,
            round_ctx=asked.round_ctx,
            survivors=tuple(accept.node for accept in accepts),
            total=hashlib.sha256(data).hexdigest(),
            votes=documents_hash(found.votes) if found.votes else "",
        )
        envelope = seal(SUM_RESULT, result.body(), home.identity, home.member_id)
        logged = result.body()
        del logged["v"]
        with writing(home.database) as connection:
            home.release_log.append(connection, "result", logged)
            home.release_log.checkpoint(connection)
            store.close_round(connection, query.run, query.round, pack(found.votes), envelope, data)

    def _burn(self, opened: Round, earlier: list[Round], reason: RoundBurnedError) -> None:
        """Give a round up if its sum can be paid again; else wait for it, or end the plan."""
        home, query = self._home, self._query(opened)
        affordable = self._can_ask_again(query, [*earlier, opened])
        if not affordable and not reason.final:
            raise RunPausedError(reason.text.en, reason.text.zh) from reason
        at = time_text(home.now())
        with writing(home.database) as connection:
            if reason.giver:
                disputes.add(connection, self._run, opened.round, reason.giver, reason.taker, at)
            burn(
                home,
                connection,
                self._run,
                opened.round,
                str(reason.text),
                giver=reason.giver,
                taker=reason.taker,
            )
            home.release_log.checkpoint(connection)
        _log.warning("round-burned", round=opened.round, reason=reason.text.en)
        if not affordable:
            raise _lost(f"{reason.text.en}; ", f"{reason.text.zh}；") from reason

    def _can_ask_again(self, lost: Query, asked: list[Round]) -> bool:
        """Return whether the part's cap pays for one more round and the sums still to come."""
        plan = self._plan
        rounds = {r.round: self._query(r) for r in asked}
        # Rounded up as nodes charge it, so that the bank asks for nothing that they refuse.
        spent = sum(round_up(q.mechanism.cost()) for q in rounds.values() if q.part == lost.part)
        to_come = sum(p.rho for p in plan.sums[lost.sum + 1 :] if p.part == lost.part)
        cap = plan.rho_train if lost.part == "train" else plan.rho_holdout
        return spent + round_up(lost.mechanism.cost()) + to_come <= cap

    def _asked(self, stored: Round) -> AskedQuery:
        opened = self._own(stored.query, SUM_QUERY)
        query = Query.parse(opened.body)
        run_ctx = (
            run_context(query.run, query.plan)
            if self._roster is None
            else self._roster.roster.context
        )
        context = round_context(run_ctx, query.round, bytes.fromhex(opened.digest))
        return AskedQuery(stored.query, stored.state, opened, query, context.hex())

    def _query(self, stored: Round) -> Query:
        return Query.parse(self._own(stored.query, SUM_QUERY).body)

    def _own(self, envelope: bytes, payload_type: str) -> Opened:
        home = self._home
        return open_envelope(envelope, payload_type, home.identity.public, home.member_id)

    @staticmethod
    def _last_result(earlier: list[Round]) -> Payload:
        """Return the last result of the run, and what proves it."""
        closed = [r for r in earlier if r.result is not None]
        if not closed:
            return {}
        last = closed[-1]
        return {
            "result": last.result or b"",
            "survivors": last.asked or b"",
            "votes": last.votes or b"",
        }

    def _close(self) -> None:
        """Give every node the last result, so that it fetches its receipt and closes the run."""
        with reading(self._home.database) as connection:
            last = self._last_result(store.rounds(connection, self._run))
        nodes = self._nodes if self._roster is None else self._roster.roster.nodes
        question = {**last, "kind": b"result"}
        noted = self._transport.ask(
            dict.fromkeys(nodes, question),
            timeout=self._plan.deadlines.masked,
            reissue_after=self._home.settings.reissue_seconds,
            enough=0,
        )
        silent = set(nodes) - {node for node, _ in noted}
        if silent:
            _log.warning("last-result-not-noted", nodes=len(silent))


def _lost(en: str, zh: str) -> PlanLostError:
    return PlanLostError(
        f"{en}the plan has no budget to ask for this sum again: propose a new plan"
        " (spare_rounds pays for such rounds)",
        f"{zh}计划预算不足以再次求和：请提出新计划（spare_rounds 可支付此类轮次）",
    )
