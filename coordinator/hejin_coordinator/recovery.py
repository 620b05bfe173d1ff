"""Bring a bank that was restored from a backup up to what the mirror holds of its ledgers.

Every acceptance follows from the missing entries, so nodes get the bank's word on all of them.
Queries, votes and totals that were lost with the database stay lost: every plan that is not done
ends, and verification finds the evidence of its rounds missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from sqlalchemy import Connection

from hejin_coordinator import disputes, label_sessions, registry, store
from hejin_coordinator.ending import burn
from hejin_coordinator.home import CoordinatorHome
from hejin_privacy.messages import Receipt
from hejin_trust import canonical
from hejin_trust.canonical import time_text
from hejin_trust.database import writing
from hejin_trust.entries import Body, Entry
from hejin_trust.envelope import RECEIPT, seal
from hejin_trust.files import replace_file
from hejin_trust.mirroring import Mirror
from hejin_trust.recovering import Missing, fetch_missing, log_recovery, put_back
from hejin_trust.recovery import Recovery
from hejin_trust.text import Text

FOLDER: Final = "recoveries"
"""Where a bank keeps the regulator's approvals, by digest: they are part of its export."""

_LOST: Final = Text("lost with the database", "随数据库丢失")
_ENDED: Final = Text(
    "the database was restored from a backup and recovered: propose a new plan",
    "数据库曾从备份还原并已恢复：请提出新计划",
)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery found.

    entries   put back, of both logs
    receipts  signed again
    rounds    burned: they were open, and what they asked may be lost
    plans     ended
    models    registered after the backup whose files are not here: train them again
    """

    entries: int
    receipts: int
    rounds: int
    plans: int
    models: int


def recover(home: CoordinatorHome, mirror: Mirror, approval: bytes) -> Recovered:
    """Put back what the mirror holds and the restored database lacks; one transaction.

    approval   the regulator's signed approval
    raises     RecoveryError, FrozenError, EnvelopeError, PeerUnreachable: nothing has changed then
    """
    document = Recovery.parse(approval, home.charter)
    release, internal = fetch_missing(home, mirror, document)
    trained = {
        hashlib.sha256(canonical.encode(model.body)).hexdigest() for model in registry.models(home)
    }
    with writing(home.database) as connection:
        put_back(connection, release)
        put_back(connection, internal)
        receipts = _sign_again(home, connection, release)
        for missing in (release, internal):
            log_recovery(connection, missing, document.digest, document.reason)
        rounds = _burn_open(home, connection, release.entries)
        for entry in release.entries:
            if entry.type == "labels.answer":
                label_sessions.restore(connection, entry)
        models = {
            str(entry.body["plan"]): str(entry.body["model"])
            for entry in release.entries
            if entry.type == "model"
        }
        done = {plan for plan, model in models.items() if model in trained}
        plans = _end_plans(connection, done)
        home.release_log.checkpoint(connection)
        # Last, so that a recovery that is refused leaves nothing.
        folder = home.path / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(folder / f"{document.digest}.json", approval)
    return Recovered(
        entries=len(release.entries) + len(internal.entries),
        receipts=receipts,
        rounds=rounds,
        plans=plans,
        models=len(models.keys() - done),
    )


def _sign_again(home: CoordinatorHome, connection: Connection, missing: Missing) -> int:
    """Sign the receipt of each acceptance that was put back; return how many there were."""
    checkpoint = home.release_log.checkpoint(connection, missing.approved.size)
    accepts = [entry.body for entry in missing.entries if entry.type == "accept"]
    for body in accepts:
        receipt = Receipt(
            run=str(body["run"]),
            round=_round(body),
            node=str(body["node"]),
            header=str(body["header"]),
            vector=str(body["vector"]),
            checkpoint=checkpoint,
            time=time_text(home.now()),
        )
        signed = seal(RECEIPT, receipt.body(), home.identity, home.member_id)
        # Its header and shares are lost; its run has ended, so that nobody reads them.
        store.insert_accept(connection, receipt.run, receipt.round, receipt.node, b"", b"", signed)
    return len(accepts)


def _burn_open(home: CoordinatorHome, connection: Connection, entries: Sequence[Entry]) -> int:
    """End every round that was open, here or in the entries put back; return how many."""
    ended: dict[tuple[str, int], Entry] = {}
    accepted: set[tuple[str, int]] = set()
    for entry in entries:
        if entry.type == "accept":
            accepted.add((str(entry.body["run"]), _round(entry.body)))
        elif entry.type in ("result", "burn"):
            ended[str(entry.body["run"]), _round(entry.body)] = entry
            _dispute_again(connection, entry)
    left_open = store.open_rounds(connection)
    for run, number in sorted(left_open & ended.keys()):
        store.burn_round(connection, run, number, str(_LOST))
    burned = sorted((left_open | accepted) - ended.keys())
    for run, number in burned:
        burn(home, connection, run, number, str(_LOST))
    return len(burned)


def _dispute_again(connection: Connection, entry: Entry) -> None:
    """Keep both nodes of a share that did not fit out again, until the regulator has looked."""
    body = entry.body
    if entry.type == "burn" and body["giver"] != "":
        disputes.add(
            connection,
            str(body["run"]),
            _round(body),
            str(body["giver"]),
            str(body["taker"]),
            entry.time,
        )


def _end_plans(connection: Connection, done: set[str]) -> int:
    """End every plan that is not done; those of `done` were, after the backup."""
    ended = 0
    for stored in store.plans(connection, "offered", "started", "running", "paused", "failed"):
        if stored.digest in done:
            store.set_state(connection, stored.digest, "done")
        else:
            # Also where it was only offered: it may have run after the backup, and has one run.
            store.set_state(connection, stored.digest, "dropped", str(_ENDED))
            ended += 1
    return ended


def _round(body: Body) -> int:
    return cast("int", body["round"])
