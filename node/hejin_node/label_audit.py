"""Redo a question for outcomes from its secrets: whom was the bank asked for, and had they agreed?

For the regulator on site: root and points must be those in the ledger, which its mirror holds too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from hejin_node import label_sessions
from hejin_node.consent import Authorisation, authorisations
from hejin_node.errors import MatchingError
from hejin_node.home import NodeHome
from hejin_node.label_sessions import LabelSession, Secrets
from hejin_privacy.set_intersection import Asking
from hejin_trust.authorisation import OUTCOME, OUTCOME_PURPOSE, covers
from hejin_trust.canonical import time_from
from hejin_trust.database import reading


@dataclass(frozen=True, slots=True)
class Audited:
    """A session that was redone: root and points (their SHA-256), hex, and how many it was for."""

    session: LabelSession
    root: str
    query: str
    size: int


def audit(home: NodeHome, named: str) -> Audited:
    """Redo a session, given by the first digits of its id, and compare it with ledger and grants.

    raises   MatchingError: it does not lead to what was logged, or holds somebody who had not
             authorised it; or it cannot be redone
    """
    with reading(home.database) as connection:
        session = label_sessions.find_session(connection, named)
        kept = label_sessions.secrets_of(connection, session, home.snapshot_key)
        grants = authorisations(connection)
        request = home.internal_log.entry(connection, session.request)
        asked = home.release_log.entry(connection, session.ask).body
    asking = _asking(kept, {one.pseudonym: one.code for one in grants})
    held = {one for one in kept.enterprises() if one is not None}
    redone = Audited(
        session=session,
        root=label_sessions.root_over(asking, kept.slots).hex(),
        query=hashlib.sha256(asking.question()).hexdigest(),
        size=len(held),
    )
    logged = (request.body["root"], asked["root"], asked["query"], request.body["size"])
    if logged != (redone.root, redone.root, redone.query, redone.size):
        raise MatchingError(
            "the session's secrets do not lead to what the ledger says: the regulator has to be"
            " told",
            "会话的秘密与账本所载不符：须报告监管方",
        )
    at = time_from(request.time)
    strangers = held - {one.pseudonym for one in grants if _stood(one, session, at)}
    if strangers:
        raise MatchingError(
            f"{len(strangers)} of the {redone.size} enterprises in the slots had no authorisation"
            " that names the outcome: the regulator has to be told",
            f"位置中的 {redone.size} 家企业有 {len(strangers)} 家当时没有列明违约结果的授权："
            "须报告监管方",
        )
    return redone


def _asking(kept: Secrets, codes: Mapping[str, str]) -> Asking:
    """Return the session's asking side; codes: by pseudonym, of all that the node knows."""
    members: list[str | None] = []
    for place, pseudonym in enumerate(kept.enterprises()):
        code = None if pseudonym is None else codes.get(pseudonym)
        if pseudonym is not None and code is None:
            raise MatchingError(
                f"slot {place} holds an enterprise that this node no longer knows: its points"
                " cannot be redone",
                f"第 {place} 个位置的企业已不为本节点所知：无法重算其点",
            )
        members.append(code)
    return Asking(kept.scalar, kept.seed, tuple(members))


def _stood(grant: Authorisation, session: LabelSession, at: datetime) -> bool:
    """Return whether a grant let the session ask for its enterprise."""
    terms = grant.terms
    return (
        grant.seq < session.request
        and (grant.revoked_seq is None or grant.revoked_seq > session.request)
        and terms.valid_from <= at < terms.valid_to
        and covers("purposes", terms.purposes, (OUTCOME_PURPOSE,))
        and covers("categories", terms.categories, (OUTCOME,))
        and covers("banks", terms.banks, (session.bank,))
    )
