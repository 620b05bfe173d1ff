"""Tell honest nodes different survivor sets, play every vote against each, and see what opens."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from hostile_bank import Attack

from hejin_privacy.secure_sum.keys import self_key
from hejin_privacy.secure_sum.masks import add_masks
from hejin_privacy.secure_sum.node import SHARE_BYTES
from hejin_privacy.shamir import combine, weights_at_zero
from hejin_trust.fleet import unpack


@dataclass
class Knowledge:
    """What the bank and its colluders hold of one round: shares of secrets, and seeds of pairs."""

    attack: Attack
    number: int
    shares: dict[str, dict[str, bytes]] = field(default_factory=dict)  # of: by
    seeds: dict[frozenset[str], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, colluder in self.attack.colluders.items():
            if (name, self.number) not in self.attack.uploads:
                continue
            for node in self.attack.honest:
                if (node, self.number) in self.attack.uploads:
                    (share,) = colluder.shares([node], self.number)
                    self.shares.setdefault(node, {})[name] = share
                    self.seeds[frozenset((node, name))] = colluder.seed(node, self.number)

    def learn_shares(self, by: str, nodes: Sequence[str], packed: bytes) -> None:
        for node, share in zip(nodes, unpack(packed, 5), strict=False):
            assert len(share) == SHARE_BYTES
            self.shares.setdefault(node, {})[by] = share

    def learn_seeds(self, by: str, dropped: Sequence[str], packed: bytes) -> None:
        for node, seed in zip(dropped, unpack(packed, 5), strict=True):
            self.seeds[frozenset((by, node))] = seed

    def openable(self) -> list[tuple[str, ...]]:
        """Return every set of honest nodes whose sum of vectors can be computed."""
        tau, honest = self.attack.plan.quorum, self.attack.honest
        roster = next(iter(self.attack.colluders.values())).party
        assert roster is not None
        others = set(roster.roster.nodes)
        return [
            chosen
            for size in range(1, len(honest) + 1)
            for chosen in itertools.combinations(honest, size)
            if all(len(self.shares.get(node, {})) >= tau for node in chosen)
            and all(
                frozenset((node, other)) in self.seeds
                for node in chosen
                for other in others - set(chosen)
            )
        ]

    def open(self, chosen: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the sum of these nodes' vectors, masks taken off."""
        attack = self.attack
        party = next(iter(attack.colluders.values())).party
        assert party is not None
        roster = party.roster
        context = bytes.fromhex(attack.asked(chosen, self.number).round_ctx)
        total = np.zeros(len(attack.uploads[chosen[0], self.number]["vector"]) // 8, "<u8")
        for node in chosen:
            total += np.frombuffer(attack.uploads[node, self.number]["vector"], "<u8")
            takers = sorted(self.shares[node])[: roster.tau]
            secret = combine(
                weights_at_zero([roster.index(taker) for taker in takers]),
                [int.from_bytes(self.shares[node][taker], "big") for taker in takers],
            )
            add_masks(total, [(self_key(secret, context), -1)])
            for other in set(roster.nodes) - set(chosen):
                seed = self.seeds[frozenset((node, other))]
                add_masks(total, [(seed, -1 if node < other else 1)])
        return total.view("<i8")


def lie(attack: Attack, number: int, told: Mapping[str, Sequence[str]]) -> Knowledge:
    """Tell each honest node its own survivors, then play every vote against every node."""
    known = Knowledge(attack, number)
    roster = attack.plan.nodes
    sets = {tuple(chosen) for chosen in told.values()}
    votes: dict[tuple[str, ...], dict[str, bytes]] = {}
    for chosen in sets:
        asked = attack.asked(chosen, number)
        votes[chosen] = {
            node: attack.ballot(node, asked) for node in attack.colluders if node in chosen
        }
    for node, set_told in told.items():
        for chosen in [tuple(set_told), *sorted(sets - {tuple(set_told)})]:
            if node not in chosen:
                continue
            answer = attack.ask(node, attack.survivors(node, chosen, number))
            if answer["kind"] == b"vote":
                votes[chosen][node] = answer["vote"]
                known.learn_shares(node, chosen, answer["shares"])
    for chosen, given in votes.items():
        asked = attack.asked(chosen, number)
        for node in set(chosen) & set(attack.honest):
            attack.ask(node, attack.survivors(node, chosen, number))  # if only it forgot
            answer = attack.ask(node, attack.votes(asked, list(given.values())))
            if answer["kind"] == b"opened":
                known.learn_shares(node, chosen, answer["shares"])
                dropped = [n for n in roster if n not in chosen]
                known.learn_seeds(node, dropped, answer["seeds"])
    return known
