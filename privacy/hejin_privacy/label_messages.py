"""The signed documents of one private set intersection for labels: a node's question, an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from hejin_privacy.set_intersection import MOST_ITEMS, MOST_SLOTS
from hejin_trust.canonical import closed, hexbytes, integer, text, time_field

LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class LabelQuestion:
    """What a node signs with its points.

    session          32 hex digits, once and never again
    definition       id of the label definition; definition_hash: SHA-256 of its file, hex
    period           which of the bank's books of outcomes, in the bank's words
    slots            points, as many as the node's declared size
    points           their SHA-256, hex
    """

    session: str
    bank: str
    definition: str
    definition_hash: str
    period: str
    slots: int
    points: str
    time: str

    def body(self) -> dict[str, object]:
        """Return the JSON object that the node signs."""
        return {"v": 1, **{name: getattr(self, name) for name in self.__slots__}}

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> Self:
        """Return the question in a signed body; DocumentError if malformed."""
        closed(body, "v", *cls.__slots__)
        integer(body, "v", 1, 1)
        return cls(
            session=hexbytes(body, "session", 16).hex(),
            bank=text(body, "bank", longest=LONGEST_NAME),
            definition=text(body, "definition", longest=LONGEST_NAME),
            definition_hash=hexbytes(body, "definition_hash", 32).hex(),
            period=text(body, "period", longest=LONGEST_NAME),
            slots=integer(body, "slots", 1, MOST_SLOTS),
            points=hexbytes(body, "points", 32).hex(),
            time=time_field(body, "time"),
        )


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """What a bank signs with its points and items; SHA-256 of it is the session's transcript.

    question   SHA-256 of the question that was signed, hex: it binds all that was asked
    items      sealed outcomes and noise, as many as the bank declares; sealed: their SHA-256
    points     SHA-256 of the points that go back, hex
    """

    session: str
    node: str
    question: str
    items: int
    points: str
    sealed: str
    time: str

    def body(self) -> dict[str, object]:
        """Return the JSON object that the bank signs."""
        return {"v": 1, **{name: getattr(self, name) for name in self.__slots__}}

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> Self:
        """Return the answer in a signed body; DocumentError if malformed."""
        closed(body, "v", *cls.__slots__)
        integer(body, "v", 1, 1)
        return cls(
            session=hexbytes(body, "session", 16).hex(),
            node=text(body, "node", longest=LONGEST_NAME),
            question=hexbytes(body, "question", 32).hex(),
            items=integer(body, "items", 0, MOST_ITEMS),
            points=hexbytes(body, "points", 32).hex(),
            sealed=hexbytes(body, "sealed", 32).hex(),
            time=time_field(body, "time"),
        )
