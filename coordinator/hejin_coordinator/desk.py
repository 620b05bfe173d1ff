"""What a model owner does with plans: propose, look, start."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from sqlalchemy import Connection

from hejin_coordinator import ending, store
from hejin_coordinator.errors import CoordinatorError
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.proposal import make_plan, mode_reason, read_plan_file
from hejin_models.expected import Outlook, expected_loss
from hejin_models.features import FeatureView, view_file
from hejin_models.plan import Plan
from hejin_models.published import check_unchanged
from hejin_privacy.accounting import epsilon
from hejin_trust.canonical import time_text
from hejin_trust.database import reading, writing
from hejin_trust.envelope import PLAN, open_envelope, seal
from hejin_trust.text import Text


class NotStartableError(CoordinatorError):
    """A plan cannot be started as things stand."""

    code = "plan-not-startable"


class NotDroppableError(CoordinatorError):
    """A plan cannot be given up as things stand."""

    code = "plan-not-droppable"


@dataclass(frozen=True, slots=True)
class Proposed:
    """A signed plan, what it costs, and what its noise should do to the model.

    mode_reason      why it has its noise mode
    epsilon          what it costs if every sum is asked once
    epsilon_at_most  what its caps allow, burned rounds included
    enterprises      sum of the lower ends of the nodes' declared size bands
    """

    digest: str
    plan: Plan
    mode_reason: Text
    epsilon: float
    epsilon_at_most: float
    delta: Fraction
    enterprises: int
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class PlanOverview:
    """One plan as the model owner sees it; `done` of `sums` are opened."""

    digest: str
    product: str
    state: str
    error: str
    approved: tuple[str, ...]
    refused: tuple[str, ...]
    waiting: tuple[str, ...]
    done: int
    sums: int

    def body(self) -> dict[str, object]:
        """Return the overview for --json."""
        return asdict(self)


def propose(home: CoordinatorHome, file: Path, start_when_answered: bool) -> Proposed:
    """Make, price, log and offer the plan in `file`; nothing is spent.

    raises   PlanFileError, ViewError, PlanError; ViewTakenError for a view whose name and version
             this bank has offered with other bytes; ThresholdError for sizes that break rule P1;
             NoiseError where the noise exceeds the signal
    """
    wanted = read_plan_file(file)
    data = view_file(wanted.view, file.parent)
    view = FeatureView.parse(data)
    with reading(home.database) as connection:
        check_unchanged(view, map(FeatureView.parse, store.views(connection)))
    charter = home.charter
    plan = make_plan(wanted, view, charter, home.member_id, home.now())
    bands = [charter.member(node, "node").size_band or (0, 0) for node in plan.nodes]
    enterprises = sum(low for low, _ in bands)
    outlook = expected_loss(view, plan, enterprises, charter.r)
    envelope = seal(PLAN, plan.body(), home.identity, home.member_id)
    opened = open_envelope(envelope, PLAN, home.identity.public)
    with writing(home.database) as connection:
        home.release_log.append(
            connection,
            "plan",
            {"plan": opened.digest, "purpose": plan.purpose, "family": plan.family},
        )
        home.release_log.checkpoint(connection)
        store.insert_plan(
            connection,
            opened.digest,
            time_text(home.now()),
            envelope,
            opened.payload,
            data,
            start_when_answered,
        )
    return Proposed(
        digest=opened.digest,
        plan=plan,
        mode_reason=mode_reason(wanted, len(plan.nodes)),
        epsilon=epsilon(plan.rho_once, float(charter.delta)),
        epsilon_at_most=epsilon(plan.rho, float(charter.delta)),
        delta=charter.delta,
        enterprises=enterprises,
        outlook=outlook,
    )


def overview(home: CoordinatorHome) -> list[PlanOverview]:
    """Return every plan with its answers and progress, oldest first."""
    with reading(home.database) as connection:
        return [_overview(connection, stored) for stored in store.plans(connection)]


def start(home: CoordinatorHome, digest: str) -> tuple[str, ...]:
    """Hand a plan to the worker; return the nodes that approved it.

    raises   NotStartableError while too few approved, or if it is running or done
    """
    with writing(home.database) as connection:
        stored = store.find_plan(connection, digest)
        found = _overview(connection, stored)
        if stored.state not in ("offered", "paused", "failed"):
            raise NotStartableError(
                f"the plan is already {stored.state}", f"该计划当前状态为 {stored.state}"
            )
        if len(found.approved) < stored.plan.minimum_nodes:
            raise NotStartableError(
                f"{len(found.approved)} nodes approved, the plan needs"
                f" {stored.plan.minimum_nodes}; {len(found.waiting)} have not answered",
                f"已有 {len(found.approved)} 个节点批准，计划需要 {stored.plan.minimum_nodes} 个；"
                f"{len(found.waiting)} 个尚未答复",
            )
        store.set_state(connection, stored.digest, "started")
    return found.approved


def drop(home: CoordinatorHome, digest: str) -> None:
    """Give a plan up for good; nodes then get the bank's word on a round that was left open.

    raises   NotDroppableError while it is carried out, or if it is over
    """
    with writing(home.database) as connection:
        stored = store.find_plan(connection, digest)
        if stored.state not in ("offered", "paused", "failed"):
            raise NotDroppableError(
                f"the plan is {stored.state}: only one that is offered or has failed is dropped",
                f"该计划当前状态为 {stored.state}：只能放弃待答复或已失败的计划",
            )
        ending.drop(home, connection, stored, stored.error, ending.GIVEN_UP)
        home.release_log.checkpoint(connection)


def start_answered(home: CoordinatorHome) -> None:
    """Start the plans that were proposed with --start and have every node's answer."""
    with reading(home.database) as connection:
        due = [
            stored.digest
            for stored in store.plans(connection, "offered")
            if stored.automatic and not _overview(connection, stored).waiting
        ]
    for digest in due:
        try:
            start(home, digest)
        except NotStartableError as reason:
            with writing(home.database) as connection:
                store.set_state(connection, digest, "failed", str(reason.text))


def drop_expired(home: CoordinatorHome) -> None:
    """Give up paused and failed plans that have expired: no node answers them any more.

    Nodes wait for the bank's word on a round that was left open, and after two such refuse it.
    """
    with reading(home.database) as connection:
        over = [
            stored.digest
            for stored in store.plans(connection, "paused", "failed")
            if stored.plan.expires <= home.now()
        ]
    for digest in over:
        with suppress(NotDroppableError):  # it was started just now
            drop(home, digest)


def _overview(connection: Connection, stored: store.StoredPlan) -> PlanOverview:
    answers = store.answers(connection, stored.digest)
    rounds = [] if stored.run is None else store.rounds(connection, stored.run)
    return PlanOverview(
        digest=stored.digest,
        product=stored.plan.product,
        state=stored.state,
        error=stored.error,
        approved=tuple(sorted(node for node, yes in answers.items() if yes)),
        refused=tuple(sorted(node for node, yes in answers.items() if not yes)),
        waiting=tuple(node for node in stored.plan.nodes if node not in answers),
        done=sum(1 for item in rounds if item.total is not None),
        sums=len(stored.plan.sums),
    )
