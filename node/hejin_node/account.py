"""The node's budget account: durable reservations, charged before anything is computed."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    func,
    insert,
    select,
    true,
    update,
)

from hejin_node.errors import NodeError
from hejin_node.tables import metadata
from hejin_privacy.budget import (
    Part,
    PlanSpend,
    charge_for,
    check_account,
    check_alone,
    check_plan,
)
from hejin_trust.charter import Charter


class ReservationEndedError(NodeError):
    """A reservation is released or voided once."""

    code = "reservation-ended"


# A database that was restored has lost whether anything left for its newest reservations: the
# bank's word tells, and until then they are "lost".
State = Literal["reserved", "released", "void", "lost"]

reservation = Table(
    "reservation",
    metadata,
    Column("seq", Integer, primary_key=True),  # index of the `reserve` entry in the release log
    Column("run", String(32), nullable=False),
    Column("round", Integer, nullable=False),
    Column("bank", String(63), nullable=False),
    Column("plan", String(64), nullable=False, index=True),
    Column("part", String(8), nullable=False),
    Column("period", String(20), nullable=False),
    Column("query", String(64), nullable=False),
    Column("round_ctx", String(64), nullable=False),
    # Exact rationals as "num/den": a float would let two banks round their way past the cap.
    Column("cost", String, nullable=False),
    Column("charge", String, nullable=False),
    # The same if all other nodes colluded with the bank.
    Column("cost_alone", String, nullable=False),
    Column("charge_alone", String, nullable=False),
    Column("state", String(8), nullable=False),
    Column("header_digest", String(64)),  # as the `release` entry has it
    Column("vector_digest", String(64)),
    Column("header", LargeBinary),
    Column("vector", LargeBinary),
    Column("ciphertexts", LargeBinary),  # its encrypted shares, packed; empty in mode "node"
    Column("receipt", LargeBinary),
    UniqueConstraint("run", "round"),
    # All that adding up the account reads; the rows themselves lie pages apart.
    Index("ix_reservation_spent", "period", "bank", "charge", "charge_alone"),
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """One charged private sum of this node, and the bytes that were sent for it.

    The bytes are gone once the bank has signed for them, or with a database that was lost; their
    SHA-256 stay.
    """

    seq: int
    run: str
    round: int
    bank: str
    plan: str
    part: Part
    period: str
    query: str
    round_ctx: str
    cost: Fraction
    charge: Fraction
    cost_alone: Fraction
    charge_alone: Fraction
    state: State
    header_digest: str | None
    vector_digest: str | None
    header: bytes | None
    vector: bytes | None
    ciphertexts: bytes | None
    receipt: bytes | None


@dataclass(frozen=True, slots=True)
class Spending:
    """What the account says at one moment, all exact rho: before and after one more charge.

    charge_alone, alone_before, alone_after  the same account if all other nodes colluded
    """

    charge: Fraction
    before: Fraction
    after: Fraction
    plan_after: Fraction
    bank_after: Fraction
    charge_alone: Fraction
    alone_before: Fraction
    alone_after: Fraction
    period: str


def spent(connection: Connection, period: str, *, bank: str | None = None) -> Fraction:
    """Return the rho charged in `period`, to one bank if `bank` is given, else in all."""
    mine = reservation.c.bank == bank if bank is not None else true()
    return _total(connection, reservation.c.charge, reservation.c.period == period, mine)


def alone_spent(connection: Connection, period: str) -> Fraction:
    """Return the rho charged in `period` over all banks if all other nodes colluded with them."""
    return _total(connection, reservation.c.charge_alone, reservation.c.period == period)


def spent_by_plan(connection: Connection, plan: str) -> tuple[PlanSpend, PlanSpend]:
    """Return what a plan's sums cost so far, by part, and the same if all others colluded.

    Reserved and void ones count.
    """
    rows = connection.execute(
        select(reservation.c.part, reservation.c.cost, reservation.c.cost_alone).where(
            reservation.c.plan == plan
        )
    )
    spending, alone = PlanSpend(), PlanSpend()
    for row in rows:
        spending = spending.plus(row.part, Fraction(row.cost))
        alone = alone.plus(row.part, Fraction(row.cost_alone))
    return spending, alone


def price(
    connection: Connection,
    charter: Charter,
    *,
    plan: str,
    bank: str,
    part: Part,
    cost: Fraction,
    cost_alone: Fraction,
    part_cap: Fraction,
) -> Spending:
    """Return what one more sum does to the account.

    raises   BudgetExhaustedError over the charter's cap, AloneBudgetExhaustedError over its cap
             for collusion of all others, PlanBudgetExhaustedError over the plan's

    Called inside the write transaction that will insert the reservation, it is the filter of
    Whitehouse et al. 2023 (arXiv:2203.05481): spent is recomputed from all reservations.
    """
    period = charter.period_from
    parts, alone = spent_by_plan(connection, plan)
    alone_before = alone_spent(connection, period)
    charge_alone = charge_for(alone.train, alone.holdout, part, cost_alone)
    before, bank_before = spent(connection, period), spent(connection, period, bank=bank)
    charge = charge_for(parts.train, parts.holdout, part, cost)
    check_plan(parts.train if part == "train" else parts.holdout, cost, part_cap)
    check_account(before, charge, charter.rho_cap)
    check_alone(alone_before, charge_alone, charter.rho_alone_cap)
    after = parts.plus(part, cost)
    return Spending(
        charge=charge,
        before=before,
        after=before + charge,
        plan_after=max(after.train, after.holdout),
        bank_after=bank_before + charge,
        charge_alone=charge_alone,
        alone_before=alone_before,
        alone_after=alone_before + charge_alone,
        period=period,
    )


def insert_reservation(
    connection: Connection,
    *,
    seq: int,
    run: str,
    round_number: int,
    bank: str,
    plan: str,
    part: str,
    query: str,
    round_ctx: str,
    cost: Fraction,
    cost_alone: Fraction,
    spending: Spending,
) -> None:
    """Record a charged reservation; it stays charged whatever happens next."""
    connection.execute(
        insert(reservation).values(
            seq=seq,
            run=run,
            round=round_number,
            bank=bank,
            plan=plan,
            part=part,
            period=spending.period,
            query=query,
            round_ctx=round_ctx,
            cost=str(cost),
            charge=str(spending.charge),
            cost_alone=str(cost_alone),
            charge_alone=str(spending.charge_alone),
            state="reserved",
        )
    )


def mark_released(
    connection: Connection,
    seq: int,
    *,
    header_digest: str,
    header: bytes,
    vector: bytes,
    ciphertexts: bytes,
) -> None:
    """Store the exact outgoing bytes beside the reservation they were charged to.

    header_digest   SHA-256 of what the header signs, hex
    raises   ReservationEndedError if it was released or voided before: then nothing may leave
    """
    _end(
        connection,
        seq,
        "reserved",
        state="released",
        header_digest=header_digest,
        vector_digest=hashlib.sha256(vector).hexdigest(),
        header=header,
        vector=vector,
        ciphertexts=ciphertexts,
    )


def mark_void(connection: Connection, seq: int) -> None:
    """Note that nothing left for a reservation; its cost is not returned.

    raises   ReservationEndedError if it was released or voided before
    """
    _end(connection, seq, "reserved", state="void")


def restore(connection: Connection, lost: Reservation) -> None:
    """Record a reservation that only the log still holds; it stays charged."""
    values = asdict(lost)
    for name in ("cost", "charge", "cost_alone", "charge_alone"):
        values[name] = str(values[name])
    connection.execute(insert(reservation).values(values))


def restore_end(connection: Connection, seq: int, state: State, **digests: str) -> None:
    """Note how an unfinished or lost reservation ended, as only the log still tells.

    digests   header_digest and vector_digest, where it was released
    """
    _end(connection, seq, "reserved", "lost", state=state, **digests)


def lose_unfinished(connection: Connection) -> int:
    """Leave it to the banks how the unfinished reservations ended; return how many there are."""
    lost = connection.execute(
        update(reservation).where(reservation.c.state == "reserved").values(state="lost")
    )
    return lost.rowcount


def end_lost(connection: Connection, seq: int, receipt: bytes, **digests: str) -> None:
    """Note what the bank's signed word says of a reservation whose end was lost.

    digests   header_digest and vector_digest of what the bank received; none: nothing left
    """
    state: State = "released" if digests else "void"
    _end(connection, seq, "lost", state=state, receipt=receipt, **digests)


def store_receipt(connection: Connection, seq: int, receipt: bytes) -> None:
    """Keep the bank's signed receipt (or not-received) and let go of the vector's bytes."""
    connection.execute(
        update(reservation)
        .where(reservation.c.seq == seq)
        .values(receipt=receipt, vector=None, ciphertexts=None)
    )


def find(connection: Connection, run: str, round_number: int) -> Reservation | None:
    """Return the reservation of one round, if there is one."""
    rows = _load(connection, reservation.c.run == run, reservation.c.round == round_number)
    return rows[0] if rows else None


def of_run(connection: Connection, run: str) -> list[Reservation]:
    """Return the reservations of one run, in order."""
    return _load(connection, reservation.c.run == run)


def last_round(connection: Connection, run: str) -> int:
    """Return the highest round of a run that was ever reserved; 0 if none."""
    rounds = connection.scalars(select(reservation.c.round).where(reservation.c.run == run))
    return max(rounds, default=0)


def unfinished(connection: Connection) -> list[Reservation]:
    """Return the reservations whose computing was interrupted."""
    return _load(connection, reservation.c.state == "reserved")


def without_receipt(connection: Connection, bank: str) -> list[Reservation]:
    """Return the releases, and the lost reservations, for which this bank still owes its word."""
    return _load(
        connection,
        reservation.c.bank == bank,
        reservation.c.state.in_(("released", "lost")),
        reservation.c.receipt.is_(None),
    )


def _end(connection: Connection, seq: int, *before: State, **values: object) -> None:
    ended = connection.execute(
        update(reservation)
        .where(reservation.c.seq == seq, reservation.c.state.in_(before))
        .values(**values)
    )
    if ended.rowcount != 1:
        raise ReservationEndedError(
            "the reservation was released or voided before; nothing leaves",
            "该预留此前已输出或作废；不会发送任何内容",
        )


def _total(connection: Connection, amount: Column[str], *where: ColumnElement[bool]) -> Fraction:
    # Equal amounts recur, and are counted by SQLite. What is left is added as integers: charges are
    # multiples of 2^-64 and share a few denominators, where fractions would reduce each sum anew.
    rows = connection.execute(select(amount, func.count()).where(*where).group_by(amount))
    sums: dict[str, int] = {}
    for value, count in rows:
        numerator, _, denominator = value.partition("/")
        sums[denominator] = sums.get(denominator, 0) + int(numerator) * count
    parts = (Fraction(total, int(denominator or "1")) for denominator, total in sums.items())
    return sum(parts, Fraction(0))


def _load(connection: Connection, *where: ColumnElement[bool]) -> list[Reservation]:
    rows = connection.execute(select(reservation).where(*where).order_by(reservation.c.seq))
    return [
        Reservation(
            seq=row.seq,
            run=row.run,
            round=row.round,
            bank=row.bank,
            plan=row.plan,
            part=row.part,
            period=row.period,
            query=row.query,
            round_ctx=row.round_ctx,
            cost=Fraction(row.cost),
            charge=Fraction(row.charge),
            cost_alone=Fraction(row.cost_alone),
            charge_alone=Fraction(row.charge_alone),
            state=row.state,
            header_digest=row.header_digest,
            vector_digest=row.vector_digest,
            header=row.header,
            vector=row.vector,
            ciphertexts=row.ciphertexts,
            receipt=row.receipt,
        )
        for row in rows
    ]
