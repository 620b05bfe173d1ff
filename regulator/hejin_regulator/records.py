"""What the checks compare: the entries of release logs as values, one class a type."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import cast

from hejin_privacy.budget import Part
from hejin_privacy.mechanism import Mechanism
from hejin_regulator.fields import number, rational, text
from hejin_regulator.second_accountant import node_multiplier, shared_multiplier
from hejin_trust import canonical
from hejin_trust.entries import Entry
from hejin_trust.errors import HejinError


@dataclass(frozen=True, slots=True)
class Priced:
    """A mechanism and what follows from it.

    text              its canonical form: what two members have to agree on
    cost, cost_alone  zCDP, exact
    noise, ..alone    the second accountant's noise multipliers
    """

    text: bytes
    mechanism: Mechanism
    cost: Fraction
    cost_alone: Fraction
    noise: float
    noise_alone: float


@lru_cache(maxsize=512)
def priced(text: bytes) -> Priced | HejinError:
    """Return a mechanism in its canonical form, or why it contradicts itself."""
    try:
        mechanism = Mechanism.from_body(canonical.decode(text))
    except HejinError as reason:
        return reason
    sigma, squared, r = mechanism.sigma, mechanism.delta_squared, mechanism.r
    alone = node_multiplier(sigma, squared, r)
    shared = alone
    if mechanism.mode == "shared":
        honest = mechanism.m - mechanism.t
        shared = shared_multiplier(sigma, squared, mechanism.dimension, honest, r)
    return Priced(text, mechanism, mechanism.cost(), mechanism.cost_alone(), shared, alone)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A `reserve` entry; priced is the reason where its mechanism contradicts itself (V8)."""

    seq: int
    time: str
    run: str
    round: int
    bank: str
    plan: str
    query: str
    part: Part
    split_key_hash: str
    round_ctx: str
    snapshot: str
    snapshot_seq: int
    mechanism: bytes
    priced: Priced | HejinError
    rho: Fraction
    charge: Fraction
    rho_alone: Fraction
    charge_alone: Fraction

    @classmethod
    def of(cls, entry: Entry) -> Reservation:
        """Return what a `reserve` entry says."""
        body = entry.body
        mechanism = canonical.encode(body["mechanism"])
        return cls(
            seq=entry.seq,
            time=entry.time,
            run=text(body, "run"),
            round=number(body, "round"),
            bank=text(body, "bank"),
            plan=text(body, "plan"),
            query=text(body, "query"),
            part=cast("Part", text(body, "part")),
            split_key_hash=text(body, "split_key_hash"),
            round_ctx=text(body, "round_ctx"),
            snapshot=text(body, "snapshot"),
            snapshot_seq=number(body, "snapshot_seq"),
            mechanism=mechanism,
            priced=priced(mechanism),
            rho=rational(body, "rho"),
            charge=rational(body, "charge"),
            rho_alone=rational(body, "rho_alone"),
            charge_alone=rational(body, "charge_alone"),
        )


@dataclass(frozen=True, slots=True)
class Release:
    """A `release` entry."""

    seq: int
    time: str
    reservation: int
    run: str
    round: int
    round_ctx: str
    vector: str
    header: str

    @classmethod
    def of(cls, entry: Entry) -> Release:
        """Return what a `release` entry says."""
        body = entry.body
        return cls(
            entry.seq,
            entry.time,
            number(body, "reservation"),
            text(body, "run"),
            number(body, "round"),
            text(body, "round_ctx"),
            text(body, "vector"),
            text(body, "header"),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A `snapshot` entry, as far as reservations name it."""

    seq: int
    time: str
    plan: str
    root: str


@dataclass(frozen=True, slots=True)
class Approval:
    """A node's answer to a plan, `plan.approve` or `plan.refuse`.

    rhos  the plan's rho, and those of its parts train and hold-out, as they were approved
    """

    seq: int
    rhos: tuple[Fraction, ...]
    refused: bool = False
