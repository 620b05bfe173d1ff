"""The plan inbox: offers as they came, the operator's signed answers, and runs' snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from hejin_models.plan import Plan
from hejin_node.errors import NodeError
from hejin_node.tables import metadata
from hejin_trust import canonical
from hejin_trust.charter import Charter
from hejin_trust.envelope import PLAN, Opened, open_envelope, peek_signer

Answer = Literal["offered", "approved", "refused"]

offer = Table(
    "offer",
    metadata,
    Column("plan", String(64), primary_key=True),
    Column("bank", String(63), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the signed bytes, verified when received
    Column("received", String(20), nullable=False),
    Column("answer", String(8), nullable=False),
    Column("document", LargeBinary),  # the signed approval or refusal
    Column("sent", Boolean, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("run", String(32), primary_key=True),
    Column("plan", String(64), nullable=False, unique=True),
    Column("bank", String(63), nullable=False),
    Column("snapshot_seq", Integer, nullable=False),
    Column("snapshot_root", String(64), nullable=False),
    Column("result", String(64), nullable=False),  # digest of the last result that was logged
    Column("closed", Boolean, nullable=False),
)


class PlanUnknownError(NodeError):
    """No plan of that hash was offered to this node."""

    code = "plan-unknown"


@dataclass(frozen=True, slots=True)
class Offer:
    """One plan in the inbox; `document` is the node's signed answer once there is one."""

    digest: str
    plan: Plan
    signer: str
    envelope: bytes
    received: str
    answer: Answer
    document: bytes | None


@dataclass(frozen=True, slots=True)
class Run:
    """A plan being carried out here, on one pinned snapshot."""

    run: str
    plan: str
    bank: str
    snapshot_seq: int
    snapshot_root: str
    result: str
    closed: bool


def open_plan(envelope: bytes, charter: Charter) -> tuple[Opened, Plan]:
    """Return the plan in a bank's envelope, its signature checked against the charter."""
    bank = charter.admitted(peek_signer(envelope), "bank")
    opened = open_envelope(envelope, PLAN, bank.identity_key, bank.id)
    return opened, Plan.parse(opened.body)


def is_known(connection: Connection, digest: str) -> bool:
    """Return whether a plan was offered before."""
    return connection.scalar(select(offer.c.plan).where(offer.c.plan == digest)) is not None


def waiting(connection: Connection, bank: str) -> int:
    """Return how many of a bank's offers have no answer."""
    found = connection.scalar(
        select(func.count()).where(offer.c.bank == bank, offer.c.answer == "offered")
    )
    return found or 0


def drop_expired(connection: Connection, bank: str, at: datetime) -> None:
    """Forget a bank's offers that expired before they had an answer."""
    rows = connection.execute(
        select(offer).where(offer.c.bank == bank, offer.c.answer == "offered")
    ).all()
    expired = [found.digest for found in map(_offer, rows) if found.plan.expires <= at]
    connection.execute(delete(offer).where(offer.c.plan.in_(expired)))


def receive(connection: Connection, opened: Opened, envelope: bytes, at: str) -> bool:
    """Keep a new offer; return whether it was new."""
    if is_known(connection, opened.digest):
        return False
    connection.execute(
        insert(offer).values(
            plan=opened.digest,
            bank=opened.signer,
            envelope=envelope,
            body=opened.payload,
            received=at,
            answer="offered",
            sent=False,
        )
    )
    return True


def offers(connection: Connection) -> list[Offer]:
    """Return every offer, oldest first."""
    rows = connection.execute(select(offer).order_by(offer.c.received, offer.c.plan))
    return [_offer(row) for row in rows]


def find_offer(connection: Connection, digest: str) -> Offer:
    """Return the offer whose plan hash starts with `digest` (at least 8 digits).

    Raises PlanUnknownError if there is none, or more than one.
    """
    rows = connection.execute(
        select(offer).where(offer.c.plan.startswith(digest, autoescape=True)).limit(2)
    ).all()
    if len(rows) != 1 or len(digest) < 8:
        raise PlanUnknownError(
            "no single plan here has that hash: `hejin node plan list` shows them",
            "本节点没有唯一对应该哈希的计划：可用 `hejin node plan list` 查看",
        )
    return _offer(rows[0])


def going_on(connection: Connection, bank: str) -> list[tuple[str, Plan]]:
    """Return a bank's approved plans by hash, but for those whose run is over."""
    over = select(run.c.plan).where(run.c.closed.is_(True))
    rows = connection.execute(
        select(offer).where(
            offer.c.bank == bank, offer.c.answer == "approved", offer.c.plan.not_in(over)
        )
    )
    return [(found.digest, found.plan) for found in map(_offer, rows)]


def answer_offer(connection: Connection, digest: str, answer: Answer, document: bytes) -> None:
    """Store the signed answer; `unsent` gives it to the channel."""
    connection.execute(
        update(offer)
        .where(offer.c.plan == digest)
        .values(answer=answer, document=document, sent=False)
    )


def unsent(connection: Connection, bank: str) -> list[tuple[str, bytes]]:
    """Return (plan hash, signed answer) of the answers this bank has not acknowledged."""
    rows = connection.execute(
        select(offer.c.plan, offer.c.document).where(
            offer.c.bank == bank, offer.c.sent.is_(False), offer.c.document.is_not(None)
        )
    )
    return [(row.plan, row.document) for row in rows]


def mark_sent(connection: Connection, digest: str) -> None:
    """Note that the bank has the answer."""
    connection.execute(update(offer).where(offer.c.plan == digest).values(sent=True))


def find_run(connection: Connection, run_id: str) -> Run | None:
    """Return the run, if its first round was opened here."""
    row = connection.execute(select(run).where(run.c.run == run_id)).first()
    return None if row is None else Run(**row._mapping)


def runs(connection: Connection) -> list[Run]:
    """Return every run that was opened here, oldest first."""
    rows = connection.execute(select(run).order_by(run.c.snapshot_seq))
    return [Run(**row._mapping) for row in rows]


def run_of_plan(connection: Connection, digest: str) -> Run | None:
    """Return the one run that carries out a plan, if it has begun."""
    row = connection.execute(select(run).where(run.c.plan == digest)).first()
    return None if row is None else Run(**row._mapping)


def open_run(connection: Connection, opened: Run) -> None:
    """Pin a run to its plan and snapshot; a plan is carried out once."""
    connection.execute(
        insert(run).values(
            run=opened.run,
            plan=opened.plan,
            bank=opened.bank,
            snapshot_seq=opened.snapshot_seq,
            snapshot_root=opened.snapshot_root,
            result=opened.result,
            closed=opened.closed,
        )
    )


def note_result(connection: Connection, run_id: str, digest: str) -> None:
    """Remember the last result that was logged for a run."""
    connection.execute(update(run).where(run.c.run == run_id).values(result=digest))


def close_run(connection: Connection, run_id: str) -> None:
    """Answer no further query of a run."""
    connection.execute(update(run).where(run.c.run == run_id).values(closed=True))


def close_all(connection: Connection) -> int:
    """Answer no further query of any run; return how many were open."""
    return connection.execute(
        update(run).where(run.c.closed.is_(False)).values(closed=True)
    ).rowcount


def end_offer(connection: Connection, digest: str) -> None:
    """Let an offer count as refused that a lost database had answered: it is not answered twice."""
    connection.execute(
        update(offer)
        .where(offer.c.plan == digest, offer.c.answer == "offered")
        .values(answer="refused", sent=True)
    )


def end_not_begun(connection: Connection) -> None:
    """Let approved plans that no run carries out count as refused."""
    begun = select(run.c.plan)
    connection.execute(
        update(offer)
        .where(offer.c.answer == "approved", offer.c.plan.not_in(begun))
        .values(answer="refused", sent=True)
    )


def _offer(row: Row[Any]) -> Offer:
    return Offer(
        digest=row.plan,
        plan=Plan.parse(canonical.decode(row.body)),
        signer=row.bank,
        envelope=row.envelope,
        received=row.received,
        answer=row.answer,
        document=row.document,
    )
