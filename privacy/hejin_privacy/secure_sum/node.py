"""The node's side of one secure sum: mask, vote once, reveal only what a certificate covers.

Pure: every step takes a state and a message and returns the next state and an answer. Who
stores them, before they are used, is the caller.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from hejin_privacy.messages import Commitments, MaskedHeader
from hejin_privacy.round_context import DOMAIN
from hejin_privacy.secure_sum.documents import SurvivorSet, documents_hash
from hejin_privacy.secure_sum.errors import (
    SecondVoteError,
    ShareWrongError,
    SurvivorsRefusedError,
    VotesRefusedError,
)
from hejin_privacy.secure_sum.keys import PairKeys, Roster, mask_key, self_key, share_key, u32
from hejin_privacy.secure_sum.masks import add_masks
from hejin_privacy.shamir import FIELD, split
from hejin_trust.charter import Charter
from hejin_trust.envelope import SUM_MASKED, SUM_VOTE, open_envelope, peek_signer

SHARE_BYTES = 32
SEALED_BYTES = SHARE_BYTES + 16  # with ChaCha20-Poly1305's tag
_NONCE = bytes(12)  # every key encrypts one share


@dataclass(frozen=True, slots=True)
class Party:
    """A node in one run: its roster, its index and its keys with every other node."""

    roster: Roster
    index: int
    pairs: dict[int, PairKeys] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RoundSecret:
    """z_i and the coefficients that share it; from a cryptographic source, for one round."""

    value: int = field(repr=False)
    coefficients: tuple[int, ...] = field(repr=False)

    @classmethod
    def draw(cls, tau: int) -> RoundSecret:
        """Return fresh uniform numbers for threshold `tau`."""
        return cls(
            secrets.randbelow(FIELD), tuple(secrets.randbelow(FIELD) for _ in range(tau - 1))
        )


@dataclass(frozen=True, slots=True)
class Masked:
    """What leaves (vector, commitments, ciphertexts) and what stays (own_share).

    vector        uint64[d], little-endian bytes of y_i
    ciphertexts   n encrypted shares in the roster's order; b"" at the own place
    """

    vector: bytes
    commitments: Commitments
    ciphertexts: tuple[bytes, ...]
    own_share: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NodeRound:
    """A round that this node answered, as far as it has come.

    own_share   sh_ii, 32 bytes; header: the signed header as it was sent
    voted       the one survivor set that this node voted for
    shares      what it holds of each survivor, in order, checked; empty before the vote
    """

    party: Party
    number: int
    round_ctx: bytes
    own_share: bytes = field(repr=False)
    header: bytes
    voted: SurvivorSet | None = None
    shares: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Revealed:
    """The shares of every survivor, and this round's seeds with every node that dropped out."""

    shares: tuple[bytes, ...] = field(repr=False)
    seeds: tuple[bytes, ...] = field(repr=False)


def mask(
    party: Party, round_ctx: bytes, vector: npt.NDArray[np.int64], secret: RoundSecret
) -> Masked:
    """Return s_i masked: y_i = s_i + PRG(b_i) + sum_{j>i} PRG(k_ij) - sum_{j<i} PRG(k_ij).

    vector   int64[d], noise included; overwritten: nothing unmasked is left behind, and one
             copy less is made
    secret   for this round and threshold tau alone

    SECURE_SUM section 2.
    """
    roster, own = party.roster, party.index
    masked = np.asarray(vector, dtype="<i8").view("<u8")
    add_masks(masked, [(self_key(secret.value, round_ctx), 1), *_pair_masks(party, round_ctx)])
    shares = [
        share.to_bytes(SHARE_BYTES, "big")
        for share in split(secret.value, secret.coefficients, roster.size)
    ]
    ciphertexts = tuple(
        b""
        if other == own
        else ChaCha20Poly1305(share_key(party.pairs[other], round_ctx, own, other)).encrypt(
            _NONCE, share, round_ctx
        )
        for other, share in enumerate(shares, start=1)
    )
    commitments = Commitments(
        index=own,
        shares=tuple(
            share_commitment(round_ctx, own, taker, share)
            for taker, share in enumerate(shares, start=1)
        ),
        secret=secret_commitment(round_ctx, own, secret.value),
        ciphertexts=tuple(hashlib.sha256(c).hexdigest() if c else "" for c in ciphertexts),
    )
    return Masked(masked.tobytes(), commitments, ciphertexts, shares[own - 1])


def vote(
    state: NodeRound,
    asked: SurvivorSet,
    headers: Sequence[bytes],
    ciphertexts: Sequence[bytes],
    charter: Charter,
) -> NodeRound:
    """Return the state after voting for `asked` (R2); its vote is what `asked` says.

    asked         the bank's survivor set
    headers       the signed headers of its nodes, in order
    ciphertexts   their shares for this node, in order; b"" at the own place
    charter       in force now: a survivor must still be admitted
    raises        SurvivorsRefusedError; SecondVoteError; ShareWrongError names the pair;
                  EnvelopeError, DocumentError, NotAMemberError

    Whole roster: `state.shares` may be answered with the vote. Else only what `reveal` returns.
    """
    _check_set(state, asked, len(headers), len(ciphertexts))
    opened = [
        _header(state, node, envelope, charter)
        for node, envelope in zip(asked.survivors, headers, strict=True)
    ]
    if documents_hash([payload for payload, _ in opened]) != asked.headers:
        raise _unfit("its headers are not those that came with it", "消息头与所附的不一致")
    if state.voted is not None and state.voted != asked:
        raise SecondVoteError
    shares = tuple(
        _share(state, commitments, ciphertext)
        for (_, commitments), ciphertext in zip(opened, ciphertexts, strict=True)
    )
    return replace(state, voted=asked, shares=shares)


def reveal(state: NodeRound, votes: Sequence[bytes]) -> Revealed:
    """Return what a certificate of `votes` entitles the bank to (R3).

    votes    envelopes of at least tau survivors, each once, for the set this node voted for
    raises   VotesRefusedError, EnvelopeError, DocumentError
    """
    voted, roster = state.voted, state.party.roster
    if voted is None:
        raise _uncertified("this node has not voted in this round", "本节点在本轮尚未投票")
    check_votes(roster, voted, votes)
    dropped = [i for i, node in enumerate(roster.nodes, 1) if node not in voted.survivors]
    return Revealed(
        state.shares, tuple(mask_key(state.party.pairs[j], state.round_ctx) for j in dropped)
    )


def check_votes(roster: Roster, voted: SurvivorSet, votes: Sequence[bytes]) -> None:
    """Raise VotesRefusedError unless at least tau survivors, each once, voted for `voted`."""
    if len(votes) > roster.size:
        raise _uncertified("there are more votes than nodes", "票数多于节点数")
    voters = {check_vote(roster, voted, envelope) for envelope in votes}
    if len(voters) != len(votes):
        raise _uncertified("a node's vote is there twice", "有节点重复投票")
    if len(voters) < roster.tau:
        raise _uncertified(
            f"there are {len(voters)} votes, {roster.tau} are needed",
            f"现有 {len(voters)} 票，需要 {roster.tau} 票",
        )


def check_vote(roster: Roster, voted: SurvivorSet, envelope: bytes) -> str:
    """Return the survivor who signed a vote for exactly `voted`.

    raises   VotesRefusedError, RosterRefusedError, EnvelopeError, DocumentError
    """
    seat = roster.seats[roster.index(peek_signer(envelope)) - 1]
    opened = open_envelope(envelope, SUM_VOTE, seat.identity_key, seat.node)
    if SurvivorSet.parse(opened.body) != voted:
        raise _uncertified("a vote is for another survivor set", "有投票指向其他存活集合")
    if seat.node not in voted.survivors:
        raise _uncertified("a node outside the set has voted for it", "集合之外的节点投了票")
    return seat.node


def share_commitment(round_ctx: bytes, giver: int, taker: int, share: bytes) -> str:
    """Return com_ij = H(D + "sharecom" | round_ctx | u32 i | u32 j | sh_ij), hex."""
    return _hash(b"sharecom", round_ctx + u32(giver) + u32(taker) + share)


def secret_commitment(round_ctx: bytes, index: int, secret: int) -> str:
    """Return H(D + "selfcom" | round_ctx | u32 i | be32(z_i)), hex."""
    return _hash(b"selfcom", round_ctx + u32(index) + secret.to_bytes(SHARE_BYTES, "big"))


def _hash(purpose: bytes, content: bytes) -> str:
    return hashlib.sha256(DOMAIN.encode() + purpose + content).hexdigest()


def _pair_masks(party: Party, round_ctx: bytes) -> list[tuple[bytes, int]]:
    return [
        (mask_key(pair, round_ctx), 1 if party.index < other else -1)
        for other, pair in party.pairs.items()
    ]


def _check_set(state: NodeRound, asked: SurvivorSet, headers: int, ciphertexts: int) -> None:
    roster = state.party.roster
    if (asked.run, asked.round, asked.round_ctx) != (
        roster.run,
        state.number,
        state.round_ctx.hex(),
    ):
        raise _unfit("it is of another round", "它属于另一轮")
    if not set(asked.survivors) <= set(roster.nodes):
        raise _unfit("a node of it is not in the roster", "其中有名册之外的节点")
    if len(asked.survivors) < roster.m:
        raise _unfit(
            f"it has {len(asked.survivors)} nodes, at least {roster.m} are needed",
            f"其节点数为 {len(asked.survivors)}，至少需要 {roster.m}",
        )
    if roster.nodes[state.party.index - 1] not in asked.survivors:
        raise _unfit("this node answered and is not in it", "本节点已应答却不在其中")
    if not headers == ciphertexts == len(asked.survivors):
        raise _unfit(
            f"{len(asked.survivors)} nodes have {headers} headers and {ciphertexts} shares",
            f"{len(asked.survivors)} 个节点附有 {headers} 个消息头与 {ciphertexts} 个份额",
        )


def _header(
    state: NodeRound, node: str, envelope: bytes, charter: Charter
) -> tuple[bytes, Commitments]:
    """Return (signed bytes, commitments) of one survivor's header, checked."""
    roster = state.party.roster
    index = roster.index(node)
    charter.admitted(node, "node")
    opened = open_envelope(envelope, SUM_MASKED, roster.seats[index - 1].identity_key, node)
    header = MaskedHeader.parse(opened.body)
    made = header.masking
    if (header.run, header.round, header.round_ctx, header.node) != (
        roster.run,
        state.number,
        state.round_ctx.hex(),
        node,
    ):
        raise _unfit("a header is of another round", "其中有属于另一轮的消息头")
    if made is None or made.index != index or len(made.shares) != roster.size:
        raise _unfit("a header does not commit to shares", "其中有未承诺份额的消息头")
    if index == state.party.index and envelope != state.header:
        raise _unfit("this node's own header was altered", "本节点自己的消息头被更改")
    return opened.payload, made


def _share(state: NodeRound, made: Commitments, ciphertext: bytes) -> bytes:
    """Return the share that one survivor gave this node, checked against its commitment."""
    party, giver = state.party, made.index
    roster, own = party.roster, party.index
    wrong = ShareWrongError(roster.nodes[giver - 1], roster.nodes[own - 1])
    if giver == own:
        share = state.own_share
    else:
        named = hashlib.sha256(ciphertext).hexdigest()
        if not hmac.compare_digest(named, made.ciphertexts[own - 1]):
            # Not what the giver signed: the bank altered it on the way.
            raise _unfit("a share is not the one that its node signed", "有份额与其节点签名不符")
        key = share_key(party.pairs[giver], state.round_ctx, giver, own)
        try:
            share = ChaCha20Poly1305(key).decrypt(_NONCE, ciphertext, state.round_ctx)
        except InvalidTag as reason:
            raise wrong from reason
    commitment = share_commitment(state.round_ctx, giver, own, share)
    if len(share) != SHARE_BYTES or not hmac.compare_digest(commitment, made.shares[own - 1]):
        raise wrong
    return share


def _unfit(en: str, zh: str) -> SurvivorsRefusedError:
    return SurvivorsRefusedError(
        f"the survivor set is refused: {en}; nothing was revealed, tell the regulator",
        f"存活集合被拒绝：{zh}；未透露任何内容，请告知监管方",
    )


def _uncertified(en: str, zh: str) -> VotesRefusedError:
    return VotesRefusedError(
        f"the votes are refused: {en}; nothing was revealed", f"投票被拒绝：{zh}；未透露任何内容"
    )
