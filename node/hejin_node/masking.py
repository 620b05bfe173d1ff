"""The node's part in masking, made durable: keys and roster of a run, one vote a round.

Each step stores what it says before it says it, and repeats the stored bytes when asked again.
A round that was opened before a restart gets no new vote and no share: what was in memory is
gone, and a database that was put back could have lost a vote (SECURE_SUM section 3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)

from hejin_models.plan import Plan
from hejin_node import inbox
from hejin_node.errors import NodeError
from hejin_node.home import NodeHome
from hejin_node.query import QueryOutOfOrderError
from hejin_node.tables import metadata
from hejin_privacy.messages import Result
from hejin_privacy.secure_sum.documents import KeyAd, SurvivorSet, documents_hash
from hejin_privacy.secure_sum.errors import (
    RosterRefusedError,
    SecondVoteError,
    VotesRefusedError,
)
from hejin_privacy.secure_sum.keys import (
    Advertised,
    Invitation,
    PairKeys,
    Roster,
    agree,
    open_roster,
)
from hejin_privacy.secure_sum.node import NodeRound, Party, check_votes, reveal, vote
from hejin_privacy.secure_sum.thresholds import MOST_NODES
from hejin_trust import canonical
from hejin_trust.at_rest import NotOpenedError, decrypted, encrypted
from hejin_trust.charter import Charter
from hejin_trust.database import erase_deleted, reading, writing
from hejin_trust.envelope import SUM_KEYAD, SUM_VOTE, seal
from hejin_trust.fleet import Payload, pack, unpack

run_table = Table(
    "masking_run",
    metadata,
    Column("run", String(32), primary_key=True),
    Column("plan", String(64), nullable=False, unique=True),
    Column("keyad", LargeBinary, nullable=False),
    # Sealed: the private key until the roster is known, from then on the keys of each pair.
    Column("secret", LargeBinary, nullable=False),
    Column("agreed", String(64), nullable=False),  # hash of the roster's signed keys, "" before
    Column("roster", LargeBinary, nullable=False),
)

vote_table = Table(
    "masking_vote",
    metadata,
    Column("run", String(32), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("survivors", String(64), nullable=False),  # hash of what was voted for
    Column("answer", LargeBinary, nullable=False),
    Column("opened", LargeBinary),  # the answer to the votes, once it was given
)


class RoundBeforeRestartError(QueryOutOfOrderError):
    """The round was opened before this node restarted."""

    code = "round-before-restart"

    def __init__(self) -> None:
        super().__init__(
            "the round was opened before this node restarted: it stays charged and gets no vote"
            " here, go on with the next round",
            "该轮在本节点重启之前开启：费用照计，本节点不再为其投票，请进入下一轮",
        )


class RunKeysLostError(NodeError):
    """The stored keys of a run are gone or damaged."""

    code = "run-keys-lost"


@dataclass(frozen=True, slots=True)
class _Stored:
    """A run's row."""

    plan: str
    keyad: bytes
    secret: bytes
    agreed: str
    roster: bytes


@dataclass(frozen=True, slots=True)
class _Vote:
    """What was answered to a survivor set, and to the votes for it."""

    answer: bytes
    opened: bytes | None


class Masking:
    """One node's masking with one bank; calls come one at a time."""

    def __init__(self, home: NodeHome) -> None:
        self._home = home
        self._parties: dict[str, Party] = {}
        self._rounds: dict[str, NodeRound] = {}

    # -- set-up --------------------------------------------------------------------------

    def advertise(self, run: str, digest: str, plan: Plan) -> Payload:
        """Return this node's signed key for a run: made once, stored, the same ever after.

        digest   hash of the approved plan
        """
        home = self._home
        with writing(home.database) as connection:
            known = _find(connection, run)
            if known is None:
                self._check_only_run(connection, digest)
                private = X25519PrivateKey.generate()
                keyad = KeyAd(
                    run=run,
                    plan=digest,
                    node=home.member_id,
                    certificate=home.charter.admitted(home.member_id).certificate_fingerprint,
                    key=private.public_key().public_bytes_raw().hex(),
                    checkpoint=home.release_log.checkpoint(connection),
                    expires=canonical.time_text(plan.expires),
                )
                envelope = seal(SUM_KEYAD, keyad.body(), home.identity, home.member_id)
                connection.execute(
                    insert(run_table).values(
                        run=run,
                        plan=digest,
                        keyad=envelope,
                        secret=self._sealed(run, private.private_bytes_raw()),
                        agreed="",
                        roster=b"",
                    )
                )
            elif known.plan != digest:
                raise QueryOutOfOrderError("a run carries out one plan", "一次运行只执行一个计划")
            else:
                envelope = known.keyad
        return {
            "kind": b"keyad",
            "keyad": envelope,
            "certificate": home.membership.certificate_pem,
        }

    def join(self, run: str, digest: str, plan: Plan, charter: Charter, payload: Payload) -> Roster:
        """Return the run's roster, taken from `payload` if it is not known yet.

        payload   "keyads" and "certificates" of every node, as the bank collected them
        raises    RosterRefusedError and what `open_roster` raises
        """
        with reading(self._home.database) as connection:
            known = _find(connection, run)
        if known is None or known.plan != digest:
            raise RosterRefusedError(
                "this node gave no key for the run: ask for one first",
                "本节点未为该次运行提供密钥：请先索取",
            )
        envelopes = unpack(payload.get("keyads", b""), MOST_NODES)
        agreed = documents_hash(sorted(envelopes)) if envelopes else ""
        if known.agreed and agreed in ("", known.agreed):
            return self._party(run, known).roster
        if known.agreed or not envelopes:
            raise RosterRefusedError(
                "the run has one roster, and this is another or none: end the run",
                "一次运行只有一份名册，而所附名册不同或缺失：请终止该运行",
            )
        certificates = unpack(payload.get("certificates", b""), MOST_NODES)
        if len(certificates) != len(envelopes):
            raise RosterRefusedError(
                "a roster needs one certificate for each key", "名册中每个密钥须附一份证书"
            )
        roster = open_roster(
            [Advertised(*pair) for pair in zip(envelopes, certificates, strict=True)],
            Invitation(
                run=run,
                plan=digest,
                nodes=frozenset(plan.nodes),
                tau=plan.quorum,
                m=plan.minimum_nodes,
                t=plan.colluders,
                charter=charter,
            ),
            self._home.now(),
            known.keyad,
        )
        self._agree(run, known, roster, agreed)
        return roster

    def _agree(self, run: str, known: _Stored, roster: Roster, agreed: str) -> None:
        """Store the roster and its keys before either is used; the private key goes."""
        index = roster.index(self._home.member_id)
        pairs = agree(self._opened(run, known.secret), roster, index)
        with writing(self._home.database) as connection:
            connection.execute(
                update(run_table)
                .where(run_table.c.run == run)
                .values(
                    secret=self._sealed(
                        run, b"".join(pairs[j].mask + pairs[j].share for j in sorted(pairs))
                    ),
                    agreed=agreed,
                    roster=canonical.encode(roster.body()),
                )
            )
        self._parties[run] = Party(roster, index, pairs)

    def _check_only_run(self, connection: Connection, digest: str) -> None:
        other = connection.scalar(select(run_table.c.run).where(run_table.c.plan == digest))
        if other is not None:
            raise QueryOutOfOrderError("a plan is carried out by one run", "一个计划只能执行一次")

    # -- a round -------------------------------------------------------------------------

    def joined(self, run: str) -> bool:
        """Return whether this node has a roster for a run, so that the run is masked."""
        with reading(self._home.database) as connection:
            known = _find(connection, run)
        return known is not None and known.agreed != ""

    def plan_of(self, run: str) -> str | None:
        """Return the plan of a run for which this node holds keys, None if it holds none."""
        with reading(self._home.database) as connection:
            known = _find(connection, run)
        return None if known is None else known.plan

    def party(self, run: str) -> Party:
        """Return this node's keys and place in a run that it has joined."""
        return self._parties[run]

    def opened(
        self, run: str, number: int, round_ctx: bytes, header: bytes, own_share: bytes
    ) -> None:
        """Remember a round whose answer is stored: votes and shares may follow."""
        self._rounds[run] = NodeRound(self._parties[run], number, round_ctx, own_share, header)

    def vote(self, asked: SurvivorSet, payload: Payload, charter: Charter) -> Payload:
        """Return the vote for a survivor set, with the shares if it is the whole roster.

        raises   RoundBeforeRestartError, and what the protocol's `vote` raises
        """
        known = self._known_vote(asked)
        if known is not None:
            return _voted(known.answer)
        state = self._round(asked.run, asked.round)
        voted = vote(
            state,
            asked,
            unpack(payload.get("headers", b""), MOST_NODES),
            unpack(payload.get("shares", b""), MOST_NODES),
            charter,
        )
        home = self._home
        document = seal(SUM_VOTE, asked.body(), home.identity, home.member_id)
        whole = len(asked.survivors) == state.party.roster.size
        answer = pack([document, *(voted.shares if whole else ())])
        with writing(home.database) as connection:
            connection.execute(
                insert(vote_table).values(
                    run=asked.run,
                    round=asked.round,
                    survivors=_digest(asked),
                    answer=answer,
                )
            )
        self._rounds[asked.run] = voted
        return _voted(answer)

    def reveal(self, asked: SurvivorSet, payload: Payload) -> Payload:
        """Return the shares and seeds that a certificate of votes entitles the bank to."""
        known = self._known_vote(asked)
        if known is not None and known.opened is not None:
            return _opened(known.opened)
        state = self._round(asked.run, asked.round)
        revealed = reveal(state, unpack(payload.get("votes", b""), MOST_NODES))
        answer = pack([pack(revealed.shares), pack(revealed.seeds)])
        with writing(self._home.database) as connection:
            connection.execute(
                update(vote_table)
                .where(vote_table.c.run == asked.run, vote_table.c.round == asked.round)
                .values(opened=answer)
            )
        return _opened(answer)

    def check_result(self, result: Result, asked: SurvivorSet, votes: Sequence[bytes]) -> None:
        """Raise unless a quorum of a run's nodes has voted for the survivors of a result.

        asked    the bank's survivor set; votes: envelopes, as they came beside the result
        raises   VotesRefusedError, SecondVoteError, RosterRefusedError, EnvelopeError
        """
        self._known_vote(asked)
        with reading(self._home.database) as connection:
            known = _find(connection, result.run)
        named = (asked.run, asked.round, asked.round_ctx, asked.survivors)
        if (
            known is None
            or named != (result.run, result.round, result.round_ctx, result.survivors)
            or documents_hash(votes) != result.votes
        ):
            raise VotesRefusedError(
                "the result does not come with the votes that it names: send them beside it",
                "结果未附其所引用的投票：请一并发送",
            )
        check_votes(self._party(result.run, known).roster, asked, votes)

    def forget(self, connection: Connection, run: str) -> None:
        """Erase the keys of a run that is over, and what was revealed in it."""
        connection.execute(delete(run_table).where(run_table.c.run == run))
        connection.execute(delete(vote_table).where(vote_table.c.run == run))
        self._parties.pop(run, None)
        self._rounds.pop(run, None)

    def sweep(self, bank: str) -> tuple[str, ...]:
        """End the bank's runs whose plan has expired: one that gave up sends no last result.

        returns   the runs; their keys are erased, and one that had begun gets no others
        """
        home = self._home
        with reading(home.database) as connection:
            held = connection.execute(select(run_table.c.run, run_table.c.plan)).all()
            offers = {row.run: inbox.find_offer(connection, row.plan) for row in held}
        over = tuple(
            run
            for run, offer in offers.items()
            if offer.signer == bank and offer.plan.expires <= home.now()
        )
        if over:
            with writing(home.database) as connection:
                for run in over:
                    inbox.close_run(connection, run)
                    self.forget(connection, run)
            erase_deleted(home.database)
        return over

    def _known_vote(self, asked: SurvivorSet) -> _Vote | None:
        """Return this node's stored vote in a round; SecondVoteError if it is another."""
        with reading(self._home.database) as connection:
            row = connection.execute(
                select(vote_table).where(
                    vote_table.c.run == asked.run, vote_table.c.round == asked.round
                )
            ).first()
        if row is None:
            return None
        if row.survivors != _digest(asked):
            raise SecondVoteError
        return _Vote(row.answer, row.opened)

    def _round(self, run: str, number: int) -> NodeRound:
        state = self._rounds.get(run)
        if state is None or state.number < number:
            raise RoundBeforeRestartError
        if state.number > number:
            raise QueryOutOfOrderError(
                f"round {number} is over here: round {state.number} was answered",
                f"第 {number} 轮在本节点已结束：已应答第 {state.number} 轮",
            )
        return state

    # -- storage -------------------------------------------------------------------------

    def _party(self, run: str, known: _Stored) -> Party:
        if run not in self._parties:
            roster = Roster.parse(canonical.decode(known.roster))
            index, keys = roster.index(self._home.member_id), self._opened(run, known.secret)
            others = [j for j in range(1, roster.size + 1) if j != index]
            if len(keys) != 64 * len(others):
                raise _lost()
            self._parties[run] = Party(
                roster,
                index,
                {
                    j: PairKeys(keys[at : at + 32], keys[at + 32 : at + 64])
                    for j, at in zip(others, range(0, len(keys), 64), strict=True)
                },
            )
        return self._parties[run]

    def _sealed(self, run: str, secret: bytes) -> bytes:
        return encrypted(self._home.snapshot_key, secret, _purpose(run))

    def _opened(self, run: str, sealed: bytes) -> bytes:
        try:
            return decrypted(self._home.snapshot_key, sealed, _purpose(run))
        except NotOpenedError as reason:
            raise _lost() from reason


def forget_all(connection: Connection) -> None:
    """Erase the keys and votes of every run: after a recovery none of them may go on."""
    connection.execute(delete(run_table))
    connection.execute(delete(vote_table))


def _purpose(run: str) -> bytes:
    return b"hejin/run-keys/v1/" + run.encode()


def _voted(answer: bytes) -> Payload:
    document, *shares = unpack(answer, MOST_NODES + 1)
    return {"kind": b"vote", "vote": document, "shares": pack(shares)}


def _opened(answer: bytes) -> Payload:
    shares, seeds = unpack(answer, 2)
    return {"kind": b"opened", "shares": shares, "seeds": seeds}


def _find(connection: Connection, run: str) -> _Stored | None:
    row = connection.execute(select(run_table).where(run_table.c.run == run)).first()
    if row is None:
        return None
    return _Stored(row.plan, row.keyad, row.secret, row.agreed, row.roster)


def _digest(asked: SurvivorSet) -> str:
    return hashlib.sha256(canonical.encode(asked.body())).hexdigest()


def _lost() -> RunKeysLostError:
    return RunKeysLostError(
        "the stored keys of this run are missing or damaged: end the run and plan again",
        "本次运行的密钥缺失或损坏：请终止该运行并重新制定计划",
    )
