"""Set a run up: collect the nodes' fresh keys and fix the roster, once and durably."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Connection, LargeBinary, String, Table, insert, select

from hejin_coordinator import disputes, parts
from hejin_coordinator.asking import Gathered, Transport, gather
from hejin_coordinator.errors import AnswerRefusedError, RoundFailedError
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.store import StoredPlan, metadata, plan_table
from hejin_privacy.secure_sum.keys import Advertised, Invitation, Roster, check_key, open_roster
from hejin_trust import canonical
from hejin_trust.canonical import time_text
from hejin_trust.database import reading, writing
from hejin_trust.fleet import Payload, pack

roster_table = Table(
    "roster",
    metadata,
    Column("run", String(32), primary_key=True),
    Column("roster", LargeBinary, nullable=False),
    Column("keyads", LargeBinary, nullable=False),
    Column("certificates", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class RunRoster:
    """A run's roster, and what proves it to each node: signed keys and certificates, packed."""

    roster: Roster
    keyads: bytes
    certificates: bytes


def rosters(connection: Connection) -> Iterator[tuple[str, str, RunRoster]]:
    """Yield the run, the plan and the roster of every masked run, oldest plan first, streamed."""
    query = (
        select(roster_table, plan_table.c.plan)
        .join(plan_table, plan_table.c.run == roster_table.c.run)
        .order_by(plan_table.c.created, plan_table.c.plan)
        .execution_options(yield_per=10)
    )
    for row in connection.execute(query):
        roster = Roster.parse(canonical.decode(row.roster))
        yield row.run, row.plan, RunRoster(roster, row.keyads, row.certificates)


def agree_roster(
    home: CoordinatorHome,
    stored: StoredPlan,
    run: str,
    nodes: Iterable[str],
    transport: Transport,
) -> RunRoster:
    """Return the run's one roster: the stored one, or that of the nodes that answer now.

    nodes    that approved the plan; those of open disputes are left out
    raises   RunPausedError, RoundFailedError while too few answer
    """
    with reading(home.database) as connection:
        row = connection.execute(select(roster_table).where(roster_table.c.run == run)).first()
        out = disputes.left_out(connection)
    if row is not None:
        roster = Roster.parse(canonical.decode(row.roster))
        return RunRoster(roster, row.keyads, row.certificates)
    plan = stored.plan
    invitation = Invitation(
        run=run,
        plan=stored.digest,
        nodes=frozenset(plan.nodes),
        tau=plan.quorum,
        m=plan.minimum_nodes,
        t=plan.colluders,
        charter=home.charter,
    )
    invited = sorted(set(nodes) - out)

    def read(node: str, payload: Payload) -> Advertised:
        advertised = Advertised(payload.get("keyad", b""), payload.get("certificate", b""))
        if check_key(advertised, invitation, home.now()).node != node:
            raise AnswerRefusedError(
                f"{node} sent the key of another node; look at its log",
                f"{node} 发送了其他节点的密钥；请查看其日志",
            )
        return advertised

    question = {"kind": b"keys", "run": run.encode(), "plan": stored.digest.encode()}
    found = gather(
        transport,
        dict.fromkeys(invited, question),
        read,
        home.charter,
        deadline=plan.deadlines.keys,
        reissue_after=home.settings.reissue_seconds,
        enough=plan.minimum_nodes,
    )
    if len(found.answers) < plan.minimum_nodes:
        with writing(home.database) as connection:
            parts.note(connection, run, 0, "keys", found.outcomes, time_text(home.now()))
        raise _too_few(found, plan.minimum_nodes, out & set(nodes))
    keys = list(found.answers.values())
    made = RunRoster(
        open_roster(keys, invitation, home.now()),
        pack([key.envelope for key in keys]),
        pack([key.certificate for key in keys]),
    )
    with writing(home.database) as connection:
        parts.note(connection, run, 0, "keys", found.outcomes, time_text(home.now()))
        connection.execute(
            insert(roster_table).values(
                run=run,
                roster=canonical.encode(made.roster.body()),
                keyads=made.keyads,
                certificates=made.certificates,
            )
        )
    return made


def _too_few(found: Gathered[Advertised], needed: int, out: frozenset[str]) -> RoundFailedError:
    en, zh = found.reasons
    if out:
        names = ", ".join(sorted(out))
        en += f"; {names} stay out until `hejin coordinator settle`"
        zh += f"；{names} 在 `hejin coordinator settle` 之前不参与"
    en = (
        f"set-up: {len(found.answers)} nodes gave a key, {needed} are needed,"
        f" {len(found.silent)} are silent{en}; nothing was spent"
    )
    zh = (
        f"准备阶段：{len(found.answers)} 个节点提供了密钥，需要 {needed} 个，"
        f"{len(found.silent)} 个无应答{zh}；未产生费用"
    )
    if len(found.answers) + found.open >= needed:
        return found.paused(en, zh)
    return RoundFailedError(en, zh)
