"""The signed documents of the masking protocol beside query, header and result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hejin_privacy.messages import MAX_ROUND, MessageError
from hejin_trust.canonical import closed, hexbytes, integer, text, texts, time_field


@dataclass(frozen=True, slots=True)
class KeyAd:
    """A node's public key for one run (SECURE_SUM section 1).

    run, plan    ids in hex; certificate: SHA-256 of the node's TLS certificate (DER), hex
    key          X25519 public key, 32 bytes in hex, made for this run alone
    checkpoint   the node's signed checkpoint at that time; expires: RFC 3339 UTC
    """

    run: str
    plan: str
    node: str
    certificate: str
    key: str
    checkpoint: str
    expires: str

    def body(self) -> dict[str, object]:
        """Return the JSON object that the node signs."""
        return {
            "v": 1,
            "run": self.run,
            "plan": self.plan,
            "node": self.node,
            "certificate": self.certificate,
            "key": self.key,
            "checkpoint": self.checkpoint,
            "expires": self.expires,
        }

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> KeyAd:
        """Return the key in a signed body; DocumentError if malformed."""
        closed(body, "v", "run", "plan", "node", "certificate", "key", "checkpoint", "expires")
        integer(body, "v", 1, 1)
        return cls(
            run=hexbytes(body, "run", 16).hex(),
            plan=hexbytes(body, "plan", 32).hex(),
            node=text(body, "node", longest=63),
            certificate=hexbytes(body, "certificate", 32).hex(),
            key=hexbytes(body, "key", 32).hex(),
            checkpoint=text(body, "checkpoint"),
            expires=time_field(body, "expires"),
        )


@dataclass(frozen=True, slots=True)
class SurvivorSet:
    """The nodes whose sum is to be opened: the bank signs it to ask, a node to vote.

    survivors   node ids, sorted, unique
    headers     hash of all their signed headers (`documents_hash` of what they signed), hex
    """

    run: str
    round: int
    round_ctx: str
    survivors: tuple[str, ...]
    headers: str

    def body(self) -> dict[str, object]:
        """Return the JSON object that is signed, as `survivors` or as `vote`."""
        return {
            "v": 1,
            "run": self.run,
            "round": self.round,
            "round_ctx": self.round_ctx,
            "survivors": list(self.survivors),
            "headers": self.headers,
        }

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> SurvivorSet:
        """Return the set in a signed body; MessageError or DocumentError if malformed."""
        closed(body, "v", "run", "round", "round_ctx", "survivors", "headers")
        integer(body, "v", 1, 1)
        survivors = texts(body, "survivors", longest=63)
        if list(survivors) != sorted(set(survivors)):
            raise MessageError("survivors must be sorted and unique", "存活节点须排序且不重复")
        return cls(
            run=hexbytes(body, "run", 16).hex(),
            round=integer(body, "round", 1, MAX_ROUND),
            round_ctx=hexbytes(body, "round_ctx", 32).hex(),
            survivors=survivors,
            headers=hexbytes(body, "headers", 32).hex(),
        )


def documents_hash(documents: Sequence[bytes]) -> str:
    """Return H(lp(document) ...) in hex, with lp(b) = u32 big-endian length, then b.

    Headers and votes are hashed as the bytes that were signed, in the survivors' order.
    """
    seen = hashlib.sha256()
    for document in documents:
        seen.update(len(document).to_bytes(4, "big"))
        seen.update(document)
    return seen.hexdigest()
