"""Searches everything that a lying bank may tell the nodes of a run for a vector it can compute.

The nodes' answers come from the code that nodes run: `open_roster`, `agree`, `mask`, `vote` and
`reveal`, with signed envelopes and a charter, once for each conversation that one node can have.
Whether anything can be computed from them is then decided by linear algebra, exactly.

What the bank chooses, each independently for each honest node (t nodes collude with it):

- a roster: any of the plan's nodes, and for each colluder the key registered: its own, another
  node's, either with bit 255 set, or one of low order; colluders share all their private keys;
- a query: one of two (a node answers one a round and has one roster a run, which its engine sees
  to; another round has other keys of every kind, so that nothing carries over);
- a survivor set: none, or any set over headers that exist; colluders sign two different headers;
  then any second set;
- votes: all that were cast for it, those of colluders, and, to be refused, votes of nodes outside
  the set, repeated votes and votes for something else. More votes never reveal less, so that all
  that exist are always shown.

A roster and a query together are a scene. Every mask key depends on it (asserted on the keys
themselves), so that the equations of different scenes have no unknown in common: each scene is
searched for itself, with every subset of the honest nodes in it, and then no two scenes may open
anything over disjoint nodes.

The linear algebra is over GF(2). The masked vectors are sums mod 2^64; a combination of them that
is free of unknown masks, divided by the largest power of two in it, is one mod 2 that is not zero.
So where only multiples of one total are free of masks mod 2, only they are mod 2^64.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final
from unittest.mock import patch

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from masking_world import AT, NODES, RUN, World, number, payloads

from hejin_privacy.round_context import round_context
from hejin_privacy.secure_sum import keys, node
from hejin_privacy.secure_sum.documents import SurvivorSet, documents_hash
from hejin_privacy.secure_sum.keys import (
    LOW_ORDER,
    Advertised,
    PairKeys,
    Roster,
    agree,
    mask_key,
    open_roster,
    self_key,
    share_key,
)
from hejin_privacy.secure_sum.masks import add_masks
from hejin_privacy.secure_sum.node import (
    Masked,
    NodeRound,
    Party,
    RoundSecret,
    mask,
    reveal,
    secret_commitment,
    vote,
)
from hejin_privacy.shamir import combine, weights_at_zero
from hejin_trust.errors import HejinError

QUERIES: Final = tuple(hashlib.sha256(text).digest() for text in (b"query a", b"query b"))
WORDS: Final = 2

Option = tuple[tuple[int, ...], tuple[int, ...]]
"""What a node is shown: the indices of the survivors, and which header of each."""


@dataclass(frozen=True)
class Setting:
    """A run whose bank lies.

    t          nodes that collude: the first ones, unless `colluders` says which (0-based)
    planned    what the plan says t is, if it says something else
    off        rules of the nodes that are switched off: "thresholds", "canonical", "indices"
               (pair keys do not depend on the two nodes' places, as in the trial)
    deviants   most colluders at a time that register another key than their own
    """

    n: int
    tau: int
    m: int
    t: int
    colluders: tuple[int, ...] | None = None
    planned: int | None = None
    off: frozenset[str] = frozenset()
    deviants: int = 5

    @property
    def nodes(self) -> tuple[str, ...]:
        return NODES[: self.n]

    @property
    def bad(self) -> tuple[str, ...]:
        places = range(self.t) if self.colluders is None else self.colluders
        return tuple(NODES[place] for place in places)


@dataclass(frozen=True)
class Leak:
    """What a bank computed that it must not.

    nodes    whose vectors' sum; exact: all 64 bits of it, else the lowest alone
    values   uint64[WORDS] as computed from what the bank knows; truth: the real sum
    told     which survivors each honest node was shown; keys: what colluders registered
    grave    whether it is one vector or a strict sub-total: fewer nodes than an opened total has
             to hold, or one of two sums; else it is a total that no quorum agreed to
    """

    nodes: tuple[str, ...]
    exact: bool
    values: tuple[int, ...]
    truth: tuple[int, ...]
    told: Mapping[str, tuple[str, ...] | None]
    keys: Mapping[str, str]
    grave: bool


@dataclass
class Report:
    """How much was searched, and what was found."""

    rosters: int = 0
    refused: int = 0
    scenes: int = 0
    conversations: int = 0
    strategies: int = 0
    opened: int = 0
    leaks: list[Leak] = field(default_factory=list)
    split: list[tuple[frozenset[int], frozenset[int]]] = field(default_factory=list)

    @property
    def grave(self) -> list[Leak]:
        """Return single vectors and strict sub-totals."""
        return [leak for leak in self.leaks if leak.grave]


def search(setting: Setting, stop: bool = False) -> Report:
    """Search a setting; `stop` ends it with the first grave leak."""
    report = Report()
    openings: list[tuple[int, set[frozenset[int]]]] = []
    seen: dict[bytes, int] = {}
    planned = setting.t if setting.planned is None else setting.planned
    with _rules(setting):
        world = World(setting.nodes, tau=setting.tau, m=setting.m, t=planned)
        for place, scene in enumerate(_scenes(setting, world, report)):
            report.scenes += 1
            for key in scene.mask_keys():
                assert seen.setdefault(key, place) == place, "a mask key serves in two scenes"
            openings.append((place, scene.explore(report, stop)))
            if stop and report.grave:
                return report
    for (_, one), (_, other) in itertools.combinations(openings, 2):
        report.split += [(a, b) for a in one for b in other if not a & b]
    return report


@contextmanager
def _rules(setting: Setting) -> Iterator[None]:
    """Switch rules off; remember the answers of pure functions, which are slow."""
    with ExitStack() as stack:
        for module, names in (
            (keys, ("open_envelope", "check_certificate", "fingerprint", "open_checkpoint")),
            (node, ("open_envelope",)),
        ):
            for name in names:
                stack.enter_context(patch.object(module, name, cache(getattr(module, name))))
        if "thresholds" in setting.off:
            stack.enter_context(patch.object(keys, "check_thresholds"))
        if "canonical" in setting.off:
            stack.enter_context(patch.object(keys, "check_public_key"))
        yield


def _agree(setting: Setting, private: bytes, roster: Roster, index: int) -> dict[int, PairKeys]:
    if "indices" not in setting.off:
        return agree(private, roster, index)
    with patch.object(keys, "u32", lambda _: b""):
        return agree(private, roster, index)


# -- rosters -----------------------------------------------------------------------------


def _registered(setting: Setting, world: World, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield what a colluder may register: its own key first."""
    publics = {other: world.people[other].public for other in setting.nodes}
    yield "own", publics[name]
    for other, public in publics.items():
        yield f"{other} twisted", public[:31] + bytes([public[31] | 0x80])
        if other != name:
            yield f"{other} copied", public
    for low in sorted(LOW_ORDER):
        yield f"low order {low % 1000}", low.to_bytes(32, "little")


def _scenes(setting: Setting, world: World, report: Report) -> Iterator[Scene]:
    """Yield a scene for each roster that all its honest nodes mask with, and for each query."""
    for size in range(setting.m, setting.n + 1):
        for members in itertools.combinations(setting.nodes, size):
            bad = [name for name in members if name in setting.bad]
            for choice in itertools.product(*(_registered(setting, world, n) for n in bad)):
                if sum(what != "own" for what, _ in choice) > setting.deviants:
                    continue
                report.rosters += 1
                roster = _accepted(setting, world, members, dict(zip(bad, choice, strict=True)))
                if roster is None:
                    report.refused += 1
                    continue
                chosen = {name: what for name, (what, _) in zip(bad, choice, strict=True)}
                for query in QUERIES:
                    yield Scene(setting, world, roster, chosen, query)


def _accepted(
    setting: Setting, world: World, members: Sequence[str], chosen: Mapping[str, tuple[str, bytes]]
) -> Roster | None:
    """Return the roster if its honest nodes accept it; one of them refuses for all."""
    advertised = [world_keyad(world, name, key) for name, (_, key) in chosen.items()]
    for name in members:
        if name not in chosen:
            advertised.append(world_keyad(world, name, world.people[name].public))
    roster = None
    for name in members:
        if name not in chosen:
            own = world_keyad(world, name, world.people[name].public).envelope
            try:
                roster = open_roster(advertised, world.invitation, AT, own)
                _agree(setting, world.people[name].private, roster, roster.index(name))
            except HejinError:
                return None
    return roster


_KEYADS: dict[tuple[str, bytes], Advertised] = {}


def world_keyad(world: World, name: str, key: bytes) -> Advertised:
    """Return a node's signed key, signed once."""
    if (name, key) not in _KEYADS:
        _KEYADS[name, key] = world.advertise(name, key=key.hex())
    return _KEYADS[name, key]


# -- one roster and one query ------------------------------------------------------------


class Scene:
    """What the honest nodes answer that were told one roster and one query."""

    def __init__(
        self,
        setting: Setting,
        world: World,
        roster: Roster,
        chosen: Mapping[str, str],
        query: bytes,
    ) -> None:
        self.setting, self.world, self.roster, self.chosen = setting, world, roster, chosen
        self.round_ctx = round_context(roster.context, 1, query)
        self.honest = [i for i, name in enumerate(roster.nodes, 1) if name not in chosen]
        self.bad = [i for i, name in enumerate(roster.nodes, 1) if name in chosen]
        self.vectors: dict[int, list[int]] = {}
        self.rows: dict[int, list[tuple[bytes, int]]] = {}
        self.masked: dict[tuple[int, int], Masked] = {}  # (node, which header)
        self.headers: dict[tuple[int, int], bytes] = {}
        self.states: dict[int, NodeRound] = {}
        self.known: set[bytes] = set()
        self.held: dict[tuple[int, int], bytes] = {}  # (giver, taker): share
        self.options: list[Option] = []
        self._replies: dict[int, tuple[int, int]] = {}
        self._seeds: dict[bytes, int] = {}  # in the order of their bits
        self._opened: dict[int, set[bytes]] = {}
        self._asked: dict[Option, SurvivorSet] = {}
        self.shown: dict[int, dict[Option, NodeRound]] = {}
        self._answer()
        self._collude()

    def _secret(self, name: str, which: int = 0) -> RoundSecret:
        label = f"{name} {self.round_ctx.hex()} {which}"
        return RoundSecret(
            number(f"secret {label}"),
            tuple(number(f"coefficient {label} {k}") for k in range(1, self.setting.tau)),
        )

    def _answer(self) -> None:
        """Let each honest node mask; write down which keys its masks are made of."""
        for i in self.honest:
            name = self.roster.nodes[i - 1]
            pairs = _agree(self.setting, self.world.people[name].private, self.roster, i)
            party = Party(self.roster, i, pairs)
            self.vectors[i] = [number(f"vector {name} {k}") % 2**63 for k in range(WORDS)]
            used: list[tuple[bytes, int]] = []

            def recording(
                vector: np.ndarray[tuple[int], np.dtype[np.uint64]],
                masks: Sequence[tuple[bytes, int]],
                used: list[tuple[bytes, int]] = used,
            ) -> None:
                used.extend(masks)
                add_masks(vector, masks)

            with patch.object(node, "add_masks", recording):
                values = np.array(self.vectors[i], dtype=np.int64)
                masked = mask(party, self.round_ctx, values, self._secret(name))
            self.rows[i], self.masked[i, 0] = used, masked
            self.headers[i, 0] = self.world.header(name, 1, self.round_ctx, masked)
            self.states[i] = NodeRound(
                party, 1, self.round_ctx, masked.own_share, self.headers[i, 0]
            )

    def _collude(self) -> None:
        """Let colluders sign two headers each, open what is for them and derive their masks."""
        privates = {self.world.people[n].public: self.world.people[n].private
                    for n in self.setting.bad}  # fmt: skip
        for i in self.bad:
            seat = self.roster.seats[i - 1]
            raw = bytes.fromhex(seat.key)
            private = privates.get(raw[:31] + bytes([raw[31] & 0x7F]))
            if private is None:
                # Not theirs: their shares open for nobody, their masks are what others make them.
                pairs = {
                    j: PairKeys(bytes([i]) * 32, bytes([j]) * 32)
                    for j in range(1, self.roster.size + 1)
                    if j != i
                }
            else:
                pairs = _agree(self.setting, private, self.roster, i)
                self.known |= {mask_key(pair, self.round_ctx) for pair in pairs.values()}
                for j in self.honest:
                    key = share_key(pairs[j], self.round_ctx, j, i)
                    sealed = self.masked[j, 0].ciphertexts[i - 1]
                    self.held[j, i] = ChaCha20Poly1305(key).decrypt(
                        bytes(12), sealed, self.round_ctx
                    )
            for which in (0, 1):
                masked = mask(
                    Party(self.roster, i, pairs),
                    self.round_ctx,
                    np.zeros(WORDS, np.int64),
                    self._secret(seat.node, which),
                )
                self.masked[i, which] = masked
                self.headers[i, which] = self.world.header(seat.node, 1, self.round_ctx, masked)

    def mask_keys(self) -> set[bytes]:
        """Return every key that masks an honest vector."""
        return {key for row in self.rows.values() for key, _ in row}

    # -- conversations of one node -------------------------------------------------------

    def asked(self, option: Option) -> SurvivorSet:
        """Return the set that the bank shows with these headers."""
        if option not in self._asked:
            self._asked[option] = self._ask(option)
        return self._asked[option]

    def _ask(self, option: Option) -> SurvivorSet:
        survivors, which = option
        headers = [self.headers[i, w] for i, w in zip(survivors, which, strict=True)]
        names = tuple(self.roster.nodes[i - 1] for i in survivors)
        documents = documents_hash(payloads(headers))
        return SurvivorSet(RUN, 1, self.round_ctx.hex(), names, documents)

    def _show(self, state: NodeRound, option: Option) -> NodeRound | None:
        """Return a node's state after it voted for what it was shown; None if it refused."""
        own = state.party.index
        chosen = list(zip(*option, strict=True))
        try:
            return vote(
                state,
                self.asked(option),
                [self.headers[pair] for pair in chosen],
                [self.masked[pair].ciphertexts[own - 1] for pair in chosen],
                self.world.charter,
            )
        except HejinError:
            return None

    def converse(self, report: Report) -> None:
        """Show every set to every honest node, and every other set after it."""
        places = range(1, self.roster.size + 1)
        for size in places:
            for survivors in itertools.combinations(places, size):
                choices = [(0, 1) if i in self.bad else (0,) for i in survivors]
                self.options += [(survivors, which) for which in itertools.product(*choices)]
        for i in self.honest:
            self.shown[i] = {}
            for option in self.options:
                report.conversations += 1
                voted = self._show(self.states[i], option)
                if voted is not None:
                    self.shown[i][option] = voted
            for j in self.honest:
                report.conversations += 1
                assert not self._accepts_elsewhere(i, j), "a header of another scene was accepted"
            for first, second in itertools.permutations(self.shown[i], 2):
                report.conversations += 1
                again = self._show(self.shown[i][first], second)
                assert again is None, "a node voted for two sets"

    def _accepts_elsewhere(self, i: int, j: int) -> bool:
        """Return whether a node votes for everybody, one of whom answered in another scene."""
        names, places = self.roster.nodes, range(1, self.roster.size + 1)
        headers = [self.headers[k, 0] for k in places]
        other = hashlib.sha256(self.round_ctx).digest()
        headers[j - 1] = self.world.header(names[j - 1], 1, other, self.masked[j, 0])
        documents = documents_hash(payloads(headers))
        asked = SurvivorSet(RUN, 1, self.round_ctx.hex(), names, documents)
        sealed = [self.masked[k, 0].ciphertexts[i - 1] for k in places]
        try:
            vote(self.states[i], asked, headers, sealed, self.world.charter)
        except HejinError:
            return False
        return True

    def _reply(self, i: int, place: int, voters: int) -> tuple[int, int]:
        """Return what a node opens for votes of these honest nodes: seeds and shares, as bits.

        place    of what it was shown in `options`
        voters   bit j: honest node j voted for the same
        """
        option = self.options[place]
        certified, released = self._reveal(i, option, voters)
        seeds = 0
        for seed in released:
            seeds |= 1 << self._seeds.setdefault(seed, len(self._seeds))
        # What a node's engine does: the whole roster needs no second trip.
        if not certified and len(option[0]) < self.roster.size:
            return 0, 0
        return seeds, sum(1 << (8 * giver + i) for giver in option[0])

    def _reveal(self, i: int, option: Option, voters: int) -> tuple[bool, tuple[bytes, ...]]:
        asked = self.asked(option)

        def ballot(j: int, what: SurvivorSet = asked) -> bytes:
            return _ballot(self.world, self.roster.nodes[j - 1], what)

        cast = [ballot(j) for j in self.honest if voters >> j & 1]
        inside = [ballot(j) for j in self.bad if j in option[0]]
        outside = [ballot(j) for j in self.bad if j not in option[0]]
        other = replace(asked, survivors=asked.survivors[:-1])
        elsewhere = [ballot(j, other) for j in self.honest if not voters >> j & 1]
        for votes in (
            [*cast, *inside],
            [*cast, *inside, *outside],
            [*cast, *inside, *inside, *cast],
            [*cast, *inside, *elsewhere],
        ):
            try:
                answer = reveal(self.shown[i][option], votes)
            except HejinError:
                continue
            return True, answer.seeds
        return False, ()

    # -- everything that can be told to them together ------------------------------------

    def explore(self, report: Report, stop: bool) -> set[frozenset[int]]:
        """Search every strategy; return the groups of honest nodes (by name) that open a total."""
        self.converse(report)
        opening = set()
        for size in range(1, len(self.honest) + 1):
            for group in itertools.combinations(self.honest, size):
                if self._group(group, report, stop):
                    names = (self.roster.nodes[i - 1] for i in group)
                    opening.add(frozenset(NODES.index(name) for name in names))
                if stop and report.grave:
                    return opening
        return opening

    def _group(self, group: tuple[int, ...], report: Report, stop: bool) -> bool:
        """Search what the honest nodes of `group` can be shown, all others being elsewhere."""
        absent = set(self.honest) - set(group)
        choices = [
            [-1, *(k for k, o in enumerate(self.options) if o in shown and not absent & set(o[0]))]
            for shown in (self.shown[i] for i in group)
        ]
        kernels: dict[tuple[int, int], tuple[int, ...]] = {}
        opens = False
        for told in itertools.product(*choices):
            report.strategies += 1
            learned = self._learned(group, told)
            kernel = kernels.get(learned)
            if kernel is None:
                kernel = kernels[learned] = _kernel(self.rows, group, self._keys(*learned))
            if kernel:
                opens = True
                report.opened += 1
                shown = [self.options[place] if place >= 0 else None for place in told]
                if not self._allowed(kernel, shown):
                    report.leaks.append(self._leak(kernel, group, shown, self._keys(*learned)))
                    if stop and report.leaks[-1].grave:
                        return True
        return opens

    def _learned(self, group: tuple[int, ...], told: tuple[int, ...]) -> tuple[int, int]:
        """Return which seeds nodes release and, bit 8 x giver + taker, which shares."""
        voters: dict[int, int] = {}
        for i, place in zip(group, told, strict=True):
            if place >= 0:
                voters[place] = voters.get(place, 0) | 1 << i
        seeds = shares = 0
        for i, place in zip(group, told, strict=True):
            if place >= 0:
                key = voters[place] << 20 | place << 4 | i
                reply = self._replies.get(key)
                if reply is None:
                    reply = self._replies[key] = self._reply(i, place, voters[place])
                seeds |= reply[0]
                shares |= reply[1]
        return seeds, shares

    def _keys(self, seeds: int, shares: int) -> set[bytes]:
        """Return every mask key that the bank then has."""
        released = {seed for seed, bit in self._seeds.items() if seeds >> bit & 1}
        return self.known | released | self._self_keys(shares)

    def _self_keys(self, shares: int) -> set[bytes]:
        """Return the self masks that these shares and the colluders' open, by interpolation."""
        known = self._opened.get(shares)
        if known is None:
            known = self._opened[shares] = set(self._interpolated(shares))
        return known

    def _interpolated(self, shares: int) -> Iterator[bytes]:
        tau = self.setting.tau
        for giver in self.honest:
            held = {taker: share for (g, taker), share in self.held.items() if g == giver}
            for taker in self.honest:
                if shares >> (8 * giver + taker) & 1:
                    option = next(o for o in self.shown[taker] if giver in o[0])
                    place = option[0].index(giver)
                    held[taker] = self.shown[taker][option].shares[place]
            if len(held) >= tau:
                points = sorted(held)[:tau]
                values = [int.from_bytes(held[point], "big") for point in points]
                secret = combine(weights_at_zero(points), values)
                made = self.masked[giver, 0].commitments
                assert secret_commitment(self.round_ctx, giver, secret) == made.secret
                yield self_key(secret, self.round_ctx)

    def _allowed(self, kernel: tuple[int, ...], told: Sequence[Option | None]) -> bool:
        """Return whether all that opens is one total, over a set that a quorum agreed to."""
        total = kernel[0]
        if len(kernel) > 1 or total.bit_count() < self.setting.m - self.setting.t:
            return False
        agreed: dict[tuple[int, ...], int] = {}
        for option in told:
            if option is not None:
                agreed[option[0]] = agreed.get(option[0], 0) + 1
        return any(
            sum(1 << i for i in survivors if i in self.honest) == total
            and votes + sum(i in self.bad for i in survivors) >= self.setting.tau
            for survivors, votes in agreed.items()
        )

    def _leak(
        self,
        kernel: tuple[int, ...],
        group: tuple[int, ...],
        told: Sequence[Option | None],
        known: set[bytes],
    ) -> Leak:
        """Compute what leaks from the bytes that the bank has."""
        least = min(kernel, key=int.bit_count)
        left: dict[bytes, int] = {}
        total, truth = np.zeros(WORDS, "<u8"), np.zeros(WORDS, "<u8")
        for i in group:
            if least >> i & 1:
                total += np.frombuffer(self.masked[i, 0].vector, "<u8")
                truth += np.array(self.vectors[i], "<u8")
                for key, sign in self.rows[i]:
                    left[key] = left.get(key, 0) + sign
        for key, times in left.items():
            if key in known:
                add_masks(total, [(key, -1 if times > 0 else 1)] * abs(times))
        exact = all(times == 0 or key in known for key, times in left.items())
        if not exact:
            total, truth = total << np.uint64(63), truth << np.uint64(63)
        names = self.roster.nodes
        return Leak(
            nodes=tuple(names[i - 1] for i in group if least >> i & 1),
            exact=exact,
            values=tuple(total.tolist()),
            truth=tuple(truth.tolist()),
            told={
                names[i - 1]: None if o is None else tuple(names[j - 1] for j in o[0])
                for i, o in zip(group, told, strict=True)
            },
            keys=dict(self.chosen),
            grave=len(kernel) > 1 or least.bit_count() < self.setting.m - self.setting.t,
        )


_BALLOTS: dict[tuple[str, SurvivorSet], bytes] = {}


def _ballot(world: World, name: str, asked: SurvivorSet) -> bytes:
    if (name, asked) not in _BALLOTS:
        _BALLOTS[name, asked] = world.ballot(name, asked)
    return _BALLOTS[name, asked]


def _kernel(
    rows: Mapping[int, list[tuple[bytes, int]]], group: Sequence[int], known: set[bytes]
) -> tuple[int, ...]:
    """Return a reduced basis of the sets of nodes whose sum is free of unknown masks mod 2."""
    columns: dict[bytes, int] = {}
    pending: list[tuple[int, int]] = []
    for i in group:
        row = 0
        for key, _ in rows[i]:
            if key not in known:
                row ^= 1 << columns.setdefault(key, len(columns))
        pending.append((row, 1 << i))
    pivots: list[tuple[int, int]] = []
    free: list[int] = []
    for row, nodes in pending:
        for pivot, others in pivots:
            if row & (pivot & -pivot):
                row, nodes = row ^ pivot, nodes ^ others
        if row:
            pivots.append((row, nodes))
        else:
            free.append(nodes)
    return _reduced(free)


def _reduced(vectors: Sequence[int]) -> tuple[int, ...]:
    basis: list[int] = []
    for vector in vectors:
        for other in basis:
            vector = min(vector, vector ^ other)
        if vector:
            basis = [min(other, other ^ vector) for other in basis]
            basis.append(vector)
    return tuple(sorted(basis))


def safe_settings(most: int = 5) -> list[Setting]:
    """Return every (n, tau, m, t) that satisfies rule P1, by the rule as it is printed."""
    return _settings(most, lambda n, tau, t: 2 * tau > n + t)


def unsafe_settings(most: int = 5) -> list[Setting]:
    """Return every (n, tau, m, t) that breaks 2 tau > n + t and nothing else of rule P1."""
    return [
        replace(setting, off=frozenset({"thresholds"}))
        for setting in _settings(most, lambda n, tau, t: 2 * tau <= n + t)
    ]


def _settings(most: int, rule: Callable[[int, int, int], bool]) -> list[Setting]:
    return [
        Setting(n, tau, m, t)
        for n in range(2, most + 1)
        for tau in range(2, n + 1)
        for m in range(tau, n + 1)
        for t in range(m - 1)
        if rule(n, tau, t)
    ]
