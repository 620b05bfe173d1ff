"""Charge a sum durably before anything is computed: one transaction, one write to the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from hejin_node import account, inbox, receipts
from hejin_node.account import Reservation, Spending
from hejin_node.checking import Checker, Context
from hejin_node.home import NodeHome
from hejin_node.pinned import Pinned, SnapshotStore
from hejin_node.query import QueryOutOfOrderError
from hejin_node.results import log_result, void_waiting
from hejin_privacy.messages import Result
from hejin_trust.canonical import fraction_body, time_from
from hejin_trust.database import writing
from hejin_trust.entries import Entry


@dataclass(frozen=True, slots=True)
class Reserved:
    """A charged sum.

    seq     index of its `reserve` entry
    stands  index of the entry that it stands from: that one, or its newest `renew`
    since   that entry's time, by the own clock, UTC
    """

    seq: int
    stands: int
    since: datetime


def reserve(
    home: NodeHome,
    checker: Checker,
    snapshots: SnapshotStore,
    context: Context,
    previous: Result | None,
    collected: Sequence[receipts.Collected],
    pinned: Pinned,
) -> Reserved:
    """Recompute what was spent, check the caps and log the reservation; fsynced when it returns.

    The receipts and the result that came with the query, and a new run's snapshot, go into the
    same transaction.
    raises   BudgetExhaustedError and its kin, QueryRefusedError, NotNowError, StorageError: nothing
             is charged
    """
    query = context.query
    with writing(home.database) as connection:
        # Receipts and the snapshot took their time since the first check: a charter may have come.
        checker.check_time(context)
        # An earlier round that still waits for the regulator is not gone back to.
        void_waiting(home, connection, query.run, "overtaken")
        for receipt in collected:
            receipts.log_receipt(home, connection, receipt)
        if previous is not None:
            log_result(home, connection, previous)
        running = inbox.find_run(connection, query.run)
        if running is None:
            running = snapshots.log_snapshot(
                connection, pinned, query.run, query.plan, context.bank.id
            )
        spending = checker.price(connection, context)
        entry = _log(home, connection, context, running, spending)
        account.insert_reservation(
            connection,
            seq=entry.seq,
            run=query.run,
            round_number=query.round,
            bank=context.bank.id,
            plan=query.plan,
            part=query.part,
            query=context.checked.digest,
            round_ctx=context.round_ctx.hex(),
            cost=context.checked.cost,
            cost_alone=context.checked.cost_alone,
            spending=spending,
        )
    return Reserved(entry.seq, entry.seq, time_from(entry.time))


def stand_again(home: NodeHome, checker: Checker, context: Context, known: Reservation) -> Reserved:
    """Let a reservation that the regulator could not cosign in time count from now on.

    Nothing was read for it meanwhile, and it is not charged twice. What was cosigned of it before
    does not count: only what covers the new entry does.
    raises   QueryRefusedError if the plan has expired or another budget period has begun;
             NotNowError: it waits on
    """
    with writing(home.database) as connection:
        checker.check_time(context)
        if known.period != context.charter.period_from:
            raise QueryOutOfOrderError(
                f"round {known.round} was charged to a budget period that is over",
                f"第 {known.round} 轮的费用计入已结束的预算期",
            )
        entry = home.release_log.append(connection, "renew", {"reservation": known.seq})
    return Reserved(known.seq, entry.seq, time_from(entry.time))


def _log(
    home: NodeHome,
    connection: Connection,
    context: Context,
    running: inbox.Run,
    spending: Spending,
) -> Entry:
    """Append the `reserve` entry and, in the internal log, the account around it."""
    query = context.query
    entry = home.release_log.append(
        connection,
        "reserve",
        {
            "run": query.run,
            "round": query.round,
            "bank": context.bank.id,
            "plan": query.plan,
            "query": context.checked.digest,
            "part": query.part,
            "split_key_hash": hashlib.sha256(context.split_key).hexdigest(),
            "round_ctx": context.round_ctx.hex(),
            "snapshot": running.snapshot_root,
            "snapshot_seq": running.snapshot_seq,
            "mechanism": query.mechanism.body(),
            "rho": fraction_body(context.checked.cost),
            "charge": fraction_body(spending.charge),
            "rho_alone": fraction_body(context.checked.cost_alone),
            "charge_alone": fraction_body(spending.charge_alone),
        },
    )
    home.internal_log.append(
        connection,
        "account",
        {
            "reservation": entry.seq,
            "spent_before": fraction_body(spending.before),
            "spent_after": fraction_body(spending.after),
            "plan_spent_after": fraction_body(spending.plan_after),
            "bank_spent_after": fraction_body(spending.bank_after),
            "alone_before": fraction_body(spending.alone_before),
            "alone_after": fraction_body(spending.alone_after),
            "period": spending.period,
        },
    )
    return entry
