"""The masking protocol of SECURE_SUM sections 1 and 2, once more: plain integers, no shortcuts.

Shares no code with hejin_privacy or any library of cryptography.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from slow_crypto import (
    P,
    aes256_ctr,
    chacha20_poly1305,
    ed25519_sign,
    hkdf_expand,
    hkdf_extract,
    x25519,
    x25519_public,
)

D = b"hejin/secure-sum/v1/"
WORD = 2**64


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def jcs(value: object) -> bytes:
    """RFC 8785 for what our documents hold: strings and small integers."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def pae(kind: bytes, body: bytes) -> bytes:
    return b" ".join((b"DSSEv1", b"%d" % len(kind), kind, b"%d" % len(body), body))


def signature(identity_seed: bytes, kind: bytes, payload: bytes) -> bytes:
    return ed25519_sign(identity_seed, pae(kind, payload))


def stream(key: bytes, words: int) -> list[int]:
    """PRG(k) as little-endian u64."""
    made = aes256_ctr(key, 8 * words)
    return [int.from_bytes(made[i : i + 8], "little") for i in range(0, 8 * words, 8)]


def share_of(secret: int, coefficients: Sequence[int], point: int) -> int:
    """Return the polynomial's value at a point."""
    terms = (c * pow(point, k, P) for k, c in enumerate((secret, *coefficients)))
    return sum(terms) % P


def opened(shares: Mapping[int, int]) -> int:
    """Return the value at 0 of the polynomial through these points.

    Lagrange over one common denominator: a single division, at the end.
    """
    numerator, denominator = 0, 1
    for point, share in shares.items():
        above, below = share, 1
        for other in shares:
            if other != point:
                above, below = above * other, below * (other - point)
        numerator, denominator = numerator * below + above * denominator, denominator * below
    return numerator * pow(denominator, P - 2, P) % P


@dataclass(frozen=True)
class SlowNode:
    """What one node puts into a run and a round."""

    name: str
    private: bytes
    secret: int
    coefficients: tuple[int, ...]
    vector: tuple[int, ...]


@dataclass(frozen=True)
class SlowRound:
    """Everything that follows from the nodes' inputs, by formula.

    run, plan   hex; tau, m as in the plan; query: 32 bytes
    nodes       in the order of their names
    """

    run: str
    plan: str
    tau: int
    m: int
    number: int
    query: bytes
    nodes: tuple[SlowNode, ...]

    @cached_property
    def run_ctx(self) -> bytes:
        roster = [[node.name, x25519_public(node.private).hex()] for node in self.nodes]
        body = {"run": self.run, "plan": self.plan, "tau": self.tau, "m": self.m, "roster": roster}
        return sha256(pae(D + b"run-ctx", jcs(body)))

    @cached_property
    def round_ctx(self) -> bytes:
        return sha256(D + b"round", self.run_ctx, u32(self.number), self.query)

    def pair(self, i: int, j: int) -> tuple[bytes, bytes]:
        """ck_ij = Kmask | Kenc; indices count from 1."""
        secret = x25519(self.nodes[i - 1].private, x25519_public(self.nodes[j - 1].private))
        info = D + b"pair" + u32(min(i, j)) + u32(max(i, j))
        made = hkdf_expand(hkdf_extract(self.run_ctx, secret), info, 64)
        return made[:32], made[32:]

    def mask_key(self, i: int, j: int) -> bytes:
        return hkdf_expand(self.pair(i, j)[0], D + b"mask" + self.round_ctx, 32)

    def self_key(self, i: int) -> bytes:
        secret = self.nodes[i - 1].secret.to_bytes(32, "big")
        return hkdf_expand(secret, D + b"self" + self.round_ctx, 32)

    def share(self, i: int, j: int) -> bytes:
        """sh_ij, 32 bytes."""
        node = self.nodes[i - 1]
        return share_of(node.secret, node.coefficients, j).to_bytes(32, "big")

    def share_commitment(self, i: int, j: int) -> bytes:
        return sha256(D + b"sharecom", self.round_ctx, u32(i), u32(j), self.share(i, j))

    def secret_commitment(self, i: int) -> bytes:
        secret = self.nodes[i - 1].secret.to_bytes(32, "big")
        return sha256(D + b"selfcom", self.round_ctx, u32(i), secret)

    def ciphertext(self, i: int, j: int) -> bytes:
        """sh_ij under e_i->j; nothing at the own place."""
        if i == j:
            return b""
        info = D + b"share" + self.round_ctx + u32(i) + u32(j)
        key = hkdf_expand(self.pair(i, j)[1], info, 32)
        return chacha20_poly1305(key, bytes(12), self.share(i, j), self.round_ctx)

    def masked(self, i: int) -> list[int]:
        """y_i."""
        words = len(self.nodes[i - 1].vector)
        made = [value % WORD for value in self.nodes[i - 1].vector]
        masks = [(self.self_key(i), 1)]
        for j in range(1, len(self.nodes) + 1):
            if j != i:
                masks.append((self.mask_key(i, j), 1 if j > i else -1))
        for key, sign in masks:
            made = [(a + sign * b) % WORD for a, b in zip(made, stream(key, words), strict=True)]
        return made

    def total(self, survivors: Sequence[int], takers: Sequence[int]) -> list[int]:
        """Open the survivors' total from their masked vectors, as the bank does.

        survivors   indices of U; takers: whose shares are used, tau of them
        returns     u64 words
        """
        words = len(self.nodes[0].vector)
        made = [0] * words
        for i in survivors:
            made = [(a + b) % WORD for a, b in zip(made, self.masked(i), strict=True)]
        for i in survivors:
            secret = opened({j: int.from_bytes(self.share(i, j), "big") for j in takers})
            key = hkdf_expand(secret.to_bytes(32, "big"), D + b"self" + self.round_ctx, 32)
            made = [(a - b) % WORD for a, b in zip(made, stream(key, words), strict=True)]
            for j in range(1, len(self.nodes) + 1):
                if j not in survivors:
                    sign = 1 if j > i else -1
                    mask = stream(self.mask_key(i, j), words)
                    made = [(a - sign * b) % WORD for a, b in zip(made, mask, strict=True)]
        return made
