"""The bank's side of one secure sum: collect masked vectors, fix the survivors, open the total.

Pure, like the node's side: values in, values out.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hejin_privacy.messages import Commitments
from hejin_privacy.secure_sum.documents import SurvivorSet
from hejin_privacy.secure_sum.errors import ShareWrongError, SurvivorsRefusedError
from hejin_privacy.secure_sum.keys import Roster, self_key
from hejin_privacy.secure_sum.masks import add_masks
from hejin_privacy.secure_sum.node import (
    SEALED_BYTES,
    SHARE_BYTES,
    secret_commitment,
    share_commitment,
)
from hejin_privacy.shamir import FIELD, combine, weights_at_zero


class AnswerMalformedError(SurvivorsRefusedError):
    """A node's part in opening a total has another shape than was asked for."""

    code = "answer-malformed"


@dataclass(frozen=True, slots=True)
class BankRound:
    """A round whose survivors are fixed.

    made     what each survivor committed to, by node
    masked   uint64[d]: the survivors' masked vectors, added up mod 2^64
    """

    roster: Roster
    asked: SurvivorSet
    made: Mapping[str, Commitments]
    masked: npt.NDArray[np.uint64]

    @property
    def dropped(self) -> tuple[str, ...]:
        """Return the nodes of the roster that are not survivors."""
        return tuple(node for node in self.roster.nodes if node not in self.asked.survivors)


def check_masked(
    roster: Roster, node: str, made: Commitments | None, ciphertexts: Sequence[bytes]
) -> Commitments:
    """Return a masked answer's commitments; AnswerMalformedError unless they fit the roster.

    ciphertexts   n encrypted shares in the roster's order; b"" at the own place
    """
    if (
        made is None
        or made.index != roster.index(node)
        or not len(made.shares) == len(ciphertexts) == roster.size
    ):
        raise _malformed(node)
    for named, ciphertext in zip(made.ciphertexts, ciphertexts, strict=True):
        if named == "" == ciphertext.hex():
            continue
        seen = hashlib.sha256(ciphertext).hexdigest()
        if len(ciphertext) != SEALED_BYTES or not hmac.compare_digest(seen, named):
            raise _malformed(node)
    return made


def check_shares(state: BankRound, taker: str, shares: Sequence[bytes]) -> tuple[int, ...]:
    """Return the shares that `taker` holds of every survivor, in order, as numbers.

    raises   AnswerMalformedError for their number or size; ShareWrongError, naming the pair,
             for one that does not fit its commitment
    """
    if len(shares) != len(state.asked.survivors) or any(len(s) != SHARE_BYTES for s in shares):
        raise _malformed(taker)
    index, round_ctx = state.roster.index(taker), bytes.fromhex(state.asked.round_ctx)
    found = []
    for giver, share in zip(state.asked.survivors, shares, strict=True):
        made, value = state.made[giver], int.from_bytes(share, "big")
        seen = share_commitment(round_ctx, made.index, index, share)
        if value >= FIELD or not hmac.compare_digest(seen, made.shares[index - 1]):
            raise ShareWrongError(giver, taker)
        found.append(value)
    return tuple(found)


def check_seeds(state: BankRound, giver: str, seeds: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return a survivor's seeds with the nodes that dropped out, in order, or raise.

    A wrong seed cannot be told from a wrong vector: like that, it spoils the total.
    """
    if len(seeds) != len(state.dropped) or any(len(seed) != 32 for seed in seeds):
        raise _malformed(giver)
    return tuple(seeds)


def open_total(
    state: BankRound,
    shares: Mapping[str, tuple[int, ...]],
    seeds: Mapping[str, tuple[bytes, ...]],
) -> npt.NDArray[np.int64]:
    """Return int64[d], the sum of the survivors' noisy vectors mod 2^64.

    shares   of every survivor, by the node that held them; the first tau are used
    seeds    of every survivor with the dropped nodes, by survivor; empty where none dropped
    raises   ValueError for fewer than tau; ShareWrongError (giver = taker) if a survivor's
             shares do not lead to the secret that it committed to

    SECURE_SUM section 2, last step.
    """
    roster, round_ctx = state.roster, bytes.fromhex(state.asked.round_ctx)
    if len(shares) < roster.tau:
        raise ValueError(f"{roster.tau} nodes' shares are needed, got {len(shares)}")
    takers = sorted(shares)[: roster.tau]
    weights = weights_at_zero([roster.index(taker) for taker in takers])
    masks = []
    for place, node in enumerate(state.asked.survivors):
        secret = combine(weights, [shares[taker][place] for taker in takers])
        made = state.made[node]
        if not hmac.compare_digest(secret_commitment(round_ctx, made.index, secret), made.secret):
            raise ShareWrongError(node, node)
        masks.append((self_key(secret, round_ctx), -1))
    for node in state.asked.survivors if state.dropped else ():
        for other, seed in zip(state.dropped, seeds[node], strict=True):
            # What the node added for i < j is taken out again.
            masks.append((seed, -1 if node < other else 1))
    total = np.array(state.masked, dtype="<u8")
    add_masks(total, masks)
    return total.view("<i8")


def _malformed(node: str) -> AnswerMalformedError:
    return AnswerMalformedError(
        f"what {node} answered does not have the shape that was asked for; look at its log",
        f"{node} 的答复与所要求的形状不符；请查看其日志",
    )
