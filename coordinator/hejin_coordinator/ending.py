"""The ends of rounds and runs that will never be opened: logged, so that every release has one."""

from __future__ import annotations

from sqlalchemy import Connection

from hejin_coordinator import store
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.store import StoredPlan
from hejin_trust.text import Text

GIVEN_UP = Text("the plan was given up", "计划已放弃")


def burn(
    home: CoordinatorHome,
    connection: Connection,
    run: str,
    number: int,
    reason: str,
    *,
    giver: str = "",
    taker: str = "",
) -> None:
    """Give a round up for good, and log it.

    giver, taker   nodes whose share does not fit; "" where that is not why
    """
    store.burn_round(connection, run, number, reason)
    home.release_log.append(
        connection, "burn", {"run": run, "round": number, "giver": giver, "taker": taker}
    )


def drop(
    home: CoordinatorHome, connection: Connection, stored: StoredPlan, error: str, why: Text
) -> None:
    """End a plan for good; every round of its run that was left open is burned.

    error   why the plan ended, as the list of plans shows it; why: the same of its rounds
    """
    for found in store.rounds(connection, stored.run or ""):
        if found.result is None and not found.burned:
            burn(home, connection, found.run, found.round, str(why))
    store.set_state(connection, stored.digest, "dropped", error)
