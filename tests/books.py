"""A node's account against what left the node: nothing uncharged, nothing without a cosignature,
repeats are the same bytes.
"""

from __future__ import annotations

import json
from fractions import Fraction

from process_world import Members
from sqlalchemy import select

from hejin_node import account
from hejin_node.home import open_home
from hejin_privacy.mechanism import Mechanism
from hejin_trust.canonical import child, time_from
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import parse_proof
from hejin_trust.cosignature import open_cosigned, witness_name
from hejin_trust.database import reading
from hejin_trust.entries import parse
from hejin_trust.merkle import check_inclusion
from hejin_trust.origins import release_origin
from hejin_trust.witness import MOST_OFF


class Books:
    """What a node's database says at any time, against what was about to leave it."""

    def __init__(self, members: Members, node: str) -> None:
        self._members, self._node = members, node
        self._kept: dict[int, tuple[bytes, bytes]] = {}

    def check(self) -> None:
        """Nothing left that is not charged; stored bytes never change."""
        with (
            open_home(self._members.folder / self._node) as home,
            reading(home.database) as connection,
        ):
            rows = connection.execute(select(account.reservation)).all()
            charter, key = home.charter, home.release_log.public_key
        states = {row.seq: row.state for row in rows}
        for line in self.sent():
            _check_cosigned(line, charter, key)
        for row in rows:
            if row.vector is not None:
                kept = self._kept.setdefault(row.seq, (row.header, row.vector))
                assert kept == (row.header, row.vector)
        left: dict[str, Fraction] = {}
        for seq, entry in self.left().items():
            assert states[seq] == "released", "bytes left without a release"
            mechanism = Mechanism.from_body(child(entry, "mechanism"))
            part = str(entry["part"])
            left[part] = left.get(part, Fraction(0)) + mechanism.cost()
        spent = sum((Fraction(row.charge) for row in rows), Fraction(0))
        assert spent >= max(left.values(), default=Fraction(0))

    def left(self) -> dict[int, dict[str, object]]:
        """Return the reservations of the answers that left, each answer always the same bytes."""
        entries: dict[int, dict[str, object]] = {}
        hashes: dict[int, tuple[str, str]] = {}
        for line in self.sent():
            entry = parse(line["entry"].encode())
            entries[entry.seq] = dict(entry.body)
            bytes_of = (line["header"], line["vector"])
            assert hashes.setdefault(entry.seq, bytes_of) == bytes_of, "a repeat is other bytes"
        return entries

    def sent(self) -> list[dict[str, str]]:
        file = self._members.sent(self._node)
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]


def _check_cosigned(line: dict[str, str], charter: Charter, log_key: bytes) -> None:
    """Raise unless the regulator had cosigned the reservation of an answer that left."""
    entry = parse(line["entry"].encode())
    proof = parse_proof(line["proof"])
    cosigned = open_cosigned(
        proof.checkpoint,
        release_origin(charter.consortium, "node", entry.by),
        log_key,
        witness_name(charter.consortium, charter.regulator.id),
        charter.regulator.log_key,
    )
    tree = cosigned.checkpoint
    check_inclusion(entry.raw, proof.index, tree.size, proof.path, tree.root)
    assert proof.index == entry.seq
    assert abs(cosigned.time - time_from(entry.time)) <= MOST_OFF
