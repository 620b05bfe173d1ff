"""A consortium for the masking protocol alone: real charter, keys and envelopes, no I/O.

Everything but the TLS certificates follows from names, so that known answers can be made here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hejin_privacy.messages import MaskedHeader
from hejin_privacy.round_context import round_context
from hejin_privacy.secure_sum.documents import KeyAd, SurvivorSet, documents_hash
from hejin_privacy.secure_sum.keys import (
    Advertised,
    Invitation,
    PairKeys,
    Roster,
    agree,
    open_roster,
)
from hejin_privacy.secure_sum.node import Masked, NodeRound, Party, RoundSecret, mask, vote
from hejin_privacy.shamir import FIELD
from hejin_trust import certificates
from hejin_trust.canonical import time_text
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.envelope import SUM_KEYAD, SUM_MASKED, SUM_VOTE, open_envelope, peek_signer, seal
from hejin_trust.keys import SigningKey, load_tls_key, new_tls_key
from hejin_trust.members import Member, Role, Status
from hejin_trust.origins import release_origin
from hejin_trust.text import Text

AT = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)
NODES = ("anping", "baigou", "dingzhou", "jing", "yongnian")
OTHERS = ("bank", "late", "regulator", "revoked", "uninvited")
RUN, PLAN = "0f" * 16, "ab" * 32
QUERY = hashlib.sha256(b"query").digest()

Agree = Callable[[bytes, Roster, int], dict[int, PairKeys]]


def seed(text: str) -> bytes:
    """Return 32 bytes that follow from a text."""
    return hashlib.sha256(f"hejin vectors {text}".encode()).digest()


def number(text: str) -> int:
    """Return a number of the field that follows from a text."""
    return int.from_bytes(seed(text), "big") % FIELD


@dataclass(frozen=True)
class Person:
    """One party's private side."""

    member: Member
    identity: SigningKey
    log: SigningKey
    certificate: bytes

    @property
    def private(self) -> bytes:
        """Its X25519 private key for the run."""
        return seed(f"x25519 {self.member.id}")

    @property
    def public(self) -> bytes:
        return X25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()


def person(name: str, certificate: bytes) -> Person:
    """Return a party whose keys follow from its name; `certificate` does not."""
    roles: dict[str, Role] = {"bank": "bank", "regulator": "regulator"}
    status: Status = "revoked" if name == "revoked" else "admitted"
    role = roles.get(name, "node")
    identity = SigningKey.from_seed(seed(f"identity {name}"))
    log = SigningKey.from_seed(seed(f"log {name}"))
    member = Member(
        id=name,
        role=role,
        name=Text(name.title(), "成员"),
        identity_key=identity.public,
        log_key=log.public,
        certificate_fingerprint=certificates.fingerprint(certificate),
        status=status,
        size_band=(100, 5000) if role == "node" else None,
    )
    return Person(member, identity, log, certificate)


@cache
def new_people() -> dict[str, Person]:
    """Return everybody with certificates made now; that of `late` ends a minute before AT."""
    key = new_tls_key()
    authority = certificates.new_authority("hebei", key, AT - timedelta(days=1))
    people = {}
    for name in (*NODES, *OTHERS):
        pem = certificates.issue(
            authority,
            key,
            load_tls_key(new_tls_key()).public_key(),
            member_id=name,
            role="bank" if name == "bank" else "node",
            consortium="hebei",
            at=AT - timedelta(days=1),
            lifetime=timedelta(days=1, minutes=-1) if name == "late" else timedelta(days=90),
        )
        people[name] = person(name, pem.encode())
    return people


def charter_of(people: Iterable[Person]) -> Charter:
    by_name = {person.member.id: person.member for person in people}
    regulator = by_name.pop("regulator")
    return Charter(
        consortium="hebei",
        serial=2,
        issued=time_text(AT - timedelta(days=1)),
        regulator=regulator,
        ca_certificate="PEM",
        members=tuple(by_name.values()),
        rho_cap=Fraction(1, 10),
        rho_alone_cap=Fraction(3, 10),
        delta=Fraction(1, 10**6),
        period_from="2026-01-01T00:00:00Z",
        period_to="2027-01-01T00:00:00Z",
        minimum_nodes=2,
        minimum_enterprises=100,
        r=1,
        nonce=b"n" * 32,
    )


@dataclass(frozen=True)
class Answer:
    """What a node answered to a query: the signed header, and the rest."""

    header: bytes
    masked: Masked


class World:
    """The set-up of one run among `nodes`; by default the five of NODES, tau = m = 4, t = 1."""

    def __init__(
        self,
        nodes: Sequence[str] = NODES,
        *,
        tau: int = 4,
        m: int = 4,
        t: int = 1,
        people: dict[str, Person] | None = None,
    ) -> None:
        self.people = people or new_people()
        self.charter = charter_of(self.people.values())
        self.nodes, self.tau = tuple(sorted(nodes)), tau
        # Those who must be refused for something else are invited.
        invited = frozenset(nodes)
        self.invitation = Invitation(RUN, PLAN, invited, tau, m, t, self.charter)

    def inviting(self, *others: str, m: int | None = None) -> Invitation:
        """Return the invitation with more nodes in the plan, or fewer survivors asked for."""
        known = self.invitation
        return replace(known, nodes=known.nodes | set(others), m=known.m if m is None else m)

    # -- set-up --------------------------------------------------------------------------

    def keyad(self, name: str, **changes: str) -> KeyAd:
        person = self.people[name]
        origin = release_origin("hebei", "node", name)
        made = KeyAd(
            run=RUN,
            plan=PLAN,
            node=name,
            certificate=person.member.certificate_fingerprint,
            key=person.public.hex(),
            checkpoint=sign_checkpoint(origin, 1, seed(f"root {name}"), person.log),
            expires=time_text(AT + timedelta(days=30)),
        )
        return replace(made, **changes)

    def advertise(self, name: str, **changes: str) -> Advertised:
        """Return a node's signed key; `changes` are what it says otherwise, and signs."""
        body = self.keyad(name, **changes).body()
        person = self.people[name]
        return Advertised(seal(SUM_KEYAD, body, person.identity, name), person.certificate)

    def advertised(self, **keys: bytes) -> list[Advertised]:
        """Return everybody's signed key; `keys` are registered instead of the own."""
        return [
            self.advertise(name, **({"key": keys[name].hex()} if name in keys else {}))
            for name in self.nodes
        ]

    def roster(self, advertised: Sequence[Advertised] | None = None) -> Roster:
        items = self.advertised() if advertised is None else advertised
        return open_roster(items, self.invitation, AT)

    def party(self, roster: Roster, name: str, agreed: Agree = agree) -> Party:
        index = roster.index(name)
        return Party(roster, index, agreed(self.people[name].private, roster, index))

    # -- a round -------------------------------------------------------------------------

    def header(self, name: str, round_number: int, round_ctx: bytes, masked: Masked) -> bytes:
        """Return the signed header of a masked answer."""
        return self.signed_header(name, self.header_body(name, round_number, round_ctx, masked))

    def header_body(
        self, name: str, round_number: int, round_ctx: bytes, masked: Masked
    ) -> MaskedHeader:
        origin = release_origin("hebei", "node", name)
        return MaskedHeader(
            run=RUN,
            round=round_number,
            round_ctx=round_ctx.hex(),
            node=name,
            vector=hashlib.sha256(masked.vector).hexdigest(),
            dimension=len(masked.vector) // 8,
            reservation=7,
            checkpoint=sign_checkpoint(origin, 8, seed(f"root {name} 8"), self.people[name].log),
            masking=masked.commitments,
        )

    def signed_header(self, name: str, body: MaskedHeader) -> bytes:
        return seal(SUM_MASKED, body.body(), self.people[name].identity, name)

    def ballot(self, name: str, asked: SurvivorSet, kind: str = SUM_VOTE) -> bytes:
        """Return a node's signed vote."""
        return seal(kind, asked.body(), self.people[name].identity, name)

    def secret(self, name: str) -> RoundSecret:
        """Return the secret that follows from a node's name."""
        return RoundSecret(
            number(f"secret {name}"),
            tuple(number(f"coefficient {name} {k}") for k in range(1, self.tau)),
        )


@dataclass
class Round:
    """One round of all nodes of a roster: what each answered, and its state."""

    world: World
    vectors: dict[str, list[int]]
    number: int = 1
    query: bytes = QUERY
    roster: Roster = field(init=False)
    round_ctx: bytes = field(init=False)
    answers: dict[str, Answer] = field(init=False, default_factory=dict)
    states: dict[str, NodeRound] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        world = self.world
        self.roster = world.roster()
        self.round_ctx = round_context(self.roster.context, self.number, self.query)
        for name in self.roster.nodes:
            party = world.party(self.roster, name)
            values = np.array(self.vectors[name], dtype=np.int64)
            masked = mask(party, self.round_ctx, values, world.secret(name))
            header = world.header(name, self.number, self.round_ctx, masked)
            self.answers[name] = Answer(header, masked)
            self.states[name] = NodeRound(
                party, self.number, self.round_ctx, masked.own_share, header
            )

    def headers(self, survivors: Iterable[str]) -> list[bytes]:
        return [self.answers[name].header for name in survivors]

    def ciphertexts(self, survivors: Iterable[str], taker: str) -> list[bytes]:
        place = self.roster.index(taker) - 1
        return [self.answers[name].masked.ciphertexts[place] for name in survivors]

    def asked(
        self, survivors: Iterable[str], headers: Sequence[bytes] | None = None
    ) -> SurvivorSet:
        """Return the set that an honest bank asks for, over these headers."""
        nodes = tuple(survivors)
        envelopes = self.headers(nodes) if headers is None else headers
        return SurvivorSet(
            RUN, self.number, self.round_ctx.hex(), nodes, documents_hash(payloads(envelopes))
        )

    def vote(self, name: str, survivors: Sequence[str]) -> NodeRound:
        """Return a node's state after it voted for the set that an honest bank shows."""
        return vote(
            self.states[name],
            self.asked(survivors),
            self.headers(survivors),
            self.ciphertexts(survivors, name),
            self.world.charter,
        )

    def ballots(self, survivors: Sequence[str], voters: Iterable[str] | None = None) -> list[bytes]:
        asked = self.asked(survivors)
        return [self.world.ballot(name, asked) for name in voters or survivors]


def payloads(envelopes: Iterable[bytes]) -> list[bytes]:
    """Return what was signed in headers of the people of this world."""
    return [_payload(envelope) for envelope in envelopes]


@cache
def _payload(envelope: bytes) -> bytes:
    signer = peek_signer(envelope)
    key = SigningKey.from_seed(seed(f"identity {signer}")).public
    return open_envelope(envelope, SUM_MASKED, key, signer).payload
