"""Look at offered plans, approve or refuse them, and log what was decided."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Final

from sqlalchemy import Connection

from hejin_models.features import FeatureView
from hejin_models.plan import Plan
from hejin_node import account, inbox
from hejin_node.errors import NodeError
from hejin_node.home import NodeHome, ViewMissingError
from hejin_node.labels import labelled
from hejin_node.pinned import grants_for
from hejin_node.policy import DryRun, Facts, examine
from hejin_node.readiness import data_problems
from hejin_node.snapshot import LabelSpec
from hejin_trust.canonical import fraction_body, time_text
from hejin_trust.database import reading, writing
from hejin_trust.envelope import APPROVAL, REFUSAL, seal
from hejin_trust.errors import RefusedError

MOST_UNANSWERED: Final = 100
"""Plans of one bank that wait for this node's answer."""


_POLICY: Final = "policy"
"""Who approves where the node does it by itself."""


class PlanNotApprovableError(NodeError):
    """The dry run of a plan found reasons against it."""

    code = "plan-not-approvable"


class AlreadyAnsweredError(NodeError):
    """A plan is answered once."""

    code = "plan-answered"


class OffersTooManyError(RefusedError):
    """A bank offers more plans at once than anybody could look at."""

    code = "offers-too-many"


def receive(home: NodeHome, envelope: bytes) -> str:
    """Keep an offered plan; return its hash.

    raises   EnvelopeError, PlanError, NotAMemberError; OffersTooManyError where this one would be
             the bank's 101st to wait for an answer: expired ones make room
    """
    opened, _ = inbox.open_plan(envelope, home.charter)
    bank = opened.signer
    with reading(home.database) as connection:
        if inbox.is_known(connection, opened.digest):
            return opened.digest
    with writing(home.database) as connection:
        if inbox.waiting(connection, bank) >= MOST_UNANSWERED:
            inbox.drop_expired(connection, bank, home.now())
        if inbox.waiting(connection, bank) >= MOST_UNANSWERED:
            raise OffersTooManyError(
                f"{MOST_UNANSWERED} plans of {bank} wait for an answer: answer some first, or"
                " let the bank withdraw some",
                f"{bank} 已有 {MOST_UNANSWERED} 个计划等待答复：请先答复，或由银行撤回部分计划",
            )
        inbox.receive(connection, opened, envelope, time_text(home.now()))
    return opened.digest


def dry_run(home: NodeHome, offer: inbox.Offer) -> DryRun:
    """Return what a plan would cost and touch; no enterprise row is read."""
    with reading(home.database) as connection:
        return examine(offer.plan, offer.signer, _facts(home, connection, offer.plan))


def approve(home: NodeHome, digest: str, by: str) -> DryRun:
    """Approve a plan; `by` names who did. Raises PlanNotApprovableError with the reasons.

    Everything is looked at once more in the transaction that approves: the dry run may be old.
    """
    with writing(home.database) as connection:
        offer = _open_offer(connection, digest)
        found = examine(offer.plan, offer.signer, _facts(home, connection, offer.plan))
        if found.problems:
            raise PlanNotApprovableError(
                "the plan cannot be approved: " + "; ".join(p.text.en for p in found.problems),
                "计划无法批准：" + "；".join(p.text.zh for p in found.problems),
            )
        if by == _POLICY and found.waits:
            raise PlanNotApprovableError(
                "the plan is for the operator to decide: " + "; ".join(w.en for w in found.waits),
                "该计划须由运营方决定：" + "；".join(w.zh for w in found.waits),
            )
        plan = offer.plan
        home.release_log.append(
            connection,
            "plan.approve",
            {
                "plan": offer.digest,
                "bank": plan.bank,
                "rho": fraction_body(plan.rho),
                "rho_train": fraction_body(plan.rho_train),
                "rho_holdout": fraction_body(plan.rho_holdout),
                "by": by,
            },
        )
        home.release_log.checkpoint(connection)
        document = seal(
            APPROVAL,
            {"v": 1, "plan": offer.digest, "bank": plan.bank, "time": time_text(home.now())},
            home.identity,
            home.member_id,
        )
        inbox.answer_offer(connection, offer.digest, "approved", document)
    return found


def refuse(home: NodeHome, digest: str, code: str, reason: str) -> None:
    """Refuse a plan, with a reason that the bank is told."""
    with writing(home.database) as connection:
        offer = _open_offer(connection, digest)
        home.release_log.append(
            connection,
            "plan.refuse",
            {"plan": offer.digest, "bank": offer.plan.bank, "code": code, "reason": reason},
        )
        home.release_log.checkpoint(connection)
        document = seal(
            REFUSAL,
            {
                "v": 1,
                "request": offer.digest,
                "code": code,
                "reason": {"en": reason, "zh": reason},
                "time": time_text(home.now()),
            },
            home.identity,
            home.member_id,
        )
        inbox.answer_offer(connection, offer.digest, "refused", document)


def decide(home: NodeHome, digest: str) -> inbox.Answer:
    """Apply the node's own policy to a new offer: approve, or leave it to the operator."""
    with reading(home.database) as connection:
        offer = inbox.find_offer(connection, digest)
    rules = home.policy().rules(offer.plan.bank)
    if offer.answer != "offered" or rules is None or rules.automatic is None:
        return offer.answer
    if not dry_run(home, offer).automatic:
        return "offered"
    try:
        approve(home, digest, _POLICY)
    except PlanNotApprovableError:  # the policy, the account or the data changed meanwhile
        return "offered"
    return "approved"


def _open_offer(connection: Connection, digest: str) -> inbox.Offer:
    offer = inbox.find_offer(connection, digest)
    if offer.answer != "offered":
        raise AlreadyAnsweredError(
            f"the plan was already {offer.answer}; a plan is answered once",
            f"该计划已答复（{offer.answer}）；每个计划只答复一次",
        )
    return offer


def _facts(home: NodeHome, connection: Connection, plan: Plan) -> Facts:
    view = _installed(home, plan)
    charter = home.charter
    return Facts(
        node=home.member_id,
        charter=charter,
        now=home.now(),
        policy=home.policy(),
        spent=account.spent(connection, charter.period_from),
        alone=account.alone_spent(connection, charter.period_from),
        pledged=pledged(connection, plan.bank, charter.period_from, home.now()),
        entitled=0 if view is None else len(grants_for(connection, plan, view, home.now())),
        labelled=labelled(home.warehouse, LabelSpec(plan.label.bank, plan.label.definition)),
        installed=view,
        schemas=home.schemas(),
        data=() if view is None else tuple(data_problems(home, view)),
    )


def pledged(connection: Connection, bank: str, period: str, now: datetime) -> Fraction:
    """Return the rho that a bank's plans were charged in `period`, or may yet be as approved."""
    total = account.spent(connection, period, bank=bank)
    for digest, plan in inbox.going_on(connection, bank):
        if now < plan.expires:
            parts, _ = account.spent_by_plan(connection, digest)
            total += plan.rho - parts.rho
    return total


def _installed(home: NodeHome, plan: Plan) -> FeatureView | None:
    try:
        return home.view(plan.view.sha256)
    except ViewMissingError:
        return None
