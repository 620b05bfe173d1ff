"""Keys of a run: public keys that are safe to use, the agreed roster, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from hejin_privacy.round_context import DOMAIN, run_context
from hejin_privacy.secure_sum.documents import KeyAd
from hejin_privacy.secure_sum.errors import KeyRefusedError, RosterRefusedError
from hejin_privacy.secure_sum.thresholds import check_thresholds
from hejin_privacy.shamir import FIELD
from hejin_trust.canonical import closed, hexbytes, integer, objects, text, time_from
from hejin_trust.certificates import check_certificate, fingerprint
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import open_checkpoint
from hejin_trust.envelope import SUM_KEYAD, open_envelope, peek_signer
from hejin_trust.origins import release_origin

LOW_ORDER: Final = frozenset(
    {
        0,
        1,
        FIELD - 1,
        # The two u-coordinates of order 8 (https://cr.yp.to/ecdh.html, "Validate").
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)
"""u-coordinates whose shared secret is zero whatever the other key (RFC 7748 section 6.1)."""


def check_public_key(key: bytes) -> None:
    """Raise KeyRefusedError unless `key` is the one spelling of an X25519 key of full order.

    X25519 ignores bit 255 and reduces mod 2^255 - 19: another spelling of a victim's key would
    pass for a key of one's own.
    """
    value = int.from_bytes(key, "little")
    if len(key) != 32 or value >= FIELD or value in LOW_ORDER:
        raise KeyRefusedError(
            "a node's key for this run is not canonical or of low order: leave that node out and"
            " tell the regulator",
            "某节点本次运行的密钥不规范或阶过低：请排除该节点并告知监管方",
        )


@dataclass(frozen=True, slots=True)
class Seat:
    """One node of a roster."""

    node: str
    key: str
    identity_key: bytes


@dataclass(frozen=True, slots=True)
class Roster:
    """The nodes of a run in the order of their names; a node's index is its 1-based place.

    tau   quorum of votes and threshold of the shares; m: least survivors
    """

    run: str
    plan: str
    tau: int
    m: int
    seats: tuple[Seat, ...]

    @property
    def size(self) -> int:
        """Return n of this run."""
        return len(self.seats)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the nodes' ids, sorted."""
        return tuple(seat.node for seat in self.seats)

    @property
    def context(self) -> bytes:
        """Return run_ctx, 32 bytes: who is told another roster masks for nobody."""
        return run_context(
            self.run,
            self.plan,
            tau=self.tau,
            m=self.m,
            roster=[(seat.node, seat.key) for seat in self.seats],
        )

    def index(self, node: str) -> int:
        """Return a node's index, 1..n; RosterRefusedError if it has none."""
        for index, seat in enumerate(self.seats, start=1):
            if seat.node == node:
                return index
        raise _refused("a node is not in it", "其中没有该节点")

    def body(self) -> dict[str, object]:
        """Return the roster as the JSON object that members store."""
        return {
            "run": self.run,
            "plan": self.plan,
            "tau": self.tau,
            "m": self.m,
            "seats": [
                {"node": seat.node, "key": seat.key, "identity": seat.identity_key.hex()}
                for seat in self.seats
            ],
        }

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> Roster:
        """Return the roster that was stored; DocumentError if it is damaged."""
        closed(body, "run", "plan", "tau", "m", "seats")
        return cls(
            run=text(body, "run"),
            plan=text(body, "plan"),
            tau=integer(body, "tau", 1),
            m=integer(body, "m", 1),
            seats=tuple(
                Seat(text(seat, "node"), text(seat, "key"), hexbytes(seat, "identity", 32))
                for seat in objects(body, "seats")
            ),
        )


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a roster must fit; all of it from the approved plan and the charter in force.

    run, plan    ids in hex; nodes: the plan's nodes
    tau, m, t    the plan's quorum, least survivors and colluders
    """

    run: str
    plan: str
    nodes: frozenset[str]
    tau: int
    m: int
    t: int
    charter: Charter


@dataclass(frozen=True, slots=True)
class Advertised:
    """A node's signed key as it travels: the envelope, and the certificate it names (PEM)."""

    envelope: bytes
    certificate: bytes


def check_key(advertised: Advertised, invitation: Invitation, at: datetime) -> Seat:
    """Return the seat that a signed key takes; raises HejinError for anything else.

    at   now: certificate and document must not have expired
    """
    charter = invitation.charter
    member = charter.admitted(peek_signer(advertised.envelope), "node")
    opened = open_envelope(advertised.envelope, SUM_KEYAD, member.identity_key, member.id)
    keyad = KeyAd.parse(opened.body)
    if keyad.node != member.id or member.id not in invitation.nodes:
        raise _refused("the plan does not invite a node of it", "其中有计划未邀请的节点")
    if (keyad.run, keyad.plan) != (invitation.run, invitation.plan):
        raise _refused("a key is for another run or plan", "其中有属于其他运行或计划的密钥")
    certificate = fingerprint(advertised.certificate)
    if not keyad.certificate == certificate == member.certificate_fingerprint:
        raise _refused("a certificate is not the charter's", "其中有与章程不符的证书")
    check_certificate(advertised.certificate, at)
    if at >= time_from(keyad.expires):
        raise _refused("a key has expired", "其中有已过期的密钥")
    origin = release_origin(charter.consortium, "node", member.id)
    open_checkpoint(keyad.checkpoint, origin, member.log_key)
    check_public_key(bytes.fromhex(keyad.key))
    return Seat(member.id, keyad.key, member.identity_key)


def open_roster(
    advertised: Sequence[Advertised],
    invitation: Invitation,
    at: datetime,
    own: bytes | None = None,
) -> Roster:
    """Return the roster in the signed keys of all its nodes, every rule of section 1 checked.

    own      a node's own signed key as it sent it; None where the bank itself looks
    raises   RosterRefusedError, KeyRefusedError, ThresholdError, NotAMemberError,
             CertificateError, EnvelopeError, DocumentError
    """
    if not invitation.m <= len(advertised) <= len(invitation.nodes):
        raise _refused(
            f"it has {len(advertised)} nodes, the plan asks for {invitation.m} to"
            f" {len(invitation.nodes)}",
            f"其节点数为 {len(advertised)}，计划要求 {invitation.m} 至 {len(invitation.nodes)}",
        )
    check_thresholds(len(advertised), invitation.tau, invitation.m, invitation.t)
    seats = sorted(
        (check_key(item, invitation, at) for item in advertised), key=lambda seat: seat.node
    )
    for what in ({seat.node for seat in seats}, {seat.key for seat in seats}):
        if len(what) != len(seats):
            raise _refused("a node or a key is in it twice", "其中有重复的节点或密钥")
    if own is not None and own not in [item.envelope for item in advertised]:
        raise _refused("this node's own key is altered or missing", "本节点自己的密钥被更改或缺失")
    return Roster(invitation.run, invitation.plan, invitation.tau, invitation.m, tuple(seats))


@dataclass(frozen=True, slots=True)
class PairKeys:
    """What two nodes share for one run: 32 bytes to derive masks, 32 to encrypt shares."""

    mask: bytes = field(repr=False)
    share: bytes = field(repr=False)


def agree(private: bytes, roster: Roster, index: int) -> dict[int, PairKeys]:
    """Return node `index`'s keys with every other node, by index.

    private   its X25519 private key, 32 bytes, to be erased after this
    raises    KeyRefusedError if a shared secret is all zero (RFC 7748 section 6.1)

    ck = HKDF(salt = run_ctx, ikm = X25519, info = D + "pair" | u32 min | u32 max, 64).
    """
    own = X25519PrivateKey.from_private_bytes(private)
    context = roster.context
    pairs = {}
    for other, seat in enumerate(roster.seats, start=1):
        if other == index:
            continue
        try:
            secret = own.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(seat.key)))
        except ValueError as reason:
            raise KeyRefusedError(
                "the secret shared with a node is zero: its key is of low order; leave it out",
                "与某节点的共享密钥为零：其密钥阶过低；请排除该节点",
            ) from reason
        info = (DOMAIN + "pair").encode() + u32(min(index, other)) + u32(max(index, other))
        derived = HKDF(hashes.SHA256(), 64, salt=context, info=info).derive(secret)
        pairs[other] = PairKeys(derived[:32], derived[32:])
    return pairs


def mask_key(pair: PairKeys, round_ctx: bytes) -> bytes:
    """Return k_ij of one round: HKDF-Expand(Kmask, D + "mask" | round_ctx, 32)."""
    return expand(pair.mask, b"mask", round_ctx)


def share_key(pair: PairKeys, round_ctx: bytes, giver: int, taker: int) -> bytes:
    """Return e_i->j of one round: HKDF-Expand(Kenc, D + "share" | round_ctx | i | j, 32)."""
    return expand(pair.share, b"share", round_ctx + u32(giver) + u32(taker))


def self_key(secret: int, round_ctx: bytes) -> bytes:
    """Return b_i of one round: HKDF-Expand(be32(z_i), D + "self" | round_ctx, 32)."""
    return expand(secret.to_bytes(32, "big"), b"self", round_ctx)


def expand(key: bytes, purpose: bytes, context: bytes) -> bytes:
    """Return HKDF-Expand(key, D + purpose | context, 32) with SHA-256 (RFC 5869 section 2.3)."""
    return HKDFExpand(hashes.SHA256(), 32, DOMAIN.encode() + purpose + context).derive(key)


def u32(value: int) -> bytes:
    """Return a number as four bytes, big-endian."""
    return value.to_bytes(4, "big")


def _refused(en: str, zh: str) -> RosterRefusedError:
    return RosterRefusedError(
        f"the roster of the run is refused: {en}; nothing was masked, tell the regulator",
        f"本次运行的名册被拒绝：{zh}；未进行任何掩码，请告知监管方",
    )
