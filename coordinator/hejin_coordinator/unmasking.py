"""Open a masked total: the votes on its survivors, then the shares that the votes entitle to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hejin_coordinator import parts
from hejin_coordinator.asking import Gathered, Transport, gather
from hejin_coordinator.errors import AnswerRefusedError, RoundBurnedError
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.store import Accept
from hejin_models.plan import Deadlines
from hejin_privacy.secure_sum.bank import BankRound, check_seeds, check_shares, open_total
from hejin_privacy.secure_sum.errors import ShareWrongError
from hejin_privacy.secure_sum.node import check_vote
from hejin_trust.canonical import time_text
from hejin_trust.database import writing
from hejin_trust.fleet import Payload, pack, unpack


@dataclass(frozen=True, slots=True)
class Unmasked:
    """A total, int64[d], and the votes that certify its survivors."""

    total: npt.NDArray[np.int64]
    votes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Ballot:
    """A node's vote, and its shares where it may give them at once."""

    vote: bytes
    shares: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A node's shares of every survivor and its seeds with the dropped nodes."""

    shares: tuple[int, ...]
    seeds: tuple[bytes, ...]


class Unmasking:
    """One round's second and third trip (SECURE_SUM section 2, R2 and R3)."""

    def __init__(
        self,
        home: CoordinatorHome,
        transport: Transport,
        deadlines: Deadlines,
        state: BankRound,
        asked: bytes,
        accepts: Mapping[str, Accept],
    ) -> None:
        """Remember what the trips need.

        asked     the bank's signed survivor set
        accepts   what was accepted of each survivor
        """
        self._home, self._transport, self._deadlines = home, transport, deadlines
        self._state, self._asked = state, asked
        self._headers = pack([accepts[node].header for node in state.asked.survivors])
        most = state.roster.size
        self._ciphertexts = {
            node: unpack(accepts[node].ciphertexts, most) for node in state.asked.survivors
        }

    def open(self) -> Unmasked:
        """Return the total over the survivors.

        raises   RoundBurnedError if it can never be opened, or not while enough nodes wait;
                 RunPausedError if the nodes that are silent are needed for everything
        """
        state = self._state
        ballots = self._votes()
        votes = tuple(ballots[node].vote for node in sorted(ballots))
        if not state.dropped:
            return Unmasked(
                self._total({node: ballot.shares for node, ballot in ballots.items()}, {}), votes
            )
        revealed = self._reveal(votes)
        total = self._total(
            {node: part.shares for node, part in revealed.items()},
            {node: part.seeds for node, part in revealed.items()},
        )
        return Unmasked(total, votes)

    def _votes(self) -> dict[str, _Ballot]:
        state = self._state
        # After drop-outs each survivor's seeds are needed; without, a quorum's shares are enough.
        needed = len(state.asked.survivors) if state.dropped else state.roster.tau
        found = gather(
            self._transport,
            {node: self._question(node) for node in state.asked.survivors},
            self._read_vote,
            self._home.charter,
            deadline=self._deadlines.survivors,
            reissue_after=self._home.settings.reissue_seconds,
            enough=needed,
            suffices=needed,
        )
        self._note("survivors", found.outcomes)
        self._check(found, needed)
        return found.answers

    def _question(self, node: str) -> Payload:
        state = self._state
        place = state.roster.index(node) - 1
        return {
            "kind": b"survivors",
            "survivors": self._asked,
            "headers": self._headers,
            "shares": pack([self._ciphertexts[giver][place] for giver in state.asked.survivors]),
        }

    def _read_vote(self, node: str, payload: Payload) -> _Ballot:
        state, vote = self._state, payload.get("vote", b"")
        if check_vote(state.roster, state.asked, vote) != node:
            raise AnswerRefusedError(
                f"{node} sent the vote of another node; look at its log",
                f"{node} 发送了其他节点的投票；请查看其日志",
            )
        if state.dropped:
            return _Ballot(vote, ())
        shares = unpack(payload.get("shares", b""), state.roster.size)
        return _Ballot(vote, check_shares(state, node, shares))

    def _reveal(self, votes: tuple[bytes, ...]) -> dict[str, _Part]:
        state = self._state
        question = {"kind": b"votes", "survivors": self._asked, "votes": pack(votes)}
        found = gather(
            self._transport,
            dict.fromkeys(state.asked.survivors, question),
            self._read_part,
            self._home.charter,
            deadline=self._deadlines.shares,
            reissue_after=self._home.settings.reissue_seconds,
            enough=len(state.asked.survivors),
        )
        self._note("shares", found.outcomes)
        self._check(found, len(state.asked.survivors))
        return found.answers

    def _read_part(self, node: str, payload: Payload) -> _Part:
        state, most = self._state, self._state.roster.size
        return _Part(
            check_shares(state, node, unpack(payload.get("shares", b""), most)),
            check_seeds(state, node, unpack(payload.get("seeds", b""), most)),
        )

    def _total(
        self, shares: dict[str, tuple[int, ...]], seeds: dict[str, tuple[bytes, ...]]
    ) -> npt.NDArray[np.int64]:
        try:
            return open_total(self._state, shares, seeds)
        except ShareWrongError as reason:
            raise _disputed(self._state, reason.giver, reason.taker) from reason

    def _note(self, phase: str, outcomes: dict[str, str]) -> None:
        asked = self._state.asked
        with writing(self._home.database) as connection:
            at = time_text(self._home.now())
            parts.note(connection, asked.run, asked.round, phase, outcomes, at)

    def _check(self, found: Gathered[_Ballot] | Gathered[_Part], needed: int) -> None:
        """Raise unless `needed` nodes answered: paused if waiting is all there is to do."""
        state = self._state
        for node, refusal in found.refused.items():
            if refusal.code == ShareWrongError.code and refusal.giver in state.asked.survivors:
                raise _disputed(state, refusal.giver, node)
        have, silent = len(found.answers), len(found.silent)
        if have >= needed:
            return
        en, zh = found.reasons
        en = (
            f"round {state.asked.round}: {have} of the {needed} nodes that its total needs"
            f" answered, {silent} are silent{en}"
        )
        zh = (
            f"第 {state.asked.round} 轮：打开总和需 {needed} 个节点，{have} 个已应答，"
            f"{silent} 个无应答{zh}"
        )
        lost = have + found.open < needed
        # A new round may do with other nodes than this one's survivors: whoever is back counts,
        # but not who cannot answer now. Nothing is burned where only those are waited for.
        ready = (self._transport.online() | found.answers.keys()) - found.later.keys()
        there = ready & set(state.roster.nodes)
        if not lost and (have + len(found.later) >= needed or len(there) < state.roster.m):
            raise found.paused(en, zh)
        raise RoundBurnedError(f"{en}; the round is burned", f"{zh}；本轮作废", final=lost)


def _disputed(state: BankRound, giver: str, taker: str) -> RoundBurnedError:
    return RoundBurnedError(
        f"round {state.asked.round}: the share of {giver} for {taker} does not fit; the round is"
        " burned and both stay out of the next run until the regulator has looked",
        f"第 {state.asked.round} 轮：{giver} 给 {taker} 的份额不符；本轮作废，"
        "监管方核查之前双方不参与下一次运行",
        giver=giver,
        taker=taker,
    )
