"""Ask a round's query, and fix whose answers count: accepted, receipted, stored together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from hejin_coordinator import parts, store
from hejin_coordinator.answers import Accepted, read_answer
from hejin_coordinator.asking import Gathered, Transport, gather
from hejin_coordinator.errors import RoundBurnedError, RoundFailedError
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.roster import RunRoster
from hejin_models.plan import Plan
from hejin_privacy.messages import Query, Receipt
from hejin_privacy.secure_sum.documents import SurvivorSet, documents_hash
from hejin_trust.canonical import time_text
from hejin_trust.database import writing
from hejin_trust.envelope import RECEIPT, SUM_SURVIVORS, Opened, seal
from hejin_trust.fleet import Payload, pack

ROUND_VOID = "round-void"
"""Code of a node's refusal that stays: it was charged for the round, and nothing will leave."""


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A query that is stored and may be sent; state: the public state that travels beside it."""

    envelope: bytes
    state: bytes
    opened: Opened
    query: Query
    round_ctx: str


class Collecting:
    """One round's first trip (SECURE_SUM section 2, R1; in mode "node" the only one)."""

    def __init__(
        self,
        home: CoordinatorHome,
        transport: Transport,
        plan: Plan,
        nodes: Iterable[str],
        roster: RunRoster | None,
        joined: set[str],
        reference: Callable[[], datetime],
    ) -> None:
        """Remember whom to ask.

        roster     None in mode "node"
        joined     nodes that are known to have the roster; grows as they answer
        reference  returns the time by the regulator's clock
        """
        self._home, self._transport, self._plan = home, transport, plan
        self._nodes = tuple(nodes)
        self._roster, self._joined, self._reference = roster, joined, reference

    def collect(self, asked: AskedQuery, previous: Payload) -> list[Accepted]:
        """Return the answers of at least the plan's minimum of nodes, sorted by node.

        previous   the last result and what proves it
        raises     RunPausedError, RoundFailedError while too few answer; RoundBurnedError if
                   too few ever can, or enough could in a new round
        """
        common = {
            **previous,
            "kind": b"query",
            "query": asked.envelope,
            "state": asked.state,
        }
        found = gather(
            self._transport,
            {node: {**common, **self._introduction(node)} for node in self._nodes},
            lambda node, payload: self._read(asked, node, payload),
            self._home.charter,
            deadline=self._plan.deadlines.masked,
            reissue_after=self._home.settings.reissue_seconds,
            enough=self._plan.minimum_nodes,
        )
        self._joined.update(found.answers)
        with writing(self._home.database) as connection:
            at = time_text(self._home.now())
            number = asked.query.round
            parts.note(connection, asked.query.run, number, "masked", found.outcomes, at)
        self._check(found, asked.query.round)
        return [found.answers[node] for node in sorted(found.answers)]

    def _introduction(self, node: str) -> Payload:
        """Return the roster for a node that may not have it yet."""
        if self._roster is None or node in self._joined:
            return {}
        return {"keyads": self._roster.keyads, "certificates": self._roster.certificates}

    def _read(self, asked: AskedQuery, node: str, payload: Payload) -> Accepted:
        roster = None if self._roster is None else self._roster.roster
        return read_answer(
            payload,
            node,
            asked.query,
            asked.opened.digest,
            asked.round_ctx,
            self._home.charter,
            roster,
            self._reference,
        )

    def _check(self, found: Gathered[Accepted], number: int) -> None:
        needed, have, silent = self._plan.minimum_nodes, len(found.answers), len(found.silent)
        if have >= needed:
            return
        en, zh = found.reasons
        en = (
            f"round {number}: {have} of {len(self._nodes)} nodes answered, {needed} are needed,"
            f" {silent} are silent{en}"
        )
        zh = (
            f"第 {number} 轮：{len(self._nodes)} 个节点中 {have} 个应答，至少需要 {needed} 个，"
            f"{silent} 个无应答{zh}"
        )
        voided = sum(refusal.code == ROUND_VOID for refusal in found.refused.values())
        lost = len(self._nodes) - voided < needed
        # Nodes that were interrupted are back: with them a new round may do without the silent,
        # but not without those that cannot answer any round now.
        if lost or (not found.later and have + voided >= needed):
            raise RoundBurnedError(
                f"{en}; {voided} were interrupted after they were charged",
                f"{zh}；{voided} 个在计费后中断",
                final=lost,
            )
        if have + found.open >= needed:
            raise found.paused(en, zh)
        raise RoundFailedError(
            f"{en}; start the plan again when that is settled", f"{zh}；解决后请重新启动该计划"
        )

    def fix(self, asked: AskedQuery, accepted: list[Accepted]) -> None:
        """Log the accepts, sign the receipts and the survivor set, store their sum: at once."""
        home, query = self._home, asked.query
        survivors = self._survivors(query, accepted) if self._roster is not None else b""
        masked: npt.NDArray[np.int64] = np.zeros(query.mechanism.dimension, dtype=np.int64)
        for answer in accepted:
            masked += answer.vector  # int64 wraps around mod 2^64, as the protocol says
        with writing(home.database) as connection:
            home.release_log.append_many(
                connection, [("accept", _accept_body(query, answer)) for answer in accepted]
            )
            checkpoint = home.release_log.checkpoint(connection)
            for answer in accepted:
                store.insert_accept(
                    connection,
                    query.run,
                    query.round,
                    answer.node,
                    answer.envelope,
                    pack(answer.ciphertexts),
                    self._receipt(answer, checkpoint),
                )
            store.fix_survivors(
                connection,
                query.run,
                query.round,
                survivors,
                np.ascontiguousarray(masked, dtype="<i8").tobytes(),
                len(accepted),
            )

    def _survivors(self, query: Query, accepted: list[Accepted]) -> bytes:
        home = self._home
        asked = SurvivorSet(
            run=query.run,
            round=query.round,
            round_ctx=accepted[0].header.round_ctx,
            survivors=tuple(answer.node for answer in accepted),
            headers=documents_hash([answer.signed for answer in accepted]),
        )
        return seal(SUM_SURVIVORS, asked.body(), home.identity, home.member_id)

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
