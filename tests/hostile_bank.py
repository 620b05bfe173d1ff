"""A scripted hostile bank with real keys, and nodes that collude with it, for tests of the session.

The bank writes what it likes, signs it with its own keys and hands it to sessions of real nodes. A
colluder holds a real node's identity; the bank knows the keys that it made for the run.
"""

from __future__ import annotations

import itertools
from base64 import b64decode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from bank_world import body_of
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from node_world import BANK, World

from hejin_models.plan import Plan
from hejin_node import offers
from hejin_node.home import NodeHome
from hejin_node.session import Session
from hejin_privacy.messages import Commitments, MaskedHeader, Result
from hejin_privacy.secure_sum.documents import KeyAd, SurvivorSet, documents_hash
from hejin_privacy.secure_sum.keys import (
    Advertised,
    Invitation,
    Roster,
    agree,
    mask_key,
    open_roster,
)
from hejin_privacy.secure_sum.node import (
    Masked,
    NodeRound,
    Party,
    RoundSecret,
    mask,
    vote,
)
from hejin_trust.canonical import decode, time_text
from hejin_trust.database import writing
from hejin_trust.envelope import (
    SUM_KEYAD,
    SUM_MASKED,
    SUM_RESULT,
    SUM_SURVIVORS,
    SUM_VOTE,
    open_envelope,
    seal,
)
from hejin_trust.fleet import Payload, pack, unpack

CALM: Mapping[str, object] = {
    "mode": "shared",
    "minimum_nodes": 4,
    "quorum": 4,
    "colluders": 1,
    "rho": Fraction(1, 1000),
    "sums": [("label_histogram", "train"), ("histogram", "train")],
}
"""A plan of five nodes, of which one may collude."""


@dataclass
class HostileBank:
    """The bank's keys, and the opened homes of the nodes that it talks to."""

    world: World
    homes: dict[str, NodeHome]
    sessions: dict[str, Session] = field(default_factory=dict)
    _runs: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        for node in self.homes:
            self.restart(node)

    def restart(self, node: str) -> None:
        """Let a node forget what it only had in memory."""
        home = self.homes[node]
        self.sessions[node] = Session(
            home, BANK, self.world.witness(home), self.world.receipts(home)
        )

    def begin(self, honest: Collection[str], **plan: object) -> Attack:
        """Have `honest` nodes approve a plan; the bank plays all its other nodes."""
        envelope, digest, made = self.world.propose(**{**CALM, **plan})  # type: ignore[arg-type]
        for node in honest:
            offers.receive(self.homes[node], envelope)
            offers.approve(self.homes[node], digest, "test")
        attack = Attack(self, made, digest, f"{next(self._runs):032x}", tuple(sorted(honest)))
        for node in made.nodes:
            if node in honest:
                answer = attack.ask(node, attack.keys())
                attack.keyads[node] = answer["keyad"]
            else:
                attack.colluders[node] = Colluder(self.homes[node], attack)
                attack.keyads[node] = attack.colluders[node].keyad()
        return attack


@dataclass
class Attack:
    """One run of a plan: what the bank has, and how it writes each message.

    keyads      signed keys by node, as they came
    uploads     masked answers by (node, round)
    """

    bank: HostileBank
    plan: Plan
    digest: str
    run: str
    honest: tuple[str, ...]
    colluders: dict[str, Colluder] = field(default_factory=dict)
    keyads: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[tuple[str, int], Payload] = field(default_factory=dict)

    def ask(self, node: str, payload: Payload) -> Payload:
        """Return a real node's answer."""
        return self.bank.sessions[node].answer(payload)

    # -- what it writes ------------------------------------------------------------------

    def keys(self) -> Payload:
        return {"kind": b"keys", "run": self.run.encode(), "plan": self.digest.encode()}

    def certificate(self, node: str) -> bytes:
        return self.bank.homes[node].membership.certificate_pem

    def introduction(self, *nodes: str, **swapped: bytes) -> Payload:
        """Return the roster of `nodes` (all, if none) as it travels, keys `swapped` for others."""
        chosen = nodes or self.plan.nodes
        keyads = {node: swapped.get(node.replace("-", "_"), self.keyads[node]) for node in chosen}
        return {
            "keyads": pack(list(keyads.values())),
            "certificates": pack([self.certificate(node) for node in chosen]),
        }

    def query(self, number: int = 1, index: int = 0, **forged: object) -> Payload:
        """Return the question of a round, without a roster."""
        made = self.bank.world.query(
            self.plan, self.digest, run=self.run, number=number, index=index, forged=forged
        )
        return {key: value for key, value in made.items() if key != "result"}

    def collect(
        self,
        number: int = 1,
        nodes: Iterable[str] = (),
        roster: Sequence[str] = (),
        index: int = 0,
    ) -> None:
        """Ask for a round, the roster beside it, and keep the answers."""
        chosen = roster or self.plan.nodes
        question = {**self.query(number, index), **self.introduction(*chosen)}
        for node in tuple(nodes) or chosen:
            if node in self.honest:
                answer = self.ask(node, question)
                assert answer["kind"] == b"masked", answer
                self.uploads[node, number] = answer
        heard = next(self.uploads[n, number] for n in chosen if n in self.honest)
        context = str(body_of(heard["header"])["round_ctx"])
        dimension = int(body_of(heard["header"])["dimension"])
        for node in chosen:
            if node in self.colluders:
                self.colluders[node].join(self.roster(chosen))
                made = self.colluders[node].masked(number, context, dimension)
                self.uploads[node, number] = made

    def roster(self, nodes: Sequence[str]) -> Roster:
        plan = self.plan
        return open_roster(
            [Advertised(self.keyads[node], self.certificate(node)) for node in nodes],
            Invitation(
                run=self.run,
                plan=self.digest,
                nodes=frozenset(plan.nodes),
                tau=plan.quorum,
                m=plan.minimum_nodes,
                t=plan.colluders,
                charter=self.bank.world.office.charter,
            ),
            self.bank.world.clock(),
        )

    def header(self, node: str, number: int = 1) -> bytes:
        return self.uploads[node, number]["header"]

    def asked(self, nodes: Sequence[str], number: int = 1, **changes: object) -> SurvivorSet:
        """Return the survivor set of these nodes' headers, or one with fields changed."""
        known = [node for node in nodes if (node, number) in self.uploads]
        body: dict[str, object] = {
            "v": 1,
            "run": self.run,
            "round": number,
            "round_ctx": body_of(self.header(self.honest[0], number))["round_ctx"],
            "survivors": list(nodes),
            "headers": documents_hash([signed_bytes(self.header(n, number)) for n in known]),
        }
        made = {**body, **changes}
        del made["v"]
        return SurvivorSet(**{**made, "survivors": tuple(made["survivors"])})  # type: ignore[arg-type]

    def ciphertexts(self, taker: str, nodes: Sequence[str], number: int = 1) -> list[bytes]:
        """Return the encrypted shares of `nodes` for one node."""
        first = body_of(self.header(taker, number))["masking"]
        place = int(first["index"]) - 1
        return [
            unpack(self.uploads[node, number]["shares"], 5)[place]
            for node in nodes
            if (node, number) in self.uploads
        ]

    def signed(self, asked: SurvivorSet, kind: str = SUM_SURVIVORS) -> bytes:
        return seal(kind, asked.body(), self.bank.world.bank.identity, BANK)

    def survivors(
        self, taker: str, nodes: Sequence[str], number: int = 1, **changes: object
    ) -> Payload:
        """Return R2 for one node."""
        known = [node for node in nodes if (node, number) in self.uploads]
        return {
            "kind": b"survivors",
            "survivors": self.signed(self.asked(nodes, number, **changes)),
            "headers": pack([self.header(node, number) for node in known]),
            "shares": pack(self.ciphertexts(taker, nodes, number)),
        }

    def votes(self, asked: SurvivorSet, votes: Sequence[bytes]) -> Payload:
        """Return R3."""
        return {"kind": b"votes", "survivors": self.signed(asked), "votes": pack(votes)}

    def ballot(self, node: str, asked: SurvivorSet, kind: str = SUM_VOTE) -> bytes:
        """Return a colluder's vote; it signs as many as it is asked for."""
        home = self.bank.homes[node]
        return seal(kind, asked.body(), home.identity, node)

    def result(self, asked: SurvivorSet, ballots: Sequence[bytes], **changes: object) -> Payload:
        """Return the last message of a run."""
        result = Result(
            run=self.run,
            round=asked.round,
            round_ctx=asked.round_ctx,
            survivors=asked.survivors,
            total="0" * 64,
            votes=documents_hash(ballots),
        )
        body = {**result.body(), **changes}
        return {
            "kind": b"result",
            "result": seal(SUM_RESULT, body, self.bank.world.bank.identity, BANK),
            "survivors": self.signed(asked),
            "votes": pack(ballots),
        }


class Colluder:
    """A node on the bank's side, with a real node's certificate and identity key."""

    def __init__(self, home: NodeHome, attack: Attack) -> None:
        self.home, self._attack = home, attack
        self._private = X25519PrivateKey.generate()
        self.party: Party | None = None
        self.rounds: dict[int, NodeRound] = {}

    def keyad(self, point: bytes | None = None, **changes: str) -> bytes:
        """Return a signed key for the run, its own or any other."""
        home, attack = self.home, self._attack
        with writing(home.database) as connection:
            checkpoint = home.release_log.checkpoint(connection)
        made = KeyAd(
            run=attack.run,
            plan=attack.digest,
            node=home.member_id,
            certificate=home.charter.admitted(home.member_id).certificate_fingerprint,
            key=(point or self._private.public_key().public_bytes_raw()).hex(),
            checkpoint=checkpoint,
            expires=time_text(attack.plan.expires),
        )
        return seal(SUM_KEYAD, {**made.body(), **changes}, home.identity, home.member_id)

    def join(self, roster: Roster) -> None:
        index = roster.index(self.home.member_id)
        self.party = Party(roster, index, agree(self._private.private_bytes_raw(), roster, index))

    def masked(self, number: int, context: str, dimension: int) -> Payload:
        """Return an answer of zeros under true masks; no reservation stands behind it."""
        assert self.party is not None
        secret = RoundSecret.draw(self.party.roster.tau)
        made = mask(self.party, bytes.fromhex(context), np.zeros(dimension, np.int64), secret)
        return self.answer(number, context, made)

    def answer(
        self, number: int, context: str, made: Masked, commitments: Commitments | None = None
    ) -> Payload:
        """Return an answer with a header for it: each call may say something else."""
        assert self.party is not None
        home = self.home
        header = MaskedHeader(
            run=self._attack.run,
            round=number,
            round_ctx=context,
            node=home.member_id,
            vector="0" * 64,
            dimension=len(made.vector) // 8,
            reservation=0,
            checkpoint="none",
            masking=commitments or made.commitments,
        )
        signed = seal(SUM_MASKED, header.body(), home.identity, home.member_id)
        self.rounds[number] = NodeRound(
            self.party, number, bytes.fromhex(context), made.own_share, signed
        )
        return {
            "kind": b"masked",
            "header": signed,
            "vector": made.vector,
            "shares": pack(made.ciphertexts),
        }

    def shares(self, nodes: Sequence[str], number: int) -> tuple[bytes, ...]:
        """Return what the colluder holds of `nodes`, whatever it is for."""
        attack = self._attack
        me = self.home.member_id
        held = sorted({*nodes, me})
        # Its own books, so nobody counts survivors: any set opens what was sent to it.
        asked = attack.asked(held, number)
        party = self.rounds[number].party
        lenient = Roster(party.roster.run, party.roster.plan, 1, 1, party.roster.seats)
        state = NodeRound(
            Party(lenient, party.index, party.pairs),
            number,
            self.rounds[number].round_ctx,
            self.rounds[number].own_share,
            self.rounds[number].header,
        )
        headers = [attack.header(node, number) for node in held]
        ciphertexts = attack.ciphertexts(me, held, number)
        opened = vote(state, asked, headers, ciphertexts, self.home.charter).shares
        return tuple(opened[held.index(node)] for node in nodes)

    def seed(self, other: str, number: int) -> bytes:
        """Return the round's seed that it has with another node."""
        state = self.rounds[number]
        return mask_key(state.party.pairs[state.party.roster.index(other)], state.round_ctx)


def signed_bytes(envelope: bytes) -> bytes:
    """Return what an envelope signs, byte for byte."""
    return b64decode(str(decode(envelope)["payload"]))


def check_header(envelope: bytes, home: NodeHome) -> MaskedHeader:
    """Return a node's header, its signature checked."""
    opened = open_envelope(envelope, SUM_MASKED, home.identity.public, home.member_id)
    return MaskedHeader.parse(opened.body)
