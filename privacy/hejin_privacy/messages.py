"""The signed documents of one private sum: query, masked answer, result, receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hejin_privacy.mechanism import MAX_DIMENSION, MAX_NODES, Mechanism
from hejin_trust.canonical import child, closed, hexbytes, integer, text, texts, time_field
from hejin_trust.errors import RefusedError

MAX_ROUND = 10_000


class MessageError(RefusedError):
    """A message of a private sum is malformed."""

    code = "message-malformed"


def _hex(body: Mapping[str, object], key: str, length: int) -> str:
    return hexbytes(body, key, length).hex()


@dataclass(frozen=True, slots=True)
class Query:
    """The bank's question for one round.

    run       32 hex digits; round counts from 1 and never repeats within a run
    sum       index of the plan's sum that this round pays for; a burned round is asked again
              with a new round number, so the two differ then
    state     SHA-256 of the encoded public state that travels beside the query
    previous  SHA-256 of the previous round's result body, "" in the first round
    """

    run: str
    plan: str
    round: int
    sum: int
    part: Literal["train", "holdout"]
    state: str
    previous: str
    mechanism: Mechanism

    def body(self) -> dict[str, object]:
        """Return the JSON object that the bank signs."""
        return {
            "v": 1,
            "run": self.run,
            "plan": self.plan,
            "round": self.round,
            "sum": self.sum,
            "part": self.part,
            "state": self.state,
            "previous": self.previous,
            "mechanism": self.mechanism.body(),
        }

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> Query:
        """Return the query in a signed body; MessageError or DocumentError if malformed."""
        closed(body, "v", "run", "plan", "round", "sum", "part", "state", "previous", "mechanism")
        integer(body, "v", 1, 1)
        part = text(body, "part")
        if part not in ("train", "holdout"):
            raise MessageError("part must be train or holdout", "part 须为 train 或 holdout")
        return cls(
            run=_hex(body, "run", 16),
            plan=_hex(body, "plan", 32),
            round=integer(body, "round", 1, MAX_ROUND),
            sum=integer(body, "sum", 0, MAX_ROUND),
            part="train" if part == "train" else "holdout",
            state=_hex(body, "state", 32),
            previous=_hex(body, "previous", 32) if body["previous"] != "" else "",
            mechanism=Mechanism.from_body(child(body, "mechanism")),
        )


@dataclass(frozen=True, slots=True)
class Commitments:
    """What a node commits to when it masks (SECURE_SUM section 2), hashes in hex.

    index         the node's place in the roster, 1..n
    shares        n commitments, to its share for each node
    secret        commitment to the secret that is shared
    ciphertexts   n hashes of the encrypted shares; "" at its own place
    """

    index: int
    shares: tuple[str, ...]
    secret: str
    ciphertexts: tuple[str, ...]

    def body(self) -> dict[str, object]:
        """Return the JSON object within the header."""
        return {
            "index": self.index,
            "shares": list(self.shares),
            "secret": self.secret,
            "ciphertexts": list(self.ciphertexts),
        }

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> Commitments:
        """Return the commitments in a header; MessageError or DocumentError if malformed."""
        closed(body, "index", "shares", "secret", "ciphertexts")
        shares = texts(body, "shares", longest=64)
        ciphertexts = texts(body, "ciphertexts", longest=64)
        index = integer(body, "index", 1, MAX_NODES)
        if not index <= len(shares) == len(ciphertexts) <= MAX_NODES:
            raise MessageError(
                "a header must commit to one share for each node",
                "消息头须为每个节点各承诺一个份额",
            )
        for place, value in enumerate(ciphertexts, start=1):
            if (value == "") != (place == index):
                raise MessageError(
                    "a header must name one encrypted share for each other node",
                    "消息头须为其他每个节点各列一个加密份额",
                )
        for value in (*shares, *filter(None, ciphertexts)):
            hexbytes({"hash": value}, "hash", 32)
        return cls(index, shares, _hex(body, "secret", 32), ciphertexts)


@dataclass(frozen=True, slots=True)
class MaskedHeader:
    """The node's signed statement of what it sends: hashes, never values.

    vector       SHA-256 of the vector's bytes (d u64, little-endian)
    reservation  index of the `reserve` entry in the node's release log
    checkpoint   the node's signed checkpoint that covers that entry
    masking      what the masking protocol commits to; None in mode "node", where nothing is masked
    """

    run: str
    round: int
    round_ctx: str
    node: str
    vector: str
    dimension: int
    reservation: int
    checkpoint: str
    masking: Commitments | None = None

    def body(self) -> dict[str, object]:
        """Return the JSON object that the node signs."""
        return {
            "v": 1,
            "run": self.run,
            "round": self.round,
            "round_ctx": self.round_ctx,
            "node": self.node,
            "vector": self.vector,
            "dimension": self.dimension,
            "reservation": self.reservation,
            "checkpoint": self.checkpoint,
            **({} if self.masking is None else {"masking": self.masking.body()}),
        }

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> MaskedHeader:
        """Return the header in a signed body; DocumentError if malformed."""
        closed(
            body, "v", "run", "round", "round_ctx", "node", "vector", "dimension", "reservation",
            "checkpoint", *(["masking"] if "masking" in body else []),
        )  # fmt: skip
        integer(body, "v", 1, 1)
        return cls(
            run=_hex(body, "run", 16),
            round=integer(body, "round", 1, MAX_ROUND),
            round_ctx=_hex(body, "round_ctx", 32),
            node=text(body, "node"),
            vector=_hex(body, "vector", 32),
            dimension=integer(body, "dimension", 1, MAX_DIMENSION),
            reservation=integer(body, "reservation", 0, 2**53 - 1),
            checkpoint=text(body, "checkpoint"),
            masking=Commitments.parse(child(body, "masking")) if "masking" in body else None,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What the bank opened in one round: the survivors (sorted) and the hash of their total.

    votes   hash of the votes that certify the survivors, which travel beside it; "" in mode
            "node"
    """

    run: str
    round: int
    round_ctx: str
    survivors: tuple[str, ...]
    total: str
    votes: str = ""

    def body(self) -> dict[str, object]:
        """Return the JSON object that the bank signs."""
        return {
            "v": 1,
            "run": self.run,
            "round": self.round,
            "round_ctx": self.round_ctx,
            "survivors": list(self.survivors),
            "total": self.total,
            "votes": self.votes,
        }

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> Result:
        """Return the result in a signed body; MessageError or DocumentError if malformed."""
        closed(body, "v", "run", "round", "round_ctx", "survivors", "total", "votes")
        integer(body, "v", 1, 1)
        survivors = texts(body, "survivors", longest=63)
        if list(survivors) != sorted(set(survivors)):
            raise MessageError("survivors must be sorted and unique", "存活节点须排序且不重复")
        return cls(
            run=_hex(body, "run", 16),
            round=integer(body, "round", 1, MAX_ROUND),
            round_ctx=_hex(body, "round_ctx", 32),
            survivors=survivors,
            total=_hex(body, "total", 32),
            votes=_hex(body, "votes", 32) if body["votes"] != "" else "",
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """The bank's word that it holds one release; `checkpoint` is that of the bank's log."""

    run: str
    round: int
    node: str
    header: str
    vector: str
    checkpoint: str
    time: str

    def body(self) -> dict[str, object]:
        """Return the JSON object that the bank signs."""
        return {
            "run": self.run,
            "round": self.round,
            "node": self.node,
            "header": self.header,
            "vector": self.vector,
            "checkpoint": self.checkpoint,
            "time": self.time,
        }

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> Receipt:
        """Return the receipt in a signed body; DocumentError if malformed."""
        closed(body, "run", "round", "node", "header", "vector", "checkpoint", "time")
        return cls(
            run=_hex(body, "run", 16),
            round=integer(body, "round", 1, MAX_ROUND),
            node=text(body, "node"),
            header=_hex(body, "header", 32),
            vector=_hex(body, "vector", 32),
            checkpoint=text(body, "checkpoint"),
            time=time_field(body, "time"),
        )


@dataclass(frozen=True, slots=True)
class NotReceived:
    """The bank's word that it holds nothing of a node for one round, and never will."""

    run: str
    round: int
    node: str
    time: str

    def body(self) -> dict[str, object]:
        """Return the JSON object that the bank signs."""
        return {"run": self.run, "round": self.round, "node": self.node, "time": self.time}

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> NotReceived:
        """Return the statement in a signed body; DocumentError if malformed."""
        closed(body, "run", "round", "node", "time")
        return cls(
            run=_hex(body, "run", 16),
            round=integer(body, "round", 1, MAX_ROUND),
            node=text(body, "node"),
            time=time_field(body, "time"),
        )
