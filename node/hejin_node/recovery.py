"""Bring a node that was restored from a backup up to what the mirror holds of it.

The account, the receipts and the authorisations' ends follow from the missing entries. What else
was lost with the database stays lost, so every run that was open ends: a node that forgot a vote
must not vote again. Whether anything left for a reservation that the mirror has no end of, the
bank's signed word will tell (`receipts.log_receipt`).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from sqlalchemy import Connection

from hejin_node import account, consent, erased, inbox, masking, signed
from hejin_node.erasing import erase_again
from hejin_node.home import NodeHome
from hejin_node.withdrawing import note_lost, withdraw_again
from hejin_privacy.budget import Part
from hejin_trust.authorisation import LOST
from hejin_trust.canonical import fraction
from hejin_trust.database import erase_deleted, writing
from hejin_trust.entries import Body, Entry
from hejin_trust.files import replace_file
from hejin_trust.mirroring import Mirror
from hejin_trust.recovering import RecoveryError, fetch_missing, log_recovery, put_back
from hejin_trust.recovery import Recovery

FOLDER = "recoveries"
"""Where a node keeps the regulator's approvals, by digest: they are part of its export."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery found.

    entries         put back, of both logs
    reservations    put back, all charged
    unknown         of these, how many wait for the bank's word on whether anything left
    authorisations  put back; lapsed: granted after the backup for enterprises that the restored
                    database does not know, revoked in the log and to be granted again
    runs            ended
    """

    entries: int
    reservations: int
    unknown: int
    authorisations: int
    lapsed: int
    runs: int


def recover(home: NodeHome, mirror: Mirror, approval: bytes) -> Recovered:
    """Put back what the mirror holds and the restored database lacks; one transaction.

    approval   the regulator's signed approval
    raises     RecoveryError, FrozenError, EnvelopeError, PeerUnreachable: nothing has changed then
    """
    document = Recovery.parse(approval, home.charter)
    release, internal = fetch_missing(home, mirror, document)
    with writing(home.database) as connection:
        put_back(connection, release)
        put_back(connection, internal)
        periods = {
            cast("int", entry.body["reservation"]): str(entry.body["period"])
            for entry in internal.entries
            if entry.type == "account"
        }
        reservations = _put_back_account(connection, release.entries, periods)
        kept, lapsed = _put_back_authorisations(home, connection, internal.entries)
        for entry in internal.entries:
            if entry.type == "erase":
                erased.record(connection, entry, applied=False)
            elif entry.type == "withdraw":
                note_lost(connection, entry)
        runs = _end_runs(connection, release.entries)
        unknown = account.lose_unfinished(connection)
        for missing in (release, internal):
            log_recovery(connection, missing, document.digest, document.reason)
        # On the disk before the entries that name it, and only if nothing was refused.
        folder = home.path / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(folder / f"{document.digest}.json", approval)
    erase_deleted(home.database)
    erase_again(home)
    withdraw_again(home)
    return Recovered(
        entries=len(release.entries) + len(internal.entries),
        reservations=reservations,
        unknown=unknown,
        authorisations=kept,
        lapsed=lapsed,
        runs=runs,
    )


def _put_back_account(
    connection: Connection, entries: Sequence[Entry], periods: dict[int, str]
) -> int:
    """Charge what was charged, and end what was ended; return how many were charged."""
    charged = 0
    for entry in entries:
        body = entry.body
        match entry.type:
            case "reserve":
                if entry.seq not in periods:
                    raise RecoveryError(
                        f"the mirror holds reservation {entry.seq} without its account entry: ask"
                        " the regulator to check its mirror",
                        f"镜像持有预留 {entry.seq} 却缺少其记账条目：请监管方检查其镜像",
                    )
                account.restore(connection, _reservation(entry, periods[entry.seq]))
                charged += 1
            case "release":
                account.restore_end(
                    connection,
                    _seq(body),
                    "released",
                    header_digest=str(body["header"]),
                    vector_digest=str(body["vector"]),
                )
            case "void":
                account.restore_end(connection, _seq(body), "void")
            case "receipt":
                word = base64.b64decode(str(body["receipt"]))
                account.store_receipt(connection, _seq(body), word)
    return charged


def _reservation(entry: Entry, period: str) -> account.Reservation:
    body = entry.body
    costs: dict[str, Fraction] = {
        name: fraction(body, told)
        for name, told in (
            ("cost", "rho"),
            ("charge", "charge"),
            ("cost_alone", "rho_alone"),
            ("charge_alone", "charge_alone"),
        )
    }
    return account.Reservation(
        seq=entry.seq,
        run=str(body["run"]),
        round=cast("int", body["round"]),
        bank=str(body["bank"]),
        plan=str(body["plan"]),
        part=cast("Part", body["part"]),
        period=period,
        query=str(body["query"]),
        round_ctx=str(body["round_ctx"]),
        state="reserved",
        header_digest=None,
        vector_digest=None,
        header=None,
        vector=None,
        ciphertexts=None,
        receipt=None,
        **costs,
    )


def _put_back_authorisations(
    home: NodeHome, connection: Connection, entries: Sequence[Entry]
) -> tuple[int, int]:
    """Put grants and revocations back; return (grants put back, grants that lapsed)."""
    codes = {known.pseudonym: known.code for known in consent.authorisations(connection)}
    kept: set[int] = set()
    lapsed: set[int] = set()
    for entry in entries:
        code = codes.get(str(entry.body.get("enterprise")))
        granted = cast("int", entry.body.get("grant"))
        match entry.type:
            case "authorisation.key" if code is not None:
                signed.restore_key(connection, code, entry)
            case "authorisation.grant" if code is not None:
                consent.restore_grant(connection, code, entry)
                kept.add(entry.seq)
            case "authorisation.grant":
                lapsed.add(entry.seq)
            case "authorisation.signature" if granted in kept:
                signed.restore_signature(connection, entry)
            case "authorisation.revoke" if granted in lapsed:
                lapsed.discard(granted)
            case "authorisation.revoke":
                consent.restore_revocation(connection, granted, entry)
    home.internal_log.append_many(
        connection,
        [("authorisation.revoke", {"grant": seq, "reason": LOST}) for seq in sorted(lapsed)],
    )
    return len(kept), len(lapsed)


def _end_runs(connection: Connection, entries: Sequence[Entry]) -> int:
    """End every run that was open, and every plan answered meanwhile; return how many runs."""
    banks = {
        str(entry.body["run"]): str(entry.body["bank"])
        for entry in entries
        if entry.type == "reserve"
    }
    for entry in entries:
        body = entry.body
        if entry.type == "snapshot":
            run = str(body["run"])
            opened = inbox.Run(
                run=run,
                plan=str(body["plan"]),
                bank=banks.get(run, ""),
                snapshot_seq=entry.seq,
                snapshot_root=str(body["root"]),
                result="",
                closed=False,
            )
            inbox.open_run(connection, opened)
        elif entry.type in ("plan.approve", "plan.refuse"):
            inbox.end_offer(connection, str(body["plan"]))
    # For a plan that was about to begin a key may have been given, and no log tells.
    inbox.end_not_begun(connection)
    masking.forget_all(connection)
    return inbox.close_all(connection)


def _seq(body: Body) -> int:
    return cast("int", body["reservation"])
