"""What the mirror knows of questions for outcomes, and whom a node may ask for.

A bank hears of a node's question only through an entry that the regulator has cosigned. Before it
does, the set that the question was made of may not be larger than the authorisations that name
the outcome for that bank and stand: it is the node's word for how many those in its slots are, but
signed, and what stands in them can be looked at on site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, delete, func, insert, select, update

from hejin_regulator.fields import number, text
from hejin_regulator.label_rules import (
    LabelsExceedError,
    LabelsUnmatchedError,
    covers_outcome,
    question_of,
)
from hejin_regulator.mirror_tables import label_request, outcome_grant
from hejin_trust.authorisation import ANY
from hejin_trust.entries import Entry
from hejin_trust.merkle import leaf_hash


class LabelBook:
    """The outcome grants and questions of one member's logs, in the mirror's transaction."""

    def __init__(self, connection: Connection, member: str) -> None:
        """Read and write what concerns `member`."""
        self._connection, self._member = connection, member
        self._waiting: list[dict[str, object]] = []
        self._internal: Mapping[str, Callable[[Entry], None]] = {
            "authorisation.grant": self._grant,
            "authorisation.revoke": self._revoke,
            "labels.request": self._request,
        }
        self._released: Mapping[str, Callable[[Entry], None]] = {"labels.ask": self._ask}

    def take(self, entries: Sequence[Entry], *, internal: bool) -> None:
        """Take entries of one log, in order; those of the internal log go before the others.

        raises   LabelsExceedError, LabelsUnmatchedError
        """
        steps = self._internal if internal else self._released
        for entry in entries:
            step = steps.get(entry.type)
            if step is None:
                continue
            if step != self._grant:
                self._flush()
            step(entry)
        self._flush()

    def standing(self, bank: str, at: str) -> int:
        """Return of how many enterprises a bank may be asked at a time, RFC 3339."""
        grants = outcome_grant.c
        found = self._connection.scalar(
            select(func.count(func.distinct(grants.enterprise))).where(
                grants.member == self._member,
                grants.bank.in_((bank, ANY)),
                grants.valid_from <= at,
                grants.valid_to > at,
            )
        )
        return found or 0

    def _grant(self, entry: Entry) -> None:
        body = entry.body
        if not covers_outcome(body):
            return
        banks = body["banks"]
        assert isinstance(banks, list), "entries are checked when they are parsed"
        self._waiting += (
            {
                "member": self._member,
                "seq": entry.seq,
                "bank": bank,
                "enterprise": text(body, "enterprise"),
                "valid_from": text(body, "valid_from"),
                "valid_to": text(body, "valid_to"),
            }
            for bank in dict.fromkeys(banks)
        )

    def _flush(self) -> None:
        """Write the grants that wait: bulk imports bring thousands."""
        if self._waiting:
            self._connection.execute(insert(outcome_grant), self._waiting)
            self._waiting = []

    def _revoke(self, entry: Entry) -> None:
        grants = outcome_grant.c
        revoked = number(entry.body, "grant")
        self._connection.execute(
            delete(outcome_grant).where(grants.member == self._member, grants.seq == revoked)
        )

    def _request(self, entry: Entry) -> None:
        body = entry.body
        bank, size, slots = text(body, "bank"), number(body, "size"), number(body, "slots")
        standing = self.standing(bank, entry.time)
        if size > min(standing, slots):
            raise LabelsExceedError(self._member, bank, size, standing, slots)
        session = text(body, "session")
        if self._known(session) is not None:
            raise LabelsUnmatchedError(self._member, session)
        self._connection.execute(
            insert(label_request).values(
                member=self._member,
                session=session,
                leaf=leaf_hash(entry.raw).hex(),
                question=question_of(body),
                asked=False,
            )
        )

    def _ask(self, entry: Entry) -> None:
        body, session = entry.body, text(entry.body, "session")
        if self._known(session) != (text(body, "request"), question_of(body), False):
            raise LabelsUnmatchedError(self._member, session)
        requests = label_request.c
        self._connection.execute(
            update(label_request)
            .where(requests.member == self._member, requests.session == session)
            .values(asked=True)
        )

    def _known(self, session: str) -> tuple[str, str, bool] | None:
        """Return (leaf hash, question, whether it was asked) of a session's request."""
        requests = label_request.c
        row = self._connection.execute(
            select(requests.leaf, requests.question, requests.asked).where(
                requests.member == self._member, requests.session == session
            )
        ).one_or_none()
        return None if row is None else (row.leaf, row.question, row.asked)
