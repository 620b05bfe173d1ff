"""The hashes that bind every message of a private sum to its run and its round."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hejin_trust.canonical import encode
from hejin_trust.envelope import pae

DOMAIN = "hejin/secure-sum/v1/"


def run_context(
    run: str, plan: str, *, tau: int = 0, m: int = 0, roster: Sequence[tuple[str, str]] = ()
) -> bytes:
    """Return run_ctx, 32 bytes.

    run      run id, hex
    plan     plan hash, hex
    tau, m   quorum and least survivors; 0 in mode "node"
    roster   (node, X25519 key in hex), ordered by node; empty in mode "node", where nothing
             is masked

    SECURE_SUM section 1: H(PAE(D + "run-ctx", JCS{run, plan, tau, m, roster})).
    """
    body = {
        "run": run,
        "plan": plan,
        "tau": tau,
        "m": m,
        "roster": [[node, key] for node, key in roster],
    }
    return hashlib.sha256(pae(DOMAIN + "run-ctx", encode(body))).digest()


def round_context(run_ctx: bytes, round_number: int, query_hash: bytes) -> bytes:
    """Return round_ctx, 32 bytes.

    run_ctx       32 bytes of run_context
    round_number  r, 0..2^32-1, strictly increasing within a run
    query_hash    SHA-256 of the signed query body, 32 bytes
    raises        ValueError for other lengths or numbers

    SECURE_SUM section 2: H(D + "round" | run_ctx | u32 r | query_hash), u32 big-endian.
    """
    if len(run_ctx) != 32 or len(query_hash) != 32:
        raise ValueError(f"need 32-byte hashes, got {len(run_ctx)} and {len(query_hash)} bytes")
    if not 0 <= round_number < 2**32:
        raise ValueError(f"the round number must fit into 32 bits, got {round_number}")
    message = (DOMAIN + "round").encode() + run_ctx + round_number.to_bytes(4, "big") + query_hash
    return hashlib.sha256(message).digest()
